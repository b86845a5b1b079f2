"""Whether a program convolves: loops over it are then slow on the CPU."""

from __future__ import annotations

import jax
from jax.extend.core import Jaxpr, jaxprs_in_params


def convolves(jaxpr: Jaxpr) -> bool:
    """Whether a convolution is in it, or in a function that it calls.

    >>> import jax.numpy as jnp
    >>> convolves(jax.make_jaxpr(jnp.convolve)(jnp.ones(3), jnp.ones(3)).jaxpr)
    True
    """

    def does(equation) -> bool:
        inner = jaxprs_in_params(equation.params)
        return equation.primitive.name == "conv_general_dilated" or any(map(convolves, inner))

    return any(map(does, jaxpr.eqns))


def is_slow_in_a_loop(jaxpr: Jaxpr) -> bool:
    """Whether ``lax.scan`` over it wants to be written out: the CPU's compiler runs convolutions inside a loop 6 to 12
    times slower (jax issue 12868)."""
    return jax.default_backend() == "cpu" and convolves(jaxpr)

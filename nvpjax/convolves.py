"""Whether a program convolves: loops over it are then slow, but for TPUs."""

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


def convolving_layers_are_a_loop() -> bool:
    """Whether layers that convolve are better one loop than written out one after the other, where jax computes.

    On TPUs alone. The CPU's compiler runs convolutions inside a loop 6 to 12 times slower (jax issue 12868). On a GPU
    loops start many small programs and stack what the backward pass wants: on an H200 a train step of CIFAR-10's model
    with one scale took 26.9 ms and 4.4 GB as loops, 12.4 ms and 1.2 GB written out, compiled in 13 and 15 s.
    """
    return jax.default_backend() == "tpu"


def is_slow_in_a_loop(jaxpr: Jaxpr) -> bool:
    """Whether steps that hold it are better run one by one than as a loop: on the CPU, where they convolve."""
    return jax.default_backend() == "cpu" and convolves(jaxpr)

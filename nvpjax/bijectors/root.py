"""The inverse of an increasing function without a closed form, by a bracketed search."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def solve_increasing(
    function: Callable[[jax.Array], jax.Array], y: jax.Array, low: jax.Array, high: jax.Array
) -> jax.Array:
    """Solve function(x) = y, element by element, for x between ``low`` and ``high``.

        bisection: halve [low, high] until it is as narrow as the dtype tells numbers apart,
        then one Newton step:  x ← x − (function(x) − y) / function'(x)

    Tolerance: after the bisection |x − x*| ≤ (high − low)·ε/4 + ε·|x*|, with ε that of y's dtype; where
    rounding of ``function`` is larger than that, it decides. The Newton step is also what derivatives go through: they
    are those of the inverse, 1/function'(x) and ∂x/∂θ = −(∂function/∂θ)/function'(x), to first order.

    ``function`` is strictly increasing, elementwise, and has function(low) ≤ y ≤ function(high). NaN in gives NaN out.
    """
    steps = jnp.finfo(y.dtype).nmant + 3

    def halve(_, bracket):
        low, high = bracket
        middle = low + (high - low) / 2
        below = function(middle) < y
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    bracket = jax.lax.stop_gradient((low, high))
    low, high = jax.lax.stop_gradient(jax.lax.fori_loop(0, steps, halve, bracket))
    x = low + (high - low) / 2
    value, slope = jax.jvp(function, (x,), (jnp.ones_like(x),))
    return x - (value - y) / jax.lax.stop_gradient(slope)

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

    Tolerance: after the bisection |x − x*| ≤ w·ε/4 + ε·|x*|, with ε that of y's dtype and w = high − low, 64 at most:
    where a bracket is wider, all are halved as much oftener. Where rounding of ``function`` is larger than that, it
    decides. The Newton step is also what derivatives go through: they are those of the inverse, 1/function'(x) and
    ∂x/∂θ = −(∂function/∂θ)/function'(x), to first order.

    ``function`` is strictly increasing, elementwise, and has function(low) ≤ y ≤ function(high). NaN in gives NaN out.
    """
    steps = jnp.finfo(y.dtype).nmant + 3
    # Widths are halved apart: between numbers near the largest the difference overflows. NaN adds nothing.
    wider = jnp.ceil(jnp.log2(jnp.max(jax.lax.stop_gradient(high / 2 - low / 2), initial=32) / 32))
    steps = steps + jnp.clip(jnp.nan_to_num(wider, posinf=0), 0, jnp.finfo(y.dtype).maxexp).astype(jnp.int32)

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

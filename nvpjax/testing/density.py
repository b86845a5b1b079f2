"""Is a density one: do its draws and its log p agree, and is what lies in a box as much as is drawn there?"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from nvpjax.bijector import PyTree
from nvpjax.flow import Density

FEW = 0.01
"""Of draws, may have come back otherwise: where a map bends sharply, rounding decides."""
CLOSE = 1e-2
"""Of log p, beside a thousandth of its size: far more than rounding, far less than what is wrong."""
OUTSIDE = (1e-3, 0.1)
"""Of each column's draws, on each side of a box: nearly all, where a density that is too large shows, and the middle,
where draws that are too wide do."""
SURE = 0.1
"""Of the mass that is expected: an integral that is less exact says nothing. So it is of many columns."""


def check_density(density: Density, context: PyTree = None, *, draws: int = 20_000, seed: int = 0) -> None:
    """Raise AssertionError with all that shows that a density is none.

        x, log p(x) drawn together:                 log_prob(x) is the same
        ∫ exp(log_prob(x)) over a box among the draws: the share of draws in it, up to five standard errors of both

    The second by points that are uniform in the box, for events of one array of few entries: where its own standard
    error is above a tenth it is left out.

    What it finds and ``check_bijector`` does not: maps that are each right and do not fit together, as on a circle
    without ``OfAngles``; a base whose draws are not of its log p; a bijector that does not reach all of the base.

    Args: ``context``: one row, for all draws. ``draws``: and points, as many.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import MAF
    >>> flow = MAF(layers=1, hidden=(8,)).build((2,))
    >>> check_density(flow.at(*flow.init(jax.random.key(0), jnp.zeros((1, 2)))))
    """
    draw_key, point_key = jax.random.split(jax.random.key(seed))
    log_prob = jax.jit(lambda density, x, context: density.log_prob(x, context))
    x, drawn = jax.jit(lambda density, key, context: density.sample_and_log_prob(key, draws, context))(
        density, draw_key, context
    )
    failures = [_of_draws(np.asarray(drawn), np.asarray(log_prob(density, x, context)))]
    if hasattr(x, "shape"):
        flat = np.asarray(x, np.float64).reshape(draws, -1)
        uniform = np.asarray(jax.random.uniform(point_key, flat.shape))
        for outside in OUTSIDE:
            low, high = np.quantile(flat, [outside, 1 - outside], axis=0)
            points = jnp.asarray((low + (high - low) * uniform).reshape(x.shape), x.dtype)
            there = np.asarray(log_prob(density, points, context), np.float64)
            share = float(np.mean(np.all((low <= flat) & (flat <= high), axis=1)))
            failures.append(_of_the_box(there, float(np.sum(np.log(high - low))), share))
    said = [failure for failure in failures if failure]
    if said:
        raise AssertionError("; ".join(said))


def _of_draws(drawn: np.ndarray, again: np.ndarray) -> str:
    off = ~(np.abs(again - drawn) <= CLOSE + np.abs(drawn) / 1000)  # NaN is off
    if np.mean(off) <= FEW:
        return ""
    worst = np.argmax(np.where(off, np.nan_to_num(np.abs(again - drawn), nan=math.inf), -1))
    return (
        f"expected log_prob(x) to be what x was drawn with, got another for {np.mean(off):.1%} of {len(off):,} draws: "
        f"{again[worst]:.4g} in place of {drawn[worst]:.4g}"
    )


def _of_the_box(log_prob: np.ndarray, log_volume: float, share: float) -> str:
    number = len(log_prob)
    if np.any(np.isnan(log_prob)):
        return f"expected log_prob to be a number between the draws, got NaN at {np.mean(np.isnan(log_prob)):.1%}"
    mass = np.exp(log_prob + log_volume)
    error = math.hypot(np.std(mass) / math.sqrt(number), math.sqrt(share * (1 - share) / number))
    if not error < SURE * share or abs(np.mean(mass) - share) <= 5 * error:
        return ""
    return (
        f"expected an integral of {share:.4f} over the box that holds so many of the draws, got {np.mean(mass):.4f} ± "
        f"{error:.4f}"
    )

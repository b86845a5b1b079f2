"""Heavy tails made normal: a bijector with an exponent for either side of every entry."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree, StatelessBijector, log_det_dtype, sum_over_event
from nvpjax.bijectors.root import solve_increasing
from nvpjax.values import expect_finite


@dataclass(frozen=True)
class HeavyTails(StatelessBijector):
    """Data with heavy tails, brought to a normal's: each side of each entry by an exponent of its own, learned.

        x = s·((2Φ(−|z|))^(−λ_s) − 1)/λ_s,     s = sign z,     λ = exp(log_weight)
        log|∂x/∂z| = λ_s·t + log(2φ(z)) + t,     t = −log(2Φ(−|z|)), between 0 and z²/2 and more

    Of a standard normal z the tail of x falls as |x| to the power −1/λ: λ = 1 is as heavy as a Cauchy's, λ → 0
    exponential. So a flow on a normal base has heavy tails, with bounded slopes in all that lies between: put this
    first, where data are, and after it what brings the bulk to its place. The slope at 0 is √(2/π) from z to x.

    Forward: ``root.solve_increasing`` for |z| between 0 and √(2t), t = log(1 + λ|x|)/λ, to the tolerance stated there.

    Shapes: any event; parameters ``left`` and ``right``, log-weights of its shape. Computed in at least float32.

    Args: ``weight``: λ at the start.

    Reference: Hickling, Prangle, *Flexible tails for normalizing flows*, 2025, sec. 3.

    >>> import jax, jax.numpy as jnp
    >>> tails = HeavyTails(weight=1.0)
    >>> params, _ = tails.init(jax.random.key(0), jnp.zeros((1, 1)))
    >>> z, log_det, _ = tails.forward(params, (), jnp.array([[1e6]]))
    >>> print(f"{z[0, 0]:.2f}, back {tails.inverse(params, (), z)[0][0, 0] / 1e6:.2f}e6")
    4.89, back 1.00e6
    """

    EVENT_AXES = 0
    weight: float = 0.2

    def __post_init__(self):
        expect_finite(self)
        if not self.weight > 0:
            raise ValueError(f"HeavyTails: expected weight > 0, got {self.weight}.")

    def init_params(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> PyTree:
        start = jnp.full(x.shape[1:], math.log(self.weight), jnp.float32)
        return {"left": start, "right": start}

    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        wide = x.astype(log_det_dtype(x))
        weight = self._weight(params, wide)
        exponent = jnp.log1p(weight * jnp.abs(wide)) / weight
        size = solve_increasing(_exponent, exponent, jnp.zeros_like(wide), jnp.sqrt(2 * exponent))
        return (jnp.sign(wide) * size).astype(x.dtype), -sum_over_event(_log_slope(weight, size, exponent))

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        wide = y.astype(log_det_dtype(y))
        weight, size = self._weight(params, wide), jnp.abs(wide)
        exponent = _exponent(size)
        x = jnp.sign(wide) * jnp.expm1(weight * exponent) / weight
        return x.astype(y.dtype), sum_over_event(_log_slope(weight, size, exponent))

    def _weight(self, params, value):
        left, right = (params[side].astype(value.dtype) for side in ("left", "right"))
        return jnp.exp(jnp.where(value < 0, left, right))


def _exponent(size):
    """t = −log(2Φ(−|z|)): how rare a normal so far out is."""
    return -math.log(2) - jax.scipy.special.log_ndtr(-size)


def _log_slope(weight, size, exponent):
    """log|∂x/∂z|."""
    return (1 + weight) * exponent + math.log(2) - (jnp.square(size) + math.log(2 * math.pi)) / 2

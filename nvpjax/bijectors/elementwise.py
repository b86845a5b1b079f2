"""Elementwise bijectors without a network."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from nvpjax.bijector import StatelessBijector, sum_over_event


@dataclass(frozen=True)
class Logit(StatelessBijector):
    """Take values in [0, 1] to the real line, after squeezing them away from the ends.

        v = α + (1 − 2α)·x,     y = log v − log(1 − v)
        log_det = Σ softplus(y) + softplus(−y) + log(1 − 2α)
        inverse:  x = (sigmoid(y) − α) / (1 − 2α)

    The inverse of a large |y| lies outside [0, 1] by at most α/(1 − 2α): it is returned as it is, not clipped.

    Args: ``alpha``: 0.05 in the authors' program and so behind the published numbers; 1e-6 is usual for MNIST.
    The constant changes bits/dim.

    Errors: ValueError unless 0 <= alpha < ½. x outside [0, 1] gives NaN or a finite value that means nothing: scale
    images first (``nvpjax.objectives.dequantize``).

    Reference: Real NVP, sec. 4.1. The paper prints α + (1 − α)·x; the authors' program, followed here, is symmetric.

    >>> import jax.numpy as jnp
    >>> Logit(alpha=0.05).forward((), (), jnp.array([[0.5]]))[0].tolist()
    [[0.0]]
    """

    alpha: float = 0.05

    def __post_init__(self):
        if not 0 <= self.alpha < 0.5:
            raise ValueError(f"Logit: expected 0 <= alpha < 0.5, got {self.alpha}.")

    def forward_and_log_det(self, params, x, context):
        # 1 − v is built from 1 − x, not from v: near x = 1 with a small α the subtraction would lose all digits.
        y = jnp.log(self.alpha + (1 - 2 * self.alpha) * x) - jnp.log(self.alpha + (1 - 2 * self.alpha) * (1 - x))
        return y, self._log_det(y)

    def inverse_and_log_det(self, params, y, context):
        x = (jax.nn.sigmoid(y) - self.alpha) / (1 - 2 * self.alpha)
        return x, -self._log_det(y)

    def _log_det(self, y):
        return sum_over_event(jax.nn.softplus(y) + jax.nn.softplus(-y) + np.log1p(-2 * self.alpha))


@dataclass(frozen=True)
class Scale(StatelessBijector):
    """Multiply every entry of the event by a learned positive number of its own.

        y = x·exp(s),     x = y·exp(−s),     log_det = Σ s

    NICE ends in it. Shapes: x ``(batch, *event)``, parameter ``log_scale`` ``(*event)``, zero at the start.

    Reference: NICE, sec. 3.3.
    """

    def init_params(self, key, x, context=None):
        return {"log_scale": jnp.zeros(x.shape[1:])}

    def forward_and_log_det(self, params, x, context):
        log_scale = params["log_scale"].astype(x.dtype)
        return x * jnp.exp(log_scale), sum_over_event(jnp.broadcast_to(log_scale, x.shape))

    def inverse_and_log_det(self, params, y, context):
        log_scale = params["log_scale"].astype(y.dtype)
        return y * jnp.exp(-log_scale), -sum_over_event(jnp.broadcast_to(log_scale, y.shape))

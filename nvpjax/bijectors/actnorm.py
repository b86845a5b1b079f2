"""Activation normalisation: a learned scale and shift per channel that start from the data."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from nvpjax.bijector import Bijector, PyTree, log_det_dtype


@dataclass(frozen=True)
class ActNorm(Bijector):
    """Scale and shift each channel; ``init`` sets them so that its batch comes out with mean 0 and variance 1.

        y = (x + b)·exp(s),     x = y·exp(−s) − b,     log_det = positions · Σ s
        init: b = −mean, s = −log(standard deviation), per channel, of the x that ``init`` is given

    b and s are parameters like any other: they are measured in ``init`` once, and what is restored from a checkpoint is
    never measured again. Give ``init`` a real batch, of some hundred positions or more. A channel that does not vary in
    that batch, by more than its mean rounds, keeps s = 0.

    Args: ``axis_name``: the pmap axis. ``init`` then runs inside pmap (``nvpjax.parallel.parallel_init``) and measures
    the global batch; without it, ``init`` measures the batch it is given.

    Shapes: x ``(batch, ..., channels)``; parameters ``shift`` and ``log_scale`` ``(channels,)``.

    Reference: Kingma, Dhariwal, *Glow*, 2018, sec. 3.1.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.array([[1.0], [3.0]])
    >>> params, state = ActNorm().init(jax.random.key(0), x)
    >>> ActNorm().forward(params, state, x)[0].tolist()
    [[-1.0], [1.0]]
    """

    EVENT_AXES = 1
    axis_name: str | None = None

    def init(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> tuple[PyTree, PyTree]:
        mean, log_deviation = self._measured(x)
        return {"shift": -mean, "log_scale": -log_deviation}, ()

    def init_inverse(self, key: jax.Array, y: jax.Array, context: PyTree = None) -> tuple[PyTree, PyTree]:
        # Turned round, it is the data side that is to come out normalised.
        mean, log_deviation = self._measured(y)
        return {"shift": mean * jnp.exp(-log_deviation), "log_scale": log_deviation}, ()

    def _measured(self, x):
        x = x.astype(log_det_dtype(x)).reshape(-1, x.shape[-1])
        mean = self._over_devices(jnp.mean(x, axis=0))
        variance = self._over_devices(jnp.mean(jnp.square(x - mean), axis=0))
        # The mean of copies of a number need not be that number: below this, what was measured is rounding.
        varies = variance > jnp.square(16 * jnp.finfo(mean.dtype).eps * mean)
        return mean, jnp.where(varies, 0.5 * jnp.log(jnp.where(varies, variance, 1)), 0)

    def _over_devices(self, moment):
        return moment if self.axis_name is None else jax.lax.pmean(moment, self.axis_name)

    def forward(
        self, params: PyTree, state: PyTree, x: jax.Array, context: PyTree = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array, PyTree]:
        shift, log_scale = (params[name].astype(x.dtype) for name in ("shift", "log_scale"))
        return (x + shift) * jnp.exp(log_scale), self._log_det(params, x), state

    def inverse(
        self, params: PyTree, state: PyTree, y: jax.Array, context: PyTree = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        shift, log_scale = (params[name].astype(y.dtype) for name in ("shift", "log_scale"))
        return y * jnp.exp(-log_scale) - shift, -self._log_det(params, y)

    def log_det(self, params: PyTree, state: PyTree, x: jax.Array, context: PyTree = None) -> jax.Array:
        return self._log_det(params, x)

    def _log_det(self, params, x):
        positions = x[0].size // x.shape[-1]
        total = positions * jnp.sum(params["log_scale"].astype(log_det_dtype(x)))
        return jnp.full(x.shape[0], total)

"""Normalisation as a bijector: it measures, so it has a state."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree, log_det_dtype, sum_over_event
from nvpjax.bijectors.masked import Masked
from nvpjax.bijectors.masks import Mask, NoMask
from nvpjax.values import expect_finite


@dataclass(frozen=True)
class BatchNorm(Masked):
    """Batch normalisation of the part that a mask lets change, per channel, exactly invertible in both modes.

        y = (x − μ) / √(σ² + ε),     x = y·√(σ² + ε) + μ
        log_det = −½ Σ log(σ² + ε), counted once for every changed element

    ``train=True``: μ and σ² are, with the batch's moments m and v and running averages M and V,

        lag = 0:  μ = m, σ² = v: the batch's own moments
        lag > 0:  μ = ((1 − lag)·m + lag·c·M) / (1 − lag + lag·c),     c = 1 − momentumᵗ after t steps

    and likewise σ² from v and V. With ``lag == momentum`` this is the bias-corrected running average of eq. 20 and 21.
    (In the authors' program the mix is off by default, and its ``bn_lag`` is the weight of the batch, not of the past.)
    The gradient flows through m and v only. The state that ``forward`` returns holds the μ and σ² that it used
    (``"used_mean"``, ``"used_variance"``), so ``inverse(..., train=True)`` with that state undoes that batch exactly.

    ``train=False``: the running averages M and V, in both directions. They are bias-corrected: after one step they
    are that batch's moments. (Those of the authors' program are not.) Before the first step M = 0 and V = 1.

    The moments of a checkerboard's changed part are those of the changed positions alone. (The authors' program takes
    them over the masked tensor, zeros included.)

    Args: ``mask``: what changes; all by default. ``axis_name``: the pmap axis; moments are then the global batch's.
    Shapes: x ``(batch, ..., channels)``; state: four arrays ``(changed channels,)``, at least float32, and the
    count of steps.

    Reference: Real NVP, sec. 3.7 and app. E, eq. 18-21; ε and momentum after the authors' program.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.array([[1.0], [3.0]])
    >>> norm = BatchNorm(epsilon=0.0)
    >>> params, state = norm.init(jax.random.key(0), x)
    >>> y, log_det, state = norm.forward(params, state, x, train=True)
    >>> y.tolist(), norm.inverse(params, state, y, train=True)[0].tolist()
    ([[-1.0], [1.0]], [[1.0], [3.0]])
    """

    mask: Mask = NoMask()
    lag: float = 0.0
    momentum: float = 0.9
    epsilon: float = 1e-4
    axis_name: str | None = None

    def __post_init__(self):
        expect_finite(self)
        if not (0 <= self.lag < 1 and 0 <= self.momentum < 1 and self.epsilon >= 0):
            raise ValueError(f"BatchNorm: expected 0 <= lag, momentum < 1 and epsilon >= 0, got {self!r}.")

    def init_with_mask(self, mask: Mask, key: jax.Array, x: jax.Array, context: PyTree) -> tuple[PyTree, PyTree]:
        _, changed = mask.split(x)
        zeros, ones = (make(changed.shape[-1], log_det_dtype(x)) for make in (jnp.zeros, jnp.ones))
        state = {"mean": zeros, "variance": ones, "used_mean": zeros, "used_variance": ones, "steps": jnp.int32(0)}
        return (), state

    def forward_with_mask(
        self, mask: Mask, params: PyTree, state: PyTree, x: jax.Array, context: PyTree, *, train: bool
    ) -> tuple[jax.Array, jax.Array, PyTree]:
        passed, changed = mask.split(x)
        if train:
            mean, variance = self._batch_moments(mask, changed)
            state = self._measured(state, mean, variance)
            mean, variance = state["used_mean"], state["used_variance"]
            state = jax.tree.map(jax.lax.stop_gradient, state)
        else:
            mean, variance = state["mean"], state["variance"]
        mean, variance = mean.astype(x.dtype), variance.astype(log_det_dtype(x))
        y = (changed - mean) * jax.lax.rsqrt(variance + self.epsilon).astype(x.dtype)
        return mask.merge(passed, y), -self._half_log_variance(mask, variance, changed), state

    def inverse_with_mask(
        self, mask: Mask, params: PyTree, state: PyTree, y: jax.Array, context: PyTree, *, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        passed, changed = mask.split(y)
        mean, variance = (state["used_mean"], state["used_variance"]) if train else (state["mean"], state["variance"])
        mean, variance = mean.astype(y.dtype), variance.astype(log_det_dtype(y))
        x = changed * jnp.sqrt(variance + self.epsilon).astype(y.dtype) + mean
        return mask.merge(passed, x), self._half_log_variance(mask, variance, changed)

    def _half_log_variance(self, mask, variance, changed):
        per_element = jnp.broadcast_to(0.5 * jnp.log(variance + self.epsilon), changed.shape)
        return sum_over_event(mask.only_changed(per_element))

    def _batch_moments(self, mask, changed):
        """The moments per channel over the changed elements of the global batch, in at least float32."""
        changed = changed.astype(log_det_dtype(changed))
        axes = tuple(range(changed.ndim - 1))
        share = mask.only_changed(jnp.ones_like(changed))
        share = share / jnp.sum(share, axis=axes)
        mean = _mean_over_devices(jnp.sum(share * changed, axis=axes), self.axis_name)
        variance = _mean_over_devices(jnp.sum(share * jnp.square(changed - mean), axis=axes), self.axis_name)
        return mean, variance

    def _measured(self, state, mean, variance):
        """The state after one more batch with these moments."""
        steps = state["steps"]
        correction = 1 - self.momentum**steps  # the weight that running averages carry: 0 before the first step
        lag = self.lag * correction / (1 - self.lag + self.lag * correction)
        rate = (1 - self.momentum) / (1 - self.momentum ** (steps + 1))

        def mixed(running, batch, weight):
            return (1 - weight) * running + weight * batch

        return {
            "mean": mixed(state["mean"], mean, rate),
            "variance": mixed(state["variance"], variance, rate),
            "used_mean": mixed(jax.lax.stop_gradient(state["mean"]), mean, 1 - lag),
            "used_variance": mixed(jax.lax.stop_gradient(state["variance"]), variance, 1 - lag),
            "steps": steps + 1,
        }


def _mean_over_devices(a: jax.Array, axis_name: str | None) -> jax.Array:
    return a if axis_name is None else jax.lax.pmean(a, axis_name)

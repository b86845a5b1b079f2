"""Batch normalisation inside networks."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

EPSILON = 1e-4
MOMENTUM = 0.9


class BatchNorm(linen.Module):
    """``(x − mean) / √(variance + 10⁻⁴) + bias``, a mean and a variance a channel, under ``linen.BatchNorm``'s names.

    With ``train=True`` they are those of the batch, over all devices of ``axis_name``, and move the running averages by
    a tenth; otherwise they are these. Moments and normalisation are computed in float32 at least.
    """

    train: bool
    axis_name: str | None = None

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1:]
        bias = self.param("bias", linen.initializers.zeros, channels)
        running = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_variance = self.variable("batch_stats", "var", jnp.ones, channels)
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if self.train:
            y, mean, variance = _standardise(wide, self.axis_name)
            running.value = _towards(running.value, mean)
            running_variance.value = _towards(running_variance.value, variance)
        else:
            y = (wide - running.value) * jax.lax.rsqrt(running_variance.value + EPSILON)
        return (y + bias).astype(jnp.result_type(x, bias))


def _towards(running: jax.Array, moment: jax.Array) -> jax.Array:
    return MOMENTUM * running + (1 - MOMENTUM) * jax.lax.stop_gradient(moment)


def _mean(x: jax.Array, axis_name: str | None) -> jax.Array:
    mean = jnp.mean(x, axis=range(x.ndim - 1))
    return mean if axis_name is None else jax.lax.pmean(mean, axis_name)


# By jax's own derivative of this the backward pass sums six times over the batch; by the rule below, twice.


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _standardise(x: jax.Array, axis_name: str | None) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x with mean 0 and variance 1, and the mean and variance that it had."""
    mean = _mean(x, axis_name)
    # Of the differences: E[x²] − E[x]² loses the digits that the inverse needs.
    variance = _mean(jnp.square(x - mean), axis_name)
    return (x - mean) * jax.lax.rsqrt(variance + EPSILON), mean, variance


@_standardise.defjvp
def _(axis_name: str | None, primals: Any, tangents: Any) -> tuple[Any, Any]:
    """dy = (dx − E[dx] − y·E[y·dx]) / √(variance + ε): Ioffe, Szegedy, *Batch normalization*, 2015, sec. 3."""
    (dx,) = tangents
    y, mean, variance = _standardise(*primals, axis_name)
    scale = jax.lax.rsqrt(variance + EPSILON)
    mean_of_dx, mean_of_ydx = _mean(dx, axis_name), _mean(y * dx, axis_name)
    dy = jax.lax.optimization_barrier((dx - mean_of_dx - y * mean_of_ydx) * scale)
    return (y, mean, variance), (dy, mean_of_dx, 2 * mean_of_ydx / scale)

"""How kernels start."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen
from jax.typing import DTypeLike


def last_kernel(scale: float) -> Callable[..., jax.Array]:
    """The usual start of a dense layer times ``scale``: what lets a network begin by saying next to nothing.

    Of a layer that is shown nothing, whose fan-in is 0, the kernel is empty.
    """
    usual = linen.initializers.lecun_normal()

    def start(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return jnp.zeros(shape, dtype) if 0 in shape else scale * usual(key, shape, dtype)

    return start


# Drawn flat: XLA's CPU backend takes seconds to compile a four-dimensional draw (JAX 0.10 and 0.12).


def normal_by_fan_in(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Normal with variance 1/fan-in."""
    return jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape) / math.sqrt(math.prod(shape[:-1]))


def uniform_by_channels(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Uniform in ±√(2 / input channels)."""
    bound = math.sqrt(2 / shape[-2])
    return jax.random.uniform(key, (math.prod(shape),), dtype, -bound, bound).reshape(shape)

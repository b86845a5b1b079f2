"""The coupling network of Glow."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen


class ConvolutionNet(linen.Module):
    """Three convolutions, the last of which starts at zero, so that a coupling starts without the network's say.

        output = conv3x3(relu(conv1x1(relu(conv3x3(x)))))

    Shapes: x ``(batch, height, width, channels)``; context None or ``(batch, features)``, added after the first
    convolution; output ``(batch, height, width, outputs)``.

    Reference: Kingma, Dhariwal, *Glow*, 2018, sec. 3.3 and app. A. (The authors' program has an actnorm after the first
    two convolutions, and a learned gain after the last; neither is here.)
    """

    features: int
    outputs: int

    @linen.compact
    def __call__(self, x: jax.Array, context: Any = None, *, train: bool = False) -> jax.Array:
        h = convolution(self.features, 3)(x)
        if context is not None:
            h = h + linen.Dense(self.features, name="context")(context)[:, None, None, :]
        h = convolution(self.features, 1)(linen.relu(h))
        return linen.Conv(self.outputs, (3, 3), kernel_init=linen.initializers.zeros)(linen.relu(h))


def convolution(features: int, kernel: int, name: str | None = None) -> linen.Conv:
    return linen.Conv(features, (kernel, kernel), kernel_init=_fan_in, name=name)


def _fan_in(key, shape, dtype=jnp.float32):
    """Normal with variance 1/fan-in, drawn flat: XLA's CPU backend takes seconds to compile a four-dimensional draw."""
    fan_in = math.prod(shape[:-1])
    return jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape) / math.sqrt(fan_in)

"""The coupling network of Glow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
from flax import linen

from nvpjax.nets.conditioner import Network, with_context
from nvpjax.nets.convolve import Conv
from nvpjax.values import expect_at_least


@dataclass(frozen=True)
class ConvolutionNet(Network):
    """Three convolutions, the last of which starts at zero, so that a coupling starts without the network's say.

        output = conv3x3(relu(conv1x1(relu(conv3x3(x)))))

    Shapes: x ``(batch, height, width, channels)``; context None, ``(batch, features)``, added after the first
    convolution, or an image as high and wide as x or a whole number of times so, which goes in beside it; output
    ``(batch, height, width, outputs)``.

    Reference: Kingma, Dhariwal, *Glow*, 2018, sec. 3.3 and app. A. (The authors' program has an actnorm after the first
    two convolutions, and a learned gain after the last; neither is here.)

    >>> import jax, jax.numpy as jnp
    >>> network, x = ConvolutionNet(features=4), jnp.zeros((2, 3, 5, 1))
    >>> params, state = network.init(jax.random.key(0), x, outputs=6)
    >>> network.apply(params, state, x, outputs=6)[0].shape
    (2, 3, 5, 6)
    """

    X_AXES = 4
    features: int

    def __post_init__(self):
        expect_at_least(self, 1, "features")

    def __call__(self, x: jax.Array, context: Any = None, *, outputs: int, train: bool = False) -> jax.Array:
        if context is not None and context.ndim == 4:
            x, context = with_context(x, context), None
        h = Conv(self.features, 3)(x)
        if context is not None:
            h = h + linen.Dense(self.features, name="context")(context)[:, None, None, :]
        h = Conv(self.features, 1)(linen.relu(h))
        return Conv(outputs, 3, kernel_init=linen.initializers.zeros)(linen.relu(h))

"""Glow for images."""

from __future__ import annotations

from nvpjax.bijectors.actnorm import ActNorm
from nvpjax.bijectors.bounds import NoBound, SigmoidBound
from nvpjax.bijectors.coupling import Coupling
from nvpjax.bijectors.elementwise import FixedAffine
from nvpjax.bijectors.linear import LULinear
from nvpjax.bijectors.masks import ChannelMask
from nvpjax.bijectors.squeeze import Squeeze
from nvpjax.bijectors.transforms import Affine
from nvpjax.chain import Chain
from nvpjax.distributions import DiagonalNormal
from nvpjax.flow import Flow
from nvpjax.multiscale import MultiScale
from nvpjax.nets import ConvolutionNet, FlaxConditioner
from nvpjax.repeat import Repeat


def glow(channels: int, *, levels: int = 3, steps: int = 32, features: int = 512, axis_name: str | None = None) -> Flow:
    """Glow for images with values in [0, 1].

        x − ½ → at each level:  squeeze → steps of (actnorm → 1x1 convolution → affine coupling)
                at each level but the last:  half of the channels leaves as latents, with a learned prior from the rest

    Args:
        channels: of the images.
        levels: L; height and width must divide by 2^L.
        steps: K, of each level.
        features: maps of the networks.
        axis_name: the pmap axis for actnorm's measurement in ``init``; see ``ActNorm``.

    Shapes: x ``(batch, height, width, channels)``; latents a tuple of L arrays, finest first. ``init`` wants a real
    batch: actnorm starts from it.

    Reference: Kingma, Dhariwal, *Glow*, 2018, sec. 3, table 1 and fig. 2. The scale of a coupling is sigmoid(r + 2),
    after the authors' program.

    >>> import jax, jax.numpy as jnp
    >>> flow = glow(channels=1, levels=2, steps=1, features=4)
    >>> x = jax.random.uniform(jax.random.key(1), (8, 4, 4, 1))
    >>> params, state = jax.jit(flow.init)(jax.random.key(0), x)
    >>> [z.shape for z in flow.bijector.forward(params["bijector"], state, x)[0]]
    [(8, 2, 2, 2), (8, 1, 1, 8)]
    """
    if channels < 1 or levels < 1 or steps < 1 or features < 1:
        raise ValueError(
            "glow: expected channels, levels, steps, features >= 1, got "
            f"channels={channels}, levels={levels}, steps={steps}, features={features}."
        )

    def step(channels: int) -> Chain:
        network = FlaxConditioner(ConvolutionNet(features, outputs=channels))
        coupling = Coupling(ChannelMask(passes="first"), Affine(SigmoidBound()), network)
        return Chain((ActNorm(axis_name), LULinear(), coupling))

    def prior(channels: int) -> Coupling:
        """ẑ = (z − μ(h)) / σ(h): a coupling in which h, the half that goes on, conditions."""
        network = FlaxConditioner(ConvolutionNet(features, outputs=channels))
        return Coupling(ChannelMask(passes="first"), Affine(NoBound()), network)

    def level(number: int) -> Chain:
        inner = 4 * channels * 2**number
        last = number == levels - 1
        return Chain((Squeeze(), Repeat(step(inner), steps), *(() if last else (prior(inner),))))

    scales = MultiScale(level(number) for number in range(levels))
    return Flow(Chain((FixedAffine(shift=-0.5), scales)), DiagonalNormal())

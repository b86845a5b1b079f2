"""Real NVP for images, as the paper and the authors' program build it."""

from __future__ import annotations

import jax.numpy as jnp

from nvpjax.bijector import Bijector
from nvpjax.bijectors.bounds import TanhBound
from nvpjax.bijectors.coupling import Coupling
from nvpjax.bijectors.elementwise import Logit
from nvpjax.bijectors.masks import ChannelMask, Checkerboard
from nvpjax.bijectors.normalize import BatchNorm
from nvpjax.bijectors.squeeze import OrderedSqueeze, Squeeze
from nvpjax.bijectors.transforms import Affine
from nvpjax.chain import Chain, Inverse
from nvpjax.distributions import StandardNormal
from nvpjax.flow import Flow
from nvpjax.multiscale import MultiScale
from nvpjax.nets import FlaxConditioner, ResidualNet
from nvpjax.repeat import Repeat


def real_nvp(
    channels: int,
    *,
    scales: int = 2,
    features: int = 64,
    blocks: int = 8,
    alpha: float = 0.05,
    learned_prior: bool = False,
    lag: float = 0.0,
    axis_name: str | None = None,
    scan: bool | None = None,
    network_dtype: jnp.dtype | None = None,
) -> Flow:
    """Real NVP for images with values in [0, 1], as the authors' program builds it.

        logit → for each scale but the last:
                    3 checkerboard couplings → squeeze → 3 channel couplings → unsqueeze → ordered squeeze → halve
              → last scale: 4 checkerboard couplings
    with a batch normalisation of the changed part after every coupling, and twice the feature maps in channel
    couplings and from scale to scale.

    Args:
        channels: of the images, 1 or 3.
        scales: L; height and width must divide by 2^(L−1).
        features: maps of the first scale's checkerboard networks.
        blocks: residual blocks of every network.
        alpha: of the logit; see ``Logit``.
        learned_prior: give each factored-out half z the prior N(μ(h), σ(h)²) in place of N(0, I), with μ and σ from
            the half h that goes on.
        lag: of the batch normalisations between couplings; see ``BatchNorm``. The paper uses it for CIFAR-10.
        axis_name: the pmap axis, so that all moments are the global batch's.
        scan: whether couplings in turns, and the blocks of their networks, are loops; see ``Repeat``. Parameters are
            the same.
        network_dtype: of the networks' arithmetic, ``jnp.bfloat16`` for fast training; see ``FlaxConditioner``.

    Shapes: x ``(batch, height, width, channels)``; latents a tuple of L arrays, finest first.

    Reference: Real NVP, sec. 3.4-3.7 and 4.1, fig. 3 and 4. Published: CIFAR-10 2 scales, 64 features, 8 blocks;
    ImageNet 32 4, 32, 4; ImageNet 64, CelebA and LSUN 5, 32, 2.

    >>> import jax, jax.numpy as jnp
    >>> flow = real_nvp(channels=1, scales=2, features=4, blocks=1)
    >>> x = jnp.full((2, 8, 8, 1), 0.5)
    >>> params, state = jax.jit(flow.init)(jax.random.key(0), x)
    >>> log_prob, state = jax.jit(flow.log_prob)(params, state, x)
    >>> log_prob.shape
    (2,)
    """
    if channels < 1 or scales < 1 or features < 1 or blocks < 0:
        raise ValueError(
            "real_nvp: expected channels, scales, features >= 1 and blocks >= 0, got "
            f"channels={channels}, scales={scales}, features={features}, blocks={blocks}."
        )

    def residual_net(features: int, outputs: int, mask_channel: bool = False) -> FlaxConditioner:
        network = ResidualNet(features, blocks, outputs, mask_channel, axis_name, scan)
        return FlaxConditioner(network, network_dtype)

    # The paper's text begins with the odd positions; the authors' program, followed here, with the even ones.
    def checkerboard_couplings(times: int, channels: int, features: int) -> Repeat:
        mask = Checkerboard(passes="even")
        network = residual_net(features, outputs=2 * channels, mask_channel=True)
        coupling = Coupling(mask, Affine(TanhBound(initial_scale=0.0)), network)
        layer = Chain((coupling, BatchNorm(mask, lag=lag, axis_name=axis_name)))
        return Repeat(layer, times, scan, alternate=True)

    def channel_couplings(times: int, channels: int, features: int) -> Repeat:
        mask = ChannelMask(passes="first")
        network = residual_net(features, outputs=channels)
        coupling = Coupling(mask, Affine(TanhBound(initial_scale=1.0)), network)
        layer = Chain((coupling, BatchNorm(mask, lag=lag, axis_name=axis_name)))
        return Repeat(layer, times, scan, alternate=True)

    def prior(channels: int, features: int) -> Coupling:
        """ẑ = (z − μ(h)) / σ(h): a coupling in which h, the half that goes on, conditions."""
        network = residual_net(features, outputs=channels)
        return Coupling(ChannelMask(passes="first"), Affine(TanhBound(initial_scale=1.0)), network)

    def scale(channels: int, features: int) -> Chain:
        return Chain(
            (
                checkerboard_couplings(3, channels, features),
                Squeeze(),
                channel_couplings(3, 4 * channels, 2 * features),
                Inverse(Squeeze()),
                OrderedSqueeze(),
                *([prior(4 * channels, 2 * features)] if learned_prior else []),
            )
        )

    levels: list[Bijector] = [scale(channels * 2**level, features * 2**level) for level in range(scales - 1)]
    levels.append(checkerboard_couplings(4, channels * 2 ** (scales - 1), features * 2 ** (scales - 1)))
    return Flow(Chain((Logit(alpha), MultiScale(levels))), StandardNormal())

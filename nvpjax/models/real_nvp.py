"""Real NVP for images, as the paper and the authors' program build it."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from nvpjax.bijector import Bijector, Conditioner, PyTree
from nvpjax.bijectors.bounds import TanhBound
from nvpjax.bijectors.coupling import Coupling
from nvpjax.bijectors.elementwise import Logit
from nvpjax.bijectors.masks import ChannelMask, Checkerboard
from nvpjax.bijectors.normalize import BatchNorm
from nvpjax.bijectors.squeeze import OrderedSqueeze, Squeeze
from nvpjax.bijectors.transforms import Affine
from nvpjax.chain import Chain, Inverse
from nvpjax.combinator import leaves
from nvpjax.distributions import StandardNormal
from nvpjax.flow import Flow
from nvpjax.models.model import Dtype, Model, Shape, conditioner, expect_image
from nvpjax.multiscale import MultiScale
from nvpjax.nets import ResidualNet
from nvpjax.repeat import Repeat
from nvpjax.values import expect_at_least


@dataclass(frozen=True)
class RealNVP(Model):
    """Real NVP for images with values in [0, 1], as the authors' program builds it.

        logit → for each scale but the last:
                    3 checkerboard couplings → squeeze → 3 channel couplings → unsqueeze → ordered squeeze → halve
              → last scale: 4 checkerboard couplings

    with a batch normalisation of the changed part after every coupling, and twice the feature maps in channel
    couplings and from scale to scale.

    Shapes: events ``(height, width, channels)``; latents a tuple of L arrays, finest first. With ``classes``, the
    flow's context are labels ``(batch,)``, see ``LabelEmbedding``. Errors: ValueError for sizes, ``alpha`` or ``lag``
    out of range, or images that the scales do not divide.

    Reference: Real NVP, sec. 3.4-3.7 and 4.1, fig. 3 and 4. Published: CIFAR-10 2 scales, 64 features, 8 blocks;
    ImageNet 32 4, 32, 4; ImageNet 64, CelebA and LSUN 5, 32, 2.

    >>> import jax, jax.numpy as jnp
    >>> flow = RealNVP(scales=2, features=4, blocks=1).build((8, 8, 1))
    >>> x = jnp.full((2, 8, 8, 1), 0.5)
    >>> params, state = jax.jit(flow.init)(jax.random.key(0), x)
    >>> log_prob, state = jax.jit(flow.log_prob)(params, state, x)
    >>> log_prob.shape
    (2,)
    """

    scales: int = 2
    """L; height and width must divide by 2^(L−1)."""
    features: int = 64
    """Maps of the first scale's checkerboard networks."""
    blocks: int = 8
    """Residual blocks of every network."""
    alpha: float = 0.05
    """Of the logit; see ``Logit``."""
    learned_prior: bool = False
    """Give each factored-out half z the prior N(μ(h), σ(h)²) in place of N(0, I), with μ, σ from the half h that goes
    on."""
    lag: float = 0.0
    """Of the batch normalisations between couplings; see ``BatchNorm``. The paper uses it for CIFAR-10."""
    classes: int = 0
    """Of the labels that condition the flow; 0 for none."""

    def __post_init__(self):
        expect_at_least(self, 1, "scales", "features")
        expect_at_least(self, 0, "blocks", "classes")
        Logit(self.alpha)  # refuses what does not fit, as the next does
        BatchNorm(lag=self.lag)

    def build(
        self, event_shape: Shape, *, axis_name: str | None = None, network_dtype: Dtype = None, scan: bool | None = None
    ) -> Flow:
        divisor = 2 ** (self.scales - 1)
        expect_image(self, event_shape, divisor, "Pad or crop the images, or use fewer scales.")
        if event_shape[0] * event_shape[1] < 2 * divisor**2:
            raise ValueError(
                f"RealNVP: expected at least two positions at the last of {self.scales} scales, got one from images of "
                f"{tuple(event_shape)}. Use fewer scales."
            )

        def network(features: int, mask_channel: bool = False) -> Conditioner:
            residual_net = ResidualNet(features, self.blocks, mask_channel, axis_name, scan)
            return conditioner(residual_net, classes=self.classes, dtype=network_dtype)

        # The paper's text begins with the odd positions; the authors' program, followed here, with the even ones.
        def checkerboard_couplings(times: int, features: int) -> Repeat:
            mask = Checkerboard(passes="even")
            coupling = Coupling(mask, Affine(TanhBound(initial_scale=0.0)), network(features, mask_channel=True))
            layer = Chain((coupling, BatchNorm(mask, lag=self.lag, axis_name=axis_name)))
            return Repeat(layer, times, scan, alternate=True)

        def channel_couplings(times: int, features: int) -> Repeat:
            mask = ChannelMask(passes="first")
            coupling = Coupling(mask, Affine(TanhBound(initial_scale=1.0)), network(features))
            layer = Chain((coupling, BatchNorm(mask, lag=self.lag, axis_name=axis_name)))
            return Repeat(layer, times, scan, alternate=True)

        def prior(features: int) -> Coupling:
            """ẑ = (z − μ(h)) / σ(h): a coupling in which h, the half that goes on, conditions."""
            return Coupling(ChannelMask(passes="first"), Affine(TanhBound(initial_scale=1.0)), network(features))

        def scale(features: int) -> Chain:
            return Chain(
                (
                    checkerboard_couplings(3, features),
                    Squeeze(),
                    channel_couplings(3, 2 * features),
                    Inverse(Squeeze()),
                    OrderedSqueeze(),
                    *([prior(2 * features)] if self.learned_prior else []),
                )
            )

        levels: list[Bijector] = [scale(self.features * 2**level) for level in range(self.scales - 1)]
        levels.append(checkerboard_couplings(4, self.features * 2 ** (self.scales - 1)))
        return Flow(Chain((Logit(self.alpha), MultiScale(tuple(levels)))), StandardNormal())

    def penalty(self, flow: Flow, params: PyTree) -> jax.Array:
        """Σ g² + Σ c²: of every weight-normalised convolution's magnitudes g, and of the scale c that bounds the
        log-scales of every checkerboard coupling. (Of channel couplings it is free.)

        Args: ``params``: the flow's. Result: a scalar.

        Reference: Real NVP, sec. 4.1 (a weight decay on the weight scale parameters); which they are, after the
        authors' program.
        """
        total = jnp.zeros(())
        for bijector, of_one in leaves(flow.bijector, params["bijector"]):
            if isinstance(bijector, Coupling):
                bounded = isinstance(bijector.mask, Checkerboard)
                penalised = _named(of_one["conditioner"], "magnitude")
                penalised += _named(of_one["transform"], "scale") if bounded else []
                total += sum(jnp.sum(jnp.square(leaf)) for leaf in penalised)
        return total


def _named(params: PyTree, name: str) -> list[jax.Array]:
    """The leaves of this name."""
    return [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params) if path[-1].key == name]

"""Glow for images, and a dequantisation of its make."""

from __future__ import annotations

from dataclasses import dataclass

from nvpjax.bijector import Bijector
from nvpjax.bijectors.actnorm import ActNorm
from nvpjax.bijectors.bounds import NoBound, SigmoidBound
from nvpjax.bijectors.coupling import Coupling
from nvpjax.bijectors.elementwise import FixedAffine, Logit
from nvpjax.bijectors.linear import LULinear
from nvpjax.bijectors.masks import ChannelMask
from nvpjax.bijectors.mixture import LogisticMixture
from nvpjax.bijectors.squeeze import Squeeze
from nvpjax.bijectors.transforms import Affine
from nvpjax.chain import Chain, Inverse
from nvpjax.distributions import DiagonalNormal
from nvpjax.flow import Flow
from nvpjax.models.model import Dtype, Model, Shape, conditioner, expect_image
from nvpjax.multiscale import MultiScale
from nvpjax.nets import ConvolutionNet
from nvpjax.repeat import Repeat
from nvpjax.values import expect_at_least


@dataclass(frozen=True)
class Glow(Model):
    """Glow for images with values in [0, 1].

        x − ½, or logit(α + (1 − 2α)x)
            → at each level:  squeeze → steps of (actnorm → 1x1 convolution → affine coupling)
                at each level but the last:  half of the channels leaves as latents, with a learned prior from the rest

    Shapes: events ``(height, width, channels)``; latents a tuple of L arrays, finest first. ``init`` wants a real
    batch: actnorm starts from it. With ``classes``, the flow's context are labels ``(batch,)``, see ``LabelEmbedding``.
    Errors: ValueError for sizes below 1, ``alpha`` out of range, or images that 2^levels does not divide.

    Reference: Kingma, Dhariwal, *Glow*, 2018, sec. 3, table 1 and fig. 2. The scale of a coupling is sigmoid(r + 2),
    after the authors' program.

    >>> import jax, jax.numpy as jnp
    >>> flow = Glow(levels=2, depth=1, features=4).build((4, 4, 1))
    >>> x = jax.random.uniform(jax.random.key(1), (8, 4, 4, 1))
    >>> params, state = jax.jit(flow.init)(jax.random.key(0), x)
    >>> [z.shape for z in flow.bijector.forward(params["bijector"], state["bijector"], x)[0]]
    [(8, 2, 2, 2), (8, 1, 1, 8)]
    """

    levels: int = 3
    """L; height and width must divide by 2^L."""
    depth: int = 32
    """K, the steps of each level."""
    features: int = 512
    """Maps of the networks."""
    components: int = 0
    """Logistics of the mixtures that couple, as in Flow++; 0 for affine couplings, which are Glow's own."""
    learned_prior: bool = True
    """Give each half that leaves a prior from the half that goes on, in place of N(0, I)."""
    classes: int = 0
    """Of the labels that condition the flow; 0 for none."""
    alpha: float | None = None
    """α of the logit that pixels go through first, as in Real NVP, for images of which many pixels are black or white;
    None for x − ½, which is Glow's own."""

    def __post_init__(self):
        expect_at_least(self, 1, "levels", "depth", "features")
        expect_at_least(self, 0, "components", "classes")
        self._first()  # refuses what does not fit

    def build(
        self, event_shape: Shape, *, axis_name: str | None = None, network_dtype: Dtype = None, scan: bool | None = None
    ) -> Flow:
        expect_image(self, event_shape, 2**self.levels, "Pad or crop the images, or use fewer levels.")
        network = conditioner(ConvolutionNet(self.features), classes=self.classes, dtype=network_dtype)
        mask = ChannelMask(passes="first")
        transform = LogisticMixture(self.components) if self.components else Affine(SigmoidBound())
        step = Chain((ActNorm(axis_name), LULinear(), Coupling(mask, transform, network)))
        # ẑ = (z − μ(h)) / σ(h): a coupling in which h, the half that goes on, conditions.
        prior = Coupling(mask, Affine(NoBound()), network)
        level = Chain((Squeeze(), Repeat(step, self.depth, scan), *([prior] if self.learned_prior else [])))
        last = Chain((Squeeze(), Repeat(step, self.depth, scan)))
        scales = MultiScale((*[level] * (self.levels - 1), last))
        return Flow(Chain((self._first(), scales)), DiagonalNormal())

    def _first(self) -> Bijector:
        return FixedAffine(shift=-0.5) if self.alpha is None else Logit(self.alpha)


@dataclass(frozen=True)
class GlowDequantizer(Model):
    """The density q(u | image) of the noise u in (0, 1) that dequantises an image, at half the resolution of the image.

        u = sigmoid(unsqueeze(steps(squeeze(ε); image))),     ε ~ N(0, I)
        each step:  1x1 convolution → affine coupling

    For its cost: of Flow++'s idea, with couplings and networks of Glow's. Its context is the image, scaled to [−1, 1),
    with the height and width of u; see ``nvpjax.LearnedDequantization``. Shapes: events ``(height, width, channels)``,
    even height and width. Errors: ValueError for sizes below 1, or other events.

    Reference: Ho et al., *Flow++*, 2019, sec. 3.1, eq. 9-11, for what it is used for.

    >>> import jax, jax.numpy as jnp
    >>> flow, image = GlowDequantizer(depth=1, features=4).build((4, 4, 1)), jnp.zeros((2, 4, 4, 1))
    >>> params, state = flow.init(jax.random.key(0), jnp.full((2, 4, 4, 1), 0.5), image)
    >>> u, log_q = flow.sample_and_log_prob(jax.random.key(1), params, state, 2, image)
    >>> u.shape, log_q.shape
    ((2, 4, 4, 1), (2,))
    """

    depth: int = 4
    """Steps."""
    features: int = 64
    """Maps of the networks."""

    def __post_init__(self):
        expect_at_least(self, 1, "depth", "features")

    def build(
        self, event_shape: Shape, *, axis_name: str | None = None, network_dtype: Dtype = None, scan: bool | None = None
    ) -> Flow:
        expect_image(self, event_shape, 2, "Pad or crop the images.")
        network = conditioner(ConvolutionNet(self.features), dtype=network_dtype)
        step = Chain((LULinear(), Coupling(ChannelMask(passes="first"), Affine(SigmoidBound()), network)))
        # Sampling, which is what training does, runs what is inverted here in its own direction.
        return Flow(Chain((Logit(alpha=0.0), Squeeze(), Inverse(Repeat(step, self.depth, scan)))))

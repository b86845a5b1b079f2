"""Residual flows: of vectors, and of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nvpjax.bijectors.actnorm import ActNorm
from nvpjax.bijectors.elementwise import Logit
from nvpjax.bijectors.invertible_residual import InvertibleResidual
from nvpjax.bijectors.residual_log_det import ExactLogDet, SeriesLogDet
from nvpjax.bijectors.squeeze import Squeeze
from nvpjax.chain import Chain
from nvpjax.flow import Flow
from nvpjax.models.model import Dtype, Model, Shape, expect_image, expect_vector, expect_wide
from nvpjax.nets import ContractiveConvolutions, ContractiveMLP, LabelledContraction
from nvpjax.parts import Reshape
from nvpjax.repeat import Repeat
from nvpjax.values import expect_at_least, expect_choice, expect_finite

LOG_DETS = {"exact": ExactLogDet(), "series": SeriesLogDet()}


@dataclass(frozen=True)
class ResidualFlowVectors(Model):
    """A residual flow of vectors: what an i-ResNet is, with exact log-dets.

        (actnorm → invertible residual block) x blocks → actnorm

    Every block changes every entry by all others. Densities are exact, by whole Jacobians; inverses by fixed points.

    Shapes: events ``(entries,)``; latents the same. Errors: ValueError for sizes below 1, a coefficient that is not
    between 0 and 1, events that are no vectors, or networks in a dtype coarser than float32.

    Reference: Behrmann et al., *Invertible residual networks*, 2019; Chen et al., *Residual flows for invertible
    generative modeling*, 2019.

    >>> import jax, jax.numpy as jnp
    >>> flow = ResidualFlowVectors(blocks=2, hidden=(16,)).build((2,))
    >>> x = jax.random.normal(jax.random.key(0), (4, 2))
    >>> params, state = flow.init(jax.random.key(1), x)
    >>> flow.log_prob(params, state, x)[0].shape
    (4,)
    """

    blocks: int = 16
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the inner layers of each network."""
    coefficient: float = 0.97
    """The largest slope of what a block adds."""
    log_det: Literal["exact", "series"] = "exact"
    """Exact log-dets, or unbiased estimates: ``ExactLogDet``, ``SeriesLogDet``."""

    def __post_init__(self):
        object.__setattr__(self, "hidden", tuple(self.hidden))
        expect_at_least(self, 1, "blocks")
        expect_choice(self, "log_det", tuple(LOG_DETS))
        ContractiveMLP(self.hidden, self.coefficient)  # refuses what does not fit

    def build(
        self, event_shape: Shape, *, axis_name: str | None = None, network_dtype: Dtype = None, scan: bool | None = None
    ) -> Flow:
        expect_vector(self, event_shape, least=1)
        expect_wide(self, network_dtype, "a contraction would be none, and have no inverse")
        block = InvertibleResidual(ContractiveMLP(self.hidden, self.coefficient), LOG_DETS[self.log_det])
        layers = Repeat(Chain((ActNorm(axis_name), block)), self.blocks, scan)
        return Flow(Chain((layers, ActNorm(axis_name))))


@dataclass(frozen=True)
class ResidualFlow(Model):
    """A residual flow of images, trained in constant memory.

        logit → (actnorm → block of convolutions) x blocks, on each scale, with a squeeze between
        → (actnorm → block of dense layers) x dense_blocks → actnorm

    By default its log-dets are estimates: unbiased, and so are gradients, but log_prob has noise of its own.

    Shapes: events ``(height, width, channels)`` in [0, 1], sides that divide by 2^(scales − 1); latents are vectors.
    Errors: ValueError for sizes below 1, a coefficient that is not between 0 and 1, other events, or networks in a
    dtype coarser than float32.

    Reference: Chen et al., *Residual flows for invertible generative modeling*, 2019, sec. 4 and app. E.

    >>> import jax, jax.numpy as jnp
    >>> flow = ResidualFlow(scales=1, blocks=1, features=4, dense_blocks=1).build((4, 4, 1))
    >>> x = jnp.full((2, 4, 4, 1), 0.3)
    >>> params, state = flow.init(jax.random.key(0), x)
    >>> flow.log_prob(params, state, x)[0].shape
    (2,)
    """

    scales: int = 3
    blocks: int = 16
    """On each scale."""
    features: int = 512
    """Inner channels of each network."""
    dense_blocks: int = 4
    dense_features: int = 128
    coefficient: float = 0.98
    """The largest slope of what a block adds."""
    classes: int = 0
    """Of labels that are the context of every block; 0 for no labels."""
    alpha: float = 0.05
    """Of the logit: 1e-6 on MNIST."""
    log_det: Literal["exact", "series"] = "series"
    """Unbiased estimates of log-dets, or exact ones, by whole Jacobians: ``SeriesLogDet``, ``ExactLogDet``."""

    def __post_init__(self):
        expect_at_least(self, 1, "scales", "blocks", "dense_blocks", "dense_features")
        expect_choice(self, "log_det", tuple(LOG_DETS))
        expect_at_least(self, 0, "classes")
        expect_finite(self)
        ContractiveConvolutions(self.features, self.coefficient)  # refuse what does not fit
        Logit(self.alpha)

    def build(
        self, event_shape: Shape, *, axis_name: str | None = None, network_dtype: Dtype = None, scan: bool | None = None
    ) -> Flow:
        expect_wide(self, network_dtype, "a contraction would be none, and have no inverse")
        expect_image(self, event_shape, 2 ** (self.scales - 1), "Pad or crop the images, or take fewer scales.")
        height, width, channels = event_shape
        shrunk = 2 ** (self.scales - 1)
        last = (height // shrunk, width // shrunk, channels * shrunk**2)

        def blocks(network, number):
            network = LabelledContraction(network, self.classes) if self.classes else network
            block = InvertibleResidual(network, LOG_DETS[self.log_det])
            return Repeat(Chain((ActNorm(axis_name), block)), number, scan)

        convolutions = blocks(ContractiveConvolutions(self.features, self.coefficient), self.blocks)
        dense = blocks(ContractiveMLP((self.dense_features,) * 2, self.coefficient), self.dense_blocks)
        parts = [Logit(self.alpha), convolutions]
        for _ in range(self.scales - 1):
            parts += [Squeeze(), convolutions]
        flat = Reshape(last, (height * width * channels,))
        return Flow(Chain((*parts, flat, dense, ActNorm(axis_name))))

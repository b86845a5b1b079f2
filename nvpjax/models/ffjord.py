"""FFJORD: continuous flows of vectors, and of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nvpjax.bijectors.elementwise import Logit
from nvpjax.bijectors.squeeze import Squeeze
from nvpjax.chain import Chain
from nvpjax.continuous import Continuous, ExactTrace, HutchinsonTrace
from nvpjax.flow import Flow
from nvpjax.models.model import Dtype, Model, Shape, conditioner, expect_image, expect_vector, expect_wide
from nvpjax.multiscale import MultiScale
from nvpjax.nets import ConcatSquash, FieldOfImages
from nvpjax.repeat import Repeat
from nvpjax.values import expect_at_least, expect_choice, expect_finite

TRACES = {"exact": ExactTrace(), "hutchinson": HutchinsonTrace()}


@dataclass(frozen=True)
class FFJORDVectors(Model):
    """A continuous flow of vectors: FFJORD's, with exact traces.

        (a solve along a field) x blocks,  each from time 0 to time 1

    Needs diffrax. Smooth, and without an order of the entries; log_prob costs as many evaluations of the network as a
    solve takes, some tens (``Continuous.evaluations``).

    Shapes: events ``(entries,)``; latents the same. Errors: ValueError for sizes below 1, a tolerance that is not above
    0, events that are no vectors, or networks in a dtype coarser than float32.

    Reference: Grathwohl et al., *FFJORD*, 2019, sec. 3 and app. B.1.

    >>> import jax, jax.numpy as jnp
    >>> flow = FFJORDVectors(hidden=(16,)).build((2,))
    >>> x = jax.random.normal(jax.random.key(0), (4, 2))
    >>> params, state = flow.init(jax.random.key(1), x)
    >>> flow.log_prob(params, state, x)[0].shape
    (4,)
    """

    blocks: int = 1
    """Solves in a row, each along a field of its own."""
    hidden: tuple[int, ...] = (64, 64, 64)
    """Widths of the inner layers of each field."""
    trace: Literal["exact", "hutchinson"] = "exact"
    """Exact traces, or unbiased estimates: ``ExactTrace``, ``HutchinsonTrace``."""
    tolerance: float = 1e-5
    """Of a step of a solve; see ``Continuous``."""

    def __post_init__(self):
        object.__setattr__(self, "hidden", tuple(self.hidden))
        expect_at_least(self, 1, "blocks")
        expect_choice(self, "trace", tuple(TRACES))
        Continuous(ConcatSquash(self.hidden), tolerance=self.tolerance)  # refuses what does not fit

    def build(
        self, event_shape: Shape, *, axis_name: str | None = None, network_dtype: Dtype = None, scan: bool | None = None
    ) -> Flow:
        expect_vector(self, event_shape, least=1)
        expect_wide(self, network_dtype, "a solve would make its steps smaller and smaller")
        field = conditioner(ConcatSquash(self.hidden), dtype=network_dtype)
        solve = Continuous(field, TRACES[self.trace], self.tolerance)
        return Flow(Repeat(solve, self.blocks, scan))


@dataclass(frozen=True)
class FFJORD(Model):
    """A continuous flow of images: FFJORD's, on several scales.

        logit → for each scale but the last:  solve x blocks → squeeze → solve x blocks → halve
              → last scale:  solve x blocks

    Needs diffrax. By default its log-dets are estimates, by one draw of noise a solve.

    Shapes: events ``(height, width, channels)`` in [0, 1], sides that divide by 2^(scales − 1); latents a tuple of
    ``scales`` arrays, finest first. With ``classes``, the flow's context are labels ``(batch,)``. Errors: ValueError
    for sizes below 1, other events, or networks in a dtype coarser than float32.

    Reference: Grathwohl et al., *FFJORD*, 2019, sec. 4.2 and app. B.1. Its end time, which is learned there, is 1 here:
    a field times a number is the same.

    >>> import jax, jax.numpy as jnp
    >>> flow = FFJORD(scales=1, blocks=1, features=(4,)).build((4, 4, 1))
    >>> x = jnp.full((2, 4, 4, 1), 0.3)
    >>> params, state = flow.init(jax.random.key(0), x)
    >>> flow.log_prob(params, state, x)[0].shape
    (2,)
    """

    scales: int = 3
    blocks: int = 2
    """Solves in a row on each scale, before its squeeze and after."""
    features: tuple[int, ...] = (64, 64, 64)
    """Channels of the inner layers of each field."""
    alpha: float = 0.05
    """Of the logit: 1e-6 on MNIST."""
    classes: int = 0
    """Of the labels that condition the flow; 0 for none."""
    trace: Literal["hutchinson", "exact"] = "hutchinson"
    """Unbiased estimates of traces, or exact ones: ``HutchinsonTrace``, ``ExactTrace``."""
    tolerance: float = 1e-5
    """Of a step of a solve; see ``Continuous``."""

    def __post_init__(self):
        object.__setattr__(self, "features", tuple(self.features))
        expect_at_least(self, 1, "scales", "blocks")
        expect_at_least(self, 0, "classes")
        expect_choice(self, "trace", tuple(TRACES))
        expect_finite(self)
        Continuous(FieldOfImages(self.features), tolerance=self.tolerance)  # refuse what does not fit
        Logit(self.alpha)

    def build(
        self, event_shape: Shape, *, axis_name: str | None = None, network_dtype: Dtype = None, scan: bool | None = None
    ) -> Flow:
        divisor = 2 ** (self.scales - 1)
        expect_image(self, event_shape, divisor, "Pad or crop the images, or take fewer scales.")
        expect_wide(self, network_dtype, "a solve would make its steps smaller and smaller")
        field = conditioner(FieldOfImages(self.features), classes=self.classes, dtype=network_dtype)
        solves = Repeat(Continuous(field, TRACES[self.trace], self.tolerance), self.blocks, scan)
        levels = [*[Chain((solves, Squeeze(), solves))] * (self.scales - 1), solves]
        return Flow(Chain((Logit(self.alpha), MultiScale(tuple(levels)))))

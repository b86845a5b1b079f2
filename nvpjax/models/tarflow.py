"""TarFlow: autoregressive transformers over patches of images, or over columns."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nvpjax.bijector import Bijector, Conditioner
from nvpjax.bijectors.autoregressive import Autoregressive
from nvpjax.bijectors.bounds import NoBound
from nvpjax.bijectors.elementwise import FixedAffine, Logit
from nvpjax.bijectors.mixture import LogisticMixture
from nvpjax.bijectors.patches import Patches
from nvpjax.bijectors.permutation import Reverse
from nvpjax.bijectors.transforms import Affine
from nvpjax.chain import Chain
from nvpjax.flow import Flow
from nvpjax.models.model import Dtype, Model, Shape, expect_image, expect_vector, rounded
from nvpjax.nets import CausalTransformer, NestedTransformer
from nvpjax.parts import OnAxes, Reshape
from nvpjax.repeat import Repeat
from nvpjax.values import expect_at_least

UNIT_RANGE = FixedAffine(2.0, -1.0)
"""From [0, 1], where pixels are, to [−1, 1]."""


@dataclass(frozen=True)
class TarFlow(Model):
    """TarFlow: affine layers over a sequence, each told by a transformer that sees what comes before.

        2x − 1, or l(x) / l(1) of l(x) = logit(α + (1 − 2α)x)
            → patches → (autoregressive layer → sequence turned round) x layers

    Densities take one pass a layer, samples go position by position with a cache (see ``StepByStep``). Vectors are
    sequences of single entries.

    Shapes: images ``(height, width, channels)`` with values in [0, 1], sides divisible by ``patch``, or vectors
    ``(entries,)`` of two entries or more. Latents of images are sequences, ``(positions, patch²·channels)``, those of
    vectors are vectors. Context: labels where there are ``classes``, of which −1 is one that is not known. Errors:
    ValueError for sizes below 1, ``alpha`` out of range, or other events.

    Params of an affine layer, of T positions with D entries each: D·C + C + T·C (+ classes·C) + depth·(12C² + 13C) +
    2DC + 2D numbers, where C is ``width``, and those of the network inside patches.

    Reference: Zhai et al., *Normalizing flows are capable generative models* (TarFlow), 2024, sec. 3; sizes of the
    defaults: their program's for MNIST.

    >>> import jax, jax.numpy as jnp
    >>> flow = TarFlow(patch=2, width=8, layers=2, depth=1, head_width=4).build((4, 4, 1))
    >>> params, state = flow.init(jax.random.key(0), jnp.zeros((2, 4, 4, 1)))
    >>> flow.log_prob(params, state, jnp.zeros((2, 4, 4, 1)))[0].shape
    (2,)
    """

    takes_unknown_labels = True

    patch: int = 4
    """Side of the patches that images are cut into."""
    width: int = 128
    """Channels of the transformers."""
    layers: int = 4
    """Autoregressive layers."""
    depth: int = 4
    """Blocks of each transformer."""
    head_width: int = 64
    """Channels of a head of attention."""
    classes: int = 0
    """Of the labels that condition the flow; 0 for none."""
    components: int = 0
    """Logistics of a mixture for each entry, as in Flow++, which fit what has edges, such as black pixels with uniform
    noise; 0 for affine layers, which are TarFlow's own."""
    alpha: float | None = None
    """α of the logit that pixels go through first, above 0, as in Real NVP, for images of which many pixels are black
    or white; None for 2x − 1, which is TarFlow's own. Vectors do without."""
    inside: tuple[int, ...] = ()
    """Widths of a masked network inside patches, which tells each entry what comes before it in its own patch too (see
    ``NestedTransformer``); () for TarFlow's own, whose entries of a patch are all told the same. Vectors do without."""

    def __post_init__(self):
        object.__setattr__(self, "inside", tuple(self.inside))
        expect_at_least(self, 1, "patch", "layers", "inside")
        expect_at_least(self, 0, "components")
        self._first()  # refuses what does not fit, as the next does
        self._network()

    def build(
        self, event_shape: Shape, *, axis_name: str | None = None, network_dtype: Dtype = None, scan: bool | None = None
    ) -> Flow:
        if len(event_shape) == 1:
            entries = expect_vector(self, event_shape)
            layers = self._layers(self._network(), network_dtype, scan)
            return Flow(Chain((Reshape((entries,), (entries, 1)), layers, Reshape((entries, 1), (entries,)))))
        expect_image(self, event_shape, self.patch, "Pad or crop the images, or cut other patches.")
        height, width, channels = event_shape
        patches = Patches(self.patch, (height, width, channels))
        if not self.inside:
            return Flow(Chain((self._first(), patches, self._layers(self._network(), network_dtype, scan))))
        positions, size = patches.sequence_shape
        network = NestedTransformer(size, self.inside, self.width, self.depth, self.head_width, self.classes)
        patchwise, one_by_one = (positions, size), (positions * size, 1)
        layers = self._layers(network, network_dtype, scan)
        return Flow(
            Chain((self._first(), patches, Reshape(patchwise, one_by_one), layers, Reshape(one_by_one, patchwise)))
        )

    def _layers(self, network: Conditioner, network_dtype: Dtype, scan: bool | None) -> Bijector:
        transform = LogisticMixture(self.components) if self.components else Affine(NoBound())
        layer = Autoregressive(transform, rounded(network, network_dtype))
        return Repeat(Chain((layer, OnAxes(Reverse(), axes=(0,)))), self.layers, scan)

    def _first(self) -> Bijector:
        if self.alpha is None:
            return UNIT_RANGE
        if not 0 < self.alpha < 0.5:  # at 0 the ends would be infinitely far
            raise ValueError(f"TarFlow: expected 0 < alpha < 0.5, got {self.alpha}.")
        return Chain((Logit(self.alpha), FixedAffine(1 / math.log((1 - self.alpha) / self.alpha))))

    def _network(self) -> CausalTransformer:
        return CausalTransformer(self.width, self.depth, self.head_width, self.classes)

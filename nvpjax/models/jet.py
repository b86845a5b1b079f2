"""Jet: couplings of patches, told by transformers that see all that passes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from nvpjax.bijectors.bounds import DoubleSigmoidBound
from nvpjax.bijectors.coupling import Coupling
from nvpjax.bijectors.masks import ChannelMask, Mask
from nvpjax.bijectors.patches import Patches
from nvpjax.bijectors.permutation import RandomPermutation
from nvpjax.bijectors.token_mask import TokenMask
from nvpjax.bijectors.transforms import Affine
from nvpjax.chain import Chain
from nvpjax.flow import Flow
from nvpjax.models.model import Dtype, Model, Shape, expect_image, rounded
from nvpjax.models.tarflow import UNIT_RANGE
from nvpjax.nets import Transformer
from nvpjax.repeat import Repeat
from nvpjax.values import expect_at_least

OF_CHANNELS = 4
"""Couplings by channels before one by positions."""


@dataclass(frozen=True)
class Jet(Model):
    """Jet: affine couplings of a sequence of patches, by channels and by positions in turn, with transformers.

        2x − 1 → patches → ((channels shuffled → coupling by channels) x 4 → coupling by positions) …

    Positions condition each other by a checkerboard, by columns and by rows in turn, each the one way and then the
    other. Densities and samples both take one pass.

    Shapes: images ``(height, width, channels)`` with values in [0, 1]; ``patch`` divides the sides into even numbers of
    patches, and patch²·channels is even. Latents ``(positions, patch²·channels)``. Context: labels where there are
    ``classes``, of which −1 is one that is not known. Errors: ValueError for sizes below 1, or other events.

    Params of a coupling, of n positions with d channels each: (d/2)E + E + nE (+ classes·E) + depth·(12E² + 13E) + 2E +
    Ed + d numbers, where E is ``width``.

    Reference: Kolesnikov, Pinto, Tschannen, *Jet*, 2024, sec. 3. The order of the kinds is their program's;
    pixels are k/127.5 − 1 + u/127.5 there, 2(k + u)/256 − 1 here.

    >>> import jax, jax.numpy as jnp
    >>> flow = Jet(patch=2, width=8, couplings=5, depth=1, head_width=4).build((4, 4, 1))
    >>> params, state = flow.init(jax.random.key(0), jnp.zeros((2, 4, 4, 1)))
    >>> flow.log_prob(params, state, jnp.zeros((2, 4, 4, 1)))[0].shape
    (2,)
    """

    takes_unknown_labels = True

    patch: int = 4
    """Side of the patches that images are cut into."""
    width: int = 256
    """Channels of the transformers."""
    couplings: int = 32
    """In all."""
    depth: int = 2
    """Blocks of each transformer."""
    head_width: int = 64
    """Channels of a head of attention."""
    classes: int = 0
    """Of the labels that condition the flow; 0 for none."""

    def __post_init__(self):
        expect_at_least(self, 1, "patch", "couplings")
        self._network()  # refuses what does not fit

    def build(
        self, event_shape: Shape, *, axis_name: str | None = None, network_dtype: Dtype = None, scan: bool | None = None
    ) -> Flow:
        expect_image(self, event_shape, 2 * self.patch, "Pad or crop the images, or cut other patches.")
        height, width, channels = event_shape
        patches = Patches(self.patch, (height, width, channels))
        if patches.sequence_shape[1] % 2:
            raise ValueError(f"Jet: expected patches of an even number of entries, got {patches.sequence_shape[1]}.")
        network, side = rounded(self._network(), network_dtype), width // self.patch

        def coupling(mask: Mask) -> Coupling:
            return Coupling(mask, Affine(DoubleSigmoidBound()), network)

        of_channels = Chain((RandomPermutation(), coupling(ChannelMask(passes="first"))))
        patterns = itertools.product(("checkerboard", "columns", "rows"), ("even", "odd"))
        of_positions = itertools.cycle([coupling(TokenMask(pattern, side, passes)) for pattern, passes in patterns])

        layers, left = [], self.couplings
        while left > 0:
            layers.append(Repeat(of_channels, min(left, OF_CHANNELS), scan))
            if left > OF_CHANNELS:
                layers.append(next(of_positions))
            left -= OF_CHANNELS + 1
        return Flow(Chain((UNIT_RANGE, patches, *layers)))

    def _network(self) -> Transformer:
        return Transformer(self.width, self.depth, self.head_width, self.classes)

"""The coupling network of Flow++."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from nvpjax.nets.conditioner import Network, with_context
from nvpjax.nets.convolve import Conv
from nvpjax.values import expect_at_least


@dataclass(frozen=True)
class GatedNet(Network):
    """Gated residual convolutions with layer normalisation, and self-attention over positions.

        h = conv3x3([x, context])
        each block:  h = norm(h + gate(conv1x1(elu'(conv3x3(elu'(h))))))
                     h = norm(h + gate(attention(h + position)))          (with heads > 0)
        output = conv3x3(elu'(h)), which starts at zero
        gate([a, b]) = a·sigmoid(b),     elu'(h) = elu([h, −h])

    It measures nothing, so it serves where a flow is sampled from while it is trained. Shapes: x
    ``(batch, height, width, channels)``; context None, an image as high and wide or a whole number of times so, or a
    vector ``(batch, features)``, which every position sees; output ``(batch, height, width, outputs)``.

    Args: ``heads`` of the self-attention, which must divide ``features``; 0 leaves it out. Errors: ValueError where
    they do not.

    Reference: Ho et al., *Flow++*, 2019, sec. 3.3 and fig. 2.

    >>> import jax, jax.numpy as jnp
    >>> network, x, context = GatedNet(features=4, blocks=1, heads=2), jnp.zeros((2, 3, 5, 1)), jnp.zeros((2, 7))
    >>> params, state = network.init(jax.random.key(0), x, context, outputs=6)
    >>> network.apply(params, state, x, context, outputs=6)[0].shape
    (2, 3, 5, 6)
    """

    X_AXES = 4
    features: int
    blocks: int
    heads: int = 0

    def __post_init__(self):
        expect_at_least(self, 1, "features")
        expect_at_least(self, 0, "blocks", "heads")
        if self.heads and self.features % self.heads:
            raise ValueError(
                f"GatedNet: expected heads that divide features, got heads={self.heads}, features={self.features}."
            )

    def __call__(self, x: jax.Array, context: Any = None, *, outputs: int, train: bool = False) -> jax.Array:
        if context is not None:
            x = with_context(x, context)
        h = Conv(self.features, 3)(x)
        for block in range(self.blocks):
            r = Conv(self.features, 3)(_two_sided_elu(h))
            h = _norm()(h + _gate(Conv(2 * self.features, 1)(_two_sided_elu(r))))
            if self.heads:
                h = _norm()(h + _gate(_Attention(self.heads, name=f"attention_{block}")(h)))
        return Conv(outputs, 3, kernel_init=linen.initializers.zeros)(_two_sided_elu(h))


class _Attention(linen.Module):
    """Self-attention over positions, each of which has a learned place; twice the features come out."""

    heads: int

    @linen.compact
    def __call__(self, h: jax.Array) -> jax.Array:
        batch, height, width, features = h.shape
        position = self.param(f"position_{height}x{width}", linen.initializers.normal(0.01), (height * width, features))
        rows = h.reshape(batch, height * width, features) + position.astype(h.dtype)
        attended = linen.MultiHeadDotProductAttention(self.heads, out_features=2 * features, name="heads")(rows)
        return attended.reshape(batch, height, width, 2 * features)


def _norm() -> linen.LayerNorm:
    # E[h²] − E[h]², flax's faster way, loses the digits that the inverse needs where features are nearly the same.
    return linen.LayerNorm(use_fast_variance=False)


def _two_sided_elu(h):
    return linen.elu(jnp.concatenate([h, -h], axis=-1))


def _gate(h):
    a, b = jnp.split(h, 2, axis=-1)
    return a * linen.sigmoid(b)

"""The coupling network of Flow++."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from nvpjax.nets.convolution import convolution


class GatedNet(linen.Module):
    """Gated residual convolutions with layer normalisation, and self-attention over positions.

        h = conv3x3([x, context])
        each block:  h = norm(h + gate(conv1x1(elu'(conv3x3(elu'(h))))))
                     h = norm(h + gate(attention(h + position)))          (with heads > 0)
        output = conv3x3(elu'(h)), which starts at zero
        gate([a, b]) = a·sigmoid(b),     elu'(h) = elu([h, −h])

    It measures nothing, so it serves where a flow is sampled from while it is trained. Shapes: x
    ``(batch, height, width, channels)``; context None or an image of the same height and width; output
    ``(batch, height, width, outputs)``.

    Args: ``heads`` of the self-attention, which must divide ``features``; 0 leaves it out.

    Reference: Ho et al., *Flow++*, 2019, sec. 3.3 and fig. 2.
    """

    features: int
    blocks: int
    outputs: int
    heads: int = 0

    @linen.compact
    def __call__(self, x: jax.Array, context: Any = None, *, train: bool = False) -> jax.Array:
        if context is not None:
            x = jnp.concatenate([x, context.astype(x.dtype)], axis=-1)
        h = convolution(self.features, 3)(x)
        for _ in range(self.blocks):
            r = convolution(self.features, 3)(_two_sided_elu(h))
            h = _norm()(h + _gate(convolution(2 * self.features, 1)(_two_sided_elu(r))))
            if self.heads:
                h = _norm()(h + self._attention(h))
        return linen.Conv(self.outputs, (3, 3), kernel_init=linen.initializers.zeros)(_two_sided_elu(h))

    def _attention(self, h):
        batch, height, width, features = h.shape
        position = self.param(f"position_{height}x{width}", linen.initializers.normal(0.01), (height * width, features))
        rows = h.reshape(batch, height * width, features) + position.astype(h.dtype)
        attended = linen.MultiHeadDotProductAttention(self.heads, out_features=2 * features)(rows)
        return _gate(attended).reshape(h.shape)


def _norm() -> linen.LayerNorm:
    # E[h²] − E[h]², flax's faster way, loses the digits that the inverse needs where features are nearly the same.
    return linen.LayerNorm(use_fast_variance=False)


def _two_sided_elu(h):
    return linen.elu(jnp.concatenate([h, -h], axis=-1))


def _gate(h):
    a, b = jnp.split(h, 2, axis=-1)
    return a * linen.sigmoid(b)

"""A causal transformer over patches with a masked network inside each: entry by entry at the cost of patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from nvpjax.nets.causal_transformer import CausalTransformer
from nvpjax.nets.made import MADE
from nvpjax.values import expect_at_least

AS_THEY_ARE = 10.0
"""The networks see entries up to this size as they are."""


@dataclass(frozen=True)
class NestedTransformer:
    """A conditioner of long sequences: a transformer says what comes before a patch, a MADE what comes before in it.

        l = x where |x| ≤ 10, sign(x)·(10 + log(1 + |x| − 10)) beyond
        h = CausalTransformer(l in patches of ``patch`` entries),    of the patches before each
        output of an entry = MADE(l of its patch, h of its patch),   of h and the entries before it in its patch

    Both networks grow with what they see: without l an entry far out, which a sample may well hold, would send the next
    one further out, and so on until they overflow.

    As fine as a transformer over single entries, of which attention would cost patch² times as much. Step by step the
    transformer moves once a patch, the MADE once an entry.

    Args: ``patch``: entries of a patch; the sequence is a whole number of them. ``hidden``: the MADE's widths. Others:
    as of ``CausalTransformer``; ``final_scale`` is of the MADE's last layer.

    Shapes: x ``(batch, positions, 1)``, output ``(batch, positions, outputs)``; context as of ``Transformer``. Errors:
    ValueError for a sequence of other vectors or another length, and for what the two networks refuse.

    Reference: Yu et al., *MEGABYTE*, 2023, sec. 2: a global model over patches, a local one inside, there a transformer
    too.

    >>> import jax, jax.numpy as jnp
    >>> network = NestedTransformer(patch=3, hidden=(8,), width=8, depth=1, head_width=4, final_scale=1.0)
    >>> x = jnp.ones((1, 6, 1))
    >>> params, state = network.init(jax.random.key(0), x, outputs=2)
    >>> network.apply(params, state, x, outputs=2)[0].shape
    (1, 6, 2)
    """

    patch: int = 16
    hidden: tuple[int, ...] = (256, 256)
    width: int = 128
    depth: int = 4
    head_width: int = 64
    classes: int = 0
    final_scale: float = 0.0
    temperature: float = 1.0
    stepwise = True

    def __post_init__(self):
        object.__setattr__(self, "hidden", tuple(self.hidden))
        expect_at_least(self, 1, "patch")
        self._over_patches()  # refuses what it does not take, as the next does
        self._inside()

    def _over_patches(self) -> CausalTransformer:
        return CausalTransformer(self.width, self.depth, self.head_width, self.classes, 1.0, self.temperature)

    def _inside(self) -> MADE:
        return MADE(self.hidden, linen.gelu, self.final_scale)

    def init(self, key: jax.Array, x: jax.Array, context: Any = None, *, outputs: int) -> tuple[Any, Any]:
        over_key, inside_key = jax.random.split(key)
        patches = self._patches(x)
        over, _ = self._over_patches().init(over_key, patches, context, outputs=self.width)
        told = jnp.zeros((len(x), self.width), x.dtype)
        inside, _ = self._inside().init(inside_key, patches[:, 0], told, outputs=outputs * self.patch)
        return {"over_patches": over, "inside": inside}, ()

    def apply(
        self, params: Any, state: Any, x: jax.Array, context: Any = None, *, outputs: int, train: bool = False
    ) -> tuple[jax.Array, Any]:
        patches = self._patches(x)
        told, _ = self._over_patches().apply(params["over_patches"], (), patches, context, outputs=self.width)
        output = self._output(params, patches.reshape(-1, self.patch), told.reshape(-1, self.width), outputs)
        return output.reshape(*x.shape[:2], outputs), state

    def begin(self, params: Any, x: jax.Array, context: Any = None, *, outputs: int) -> tuple[jax.Array, Any]:
        """As of ``CausalTransformer``; kept are its cache, what it said last, and the patch as far as it is known."""
        patches = self._patches(x)
        told, cache = self._over_patches().begin(params["over_patches"], patches, context, outputs=self.width)
        begun = jnp.zeros_like(patches[:, 0], told.dtype)
        return self._output(params, begun, told, outputs)[:, 0], (cache, told, begun)

    def step(
        self, params: Any, cache: Any, position: jax.Array, entry: jax.Array, context: Any = None, *, outputs: int
    ) -> tuple[jax.Array, Any]:
        kept, told, begun = cache
        inside = position % self.patch
        begun = begun.at[:, inside].set(_seen(entry[:, 0]).astype(begun.dtype))

        def next_patch(kept):
            place = position // self.patch
            return self._over_patches().step(params["over_patches"], kept, place, begun, context, outputs=self.width)

        told, kept = jax.lax.cond(inside == self.patch - 1, next_patch, lambda kept: (told, kept), kept)
        output = self._output(params, begun, told, outputs)
        following = (inside + 1) % self.patch
        return jax.lax.dynamic_index_in_dim(output, following, 1, keepdims=False), (kept, told, begun)

    def _output(self, params, patches, told, outputs):
        """(rows, patch, outputs). Entries from one's own on are not looked at, whatever they are."""
        output, _ = self._inside().apply(params["inside"], {}, patches, told, outputs=outputs * self.patch)
        return output.reshape(len(patches), outputs, self.patch).swapaxes(1, 2)

    def _patches(self, x):
        if x.ndim != 3 or x.shape[2] != 1 or x.shape[1] % self.patch:
            raise ValueError(
                f"NestedTransformer: expected x of shape (batch, positions, 1), positions divisible by {self.patch}, "
                f"got {x.shape}. Put Reshape before it."
            )
        return _seen(x).reshape(len(x), -1, self.patch)


def _seen(x):
    beyond = jnp.log1p(jnp.maximum(jnp.abs(x) - AS_THEY_ARE, 0))
    return jnp.clip(x, -AS_THEY_ARE, AS_THEY_ARE) + jnp.sign(x) * beyond

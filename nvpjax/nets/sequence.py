"""What transformers share: sizes, what they refuse, and how a sequence enters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from nvpjax.nets.attention import dense, init_block, init_dense
from nvpjax.nets.label_embedding import rows_of
from nvpjax.values import expect_at_least, expect_finite

PLACES = 0.01
"""Deviation of the learned places at the start."""


@dataclass(frozen=True)
class SequenceNetwork:
    """The helper base of transformers: their fields, what they refuse, and their params but for the last layers.

    Params: ``"entry"``, ``"place"`` (positions, width), ``"class"`` (classes, width) or ``"context"`` where there are
    such, and ``"blocks"``.
    """

    width: int = 128
    depth: int = 4
    head_width: int = 64
    classes: int = 0
    final_scale: float = 0.0

    def __post_init__(self):
        expect_at_least(self, 1, "width", "depth", "head_width")
        expect_at_least(self, 0, "classes")
        expect_finite(self)
        if self.width % self.head_width:
            raise ValueError(
                f"{type(self).__name__}: expected a width that head_width divides, got width={self.width} and "
                f"head_width={self.head_width}."
            )

    @property
    def heads(self) -> int:
        return self.width // self.head_width

    def init_to_blocks(self, key: jax.Array, x: jax.Array, context: Any) -> dict[str, Any]:
        """All params but those of the last layers."""
        self._check(x, context)
        entry_key, place_key, context_key, *block_keys = jax.random.split(key, 3 + self.depth)
        params = {
            "entry": init_dense(entry_key, x.shape[-1], self.width),
            "place": PLACES * jax.random.normal(place_key, (x.shape[1], self.width)),
            "blocks": tuple(init_block(key, self.width) for key in block_keys),
        }
        if self.classes:
            params["class"] = PLACES * jax.random.normal(context_key, (self.classes, self.width))
        elif context is not None:
            params["context"] = init_dense(context_key, context.shape[-1], self.width)
        return params

    def enter(self, params: Any, x: jax.Array, context: Any, place: jax.Array) -> jax.Array:
        """The sequence as the first block takes it, ``(batch, positions, width)``; places ``(positions, width)``."""
        self._check(x, context)
        h = dense(params["entry"], x) + place
        if self.classes:
            return h + _of_labels(params["class"], context)[:, None]
        if context is not None:
            return h + dense(params["context"], context)[:, None]
        return h

    def _check(self, x, context):
        name = type(self).__name__
        if x.ndim != 3:
            raise ValueError(
                f"{name}: expected x of shape (batch, positions, channels), got {x.shape}. Put Patches before it for "
                "images, Reshape((n,), (n, 1)) for n columns."
            )
        shape = getattr(context, "shape", None)
        if self.classes and (shape != x.shape[:1] or not jnp.issubdtype(context.dtype, jnp.integer)):
            got = "none" if context is None else f"{getattr(context, 'dtype', type(context).__name__)} of shape {shape}"
            raise ValueError(
                f"{name}: expected one label an example as the context, whole numbers of shape {x.shape[:1]}, got "
                f"{got}. −1 stands for a label that is not known."
            )
        if not self.classes and context is not None and (shape is None or len(shape) != 2 or shape[0] != x.shape[0]):
            raise ValueError(
                f"{name}: expected a context of shape ({x.shape[0]}, entries), got {shape or type(context).__name__}. "
                "Labels want classes=."
            )


def _of_labels(table, labels):
    """The vector of each class; of −1, a label that is not known, the mean of all."""
    if jnp.issubdtype(labels.dtype, jnp.unsignedinteger):
        return rows_of(table, labels)
    return jnp.where((labels == -1)[:, None], table.mean(axis=0), rows_of(table, labels)).astype(table.dtype)

"""What one example of a flow's data looks like: remembered beside the numbers, and no number itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree


@jax.tree_util.register_static
@dataclass(frozen=True)
class Event:
    """The shape and dtype of one example, of an array or of every array of a tree.

    It is a pytree without leaves: it travels in a flow's state through jit, vmap, scan and checkpoints, and none of
    them sees an array in it.

    >>> import jax.numpy as jnp
    >>> event = Event.of(jnp.zeros((8, 2)))
    >>> event.shape, event.like(3)
    ((2,), ShapeDtypeStruct(shape=(3, 2), dtype=float32))
    """

    structure: Any
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]

    @classmethod
    def of(cls, x: PyTree) -> Event:
        """The event of a batch x, ``(batch, *event)`` or a tree of such."""
        leaves, structure = jax.tree.flatten(x)
        return cls(structure, tuple(leaf.shape[1:] for leaf in leaves), tuple(str(leaf.dtype) for leaf in leaves))

    @property
    def shape(self) -> PyTree:
        """``(*event,)``, or a tree of such."""
        return jax.tree.unflatten(self.structure, self.shapes)

    @property
    def dtype(self) -> PyTree:
        return jax.tree.unflatten(self.structure, tuple(map(jnp.dtype, self.dtypes)))

    def like(self, number: int, shape: tuple[int, ...] | None = None) -> PyTree:
        """The shapes and dtypes of ``number`` such events; of another ``shape``, where the event is one array."""
        if not isinstance(number, int) or number < 0:
            raise TypeError(
                f"Flow: expected the number of events, a whole number of at least 0, got {number!r}. The event is "
                "remembered from init; another one's shape is event_shape=…"
            )
        if shape is not None and len(self.shapes) != 1:
            raise ValueError(f"Flow: expected event_shape for events that are one array, got {shape} for {self.shape}.")
        shapes = self.shapes if shape is None else (tuple(shape),)
        of_each = [jax.ShapeDtypeStruct((number, *shape), dtype) for shape, dtype in zip(shapes, self.dtypes)]
        return jax.tree.unflatten(self.structure, of_each)

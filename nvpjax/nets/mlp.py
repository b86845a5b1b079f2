"""A plain network for vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen


class MLP(linen.Module):
    """Dense layers with an activation between them; a context, if there is one, is appended to the input.

    Shapes: x ``(batch, features)``, context ``(batch, anything)``, output ``(batch, outputs)``.
    """

    hidden: tuple[int, ...]
    outputs: int
    activation: Callable[[jax.Array], jax.Array] = linen.relu

    @linen.compact
    def __call__(self, x: jax.Array, context: Any = None, *, train: bool = False) -> jax.Array:
        h = x if context is None else jnp.concatenate([x, context], axis=-1)
        for features in self.hidden:
            h = self.activation(linen.Dense(features)(h))
        return linen.Dense(self.outputs)(h)

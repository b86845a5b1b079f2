"""A distribution for each of some columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree
from nvpjax.distributions.distribution import Distribution, added, expect_array


@dataclass(frozen=True)
class ByColumns(Distribution):
    """Independent distributions of columns: angles among numbers of the line, heavy tails in some columns alone.

        log p(z) = Σ log p_i(z[columns_i])

    Args: ``parts``: pairs of columns and a distribution; every column of z in one of them.

    Shapes: z ``(batch, ..., entries)``, one array; columns are those of the last axis.

    Errors: TypeError for a part that is no distribution; ValueError for columns that are in none, or in two.

    >>> import jax.numpy as jnp
    >>> from nvpjax import StandardNormal, UniformCircle
    >>> base = ByColumns((((0, 2), StandardNormal()), ((1,), UniformCircle())))
    >>> print(f"{base.log_prob(((), ()), jnp.array([[0.0, 7.0, 0.0]]))[0]:.4f}")
    -3.6758
    """

    parts: tuple[tuple[tuple[int, ...], Distribution], ...]

    def __post_init__(self):
        parts = tuple((tuple(columns), distribution) for columns, distribution in self.parts)
        object.__setattr__(self, "parts", parts)
        for _, distribution in parts:
            if not isinstance(distribution, Distribution):
                raise TypeError(f"ByColumns: expected distributions such as StandardNormal(), got {distribution!r}.")
        if sorted(self._order) != list(range(len(self._order))) or not all(columns for columns, _ in parts):
            raise ValueError(
                f"ByColumns: expected each of the columns 0, 1, … once, got {[columns for columns, _ in parts]}."
            )

    @property
    def _order(self) -> list[int]:
        return [column for columns, _ in self.parts for column in columns]

    def init(self, key: jax.Array, z: PyTree, context: PyTree = None) -> PyTree:
        expect_array(self, z)
        if z.shape[-1] != len(self._order):
            raise ValueError(f"ByColumns: expected a last axis of {len(self._order)} columns, got shape {z.shape}.")
        keys = jax.random.split(key, len(self.parts))
        return tuple(part.init(one, z[..., list(columns)], context) for one, (columns, part) in zip(keys, self.parts))

    def log_prob(self, params: PyTree, z: PyTree, context: PyTree = None) -> jax.Array:
        parts = zip(params, self.parts, strict=True)
        return added(part.log_prob(own, z[..., list(columns)], context) for own, (columns, part) in parts)

    def sample(self, key: jax.Array, params: PyTree, like: PyTree, context: PyTree = None) -> PyTree:
        keys = jax.random.split(key, len(self.parts))
        draws = [
            part.sample(one, own, jax.ShapeDtypeStruct((*like.shape[:-1], len(columns)), like.dtype), context)
            for one, own, (columns, part) in zip(keys, params, self.parts, strict=True)
        ]
        return jnp.concatenate(draws, axis=-1)[..., _places(self._order)]


def _places(order: Sequence[int]) -> list[int]:
    """Where each column is among those put side by side."""
    return sorted(range(len(order)), key=lambda place: order[place])

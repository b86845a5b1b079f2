"""Places in a state: where a gradient leaves the error that ``Reversible`` measured."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree

ERROR = "reconstruction_error"
"""The name under which a state keeps the place for the measured error."""


def error_places(state: PyTree) -> list[jax.Array]:
    """The leaves of a state whose gradients are the errors that were measured."""
    return [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state) if _is_place(path)]


def with_places(state: PyTree, places: list[jax.Array]) -> PyTree:
    """The state with these leaves in the place of its own: what a gradient with respect to them alone needs."""
    remaining = iter(places)
    return jax.tree_util.tree_map_with_path(lambda path, leaf: next(remaining) if _is_place(path) else leaf, state)


def is_measured(state: PyTree) -> bool:
    """Whether there are numbers in it that training mode could move: of whole numbers and places there are none."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return any(jnp.issubdtype(leaf.dtype, jnp.floating) and not _is_place(path) for path, leaf in leaves)


def _is_place(path) -> bool:
    return bool(path) and getattr(path[-1], "key", None) == ERROR

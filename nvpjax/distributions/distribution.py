"""What every base distribution takes, and what it gives back."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree
from nvpjax.checked import Call, Checked


class Distribution(Checked, abc.ABC):
    """A density over latents, with learned parameters where it has any. The counterpart of ``Bijector``.

    Errors: as of ``Bijector``: every call is held against ``init``.
    """

    CALLS = {
        "init": Call(("key", "x", "context")),
        "log_prob": Call(("params", "x", "context")),
        "sample": Call(("key", "params", "x", "context")),
    }

    def init(self, key: jax.Array, z: PyTree, context: PyTree = None) -> PyTree:
        """Give the parameters for latents shaped like ``z``. The default is a distribution without any."""
        return ()

    @abc.abstractmethod
    def log_prob(self, params: PyTree, z: PyTree, context: PyTree = None) -> jax.Array:
        """Give log p(z) in nats, shape ``(batch,)``, at least float32."""

    @abc.abstractmethod
    def sample(self, key: jax.Array, params: PyTree, like: Any, context: PyTree = None) -> PyTree:
        """Draw latents with the shapes and dtypes of ``like`` (arrays or ``jax.ShapeDtypeStruct``), batch first."""


def added(log_probs: Iterable[jax.Array]) -> jax.Array:
    """What the leaves of latents have together."""
    return reduce(jnp.add, log_probs)


def drawn(key: jax.Array, like: PyTree, draw: Callable[..., jax.Array], *params: PyTree) -> PyTree:
    """``draw(key, shaped like, *params)`` of every leaf, each with a key of its own, in the dtypes of ``like``."""
    leaves, structure = jax.tree.flatten(like)
    keys = jax.tree.unflatten(structure, list(jax.random.split(key, len(leaves))))
    return jax.tree.map(lambda like, *rest: draw(*rest).astype(like.dtype), like, keys, like, *params)


def expect_array(distribution: Distribution, z: Any) -> None:
    if not hasattr(z, "shape"):
        raise TypeError(
            f"{type(distribution).__name__}: expected latents that are one array, got a tree of "
            f"{len(jax.tree.leaves(z))}. StandardNormal and DiagonalNormal take trees."
        )

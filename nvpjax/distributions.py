"""Base distributions: what latents follow."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree, log_det_dtype, sum_over_event


class Distribution(abc.ABC):
    """A density over latents, with learned parameters where it has any. The counterpart of ``Bijector``."""

    def init(self, key: jax.Array, z: PyTree, context: PyTree = None) -> PyTree:
        """Give the parameters for latents shaped like ``z``. The default is a distribution without any."""
        return ()

    @abc.abstractmethod
    def log_prob(self, params: PyTree, z: PyTree, context: PyTree = None) -> jax.Array:
        """Give log p(z) in nats, shape ``(batch,)``, at least float32."""

    @abc.abstractmethod
    def sample(self, key: jax.Array, params: PyTree, like: Any, context: PyTree = None) -> PyTree:
        """Draw latents with the shapes and dtypes of ``like`` (arrays or ``jax.ShapeDtypeStruct``), batch first."""


@dataclass(frozen=True)
class StandardNormal(Distribution):
    """N(0, I) over all latents: an array, or any tree of arrays such as the tuple of a multi-scale flow.

        log p(z) = −½ Σ (z² + log 2π)

    Reference: Real NVP, sec. 3.1 and 4.1.

    >>> import jax.numpy as jnp
    >>> round(float(StandardNormal().log_prob((), (jnp.zeros((1, 2)), jnp.zeros((1, 3))))[0]), 4)
    -4.5947
    """

    def log_prob(self, params, z, context=None):
        leaves = [leaf.astype(log_det_dtype(leaf)) for leaf in jax.tree.leaves(z)]
        return sum(sum_over_event(-0.5 * (jnp.square(leaf) + jnp.log(2 * jnp.pi))) for leaf in leaves)

    def sample(self, key, params, like, context=None):
        leaves, structure = jax.tree.flatten(like)
        keys = jax.random.split(key, len(leaves))
        draws = [jax.random.normal(leaf_key, leaf.shape, leaf.dtype) for leaf_key, leaf in zip(keys, leaves)]
        return jax.tree.unflatten(structure, draws)

"""The uniform distribution of an interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree, log_det_dtype, sum_over_event
from nvpjax.distributions.distribution import Distribution, added
from nvpjax.values import expect_finite


@dataclass(frozen=True)
class Uniform(Distribution):
    """The uniform density on [low, high) in every entry; outside, log p(z) is −inf, as it should be.

        log p(z) = −D·log(high − low)

    For latents that a last ``Sigmoid`` or ``NormalCDF`` brings into [0, 1). Errors: ValueError unless low < high.

    >>> import jax.numpy as jnp
    >>> Uniform(0.0, 2.0).log_prob((), jnp.array([[1.0], [3.0]])).tolist()
    [-0.6931471824645996, -inf]
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self):
        expect_finite(self)
        if not self.low < self.high:
            raise ValueError(f"Uniform: expected low < high, got {self!r}.")

    def log_prob(self, params: PyTree, z: PyTree, context: PyTree = None) -> jax.Array:
        def leaf_log_prob(leaf):
            inside = (leaf >= self.low) & (leaf < self.high)
            density = jnp.where(inside, -math.log(self.high - self.low), -jnp.inf)
            return sum_over_event(density.astype(log_det_dtype(leaf)))

        return added(map(leaf_log_prob, jax.tree.leaves(z)))

    def sample(self, key: jax.Array, params: PyTree, like: PyTree, context: PyTree = None) -> PyTree:
        leaves, structure = jax.tree.flatten(like)
        keys = jax.random.split(key, len(leaves))
        draws = [
            jax.random.uniform(leaf_key, leaf.shape, leaf.dtype, self.low, self.high)
            for leaf_key, leaf in zip(keys, leaves)
        ]
        return jax.tree.unflatten(structure, draws)

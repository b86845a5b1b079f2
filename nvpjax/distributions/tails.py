"""Distributions with heavier tails than a normal's."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree, log_det_dtype, sum_over_event
from nvpjax.distributions.distribution import Distribution, added, drawn
from nvpjax.values import expect_finite


@dataclass(frozen=True)
class StudentT(Distribution):
    """Student's t in every entry, each with degrees of freedom of its own, which are learned: tails as heavy as data's.

        log p(z) = Σ log Γ((ν + 1)/2) − log Γ(ν/2) − ½·log(νπ) − (ν + 1)/2·log(1 + z²/ν),     ν = exp(log_degrees)
        far out p(z) falls as |z| to the power −(ν + 1)

    A map with bounded slopes, as splines and affine couplings are, keeps the exponent of a tail: a flow on a normal
    base has no heavy tails, however it is trained. Parameters: ``log_degrees``, a tree like the latents without the
    batch, which starts at log ``degrees``. Location and scale are the flow's.

    Reference: Jaini, Kobyzev, Yu, Brubaker, *Tails of Lipschitz triangular flows*, 2020; one exponent a column:
    Laszkiewicz, Lederer, Fischer, *Marginal tail-adaptive normalizing flows*, 2022.

    >>> import jax, jax.numpy as jnp
    >>> cauchy = StudentT(degrees=1.0)
    >>> params = cauchy.init(jax.random.key(0), jnp.zeros((1, 1)))
    >>> round(float(cauchy.log_prob(params, jnp.zeros((1, 1)))[0] + jnp.log(jnp.pi)), 4)
    0.0
    """

    degrees: float = 5.0

    def __post_init__(self):
        expect_finite(self)
        if not self.degrees > 0:
            raise ValueError(f"StudentT: expected degrees > 0, got {self.degrees}.")

    def init(self, key: jax.Array, z: PyTree, context: PyTree = None) -> PyTree:
        return {"log_degrees": jax.tree.map(lambda leaf: jnp.full(leaf.shape[1:], math.log(self.degrees)), z)}

    def log_prob(self, params: PyTree, z: PyTree, context: PyTree = None) -> jax.Array:
        def leaf_log_prob(leaf, log_degrees):
            dtype = log_det_dtype(leaf)
            degrees = jnp.exp(log_degrees.astype(dtype))
            falling = _half_log_of_one_and_square(leaf.astype(dtype) * jax.lax.rsqrt(degrees))
            return sum_over_event(_log_height(degrees) - (degrees + 1) * falling)

        return added(jax.tree.leaves(jax.tree.map(leaf_log_prob, z, params["log_degrees"])))

    def sample(self, key: jax.Array, params: PyTree, like: PyTree, context: PyTree = None) -> PyTree:
        def draw(key, like, log_degrees):
            return jax.random.t(key, jnp.exp(log_degrees), like.shape)

        return drawn(key, like, draw, params["log_degrees"])


def _half_log_of_one_and_square(x):
    """½·log(1 + x²): what of it is small is not lost beside 1, and it is finite where x² is not."""
    size = jnp.abs(x)
    small, large = jnp.minimum(size, 1), jnp.maximum(size, 1)
    return jnp.where(size < 1, jnp.log1p(jnp.square(small)) / 2, jnp.log(large) + jnp.log1p(1 / large / large) / 2)


def _log_height(degrees):
    """log p(0). For many degrees of freedom by Stirling's series: there the two log Γ cancel."""
    few, many = jnp.minimum(degrees, 40), jnp.maximum(degrees, 40)
    gammas = jax.scipy.special.gammaln((few + 1) / 2) - jax.scipy.special.gammaln(few / 2)
    of_few = gammas - jnp.log(few * math.pi) / 2
    of_many = -math.log(2 * math.pi) / 2 - 1 / (4 * many) + 1 / (24 * many**3) - 1 / (20 * many**5)
    return jnp.where(degrees < 40, of_few, of_many)


@dataclass(frozen=True)
class Laplace(Distribution):
    """The Laplace density in every entry: tails that fall as exp(−|z|).

        log p(z) = −Σ (|z| + log 2)

    Location and scale are the flow's.

    >>> import jax.numpy as jnp
    >>> print(f"{Laplace().log_prob((), jnp.array([[2.0]]))[0]:.4f}")
    -2.6931
    """

    def log_prob(self, params: PyTree, z: PyTree, context: PyTree = None) -> jax.Array:
        leaves = [leaf.astype(log_det_dtype(leaf)) for leaf in jax.tree.leaves(z)]
        return added(sum_over_event(-jnp.abs(leaf) - math.log(2)) for leaf in leaves)

    def sample(self, key: jax.Array, params: PyTree, like: PyTree, context: PyTree = None) -> PyTree:
        return drawn(key, like, lambda key, like: jax.random.laplace(key, like.shape))

"""Distributions of angles."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree, log_det_dtype, sum_over_event
from nvpjax.distributions.distribution import Distribution, added, drawn


@dataclass(frozen=True)
class UniformCircle(Distribution):
    """The uniform density of the circle in every entry: of angles, in radians, whichever of its numbers is given.

        log p(z) = −D·log 2π

    Draws lie between −π and π. The base of flows on a torus (see ``Wrap``).

    >>> import jax.numpy as jnp
    >>> [f"{log_prob:.4f}" for log_prob in UniformCircle().log_prob((), jnp.array([[0.5], [0.5 + 2 * jnp.pi]]))]
    ['-1.8379', '-1.8379']
    """

    def log_prob(self, params: PyTree, z: PyTree, context: PyTree = None) -> jax.Array:
        def leaf_log_prob(leaf):
            # NaN stays NaN
            return sum_over_event(jnp.where(jnp.isnan(leaf), leaf, -math.log(2 * math.pi)).astype(log_det_dtype(leaf)))

        return added(map(leaf_log_prob, jax.tree.leaves(z)))

    def sample(self, key: jax.Array, params: PyTree, like: PyTree, context: PyTree = None) -> PyTree:
        return drawn(key, like, lambda key, like: jax.random.uniform(key, like.shape, minval=-math.pi, maxval=math.pi))


@dataclass(frozen=True)
class VonMises(Distribution):
    """Von Mises distributions with a learned mean and concentration for every entry: of angles, in radians.

        log p(z) = Σ κ·cos(z − μ) − log(2π·I₀(κ)),     κ = exp(log_concentration)

    Parameters: ``mean`` and ``log_concentration``, each a tree like the latents without the batch; zero at the start.
    Draws lie within π of the mean. They go through a rejection, and so carry no gradients to κ; those to μ are right.

    Reference: Best, Fisher, *Efficient simulation of the von Mises distribution*, 1979; the proposal in the form of
    Wood, *Simulation of the von Mises Fisher distribution*, 1994, which does not cancel for a small κ.

    >>> import jax, jax.numpy as jnp
    >>> circle = VonMises()
    >>> params = circle.init(jax.random.key(0), jnp.zeros((1, 1)))
    >>> [f"{log_prob:.4f}" for log_prob in circle.log_prob(params, jnp.array([[0.0], [2 * jnp.pi]]))]
    ['-1.0738', '-1.0738']
    """

    def init(self, key: jax.Array, z: PyTree, context: PyTree = None) -> PyTree:
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:]), z)
        return {"mean": zeros, "log_concentration": zeros}

    def log_prob(self, params: PyTree, z: PyTree, context: PyTree = None) -> jax.Array:
        def leaf_log_prob(leaf, mean, log_concentration):
            dtype = log_det_dtype(leaf)
            concentration = jnp.exp(log_concentration.astype(dtype))
            # cos − 1 beside I₀·exp(−κ): neither overflows
            from_mean = -2 * jnp.square(jnp.sin((leaf.astype(dtype) - mean.astype(dtype)) / 2))
            normaliser = jnp.log(2 * math.pi * jax.scipy.special.i0e(concentration))
            return sum_over_event(concentration * from_mean - normaliser)

        return added(jax.tree.leaves(jax.tree.map(leaf_log_prob, z, params["mean"], params["log_concentration"])))

    def sample(self, key: jax.Array, params: PyTree, like: PyTree, context: PyTree = None) -> PyTree:
        return drawn(key, like, _draw_von_mises, params["mean"], params["log_concentration"])


def _draw_von_mises(key, like, mean, log_concentration):
    concentration = jax.lax.stop_gradient(jnp.exp(log_concentration))
    b = 1 / (jnp.sqrt(1 + 4 * jnp.square(concentration)) + 2 * concentration)
    x0 = (1 - b) / (1 + b)

    def propose(carry):
        key, angle, missing = carry
        key, place_key, level_key = jax.random.split(key, 3)
        place = jax.random.uniform(place_key, like.shape, minval=-math.pi / 2, maxval=math.pi / 2)
        new = 2 * jnp.arctan(jnp.sqrt(b) * jnp.tan(place))
        cos = jnp.cos(new)
        log_accepted = concentration * (cos - x0) + jnp.log1p(-x0 * cos) - jnp.log(4 * b / jnp.square(1 + b))
        level = jnp.log(jax.random.uniform(level_key, like.shape))
        # A concentration that is no number would never be met: NaN is taken as it is.
        taken = missing & ~(level > log_accepted)
        return key, jnp.where(taken, new, angle), missing & ~taken

    start = key, jnp.zeros(like.shape), jnp.ones(like.shape, bool)
    _, angle, _ = jax.lax.while_loop(lambda carry: jnp.any(carry[2]), propose, start)
    return mean + angle

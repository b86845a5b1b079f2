"""Densities that tests of other libraries share: one with a closed form, one with a context."""

import functools

import jax
import jax.numpy as jnp

from nvpjax import MAF, Chain, Flow, LULinear, Shift


def moved(params, key, by=0.3):
    """Params away from their start, where most bijectors are the identity."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(
        structure, [leaf + by * jax.random.normal(k, leaf.shape, leaf.dtype) for leaf, k in zip(leaves, keys)]
    )


@functools.cache
def normal():
    """A density that is a normal, its mean and its covariance."""
    flow = Flow(Chain((Shift(), LULinear())))
    params, state = flow.init(jax.random.key(0), jnp.zeros((1, 2)))
    density = flow.at(moved(params, jax.random.key(1)), state)
    matrix = jax.jacobian(lambda x: density.latents(x[None])[0])(jnp.zeros(2))
    inverse = jnp.linalg.inv(matrix)
    return density, -inverse @ density.latents(jnp.zeros((1, 2)))[0], inverse @ inverse.T


@functools.cache
def conditional():
    """p(x | context): events (2,), contexts (3,)."""
    flow = MAF(layers=1, hidden=(8,)).build((2,))
    params, state = jax.jit(flow.init)(jax.random.key(0), jnp.zeros((1, 2)), jnp.zeros((1, 3)))
    return flow.at(moved(params, jax.random.key(1)), state)


def contexts(rows):
    return jax.random.normal(jax.random.key(2), (rows, 3))

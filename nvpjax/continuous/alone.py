"""Solves inside pmap and shard_map."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun

from nvpjax.bijector import PyTree


def traced_alone(function: Callable[[PyTree], PyTree], arguments: PyTree) -> PyTree:
    """``function(arguments)``, and its gradient, traced as if on one device: for functions without collectives.

    In pmap and shard_map, all that depends on the data is marked with the mesh and constants are not; equinox's loops,
    diffrax's, compare marks before and after a step and refuse what they take for another type
    (https://github.com/patrick-kidger/diffrax/issues/765).

    Args: ``function``: of arrays that are all in ``arguments``. Its forward-mode derivatives exist outside of a mesh.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return function(arguments)
    leaves, structure = jax.tree.flatten(arguments)
    smooth = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves]
    moved = [leaf for leaf, is_smooth in zip(leaves, smooth) if is_smooth]
    fixed = [leaf for leaf, is_smooth in zip(leaves, smooth) if not is_smooth]

    def of_both(moved, fixed):
        moved, fixed = iter(moved), iter(fixed)
        return function(jax.tree.unflatten(structure, [next(moved if is_smooth else fixed) for is_smooth in smooth]))

    return _alone(of_both, moved, fixed)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _alone(function, moved, fixed):
    return _replayed(function, moved, fixed)


def _forward(function, moved, fixed):
    return _replayed(lambda moved, fixed: jax.vjp(lambda moved: function(moved, fixed), moved), moved, fixed)


def _backward(function, pull_back, cotangents):
    return *_replayed(lambda pull_back, cotangents: pull_back(cotangents), pull_back, cotangents), None


_alone.defvjp(_forward, _backward)


def _replayed(function, *arguments):
    """``function(*arguments)``, as the operations that it consists of outside of a mesh."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
        operations, result = jax.make_jaxpr(function, return_shape=True)(*shapes)
    return jax.tree.unflatten(jax.tree.structure(result), jaxpr_as_fun(operations)(*jax.tree.leaves(arguments)))

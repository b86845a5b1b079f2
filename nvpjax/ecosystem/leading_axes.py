"""Any number of axes before the event's, as other libraries have them, for calls that take one batch axis."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nvpjax.bijector import Bijector, PyTree
from nvpjax.distributions import DiagonalNormal, StandardNormal, Uniform
from nvpjax.flow import Density

Shape = tuple[int, ...]
REPARAMETERIZED = (StandardNormal, DiagonalNormal, Uniform)
"""Bases whose draws follow their parameters, so that gradients go through samples."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Batched:
    """A density of events that are one array, as libraries with batch shapes see it.

    ``batch_shape`` is ``()``, or ``(rows,)`` of a context of more rows than one: each row is a density of its own, and
    the last axis before the event's goes through them.
    """

    density: Density
    context: PyTree

    @property
    def event_shape(self) -> Shape:
        return self.density.event_shape

    @property
    def batch_shape(self) -> Shape:
        return batch_shape(self.context)

    @property
    def is_reparameterized(self) -> bool:
        """Whether gradients go through samples."""
        return isinstance(self.density.flow.base, REPARAMETERIZED)

    def log_prob(self, x: Any) -> jax.Array:
        """Give log p(x) of x ``(*axes, *batch_shape, *event_shape)``: ``(*axes, *batch_shape)``."""
        return by_rows(self.density.log_prob, x, self.event_shape, self.context)

    def sample_and_log_prob(self, key: jax.Array, axes: Shape) -> tuple[jax.Array, jax.Array]:
        """Draw x ``(*axes, *batch_shape, *event_shape)`` and give its log p."""
        leading = (*axes, *self.batch_shape)
        number = math.prod(leading)
        drawn = self.density.sample_and_log_prob(key, number, _rows(self.context, leading))
        return jax.tree.map(lambda a: a.reshape(*leading, *a.shape[1:]), drawn)


def batched(name: str, density: Density, context: PyTree) -> Batched:
    """Errors: TypeError for no density or events that are no single array, ValueError for a context without rows."""
    expect_density(name, density)
    event = density.state["event"]
    if len(event.shapes) != 1 or event.shape != event.shapes[0]:
        raise TypeError(f"{name}: expected a density of events that are one array, got events of {event.shape}.")
    _expect_rows(name, context)
    return Batched(density, context)


def expect_density(name: str, density: Any) -> None:
    """Raise TypeError for what is none."""
    if not isinstance(density, Density):
        raise TypeError(
            f"{name}: expected a Density, as fit and flow.at(params, state) give it, got {type(density).__name__}."
        )


def _expect_rows(name, context):
    leaves = jax.tree.leaves(context)
    if not all(jnp.ndim(leaf) for leaf in leaves) or len({jnp.shape(leaf)[0] for leaf in leaves}) > 1:
        raise ValueError(
            f"{name}: expected a context of rows, as many in all its arrays, got shapes "
            f"{jax.tree.map(jnp.shape, context)}. One row for all is context[None]."
        )


def batch_shape(context: PyTree) -> Shape:
    """``(rows,)`` of a context; ``()`` where one row, or none, is for all."""
    rows = [jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(context)][:1]
    return () if not rows or rows[0] == (1,) else rows[0]


def by_rows(function: Callable[[jax.Array, PyTree], Any], x: Any, event_shape: Shape, context: PyTree = None) -> Any:
    """Call ``function(x, context)``, which takes one batch axis, with x of any axes before the event's.

    Axis 0 of all that it gives becomes these axes. Errors: ValueError for another event.
    """
    x = jnp.asarray(x)
    axes = max(x.ndim - len(event_shape), 0)
    if x.shape[axes:] != event_shape:
        raise ValueError(f"nvpjax.ecosystem: expected events of {event_shape} in the last axes, got shape {x.shape}.")
    leading = np.broadcast_shapes(x.shape[:axes], batch_shape(context))
    rows = jnp.broadcast_to(x, (*leading, *event_shape)).reshape(math.prod(leading), *event_shape)
    given = function(rows, _rows(context, leading))
    return jax.tree.map(lambda a: a.reshape(*leading, *a.shape[1:]), given)


def _rows(context: PyTree, leading: Shape) -> PyTree:
    """A row of the context for each event."""

    def repeated(leaf):
        leaf = jnp.asarray(leaf)
        of_one = leaf.shape[1:]
        leaf = leaf[0] if leaf.shape[0] == 1 else leaf
        return jnp.broadcast_to(leaf, (*leading, *of_one)).reshape(math.prod(leading), *of_one)

    return jax.tree.map(repeated, context)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class BatchedBijector:
    """A bijector with its numbers, of events that are one array on both sides."""

    bijector: Bijector = field(metadata={"static": True})
    params: PyTree
    state: PyTree
    context: PyTree
    event_shape: Shape = field(metadata={"static": True})
    latents_shape: Shape = field(metadata={"static": True})

    def forward(self, x: Any) -> tuple[jax.Array, jax.Array]:
        """Give ``(y, log_det)`` of x ``(*axes, *event_shape)``."""

        def of_rows(x, context):
            return self.bijector.forward(self.params, self.state, x, context)[:2]

        return by_rows(of_rows, x, self.event_shape, self.context)

    def inverse(self, y: Any) -> tuple[jax.Array, jax.Array]:
        """Give ``(x, log_det)`` of y ``(*axes, *latents_shape)``."""

        def of_rows(y, context):
            return self.bijector.inverse(self.params, self.state, y, context)

        return by_rows(of_rows, y, self.latents_shape, self.context)


def batched_bijector(
    bijector: Bijector, params: PyTree, state: PyTree, event_shape: Shape, context: PyTree
) -> BatchedBijector:
    """Errors: TypeError for no bijector or several latents, ValueError for params and state of other events."""
    if not isinstance(bijector, Bijector):
        raise TypeError(f"FlowBijector: expected a Bijector, got {bijector!r}.")
    event_shape = tuple(event_shape)
    _expect_rows("FlowBijector", context)
    one = jax.ShapeDtypeStruct((1, *event_shape), jnp.result_type(float))
    row = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *jnp.shape(leaf)[1:]), jnp.result_type(leaf)), context)
    z = jax.eval_shape(bijector.forward, params, state, one, row)[0]
    if not hasattr(z, "shape"):
        raise TypeError("FlowBijector: expected a bijector whose latents are one array, got several (MultiScale).")
    return BatchedBijector(bijector, params, state, context, event_shape, z.shape[1:])

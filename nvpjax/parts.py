"""Acting on a part of an event: on some of its axes or columns, on a leaf of a tree, or in another shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from nvpjax.bijector import Bijector, PyTree, StatelessBijector, zero_log_det
from nvpjax.combinator import Combinator, Visit, added
from nvpjax.values import expect_at_least, whole_numbers


@dataclass(frozen=True)
class OnAxes(Combinator):
    """Act along some axes of the event; every position on the others is an example of its own, with shared parameters.

        x ``(batch, *event)``;  for axes (i, j):  f sees ``(batch · others, event[i], event[j])``
        log_det = Σ over the others of f's log_det

    ``OnAxes(Linear(), axes=(1,))`` mixes the columns of an image, ``OnAxes(Reverse(), axes=(0,))`` turns it over. A
    context has one row an example, and is repeated for the others.

    Args: ``axes``: of the event, counted from 0 (the batch is not counted), or from −1 at the end. Errors: ValueError
    for axes that the event does not have, or a bijector that changes the event's shape.

    >>> import jax.numpy as jnp
    >>> from nvpjax import OnAxes, Reverse
    >>> OnAxes(Reverse(), axes=(0,)).forward((), (), jnp.array([[[1.0, 2.0], [3.0, 4.0]]]))[0].tolist()
    [[[3.0, 4.0], [1.0, 2.0]]]
    """

    bijector: Bijector
    axes: tuple[int, ...]

    def __post_init__(self):
        object.__setattr__(self, "axes", whole_numbers(self, "axes"))

    @property
    def parts(self) -> tuple[Bijector, ...]:
        return (self.bijector,)

    def with_parts(self, parts: Sequence[Bijector]) -> OnAxes:
        (bijector,) = parts
        return replace(self, bijector=bijector)

    def go(
        self, visit: Visit, variables: tuple[PyTree, ...], x: PyTree, context: PyTree, *, back: bool = False
    ) -> tuple[PyTree, PyTree, PyTree]:
        rows = jax.tree.map(self._rows, x)
        batch, others = len(jax.tree.leaves(x)[0]), self._others(jax.tree.leaves(x)[0])
        y, sums, output = visit(self.bijector, variables, rows, _repeated(context, others), back)
        before, after = jax.tree.leaves(rows)[0].shape, jax.tree.leaves(y)[0].shape
        if before != after:
            raise ValueError(f"OnAxes: expected a bijector that keeps the event's shape, got {before} → {after}.")
        y = jax.tree.map(lambda rows, a: self._back(rows, a.shape), y, x)
        return y, jax.tree.map(lambda a: a.reshape(batch, others, *a.shape[1:]).sum(axis=1), sums), output

    def _places(self, shape):
        """Which axes of an array of ``shape`` are the bijector's."""
        rank = len(shape) - 1
        places = [1 + axis % rank for axis in self.axes if -rank <= axis < rank]
        if len(places) != len(self.axes) or len(set(places)) != len(places):
            raise ValueError(f"OnAxes: expected different axes of an event of shape {shape[1:]}, got {self.axes}.")
        return places

    def _rows(self, x):
        places = self._places(x.shape)
        ends = list(range(x.ndim - len(places), x.ndim))
        event = tuple(x.shape[place] for place in places)
        return jnp.moveaxis(x, places, ends).reshape(-1, *event)

    def _others(self, x):
        return x[0].size // math.prod(x.shape[place] for place in self._places(x.shape))

    def _back(self, rows, shape):
        places = self._places(shape)
        ends = list(range(len(shape) - len(places), len(shape)))
        kept = [size for axis, size in enumerate(shape) if axis not in places]
        return jnp.moveaxis(rows.reshape(*kept, *rows.shape[1:]), ends, places)


@dataclass(frozen=True)
class OnColumns(Combinator):
    """Act on some entries of the last axis, the columns of a table; the others pass as they are.

        y[columns] = f(x[columns]),     y[others] = x[others],     log_det = f's

    ``Chain((OnColumns(Log(), (0,)), OnColumns(Logit(), (2, 3)), flow))`` takes a positive and two bounded columns onto
    ℝ first.

    Shapes: x ``(batch, ..., D)``; f sees ``(batch, ..., len(columns))``. Args: ``columns``: counted from 0, or from −1
    at the end. Errors: TypeError for an event that is no array, ValueError for columns that are not there or come
    twice, or a bijector that changes their number.

    >>> import jax.numpy as jnp
    >>> from nvpjax import Exp, OnColumns
    >>> OnColumns(Exp(), (1,)).forward((), (), jnp.zeros((1, 3)))[0].tolist()
    [[0.0, 1.0, 0.0]]
    """

    EVENT_AXES = 1
    bijector: Bijector
    columns: tuple[int, ...]

    def __post_init__(self):
        object.__setattr__(self, "columns", whole_numbers(self, "columns"))

    @property
    def parts(self) -> tuple[Bijector, ...]:
        return (self.bijector,)

    def with_parts(self, parts: Sequence[Bijector]) -> OnColumns:
        (bijector,) = parts
        return replace(self, bijector=bijector)

    def go(
        self, visit: Visit, variables: tuple[PyTree, ...], x: PyTree, context: PyTree, *, back: bool = False
    ) -> tuple[PyTree, PyTree, PyTree]:
        cut = jax.tree.map(lambda a: a[..., self._places(a.shape)], x)
        y, sums, output = visit(self.bijector, variables, cut, context, back)
        before, after = jax.tree.leaves(cut)[0].shape, jax.tree.leaves(y)[0].shape
        if before != after:
            raise ValueError(f"OnColumns: expected a bijector that keeps the event's shape, got {before} → {after}.")
        y = jax.tree.map(lambda a, part: a.at[..., self._places(a.shape)].set(part), x, y)
        return y, added(visit.zero(x, context), sums), output

    def _places(self, shape):
        number = shape[-1]
        places = [column % number for column in self.columns if -number <= column < number]
        if len(places) != len(self.columns) or len(set(places)) != len(places):
            raise ValueError(f"OnColumns: expected different columns of {number}, got {self.columns}.")
        return np.array(places)


@dataclass(frozen=True)
class OnLeaf(Combinator):
    """Act on one entry of a tuple or dict of arrays; the others pass as they are.

        y[leaf] = f(x[leaf]),     y[other] = x[other],     log_det = f's

    After a ``MultiScale``, ``OnLeaf(f, 0)`` acts on the finest latents alone.

    Args: ``leaf``: a position in a tuple, or a key of a dict. Errors: TypeError for events of another kind, ValueError
    for a leaf that is not there.

    >>> import jax.numpy as jnp
    >>> from nvpjax import Exp, OnLeaf
    >>> x = {"size": jnp.zeros((1, 1)), "place": jnp.zeros((1, 2))}
    >>> {name: value.tolist() for name, value in OnLeaf(Exp(), "size").forward((), (), x)[0].items()}
    {'size': [[1.0]], 'place': [[0.0, 0.0]]}
    """

    bijector: Bijector
    leaf: int | str

    @property
    def parts(self) -> tuple[Bijector, ...]:
        return (self.bijector,)

    def with_parts(self, parts: Sequence[Bijector]) -> OnLeaf:
        (bijector,) = parts
        return replace(self, bijector=bijector)

    def go(
        self, visit: Visit, variables: tuple[PyTree, ...], x: PyTree, context: PyTree, *, back: bool = False
    ) -> tuple[PyTree, PyTree, PyTree]:
        y, sums, output = visit(self.bijector, variables, self._get(x), context, back)
        return self._put(x, y), added(visit.zero(x, context), sums), output

    def _get(self, tree):
        if not isinstance(tree, tuple | dict):
            raise TypeError(f"OnLeaf: expected a tuple or a dict of arrays, got {type(tree).__name__}.")
        there: dict[int | str, PyTree] = tree if isinstance(tree, dict) else dict(enumerate(tree))
        if self.leaf not in there:
            raise ValueError(f"OnLeaf: expected one of {list(there)}, got leaf={self.leaf!r}.")
        return there[self.leaf]

    def _put(self, tree, value):
        if isinstance(tree, dict):
            return {**tree, self.leaf: value}
        return tuple(value if place == self.leaf else entry for place, entry in enumerate(tree))


@dataclass(frozen=True)
class Reshape(StatelessBijector):
    """Give events another shape, in row-major order;  log_det = 0.

    Args: ``before`` and ``after``: the event's shapes, without the batch. Errors: ValueError where they do not hold the
    same number of entries, or x has another shape.

    >>> import jax.numpy as jnp
    >>> from nvpjax import Reshape
    >>> Reshape((2, 2), (4,)).forward((), (), jnp.ones((3, 2, 2)))[0].shape
    (3, 4)
    """

    EVENT_AXES = 0
    before: tuple[int, ...]
    after: tuple[int, ...]

    def __post_init__(self):
        object.__setattr__(self, "before", tuple(self.before))
        object.__setattr__(self, "after", tuple(self.after))
        expect_at_least(self, 1, "before", "after")
        if math.prod(self.before) != math.prod(self.after):
            raise ValueError(f"Reshape: expected shapes of the same size, got {self.before} and {self.after}.")

    def init_inverse(self, key: jax.Array, y: jax.Array, context: PyTree = None) -> tuple[PyTree, PyTree]:
        return (), ()

    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        return _reshaped(x, self.before, self.after), zero_log_det(x)

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        return _reshaped(y, self.after, self.before), zero_log_det(y)


def _reshaped(x, expected, shape):
    if x.shape[1:] != expected:
        raise ValueError(f"Reshape: expected events of shape {expected}, got {x.shape[1:]} in shape {x.shape}.")
    return x.reshape(len(x), *shape)


def _repeated(context, times):
    return jax.tree.map(lambda a: jnp.repeat(a, times, axis=0), context)

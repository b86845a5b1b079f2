"""Bijectors made of others: how data run through the parts is written once, and all that walks them knows it."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from nvpjax.bijector import Bijector, PyTree, zero_log_det
from nvpjax.places import is_measured


class Composite(Bijector):
    """A bijector that holds others. What asks for structure alone, as masks in turns and the count of layers do,
    goes through ``parts``."""

    times: int = 1
    """How often the parts are applied, each time with parameters of their own, as a ``Repeat`` does."""

    @property
    @abc.abstractmethod
    def parts(self) -> tuple[Bijector, ...]:
        """The bijectors inside."""

    @property
    def inverse_tolerance(self) -> float:
        return sum(part.inverse_tolerance for part in self.parts) * self.times

    @abc.abstractmethod
    def with_parts(self, parts: Sequence[Bijector]) -> Composite:
        """The same bijector of other parts, as many."""


class Visit(Protocol):
    """What is done with each part on the way: apply it, make its parameters, take its gradient."""

    def zero(self, x: PyTree, context: PyTree) -> PyTree:
        """The sums of no part at all."""
        ...

    def __call__(
        self, part: Bijector, variables: tuple[PyTree, ...], x: PyTree, context: PyTree, back: bool
    ) -> tuple[PyTree, PyTree, PyTree]:
        """Go through one part, from its latents to its data where ``back``: ``(y, sums, output)``."""
        ...


class Combinator(Composite):
    """A composite whose data run through its parts: ``go`` says how, and all that a bijector has follows from it.

    A combinator is one class: its fields, ``parts``, ``with_parts``, and ``go``. Where params and state have not the
    structure of its only part's, ``split``, ``join`` and ``keys`` as well.

    >>> from dataclasses import dataclass
    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Exp, Reverse, Chain
    >>> @dataclass(frozen=True)
    ... class Twice(Combinator):  # with the same parameters both times
    ...     bijector: Bijector
    ...     @property
    ...     def parts(self):
    ...         return (self.bijector,)
    ...     def with_parts(self, parts):
    ...         return Twice(*parts)
    ...     def go(self, visit, variables, x, context, *, back=False):
    ...         x, once, _ = visit(self.bijector, variables, x, context, back)
    ...         x, again, output = visit(self.bijector, variables, x, context, back)
    ...         return x, added(once, again), output
    >>> x = jnp.array([[0.0, 1.0]])
    >>> y, log_det, _ = Twice(Exp()).forward((), (), x)
    >>> bool(jnp.allclose(y, jnp.exp(jnp.exp(x)))), bool(jnp.allclose(Twice(Exp()).inverse((), (), y)[0], x))
    (True, True)
    """

    @abc.abstractmethod
    def with_parts(self, parts: Sequence[Bijector]) -> Combinator:
        """The same combinator of other parts, as many."""

    @abc.abstractmethod
    def go(
        self, visit: Visit, variables: tuple[PyTree, ...], x: PyTree, context: PyTree, *, back: bool = False
    ) -> tuple[PyTree, PyTree, PyTree]:
        """Take x through the parts, in the other direction where ``back``: ``(y, sums, outputs)``.

        ``visit(part, variables, x, context, back)`` is called for every part in the order in which data meet them.
        ``variables``: trees structured as params are, each cut for the part at hand (``split``). Sums, trees with a
        row an example as the log-det is, are added up (``added``), from ``visit.zero``. Outputs are put together
        as params are (``join``).

        A walk may carry trees of arrays in the place of every array of x and context: cut, move and join them by
        ``jax.tree.map``, by maps that are orthogonal, so that cotangents take the same way as values.
        """

    def split(self, tree: PyTree) -> Sequence[PyTree]:
        """Cut what is structured as params are: one tree a part."""
        return (tree,)

    def join(self, trees: Sequence[PyTree]) -> PyTree:
        """What ``split`` did, undone."""
        (tree,) = trees
        return tree

    def keys(self, key: jax.Array, *, back: bool) -> PyTree:
        """Keys for ``init``, or for ``init_inverse`` where ``back``, structured as params are."""
        return key

    def in_groups(self, size: int, wrap: Callable[[Bijector], Composite]) -> Combinator:
        """Where ``times`` > 1: ``times / size`` times ``wrap(size times the parts)``. Params are to be folded so."""
        raise NotImplementedError(f"{type(self).__name__}: expected in_groups of a combinator with times > 1.")

    def separated(self, outputs: PyTree, number: int) -> tuple[PyTree, ...]:
        """Of outputs that are tuples, ``number`` trees, each structured as params are."""
        rows = self.split(outputs)
        return tuple(self.join([row[column] for row in rows]) for column in range(number))

    def init(self, key: jax.Array, x: PyTree, context: PyTree = None) -> tuple[PyTree, PyTree]:
        _, _, made = self.go(_Initialize(), (self.keys(key, back=False),), x, context)
        return self.separated(made, 2)

    def init_inverse(self, key: jax.Array, y: PyTree, context: PyTree = None) -> tuple[PyTree, PyTree]:
        _, _, made = self.go(_Initialize(), (self.keys(key, back=True),), y, context, back=True)
        return self.separated(made, 2)

    def forward(
        self, params: PyTree, state: PyTree, x: PyTree, context: PyTree = None, *, train: bool = False
    ) -> tuple[PyTree, jax.Array, PyTree]:
        return self.go(_Apply(train, inverting=False), (params, state), x, context)

    def inverse(
        self, params: PyTree, state: PyTree, y: PyTree, context: PyTree = None, *, train: bool = False
    ) -> tuple[PyTree, jax.Array]:
        x, log_det, _ = self.go(_Apply(train, inverting=True), (params, state), y, context, back=True)
        return x, log_det


def leaves(bijector: Bijector, params: PyTree) -> Iterator[tuple[Bijector, PyTree]]:
    """Every bijector inside that holds no other, with its params; of what is repeated, those of all its layers."""
    if not isinstance(bijector, Composite):
        yield bijector, params
        return
    trees = bijector.split(params) if isinstance(bijector, Combinator) else (params,)
    for part, of_part in zip(bijector.parts, trees, strict=True):
        yield from leaves(part, of_part)


def with_leaves(change: Callable[[Bijector], Bijector], bijector: Bijector) -> Bijector:
    """The bijector with every one inside that holds no other changed."""
    if isinstance(bijector, Composite):
        return bijector.with_parts([with_leaves(change, part) for part in bijector.parts])
    return change(bijector)


def added(sums: PyTree, more: PyTree) -> PyTree:
    """The sums of parts together."""
    return jax.tree.map(jnp.add, sums, more)


@dataclass(frozen=True)
class _Apply:
    """Forward or inverse of every part; the output is its state."""

    train: bool
    inverting: bool
    """Whether the bijector as a whole is: state is given back by ``forward`` alone."""

    def zero(self, x, context):
        return zero_log_det(x)

    def __call__(self, part, variables, x, context, back):
        params, state = variables
        if back != self.inverting:
            refuse_measuring(part, state, train=self.train)
        y, log_det, state = applied(part, params, state, x, context, back=back, train=self.train)
        return y, log_det, None if self.inverting else state


class _Initialize:
    """Params and state of every part, each for what the parts before it make of x."""

    def zero(self, x, context):
        return None

    def __call__(self, part, variables, x, context, back):
        (key,) = variables
        params, state = part.init_inverse(key, x, context) if back else part.init(key, x, context)
        y, _, _ = applied(part, params, state, x, context, back=back, train=False)
        return y, None, (params, state)


def applied(
    bijector: Bijector, params: PyTree, state: PyTree, x: PyTree, context: Any, *, back: bool, train: bool
) -> tuple[PyTree, jax.Array, PyTree]:
    """Forward, or where ``back`` inverse, in forward's form: ``(y, log_det, state)``."""
    if not back:
        return bijector.forward(params, state, x, context, train=train)
    y, log_det = bijector.inverse(params, state, x, context, train=train)
    return y, log_det, state


def refuse_measuring(bijector: Bijector, state: PyTree, *, train: bool) -> None:
    """Raise ValueError where a bijector that is turned round is to measure: its state would not move, or be lost."""
    if train and is_measured(state):
        raise ValueError(
            f"{type(bijector).__name__}: expected train=False where it is turned round (Inverse), got train=True: it "
            "measures batches in its own forward alone. Take it out of Inverse, or give Inverse a bijector without "
            "measured state."
        )

"""Masks that take turns with their complements, from layer to layer of a ``Repeat``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeGuard, cast

import jax
import jax.numpy as jnp

from nvpjax.bijector import Bijector, PyTree
from nvpjax.bijectors.masked import Masked
from nvpjax.bijectors.masks import ChosenMask, Complemented, Mask
from nvpjax.combinator import Composite, with_leaves


def can_take_turns(bijector: Bijector) -> bool:
    """Whether there is a mask with a complement in it."""
    if isinstance(bijector, Composite):
        return any(map(can_take_turns, bijector.parts))
    return _has_complement(bijector)


def complemented(bijector: Bijector) -> Bijector:
    """The bijector with every mask in it complemented."""
    return with_leaves(_complemented_leaf, bijector)


def in_turns(bijector: Bijector) -> Bijector:
    """The bijector with masks that are chosen on the device: give it ``beside(context, odd)`` for its context."""
    return bijector if isinstance(bijector, InTurns) else with_leaves(InTurns, bijector)


class Turn(NamedTuple):
    """A context, and beside it whose turn it is. A walk hands it to every leaf, as contexts are."""

    context: PyTree
    odd: jax.Array
    """``(batch,)`` booleans, True where it is the complements' turn."""


def beside(context: PyTree, odd: jax.Array, batch: int) -> Turn:
    """Put whose turn it is beside the context; where an outer loop has done so, they complement each other."""
    if isinstance(context, Turn):
        return Turn(context.context, context.odd ^ odd)
    return Turn(context, jnp.broadcast_to(odd, (batch,)))


@dataclass(frozen=True)
class InTurns(Composite):
    """A leaf of a layer in a loop: it finds beside its context whose turn it is, and goes by that mask."""

    bijector: Bijector

    @property
    def parts(self) -> tuple[Bijector, ...]:
        return (self.bijector,)

    def with_parts(self, parts: Sequence[Bijector]) -> InTurns:
        return InTurns(*parts)

    def init(self, key: jax.Array, x: PyTree, context: PyTree = None) -> tuple[PyTree, PyTree]:
        context, odd = context
        if not _has_complement(self.bijector):
            return self.bijector.init(key, x, context)
        return self.bijector.init_with_mask(mask_at(odd, self.bijector), key, x, context)

    def init_inverse(self, key: jax.Array, y: PyTree, context: PyTree = None) -> tuple[PyTree, PyTree]:
        context, odd = context
        if not _has_complement(self.bijector):
            return self.bijector.init_inverse(key, y, context)
        return self.bijector.init_with_mask(mask_at(odd, self.bijector), key, y, context)

    def forward(
        self, params: PyTree, state: PyTree, x: PyTree, context: PyTree = None, *, train: bool = False
    ) -> tuple[PyTree, jax.Array, PyTree]:
        context, odd = context
        if not _has_complement(self.bijector):
            return self.bijector.forward(params, state, x, context, train=train)
        return self.bijector.forward_with_mask(mask_at(odd, self.bijector), params, state, x, context, train=train)

    def inverse(
        self, params: PyTree, state: PyTree, y: PyTree, context: PyTree = None, *, train: bool = False
    ) -> tuple[PyTree, jax.Array]:
        context, odd = context
        if not _has_complement(self.bijector):
            return self.bijector.inverse(params, state, y, context, train=train)
        return self.bijector.inverse_with_mask(mask_at(odd, self.bijector), params, state, y, context, train=train)


def mask_at(odd: jax.Array, bijector: Masked) -> ChosenMask:
    """The bijector's mask, or its complement where it is the complements' turn."""
    return ChosenMask(bijector.mask, _complement(bijector), odd)


def _has_complement(bijector: Bijector) -> TypeGuard[Masked]:
    return isinstance(bijector, Masked) and hasattr(bijector.mask, "complement")


def _complement(bijector: Masked) -> Mask:
    return cast(Complemented, bijector.mask).complement()


def _complemented_leaf(leaf: Bijector) -> Bijector:
    return leaf.with_mask(_complement(leaf)) if _has_complement(leaf) else leaf

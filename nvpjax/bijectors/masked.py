"""Bijectors that act on the part of an event that a mask lets change."""

from __future__ import annotations

import abc
from dataclasses import replace
from typing import Self

import jax

from nvpjax.bijector import Bijector, PyTree
from nvpjax.bijectors.masks import Mask


class Masked(Bijector):
    """The helper base for bijectors with a field ``mask``, which can take turns with its complement in a ``Repeat``.

    Implement ``init_with_mask``, ``forward_with_mask`` and ``inverse_with_mask``: what ``init``, ``forward`` and
    ``inverse`` do, by the mask that is handed to them.
    """

    EVENT_AXES = 1
    mask: Mask

    @abc.abstractmethod
    def init_with_mask(self, mask: Mask, key: jax.Array, x: jax.Array, context: PyTree) -> tuple[PyTree, PyTree]:
        """Give ``(params, state)``."""

    @abc.abstractmethod
    def forward_with_mask(
        self, mask: Mask, params: PyTree, state: PyTree, x: jax.Array, context: PyTree, *, train: bool
    ) -> tuple[jax.Array, jax.Array, PyTree]:
        """Give ``(y, log_det, state)``."""

    @abc.abstractmethod
    def inverse_with_mask(
        self, mask: Mask, params: PyTree, state: PyTree, y: jax.Array, context: PyTree, *, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Give ``(x, log_det)``."""

    def with_mask(self, mask: Mask) -> Self:
        """The same bijector with another mask."""
        return replace(self, mask=mask)

    def init(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> tuple[PyTree, PyTree]:
        return self.init_with_mask(self.mask, key, x, context)

    def forward(
        self, params: PyTree, state: PyTree, x: jax.Array, context: PyTree = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array, PyTree]:
        return self.forward_with_mask(self.mask, params, state, x, context, train=train)

    def inverse(
        self, params: PyTree, state: PyTree, y: jax.Array, context: PyTree = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        return self.inverse_with_mask(self.mask, params, state, y, context, train=train)

"""Bijectors that act on the part of an event that a mask lets change."""

from __future__ import annotations

import abc
from dataclasses import replace

from nvpjax.bijector import Bijector
from nvpjax.bijectors.masks import Mask


class Masked(Bijector):
    """The helper base for bijectors with a field ``mask``, which can take turns with its complement in a ``Repeat``.

    Implement ``init_with_mask``, ``forward_with_mask`` and ``inverse_with_mask``: what ``init``, ``forward`` and
    ``inverse`` do, by the mask that is handed to them.
    """

    EVENT_AXES = 1
    mask: Mask

    @abc.abstractmethod
    def init_with_mask(self, mask: Mask, key, x, context):
        """Give ``(params, state)``."""

    @abc.abstractmethod
    def forward_with_mask(self, mask: Mask, params, state, x, context, *, train):
        """Give ``(y, log_det, state)``."""

    @abc.abstractmethod
    def inverse_with_mask(self, mask: Mask, params, state, y, context, *, train):
        """Give ``(x, log_det)``."""

    def with_mask(self, mask: Mask) -> Masked:
        """The same bijector with another mask."""
        return replace(self, mask=mask)

    def init(self, key, x, context=None):
        return self.init_with_mask(self.mask, key, x, context)

    def forward(self, params, state, x, context=None, *, train=False):
        return self.forward_with_mask(self.mask, params, state, x, context, train=train)

    def inverse(self, params, state, y, context=None, *, train=False):
        return self.inverse_with_mask(self.mask, params, state, y, context, train=train)

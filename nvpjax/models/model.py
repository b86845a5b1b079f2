"""What a model is, and what models share."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from nvpjax.bijector import Bijector, Conditioner, PyTree
from nvpjax.bijectors.masks import AlternatingMask, ChannelMask
from nvpjax.chain import Chain
from nvpjax.flow import Flow
from nvpjax.nets import LabelEmbedding, Rounded
from nvpjax.repeat import Repeat

Shape = tuple[int, ...]
"""Of an event, without the batch."""
Dtype = DTypeLike | None
"""Of arithmetic; None for that of the data."""


class Model(abc.ABC):
    """A ready-made flow, not yet told what it is a density of: a value that a config can hold and a file can keep.

    Implementations are frozen dataclasses whose fields are numbers, booleans, strings and tuples of these. Sizes out of
    range raise ValueError at construction, event shapes that do not fit raise it in ``build``.
    """

    takes_unknown_labels: ClassVar[bool] = False
    """Whether a label may be −1, one that is not known, where there are classes."""

    @abc.abstractmethod
    def build(
        self, event_shape: Shape, *, axis_name: str | None = None, network_dtype: Dtype = None, scan: bool | None = None
    ) -> Flow:
        """Give the flow for events of this shape, without the batch.

        The other arguments say how it is computed, not what. ``axis_name``: the pmap axis, so that all moments are the
        global batch's. ``network_dtype``: of the networks' arithmetic, see ``Rounded``. ``scan``: whether equal layers
        are one loop, see ``Repeat``; parameters are the same.
        """

    def penalty(self, flow: Flow, params: PyTree) -> jax.Array:
        """What training adds to the nats per example, from the params of the flow. The default is 0."""
        return jnp.zeros(())


def expect_vector(model: Model, event_shape: Shape, least: int = 2) -> int:
    """Give the number of entries. Raise ValueError for events that are no vectors of at least so many."""
    _expect_shape(model, event_shape)
    if len(event_shape) != 1 or event_shape[0] < least:
        raise ValueError(
            f"{type(model).__name__}: expected an event_shape (entries,) with entries >= {least}, got "
            f"{tuple(event_shape)}. "
            "The batch is not part of it; put Reshape before the flow for events of another rank."
        )
    return event_shape[0]


def expect_image(model: Model, event_shape: Shape, divisor: int, likely_fix: str) -> None:
    """Raise ValueError for events that are no images whose sides divide by ``divisor``."""
    _expect_shape(model, event_shape)
    fits = len(event_shape) == 3 and min(event_shape) >= 1 and not any(side % divisor for side in event_shape[:2])
    if not fits:
        raise ValueError(
            f"{type(model).__name__}: expected an event_shape (height, width, channels) with height and width "
            f"divisible by {divisor}, got {tuple(event_shape)}. {likely_fix}"
        )


def _expect_shape(model: Model, event_shape: Shape) -> None:
    if not isinstance(event_shape, Sequence):
        raise TypeError(
            f"{type(model).__name__}: expected an event_shape, such as ({event_shape!r},), got {event_shape!r}."
        )


def expect_wide(model: Model, network_dtype: Dtype, reason: str) -> None:
    """Raise ValueError for networks in a dtype coarser than float32, ``reason`` being what would come of it."""
    if network_dtype is not None and jnp.finfo(network_dtype).nmant < 23:
        raise ValueError(
            f"{type(model).__name__}: expected networks in float32 or wider, got {jnp.dtype(network_dtype)}: rounded "
            f"so, {reason}. Train with precision float32."
        )


def conditioner(network: Conditioner, *, classes: int = 0, dtype: Dtype = None) -> Conditioner:
    """The network, given labels where there are classes, in the dtype that was asked for."""
    return rounded(LabelEmbedding(network, classes) if classes else network, dtype)


def rounded(network: Conditioner, dtype: Dtype) -> Conditioner:
    """The network, in the dtype that was asked for."""
    return network if dtype is None else Rounded(network, dtype)


def in_turns(
    layer: Callable[[Any], Bijector], mask: ChannelMask | AlternatingMask, times: int, entries: int, scan: bool | None
) -> Bijector:
    """``layer(mask)``, ``layer(mask.complement())``, and so on, ``times`` layers in all."""
    if entries % 2 == 0:
        return Repeat(layer(mask), times, scan, alternate=True)
    # Parts that differ in size have parameters that differ in shape: what repeats is the pair.
    pair = Chain((layer(mask), layer(mask.complement())))
    pairs = [Repeat(pair, times // 2, scan)] if times > 1 else []
    return Chain((*pairs, *([layer(mask)] if times % 2 else [])))

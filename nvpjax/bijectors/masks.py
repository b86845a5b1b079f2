"""Masks: which part of an event conditions a coupling, and which part changes.

A mask divides arrays of shape ``(batch, *event)`` and puts them together again. It has four methods:

    split(x)         -> (passed, changed)
    merge(passed, changed) -> x
    only_changed(a)  -> a, an array shaped like ``changed``, with zeros where nothing changes
    shown(passed)    -> what the conditioner sees
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from nvpjax.values import expect_choice


class Mask(Protocol):
    """What a coupling asks of a mask; see the head of this file."""

    def split(self, x: jax.Array) -> tuple[jax.Array, jax.Array]: ...

    def merge(self, passed: jax.Array, changed: jax.Array) -> jax.Array: ...

    def only_changed(self, a: jax.Array) -> jax.Array: ...

    def shown(self, passed: jax.Array) -> jax.Array: ...


class Complemented(Mask, Protocol):
    """A mask that can take turns with its complement in a ``Repeat``."""

    def complement(self) -> Mask: ...


@dataclass(frozen=True)
class ChannelMask:
    """One half of the channels passes, the other changes. The tensor is split, so the conditioner sees half of it.

    For vectors the channels are the entries themselves. An odd number leaves the smaller part first.

    Args: ``passes``: which half conditions, "first" or "second".

    Reference: Real NVP, sec. 3.5, fig. 3 (right).

    >>> import jax.numpy as jnp
    >>> passed, changed = ChannelMask(passes="first").split(jnp.arange(6.0).reshape(1, 6))
    >>> passed.tolist(), changed.tolist()
    ([[0.0, 1.0, 2.0]], [[3.0, 4.0, 5.0]])
    """

    passes: Literal["first", "second"] = "first"

    def __post_init__(self):
        expect_choice(self, "passes", ("first", "second"))

    def complement(self) -> ChannelMask:
        return ChannelMask("second" if self.passes == "first" else "first")

    def split(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        if x.ndim < 2 or x.shape[-1] < 2:
            raise ValueError(f"ChannelMask: expected shape (batch, ..., channels >= 2), got {x.shape}.")
        first, second = jnp.split(x, [x.shape[-1] // 2], axis=-1)
        return (first, second) if self.passes == "first" else (second, first)

    def merge(self, passed: jax.Array, changed: jax.Array) -> jax.Array:
        return jnp.concatenate([passed, changed] if self.passes == "first" else [changed, passed], axis=-1)

    def only_changed(self, a: jax.Array) -> jax.Array:
        return a

    def shown(self, passed: jax.Array) -> jax.Array:
        return passed


@dataclass(frozen=True)
class Checkerboard:
    """Positions of one colour of a checkerboard pass, those of the other change. Arrays keep their full size.

        b(i, j) = 1 where i + j is even ("even" passes), for any number of spatial axes

    The conditioner sees b·x with the mask b itself as one more channel.

    Args: ``passes``: which positions condition, "even" or "odd". The authors' program begins with "even", the
    paper's text with "odd".

    Errors: ValueError where there is no spatial axis between batch and channels, or only one position in all.

    Reference: Real NVP, sec. 3.5, fig. 3 (left).

    >>> import jax.numpy as jnp
    >>> passed, _ = Checkerboard(passes="even").split(jnp.ones((1, 2, 2, 1)))
    >>> passed[0, :, :, 0].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    passes: Literal["even", "odd"] = "even"

    def __post_init__(self):
        expect_choice(self, "passes", ("even", "odd"))

    def complement(self) -> Checkerboard:
        return Checkerboard("odd" if self.passes == "even" else "even")

    def _passed_positions(self, a) -> np.ndarray:
        if a.ndim < 3 or np.prod(a.shape[1:-1]) < 2:
            raise ValueError(
                f"Checkerboard: expected shape (batch, height, width, channels), two positions or more, got {a.shape}: "
                "for vectors use ChannelMask."
            )
        parity = np.indices(a.shape[1:-1]).sum(axis=0)[..., None] % 2
        return parity == (0 if self.passes == "even" else 1)

    def split(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        b = self._passed_positions(x)
        return jnp.where(b, x, 0), jnp.where(b, 0, x)

    def merge(self, passed: jax.Array, changed: jax.Array) -> jax.Array:
        return jnp.where(self._passed_positions(passed), passed, changed)

    def only_changed(self, a: jax.Array) -> jax.Array:
        return jnp.where(self._passed_positions(a), 0, a)

    def shown(self, passed: jax.Array) -> jax.Array:
        b = jnp.asarray(self._passed_positions(passed), passed.dtype)
        return jnp.concatenate([passed, jnp.broadcast_to(b, (*passed.shape[:-1], 1))], axis=-1)


@dataclass(frozen=True)
class AlternatingMask:
    """Every other entry of the last axis passes. The conditioner sees the entries that pass, side by side.

    Args: ``passes``: which entries condition, "even" (0, 2, 4, …) or "odd".

    Reference: NICE, sec. 5.1 (odd and even components).

    >>> import jax.numpy as jnp
    >>> passed, changed = AlternatingMask(passes="even").split(jnp.arange(5.0).reshape(1, 5))
    >>> passed.tolist(), changed.tolist()
    ([[0.0, 2.0, 4.0]], [[1.0, 3.0]])
    """

    passes: Literal["even", "odd"] = "even"

    def __post_init__(self):
        expect_choice(self, "passes", ("even", "odd"))

    def complement(self) -> AlternatingMask:
        return AlternatingMask("odd" if self.passes == "even" else "even")

    def _passed_entries(self, entries: int) -> np.ndarray:
        if entries < 2:
            raise ValueError(f"AlternatingMask: expected a last axis of at least 2 entries, got {entries}.")
        return np.arange(entries) % 2 == (0 if self.passes == "even" else 1)

    def split(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _split_entries(x, self._passed_entries(x.shape[-1]))

    def merge(self, passed: jax.Array, changed: jax.Array) -> jax.Array:
        return _merge_entries(passed, changed, self._passed_entries(passed.shape[-1] + changed.shape[-1]))

    def only_changed(self, a: jax.Array) -> jax.Array:
        return a

    def shown(self, passed: jax.Array) -> jax.Array:
        return passed


@dataclass(frozen=True)
class BooleanMask:
    """The entries of the last axis that are marked True pass, those marked False change.

    The conditioner sees the entries that pass, side by side. For a mask over several axes, ``Reshape`` the event first.

    Errors: ValueError where nothing would change, or where the mask's length is not that of the last axis.

    Reference: Real NVP, sec. 3.4, eq. 9 (b is any binary mask).

    >>> import jax.numpy as jnp
    >>> passed, changed = BooleanMask((True, False, True)).split(jnp.arange(3.0).reshape(1, 3))
    >>> passed.tolist(), changed.tolist()
    ([[0.0, 2.0]], [[1.0]])
    """

    passes: tuple[bool, ...]

    def __post_init__(self):
        object.__setattr__(self, "passes", tuple(self.passes))
        if not all(isinstance(entry, bool | np.bool_) for entry in self.passes) or all(self.passes):
            raise ValueError(f"BooleanMask: expected a tuple of booleans with at least one False, got {self.passes}.")

    def complement(self) -> BooleanMask:
        return BooleanMask(tuple(not entry for entry in self.passes))

    def split(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        if x.ndim < 2 or x.shape[-1] != len(self.passes):
            raise ValueError(f"BooleanMask: expected a last axis of {len(self.passes)} entries, got shape {x.shape}.")
        return _split_entries(x, np.array(self.passes))

    def merge(self, passed: jax.Array, changed: jax.Array) -> jax.Array:
        return _merge_entries(passed, changed, np.array(self.passes))

    def only_changed(self, a: jax.Array) -> jax.Array:
        return a

    def shown(self, passed: jax.Array) -> jax.Array:
        return passed


@dataclass(frozen=True)
class NoMask:
    """Nothing passes, the whole event changes: for bijectors that can act on a part, and are to act on all."""

    def split(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return x[..., :0], x

    def merge(self, passed: jax.Array, changed: jax.Array) -> jax.Array:
        return changed

    def only_changed(self, a: jax.Array) -> jax.Array:
        return a

    def shown(self, passed: jax.Array) -> jax.Array:
        return passed


class ChosenMask(NamedTuple):
    """A mask or its complement, as a number on the device says for each example: what a loop over layers in turns hands
    to ``Masked`` bijectors. Data, not a value: it stands in no field of a bijector.

    Errors: ValueError where the two cut events differently: entries that pass must be as many as those that change.
    """

    mask: Mask
    other: Mask
    choose_other: jax.Array
    """``(batch,)`` booleans."""

    def split(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self._choose(self.mask.split(x), self.other.split(x))

    def merge(self, passed: jax.Array, changed: jax.Array) -> jax.Array:
        return self._choose(self.mask.merge(passed, changed), self.other.merge(passed, changed))

    def only_changed(self, a: jax.Array) -> jax.Array:
        return self._choose(self.mask.only_changed(a), self.other.only_changed(a))

    def shown(self, passed: jax.Array) -> jax.Array:
        return self._choose(self.mask.shown(passed), self.other.shown(passed))

    def _choose(self, of_mask, of_other):
        shapes, other_shapes = jax.tree.map(jnp.shape, (of_mask, of_other))
        if shapes != other_shapes:
            raise ValueError(
                f"{self.mask}: expected to take turns with its complement, but they cut events into {shapes} and "
                f"{other_shapes}. Use an even number of entries, or a Chain of layers."
            )

        def chosen(a, b):
            return jnp.where(self.choose_other.reshape(-1, *[1] * (a.ndim - 1)), b, a)

        return jax.tree.map(chosen, of_mask, of_other)


def _split_entries(x, passes: np.ndarray):
    return x[..., np.flatnonzero(passes)], x[..., np.flatnonzero(~passes)]


def _merge_entries(passed, changed, passes: np.ndarray):
    places = np.argsort(np.concatenate([np.flatnonzero(passes), np.flatnonzero(~passes)]))
    return jnp.concatenate([passed, changed], axis=-1)[..., places]

"""What the fields of a description may hold: sizes that something can have, numbers that are numbers."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Iterable
from typing import Any

MOST = 2**20
"""Of any size: what is larger was mistyped, and would ask for more memory than there is."""


def expect_at_least(owner: Any, least: int, *names: str) -> None:
    """Raise ValueError where a field, or an entry of it, is no whole number, smaller than ``least`` or huge."""
    for name in names:
        sizes = getattr(owner, name)
        for size in sizes if isinstance(sizes, tuple) else (sizes,):
            if isinstance(size, bool) or not isinstance(size, int) or not least <= size <= MOST:
                most = f", at most {MOST}" if size > MOST else ""
                raise ValueError(
                    f"{type(owner).__name__}: expected whole numbers {', '.join(names)} >= {least}{most}, got "
                    f"{name}={sizes}."
                )


def expect_choice(owner: Any, name: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError where a field is none of these."""
    choice = getattr(owner, name)
    if choice not in choices:
        raise ValueError(f"{type(owner).__name__}: expected {name} to be one of {choices}, got {choice!r}.")


def whole_numbers(owner: Any, name: str) -> tuple[int, ...]:
    """A field of places as a tuple of Python's integers. Raise TypeError where one is something else."""
    given = getattr(owner, name)
    if not isinstance(given, Iterable):
        raise TypeError(f"{type(owner).__name__}: expected {name} as a tuple, such as ({given!r},), got {given!r}.")
    values = tuple(given)
    if not all(hasattr(value, "__index__") and not isinstance(value, bool) for value in values):
        raise TypeError(f"{type(owner).__name__}: expected {name} of whole numbers, got {values}.")
    return tuple(map(operator.index, values))


def expect_finite(owner: Any) -> None:
    """Raise ValueError where a field is NaN or infinite, TypeError where one that is annotated as a number is none."""
    for field in dataclasses.fields(owner):
        value = getattr(owner, field.name)
        if field.type in (float, "float") and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise TypeError(f"{type(owner).__name__}: expected {field.name} to be a number, got {value!r}.")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{type(owner).__name__}: expected {field.name} to be a finite number, got {value}.")

"""Columns of a table, brought to unit scale and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.errors import UserError

LARGEST = 1e100
"""Of a mean or deviation: beyond, sums and pictures end in infinities."""


@dataclass(frozen=True)
class Column:
    """A column of numbers, and how a model is given it.

    x = (value + u·step − mean) / deviation,     u even in [0, 1) where there is a step
    """

    name: str
    mean: float
    deviation: float
    in_context: bool = False
    """Whether it is what the density is conditional on."""
    step: float = 0.0
    """Between neighbours of the grid that its values lie on, which noise fills; 0 for one without noise."""
    origin: float = 0.0
    """A value of that grid."""

    def __post_init__(self):
        numbers = (self.mean, self.deviation, self.step, self.origin)
        if not (all(abs(number) <= LARGEST for number in numbers) and self.deviation >= 1 / LARGEST and self.step >= 0):
            raise UserError(
                f"column {self.name}: numbers of this size cannot be standardised (mean {self.mean!r:.20}, deviation "
                f"{self.deviation!r:.20}): divide them by a constant"
            )
        for name in ("mean", "deviation", "step", "origin"):
            object.__setattr__(self, name, float(getattr(self, name)))


def standardised(rows: np.ndarray, columns: Sequence[Column], noise: np.ndarray | float = 0.0) -> np.ndarray:
    """Rows ``(rows, columns)`` as a model is given them, float32; ``noise`` in [0, 1) fills the steps."""
    mean, deviation, step = (_each(columns, name) for name in ("mean", "deviation", "step"))
    return ((rows + noise * step - mean) / deviation).astype(np.float32)


def in_own_units(x: np.ndarray, columns: Sequence[Column]) -> np.ndarray:
    """Undo ``standardised``: float64 rows in the units of the columns, those with a step on their grid."""
    mean, deviation = (_each(columns, name) for name in ("mean", "deviation"))
    rows = np.asarray(x, np.float64) * deviation + mean
    for place, column in enumerate(columns):
        if column.step:
            digits = 12 - math.ceil(math.log10(column.step))  # further ones are the sum's rounding
            rows[:, place] = column.origin + column.step * np.floor((rows[:, place] - column.origin) / column.step)
            rows[:, place] = np.round(rows[:, place], digits) if 0 <= digits <= 15 else rows[:, place]
    return rows


def _each(columns: Sequence[Column], name: str) -> np.ndarray:
    return np.array([getattr(column, name) for column in columns])

"""What a density is asked to be conditional on: values of its context columns, as somebody types or files them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.data.columns import Column
from experiments.data.table_reader import FileTable, read_table
from experiments.errors import UserError


def context_rows(given: Sequence[Column], values: Sequence[float], path: Path | None) -> np.ndarray:
    """The rows ``(number, columns of the context)`` of values, or of a file, float64.

    A file has the columns by their names, among others; or, without names, these alone in their order.
    Errors: UserError where there are others, or something that is no finite number.
    """
    if values and path is not None:
        raise UserError("--context and --context-from: expected one of them")
    names = ", ".join(column.name for column in given)
    if path is None:
        if len(values) != len(given) or not all(map(math.isfinite, values)):
            raise UserError(f"--context: expected {len(given)} finite numbers, of {names}, got {len(values)}: {values}")
        return np.array([values], np.float64)
    table = read_table(path)
    rows = np.stack([table.columns[place].values for place in _places(table, given, path)], axis=1)
    wrong = np.argwhere(~np.isfinite(rows))
    if len(wrong):
        row, place = wrong[0]
        raise UserError(f"{path}, {table.place(row)}, column {given[place].name}: expected a finite number, got none")
    if not len(rows):
        raise UserError(f"{path} holds no row: expected values of {names}")
    return rows


def _places(table: FileTable, given: Sequence[Column], path: Path) -> list[int]:
    there = [column.name for column in table.columns]
    if len(there) == len(given) and not table.has_names:
        return list(range(len(given)))
    if not {column.name for column in given} <= set(there):
        raise UserError(
            f"{path}: expected the columns {', '.join(column.name for column in given)} by name, or a file of these "
            f"alone without names, got {', '.join(there[:8])}"
        )
    return [there.index(column.name) for column in given]

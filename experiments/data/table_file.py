"""A table of one's own: the columns of numbers of a .csv or .npy file."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import tyro

from experiments.data.columns import Column, standardised
from experiments.data.fingerprint import fingerprint_of_file
from experiments.data.own_files import (
    LEAST_EXAMPLES,
    expect_path,
    expect_same_bytes,
    expect_split_seed,
    named,
    signature,
)
from experiments.data.splits import divided, expect_percents
from experiments.data.table_reader import MOST_COLUMNS, FileTable, Header, expect_table, read_names, read_table
from experiments.data.tables import Table
from experiments.errors import UserError

OPTION = "--data FILE"
OF_COLUMNS = ("context", "leave_out", "dequantize")
"""Options that name columns."""
SHARED, SHARED_ROWS = 0.02, 5
"""A value that this share of the training rows hold, and so many, is told: a density of it has no end."""
OFF_THE_GRID = 1e-3
"""Of a step: how far a value may lie from the grid that noise is to fill."""


@dataclass(frozen=True)
class FoundTable:
    """What a run keeps of its file: samples then need the file no more, and another one is noticed."""

    columns: tuple[Column, ...]
    """Those that are used, in the order of the file."""
    rows: int
    """Those that are used."""
    sha256: str
    """Of the file."""

    def __post_init__(self):
        modelled = [column for column in self.columns if not column.in_context]
        if not modelled or len(self.columns) > MOST_COLUMNS or self.rows < LEAST_EXAMPLES:
            raise UserError(f"a table of {len(self.columns)} columns and {self.rows} rows: nothing to train on")


@dataclass(frozen=True)
class TableFile(Table):
    """The columns of numbers of a file of one's own."""

    path: Annotated[Path | None, tyro.conf.arg(name="data", metavar="FILE")] = None
    """Your table: .csv (or .tsv, .txt) with or without a line of names, or .npy of two axes. Columns are called by
    their names, or by their numbers from 0."""
    context: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[COLUMN ...]")] = ()
    """Columns that the density is conditional on: p(other columns | these)."""
    leave_out: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[COLUMN ...]")] = ()
    """Columns that are not looked at."""
    dequantize: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[COLUMN ...]")] = ()
    """Columns of whole numbers, or others on an even grid, whose steps are filled with even noise: without it a density
    grows without end at values that many rows share."""
    drop_missing: bool = False
    """Leave out rows in which a value is missing."""
    header: Header = "found"
    """Whether the first line of a text holds names: as it looks, or yes, or no."""
    validation_percent: int = 10
    """Of all rows, those that choose the checkpoint and are not trained on."""
    test_percent: int = 10
    """Of all rows, those that results are told on."""
    split_seed: int = 0
    """Of the order in which rows are divided."""
    found: tyro.conf.SuppressFixed[tyro.conf.Fixed[FoundTable | None]] = None
    """What the file holds, once it was opened."""

    def __post_init__(self):
        expect_percents(self.validation_percent, self.test_percent)
        expect_split_seed(self.split_seed)

    @property
    def known(self):
        return self.found is not None

    @property
    def dataset(self):
        return "a table of one's own" if self.path is None else self.path.name

    @property
    def columns_used(self):
        return self.found.columns

    def opened(self):
        """With columns by their names in the order of the file: the same run, however they were typed."""
        if self.known:
            return self
        path = self._place()
        names = read_names(path, self.header)
        places = {option: sorted(_places(path, option, getattr(self, option), names)) for option in OF_COLUMNS}
        data = replace(self, **{option: tuple(names[place] for place in those) for option, those in places.items()})
        return replace(data, found=data._open().found)

    def parts(self):
        path = self._place()
        expect_same_bytes(path, _fingerprint(path, signature(path)), self.found.sha256)
        there = self._open()
        if there.found != self.found:
            raise UserError(
                f"{self.path} is read or divided otherwise than when the run began: was its config.json edited, or is "
                "numpy another that shuffles otherwise?"
            )
        return {split: there.rows[chosen] for split, chosen in there.splits.items()}

    def _open(self) -> _Opened:
        return _open(replace(self, found=None), signature(self._place()))

    def _place(self) -> Path:
        path = expect_path(self.path, OPTION)
        expect_table(path)
        return path

    def version(self):
        return f"{self.found.rows} rows of {len(self.found.columns)} columns", self.found.sha256

    def remarks(self):
        there, columns = self._open(), self.columns_used
        given = f", given {named(column.name for column in self.given)}" if self.given else ""
        training = there.rows[there.splits["train"]]
        return [
            f"{self.dataset}: {self.found.rows} rows, {len(training)} of them to train on; the density is of "
            f"{named(column.name for column in self.modelled)}{given}",
            *there.remarks,
            *_shared_values(training, columns),
            *_merged_values(training, columns),
        ]


class _Opened(NamedTuple):
    """What was read of a file as somebody asked for it."""

    found: FoundTable
    rows: np.ndarray
    """``(rows, columns used)``, float64."""
    splits: dict[str, np.ndarray]
    remarks: list[str]


@functools.lru_cache(maxsize=2)
def _fingerprint(path: Path, written: tuple[int, ...]) -> str:
    """Read once, as long as nothing is written there."""
    return fingerprint_of_file(path)


@functools.lru_cache(maxsize=2)
def _open(data: TableFile, written: tuple[int, ...]) -> _Opened:
    path, sha256 = data.path, _fingerprint(data.path, written)
    table = read_table(path, data.header)
    names = [column.name for column in table.columns]
    in_context, left_out, filled = (_places(path, option, getattr(data, option), names) for option in OF_COLUMNS)
    if both := sorted((in_context & left_out) | (in_context & filled) | (left_out & filled)):
        raise UserError(f"{names[both[0]]}: expected a column in one of --context, --leave-out and --dequantize")
    words = {place for place, column in enumerate(table.columns) if column.words and not column.numbers}
    used = [place for place in range(len(names)) if place not in left_out | (words - in_context - filled)]
    for place in used:
        _expect_numbers(path, table, place)
    if not set(used) - in_context:
        first = next((f", column {names[place]} begins with {_quoted(table, place)}" for place in sorted(words)), "")
        raise UserError(
            f"{path}: expected a column of numbers to model, found none{first}: numbers are written 1.5, with tab, "
            "semicolon or comma between them"
        )
    rows, dropped = _complete_rows(path, table, used, data.drop_missing)
    splits = divided(len(rows), data.validation_percent, data.test_percent, data.split_seed)
    columns = tuple(
        _column(path, names[place], rows[:, number], splits["train"], place in in_context, place in filled)
        for number, place in enumerate(used)
    )
    remarks = [f"{dropped} rows in which a value is missing are left out"] if dropped else []
    if words - left_out:
        of_words = [f"{names[place]} ({_quoted(table, place)})" for place in sorted(words - left_out)]
        remarks.append(f"left out, since they hold words: {named(of_words)}")
    if table.lines is not None and not table.has_names:
        remarks.append("no line of names was found: columns are called by their numbers (--header yes where it is one)")
    return _Opened(FoundTable(columns, len(rows), sha256), rows, splits, remarks)


def _places(path: Path, option: str, asked: Sequence[str], names: list[str]) -> set[int]:
    """Which columns are asked for, by name or by number."""
    places = set()
    for text in asked:
        if text in names:
            places.add(names.index(text))
        elif text.isascii() and text.isdecimal() and len(text) < 6 and int(text) < len(names):
            places.add(int(text))
        else:
            said = option.replace("_", "-")
            raise UserError(f"--{said} {text}: {path} has no such column; expected {named(names)}; or a number")
    return places


def _expect_numbers(path: Path, table: FileTable, place: int) -> None:
    """Raise UserError where a column that is used holds a word, or nothing."""
    column = table.columns[place]
    if column.words:
        raise UserError(
            f"{path}, {column.first_word_at}, column {column.name}: expected a number, got {column.first_word!r} "
            f"({column.words} of {table.rows} cells are none): mend them, or --leave-out {column.name}"
        )
    if column.merged:
        raise UserError(
            f"{path}, column {column.name}: holds whole numbers beyond 2⁵³ that float64 does not tell apart: "
            f"--leave-out {column.name}, or subtract what they have in common"
        )
    if table.rows and not column.numbers:
        raise UserError(f"{path}, column {column.name}: holds no value at all: --leave-out {column.name}")


def _quoted(table: FileTable, place: int) -> str:
    column = table.columns[place]
    return f"{column.first_word[:20]!r} in {column.first_word_at}"


def _complete_rows(path: Path, table: FileTable, used: list[int], drop_missing: bool) -> tuple[np.ndarray, int]:
    """The rows of the columns that are used, finite; and how many were left out."""
    rows = np.stack([table.columns[place].values for place in used], axis=1)

    def first(wrong: np.ndarray) -> str:
        row, number = np.argwhere(wrong)[0]
        return f"{path}, {table.place(row)}, column {table.columns[used[number]].name}"

    missing, infinite = np.isnan(rows), np.isinf(rows)
    if infinite.any():
        raise UserError(f"{first(infinite)}: expected a finite number, got {rows[infinite][0]}: mend that row")
    lacking = missing.any(axis=1)
    if lacking.any() and not drop_missing:
        raise UserError(
            f"{first(missing)}: a value is missing, as in {np.sum(lacking)} of {len(rows)} rows: --drop-missing leaves "
            "these rows out, --leave-out a column"
        )
    rows = rows[~lacking]
    if len(rows) < LEAST_EXAMPLES:
        raise UserError(f"{path}: expected at least {LEAST_EXAMPLES} rows with all values, got {len(rows)}")
    return rows, int(np.sum(lacking))


def _column(path: Path, name: str, values: np.ndarray, training: np.ndarray, in_context: bool, filled: bool) -> Column:
    """How a column is brought to unit scale: by its training rows, with sums that are the same on every machine."""
    values_of_training = values[training]
    if values_of_training.min() == values_of_training.max():
        raise UserError(
            f"{path}, column {name}: all {len(training)} training rows hold {values_of_training[0]:g}: there is "
            f"nothing to learn, and a density of one value has no end: --leave-out {name}"
        )
    try:
        mean = math.fsum(values_of_training) / len(training)
        with np.errstate(all="ignore"):
            squares = (values_of_training - mean) ** 2
        deviation = math.sqrt(math.fsum(squares) / len(training))
    except OverflowError:
        mean = deviation = math.inf
    step, origin = _grid(path, name, values) if filled else (0.0, 0.0)
    return Column(name, mean, deviation, in_context, step, origin)


def _grid(path: Path, name: str, values: np.ndarray) -> tuple[float, float]:
    """The step and a value of the even grid that values lie on."""
    distinct = np.unique(values)
    width = distinct[-1] - distinct[0]
    step = width / round(width / np.diff(distinct).min())
    rounded = float(f"{step:.12g}")
    places = (distinct - distinct[0]) / rounded
    off = np.abs(places - np.round(places)) > OFF_THE_GRID
    if off.any():
        raise UserError(
            f"--dequantize {name}: {path} holds values there that lie on no even grid, such as {distinct[off][0]:g} "
            f"beside {distinct[0]:g}: that is for whole numbers, or so many digits after the point"
        )
    return rounded, float(distinct[0])


def _shared_values(rows: np.ndarray, columns: Sequence[Column]) -> list[str]:
    """A line on values that many rows share, in columns that are modelled without noise."""
    told = []
    for place, column in enumerate(columns):
        if column.in_context or column.step:
            continue
        distinct, counts = np.unique(rows[:, place], return_counts=True)
        most = int(np.argmax(counts))
        if counts[most] >= max(SHARED_ROWS, SHARED * len(rows)):
            told.append(f"{column.name} ({100 * counts[most] / len(rows):.0f} % are {distinct[most]:g})")
    if not told:
        return []
    return [
        f"many rows share a value in {named(told)}: a density grows without end there, and its nats say little; "
        "--dequantize, --context or --leave-out such columns"
    ]


def _merged_values(rows: np.ndarray, columns: Sequence[Column]) -> list[str]:
    """A line on columns whose values float32 makes one."""
    told, x = [], standardised(rows, columns)
    for place, column in enumerate(columns):
        distinct, left = len(np.unique(rows[:, place])), len(np.unique(x[:, place]))
        if left < distinct / 2:
            told.append(f"{column.name} ({left} of {distinct} values)")
    if not told:
        return []
    return [f"float32 keeps few values apart in {named(told)}: look for far outliers there, or take logarithms before"]

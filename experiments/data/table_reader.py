"""From a file of somebody's own, .csv or .npy, to columns of numbers. Nothing in it is unpickled or run."""

from __future__ import annotations

import contextlib
import csv
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from experiments.data.array_file import open_array
from experiments.errors import UserError, first_line
from experiments.machine.memory import memory

Header = Literal["found", "yes", "no"]
"""Whether the first line of a .csv file holds names: as it looks, or as somebody says."""
DELIMITED = (".csv", ".tsv", ".txt")
SUFFIXES = (*DELIMITED, ".npy")
MISSING = {"", "?", "na", "n/a", "nan", "null", "none"}
"""Cells that stand for no value, in any case."""
DELIMITERS = ("\t", ";", ",")
MOST_COLUMNS = 2**12
BLOCK = 2**13
"""Lines that are turned into numbers at a time."""
EXACT = 2**53
"""Whole numbers up to here are float64's own; beyond, neighbours become one."""


class FileColumn(NamedTuple):
    """A column of a file, numbers or not."""

    name: str
    values: np.ndarray
    """float64 ``(rows,)``, NaN where a cell has no value."""
    numbers: int
    """Cells that are numbers."""
    words: int
    """Cells that are neither numbers nor missing."""
    first_word: str
    first_word_at: str
    """Its place, for people."""
    merged: bool
    """Whether it holds whole numbers that float64 does not tell from their neighbours."""


class FileTable(NamedTuple):
    """What a file holds."""

    columns: list[FileColumn]
    rows: int
    has_names: bool
    lines: np.ndarray | None
    """Of each row in a text; of an array, whose rows are counted from 0, None."""

    def place(self, row: int) -> str:
        """Where a row stands, for people."""
        return f"row {row}" if self.lines is None else f"line {self.lines[row]}"


def read_table(path: Path, header: Header = "found") -> FileTable:
    """Read all columns of a table, numbers as float64. Errors: UserError, one line that names file, line and column."""
    expect_table(path)
    try:
        return _read_delimited(path, header) if path.suffix.lower() in DELIMITED else _read_array(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or first_line(error)})") from None


def read_names(path: Path, header: Header = "found") -> list[str]:
    """The names of a table's columns alone: their numbers from 0, where the file has none."""
    expect_table(path)
    try:
        if path.suffix.lower() not in DELIMITED:
            return list(map(str, range(_numbers_of(path).shape[1])))
        with _lines_of(path) as lines:
            return _begin(path, header, lines)[0]
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or first_line(error)})") from None


def expect_memory(path: Path, numbers: int) -> None:
    """Raise UserError where so many float64 and what is made of them would fill this machine."""
    if 2.5 * 8 * numbers > memory():  # as they are, divided, and standardised in float32
        raise UserError(
            f"{path}: {numbers:,} numbers or more take {2.5 * 8 * numbers / 2**30:.1f} GiB, this machine has "
            f"{memory() / 2**30:.1f}: take a part of the rows"
        )


def expect_table(path: Path) -> None:
    """Raise UserError where no file of a table lies; a pipe, say, would be waited for without an end."""
    if not path.exists():
        raise UserError(f"{path} is not there: name the file where it lies now")
    if not path.is_file() or path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: expected a table, a file that ends in {', '.join(SUFFIXES)}")


def _numbers_of(path: Path) -> np.ndarray:
    """The array of a file, which is a table of numbers."""
    array = open_array(path)
    if array.ndim != 2:
        raise UserError(f"{path}: expected an array of two axes, (rows, columns), got shape {array.shape}")
    if array.dtype.kind not in "fiub":
        raise UserError(f"{path}: expected numbers, floats or whole or bool, got {array.dtype}")
    _expect_columns(path, array.shape[1])
    return array


def _read_array(path: Path) -> FileTable:
    array, columns = _numbers_of(path), []
    expect_memory(path, array.size)
    for place in range(array.shape[1]):
        values = np.array(array[:, place], np.float64)
        large = np.flatnonzero(np.abs(values) > EXACT) if array.dtype.kind in "iu" else ()
        merged = any(int(array[row, place]) != int(values[row]) for row in large)
        columns.append(FileColumn(str(place), values, int(np.sum(~np.isnan(values))), 0, "", "", merged))
    return FileTable(columns, len(array), False, None)


def _read_delimited(path: Path, header: Header) -> FileTable:
    with _lines_of(path) as lines:
        return _read_lines(path, header, lines)


@contextlib.contextmanager
def _lines_of(path: Path) -> Iterator[Iterator[tuple[int, list[str]]]]:
    """The cells of each line that is not empty, with its number; what is no text becomes a UserError."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            delimiter = _delimiter(file.readline())
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter)
            yield ((reader.line_num, cells) for cells in reader if cells)
        except UnicodeDecodeError:
            raise UserError(f"{path} is no text in UTF-8: save it as CSV in UTF-8") from None
        except csv.Error as error:
            raise UserError(f"{path}, line {reader.line_num}: no line of a table ({first_line(error)})") from None


def _delimiter(line: str) -> str:
    """The first of tab, semicolon and comma that divides the first line."""
    return next((mark for mark in DELIMITERS if len(next(csv.reader([line], delimiter=mark), [])) > 1), ",")


Line = tuple[int, list[str]]


def _begin(path: Path, header: Header, lines: Iterator[Line]) -> tuple[list[str], bool, Iterator[Line]]:
    """The names of the columns, whether they stand in the file, and the lines of numbers."""
    first = list(itertools.islice(lines, 2))
    if not first:
        raise UserError(f"{path} is empty: expected lines of numbers with commas between them")
    cells = first[0][1]
    _expect_columns(path, len(cells))
    if header == "yes" or (header == "found" and _is_header(*(cells for _, cells in first))):
        return _names(path, cells), True, itertools.chain(first[1:], lines)
    return [str(place) for place in range(len(cells))], False, itertools.chain(first, lines)


def _read_lines(path: Path, header: Header, lines: Iterator[Line]) -> FileTable:
    names, has_names, lines = _begin(path, header, lines)
    gathered, number, at = [_Cells(name) for name in names], len(names), []
    while block := list(itertools.islice(lines, BLOCK)):
        for line, cells in block:
            if len(cells) != number:
                raise UserError(
                    f"{path}, line {line}: expected {number} cells, as in the first line, got {len(cells)}: mend that "
                    "line"
                )
        numbers = [line for line, _ in block]
        at += numbers
        expect_memory(path, len(at) * number)
        for cells_of_column, cells in zip(gathered, zip(*(cells for _, cells in block))):
            cells_of_column.add(cells, numbers)
    return FileTable([cells.column() for cells in gathered], len(at), has_names, np.array(at, int))


def _is_header(first: list[str], second: Sequence[str] = ()) -> bool:
    """Whether a column begins with a word and goes on with a number, or the first line holds no number at all."""
    if not any(_number(cell) is not None for cell in first):
        return True
    return any(
        _is_word(cell) and not _is_word(below) and _number(below) is not None for cell, below in zip(first, second)
    )


def _names(path: Path, cells: list[str]) -> list[str]:
    names = [cell.strip() or str(place) for place, cell in enumerate(cells)]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise UserError(
                f"{path}: columns {names.index(name)} and {place} are both called {name!r}: give each a name of its own"
            )
    return names


class _Cells:
    """The cells of one column, block by block."""

    def __init__(self, name: str):
        self._name, self._blocks, self._merged = name, [], False
        self._numbers = self._words = 0
        self._first_word = self._first_word_at = ""

    def add(self, cells: Sequence[str], lines: Sequence[int]) -> None:
        try:
            values = np.array(list(map(float, cells)))
            plain = "_" not in "".join(cells) and not np.isnan(values).any()  # float takes 1_000
        except ValueError:
            plain = False
        if plain:
            self._numbers += len(cells)
        else:
            values = np.array([self._one(cell, line) for cell, line in zip(cells, lines)])
        if np.nanmax(np.abs(values), initial=0) > EXACT:
            self._merged = self._merged or not all(map(_is_exact, cells))
        self._blocks.append(values)

    def _one(self, cell: str, line: int) -> float:
        value = _number(cell)
        if value is not None:
            self._numbers += 1
        elif _is_word(cell):
            self._words += 1
            if self._words == 1:
                self._first_word, self._first_word_at = cell.strip(), f"line {line}"
        return math.nan if value is None else value

    def column(self) -> FileColumn:
        values = np.concatenate(self._blocks) if self._blocks else np.zeros(0)
        self._blocks = []
        first_word = self._first_word, self._first_word_at
        return FileColumn(self._name, values, self._numbers, self._words, *first_word, self._merged)


def _number(cell: str) -> float | None:
    """The number that a cell holds; None for a word, or where it holds none."""
    try:
        value = None if "_" in cell else float(cell)
    except ValueError:
        return None
    return None if value is None or math.isnan(value) else value


def _is_word(cell: str) -> bool:
    return _number(cell) is None and cell.strip().lower() not in MISSING


def _is_exact(cell: str) -> bool:
    """Whether a whole number that is written out is float64's own; others are what they are rounded to."""
    try:
        return int(cell) == float(cell)
    except (ValueError, OverflowError):
        return True


def _expect_columns(path: Path, number: int) -> None:
    if not 0 < number <= MOST_COLUMNS:
        raise UserError(f"{path}: expected a table of 1 to {MOST_COLUMNS} columns, got {number}")

"""Tables: rows of numbers, standardised. Those that scikit-learn ships are here, those of a file in ``table_file``."""

from __future__ import annotations

import abc
import hashlib
import importlib.metadata
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import tyro

from experiments.data.columns import Column, in_own_units, standardised
from experiments.data.data import Data, InMemory
from experiments.data.own_files import named
from experiments.data.splits import SPLITS, divided, expect_percents, expect_split
from experiments.data.table_writer import save_rows
from experiments.errors import UserError
from nvpjax import Likelihood

SPLIT_SEED = 0
"""Of the order in which scikit-learn's rows are divided: the same for every run, so that numbers compare."""
NOISE_SEED = 3_141
"""Of the noise that fills the steps of columns in evaluation: the same every time, so that numbers compare."""


class Table(Data):
    """Rows of numbers, each column standardised by the mean and deviation of the training rows.

    Some columns may be the context: the density is that of the others, given these.
    """

    classes = 0
    unit = said_unit = "nats"
    drawn = 1000
    nats_per_unit = 1.0

    @property
    @abc.abstractmethod
    def columns_used(self) -> tuple[Column, ...]:
        """In their order."""

    @abc.abstractmethod
    def parts(self) -> dict[str, np.ndarray]:
        """Rows ``(rows, columns used)`` of each split as they came, float64."""

    @property
    def modelled(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns_used if not column.in_context)

    @property
    def given(self) -> tuple[Column, ...]:
        """The columns of the context."""
        return tuple(column for column in self.columns_used if column.in_context)

    @property
    def event_shape(self):
        return (len(self.modelled),)

    @property
    def nothing_costs(self):
        """Of N(0, I) on standardised columns."""
        return self.event_shape[0] * 0.5 * math.log(2 * math.pi * math.e)

    def examples(self, split, *, for_training=False):
        """Standardised rows. Noise that fills the steps of columns is in them, but ``for_training``: ``augmented``."""
        expect_split(split)
        columns, rows, noise = self.columns_used, self.parts()[split], 0.0
        if not for_training and any(column.step for column in columns):
            noise = np.random.default_rng((NOISE_SEED, SPLITS.index(split))).random(rows.shape)
        x, in_context = standardised(rows, columns, noise), self._in_context
        return InMemory(self._batch(np.ascontiguousarray(x[:, ~in_context]), np.ascontiguousarray(x[:, in_context])))

    def augmented(self, example, rng):
        if not self._steps.any():
            return example
        return {**example, "x": example["x"] + self._steps * rng.random(len(self._steps), np.float32)}

    @cached_property
    def _steps(self) -> np.ndarray:
        """Of the modelled columns, in deviations."""
        return np.array([column.step / column.deviation for column in self.modelled], np.float32)

    @property
    def _in_context(self) -> np.ndarray:
        return np.array([column.in_context for column in self.columns_used])

    def blank_batch(self, number):
        return self._batch(*(np.zeros((number, len(columns)), np.float32) for columns in (self.modelled, self.given)))

    def _batch(self, x, context):
        return {"x": x, "context": context} if self.given else {"x": x}

    def objective(self, flow, *, labels, network_dtype=None):
        return Likelihood(flow)

    def contexts(self, number):
        if not self.given:
            return None
        return np.resize(self.parts()["validation"][:, self._in_context], (number, len(self.given)))

    def as_given(self, context):
        return None if context is None else standardised(context, self.given)

    def beside(self, score):
        """Of rows as they came: by the change of variables, −log p(row) = −log p(x) + Σ log deviation."""
        return {"nats_of_raw_rows": score + math.fsum(math.log(column.deviation) for column in self.modelled)}

    def quality(self, result):
        return f" of standardised rows ({result['nats_of_raw_rows']:.4f} of rows in their own units)"

    def rows_of(self, x: np.ndarray, context: np.ndarray | None = None) -> np.ndarray:
        """Of samples, standardised, and contexts: rows of all columns, in their order and own units."""
        rows, in_context = np.zeros((len(x), len(self.columns_used))), self._in_context
        rows[:, ~in_context] = in_own_units(x, self.modelled)
        if context is not None:
            rows[:, in_context] = context
        return rows

    def said_columns(self) -> str:
        return named(column.name for column in self.columns_used)

    def write(self, path: Path, x: np.ndarray, context: np.ndarray | None = None) -> None:
        """Write samples as rows of all columns in their own units: .npy, or .csv with names."""
        save_rows(path, self.rows_of(x, context), [column.name for column in self.columns_used])

    def draw(self, path, x, title, row_titles: Sequence[str] = (), context=None):
        """A corner plot in the columns' own units, over rows that are held out where those can be read."""
        from experiments.pictures.corner import MOST, save_corner  # with matplotlib, which takes a second

        names = [column.name for column in self.columns_used]
        try:
            held_out, beside = self.parts()["validation"], "beside validation rows"
        except UserError as error:
            held_out, beside = None, f"without data beside it, since {error}"
        save_corner(path, self.rows_of(x, context), held_out, names, title)
        return f"a corner plot of {f'the first {MOST} of ' * (len(names) > MOST)}{len(names)} columns, {beside}"


@dataclass(frozen=True)
class TableData(Table):
    """A table of scikit-learn's, without its target."""

    dataset: tyro.conf.SuppressFixed[tyro.conf.Fixed[str]]
    """breast_cancer, wine, iris or diabetes: sklearn.datasets.load_NAME."""
    columns: tyro.conf.SuppressFixed[tyro.conf.Fixed[int]]
    """Of the table."""
    validation_percent: int = 20
    """Of all rows, those that choose the checkpoint and are not trained on."""
    test_percent: int = 20
    """Of all rows, those that results are told on."""

    data_dir = Path("data")
    given = ()

    def __post_init__(self):
        expect_percents(self.validation_percent, self.test_percent)
        if self.columns < 1:
            raise UserError(f"a table of {self.columns} columns: expected at least 1")

    @property
    def event_shape(self):
        return (self.columns,)

    @property
    def columns_used(self):
        names, training = self._load()[0], self.parts()["train"]
        moments = zip(training.mean(axis=0), training.std(axis=0))
        return tuple(Column(name, mean, deviation or 1.0) for name, (mean, deviation) in zip(names, moments))

    def _load(self) -> tuple[list[str], np.ndarray]:
        """The names of the columns, and the rows."""
        import sklearn.datasets  # here, as it takes a second, and every program knows of tables

        load = getattr(sklearn.datasets, f"load_{self.dataset}", None)
        if load is None:
            raise UserError(f"scikit-learn has no table {self.dataset}: expected one of its load_… functions")
        table = load()
        rows = np.asarray(table.data, np.float64)
        if rows.shape[1:] != self.event_shape:
            raise UserError(f"{self.dataset}: expected {self.columns} columns, got shape {rows.shape}")
        return list(map(str, getattr(table, "feature_names", range(self.columns)))), rows

    def parts(self):
        rows = self._load()[1]
        chosen = divided(len(rows), self.validation_percent, self.test_percent, SPLIT_SEED)
        return {name: rows[of_split] for name, of_split in chosen.items()}

    def version(self):
        digest = hashlib.sha256(self._load()[1].tobytes()).hexdigest()
        return f"scikit-learn {importlib.metadata.version('scikit-learn')}", digest

"""Tables that scikit-learn ships: rows of numbers, standardised."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from experiments.data.data import Data, InMemory
from experiments.errors import UserError
from experiments.pictures.grids import save_picture
from nvpjax import Likelihood

SPLIT_SEED = 0
"""Of the order in which rows are divided: the same for every run, so that numbers compare."""
SHOWN = 3
"""Columns in the picture of samples."""


@dataclass(frozen=True)
class TableData(Data):
    """The columns of a table without its target, standardised by the mean and deviation of the training rows."""

    dataset: tyro.conf.SuppressFixed[tyro.conf.Fixed[str]]
    """breast_cancer, wine, iris or diabetes: sklearn.datasets.load_NAME."""
    columns: tyro.conf.SuppressFixed[tyro.conf.Fixed[int]]
    """Of the table."""
    validation_percent: int = 20
    """Of all rows, those that choose the checkpoint and are not trained on."""
    test_percent: int = 20
    """Of all rows, those that results are told on."""

    classes = 0
    data_dir = Path("data")
    unit = "nats"
    said_unit = "nats"

    def __post_init__(self):
        shares = (self.validation_percent, self.test_percent)
        if min(shares) < 1 or sum(shares) > 90:
            raise UserError(
                f"--validation-percent and --test-percent {shares}: expected at least 1, together at most 90"
            )
        if self.columns < 1:
            raise UserError(f"a table of {self.columns} columns: expected at least 1")

    @property
    def event_shape(self):
        return (self.columns,)

    @property
    def nats_per_unit(self):
        return 1.0

    @property
    def nothing_costs(self):
        """Of N(0, I) on standardised columns."""
        return self.columns * 0.5 * math.log(2 * math.pi * math.e)

    def examples(self, split, *, for_training=False):
        parts = self._parts()
        if split not in parts:
            raise UserError(f"unknown split {split}: expected one of {', '.join(parts)}")
        mean, deviation = parts["train"].mean(axis=0), parts["train"].std(axis=0)
        return InMemory({"x": ((parts[split] - mean) / np.where(deviation > 0, deviation, 1)).astype(np.float32)})

    def _rows(self) -> np.ndarray:
        import sklearn.datasets  # here, as it takes a second, and every program knows of tables

        load = getattr(sklearn.datasets, f"load_{self.dataset}", None)
        if load is None:
            raise UserError(f"scikit-learn has no table {self.dataset}: expected one of its load_… functions")
        rows = np.asarray(load().data, np.float64)
        if rows.shape[1:] != self.event_shape:
            raise UserError(f"{self.dataset}: expected {self.columns} columns, got shape {rows.shape}")
        return rows

    def _parts(self) -> dict[str, np.ndarray]:
        rows = self._rows()
        order = np.random.default_rng(SPLIT_SEED).permutation(len(rows))
        test, validation = (max(1, len(rows) * share // 100) for share in (self.test_percent, self.validation_percent))
        cuts = np.split(order, [test, test + validation])
        return {name: rows[chosen] for name, chosen in zip(("test", "validation", "train"), cuts)}

    def blank_batch(self, number):
        return {"x": np.zeros((number, self.columns), np.float32)}

    def objective(self, flow, *, labels, network_dtype=None):
        return Likelihood(flow)

    def version(self):
        digest = hashlib.sha256(self._rows().tobytes()).hexdigest()
        return f"scikit-learn {importlib.metadata.version('scikit-learn')}", digest

    def draw(self, path, x, title, row_titles: Sequence[str] = ()):
        """Pairs of the first columns: the training rows grey, samples coloured."""
        from experiments.pictures.plots import figure  # with matplotlib: as above

        shown, rows = min(SHOWN, self.columns), self.examples("train").arrays["x"]
        page, axes = figure(shown, shown, size=(2.4 * shown, 2.4 * shown), squeeze=False)
        for down in range(shown):
            for across in range(shown):
                axis = axes[down, across]
                if down == across:
                    limits = np.percentile(np.concatenate([rows[:, down], x[:, down]]), [0.5, 99.5])
                    bins = np.linspace(*limits, 30)
                    axis.hist(rows[:, down], bins, density=True, color="0.75", label="training rows")
                    axis.hist(x[:, down], bins, density=True, histtype="step", color="C3", label="samples")
                    axis.set_title(f"column {down}", fontsize=9)
                else:
                    axis.scatter(rows[:, across], rows[:, down], s=3, color="0.75", linewidths=0)
                    axis.scatter(x[:, across], x[:, down], s=3, color="C3", linewidths=0)
                    inner = np.percentile(rows[:, [across, down]], [0, 100], axis=0)
                    middle, half = inner.mean(axis=0), 0.65 * (inner[1] - inner[0])
                    axis.set(
                        xlim=(middle[0] - half[0], middle[0] + half[0]), ylim=(middle[1] - half[1], middle[1] + half[1])
                    )
        axes[0, 0].legend(frameon=False, fontsize=7)
        page.suptitle(title)
        save_picture(path, page.savefig)
        return f"pairs of the first {shown} of {self.columns} standardised columns, training rows in grey"

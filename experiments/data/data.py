"""What a program asks of the data of a config, whatever they are."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nvpjax import Flow
from nvpjax.objectives import Objective

Example = dict[str, np.ndarray]
"""One row of a batch, by the names that objectives know."""


class Data(abc.ABC):
    """A data set and how it is read: a frozen value of a config.

    Its fields are what the command line offers. A new kind of data is one such class; a new set of a known kind is a
    config.
    """

    dataset: str
    """The data set's name."""
    data_dir: Path
    classes: int
    """Of the labels; 0 where there are none."""
    unit: str
    """Of reported numbers, as in metrics.jsonl."""
    said_unit: str
    """The same, as a line for people has it."""
    drawn = 64
    """Samples, where nobody says how many."""

    @property
    def known(self) -> bool:
        """Whether shapes are known: those of somebody's own file are once it is ``opened``."""
        return True

    def opened(self) -> Data:
        """The same data with what is found in their file. Errors: UserError for what cannot be trained on."""
        return self

    def remarks(self) -> list[str]:
        """What somebody who trains on them should know, a line each."""
        return []

    @property
    @abc.abstractmethod
    def event_shape(self) -> tuple[int, ...]:
        """Of one x."""

    @property
    @abc.abstractmethod
    def nats_per_unit(self) -> float:
        """How many nats an example are one of the unit."""

    @property
    @abc.abstractmethod
    def nothing_costs(self) -> float:
        """What knowing nothing costs, in the unit."""

    @abc.abstractmethod
    def examples(self, split: str, *, for_training: bool = False) -> Sequence[Example]:
        """Give the examples of "train", "validation" or "test", by index."""

    def augmented(self, example: Example, rng: np.random.Generator) -> Example:
        """An example as training sees it, each time anew."""
        return example

    @abc.abstractmethod
    def blank_batch(self, number: int) -> Example:
        """A batch of the shapes and dtypes of the data."""

    @abc.abstractmethod
    def objective(self, flow: Flow, *, labels: bool, network_dtype: Any = None) -> Objective:
        """What a flow costs on these data; given the labels, where ``labels``. The dtype is for networks of its own."""

    @abc.abstractmethod
    def version(self) -> tuple[str, str]:
        """The version of the data, and a fingerprint of their bytes."""

    @abc.abstractmethod
    def draw(
        self,
        path: Path,
        x: np.ndarray,
        title: str,
        row_titles: Sequence[str] = (),
        context: np.ndarray | None = None,
    ) -> str:
        """Make a picture of samples x, and give a remark for people. Errors: UserError where it cannot be written."""

    def contexts(self, number: int) -> np.ndarray | None:
        """So many rows of context in their own units, of examples held out; None where there is none but labels."""
        return None

    def as_given(self, context: np.ndarray | None) -> np.ndarray | None:
        """A context, labels or rows in their own units, as a model is given it."""
        return context

    @property
    def leaves_range(self) -> bool:
        """Whether what a model is given may lie outside of [0, 1], where it was to lie in it."""
        return False

    def beside(self, score: float) -> dict[str, float]:
        """What else a number in the unit is, by the names of metrics.jsonl."""
        return {}

    def quality(self, result: dict[str, float]) -> str:
        """What has to be said beside the number of a result, or ""."""
        return ""


class InMemory(Sequence):
    """Examples whose arrays are held whole."""

    def __init__(self, arrays: dict[str, np.ndarray]):
        self.arrays = arrays

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index: int) -> Example:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return {name: array[index] for name, array in self.arrays.items()}


def stacked(examples: Sequence[Example]) -> Example:
    """Examples side by side, as a batch."""
    return {name: np.stack([example[name] for example in examples]) for name in examples[0]}


def batch_of(examples: Sequence[Example], indices: Sequence[int]) -> Example:
    """The batch of the examples at ``indices``."""
    if isinstance(examples, InMemory):
        return {name: array[np.asarray(indices)] for name, array in examples.arrays.items()}
    return stacked([examples[index] for index in indices])

"""How rows or images are divided into those to train on, to choose a checkpoint by, and to tell results on."""

from __future__ import annotations

import numpy as np

from experiments.errors import UserError

SPLITS = ("test", "validation", "train")


def divided(number: int, validation_percent: int, test_percent: int, seed: int) -> dict[str, np.ndarray]:
    """The numbers of so many examples by split, each in one of them, in an order that the seed says."""
    order = np.random.default_rng(seed).permutation(number)
    test, validation = (max(1, number * share // 100) for share in (test_percent, validation_percent))
    return dict(zip(SPLITS, np.split(order, [test, test + validation])))


def expect_percents(validation: int, test: int) -> None:
    """Raise UserError for shares that leave none to train on."""
    if min(validation, test) < 1 or validation + test > 90:
        raise UserError(
            f"--validation-percent and --test-percent {(validation, test)}: expected at least 1, together at most 90"
        )


def expect_split(split: str) -> None:
    if split not in SPLITS:
        raise UserError(f"unknown split {split}: expected one of {', '.join(SPLITS)}")

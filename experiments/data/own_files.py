"""What tables and images of one's own share: a place that a user names, whose bytes stay what they were."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from experiments.errors import UserError

LEAST_EXAMPLES = 10
"""Fewer cannot be divided into those to train on, to choose by and to tell results on."""
NAMED = 8
"""Columns or classes that a line names."""


def expect_path(path: Path | None, option: str) -> Path:
    """The path. Errors: UserError where none is named, or nothing is there."""
    if path is None:
        raise UserError(f"no data are named: expected where they lie ({option})")
    if not path.exists():
        raise UserError(f"{path} is not there: name the place where the data lie now ({option})")
    return path


def expect_same_bytes(path: Path, there: str, began_with: str) -> None:
    """Raise UserError where the SHA-256 of what lies at a path is not that of what a run began with."""
    if there != began_with:
        raise UserError(
            f"{path} has changed since the run began, or is another (sha256 {there[:8]}…, not {began_with[:8]}…): "
            "restore it, or train anew into another --run-dir"
        )


def expect_split_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise UserError(f"--split-seed {seed}: expected at least 0, below 2³²")


def signature(path: Path) -> tuple[int, ...]:
    """What tells whether a file was written since it was read."""
    there = path.stat()
    return there.st_mtime_ns, there.st_size, there.st_ino


def named(names: Iterable[str]) -> str:
    """Names for a line, the first few of them."""
    names = list(names)
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")

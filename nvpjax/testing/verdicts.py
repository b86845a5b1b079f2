"""What a check says: nothing worse than a share of what is allowed, a failure, or that it does not apply."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class NotRun(Exception):
    """The check does not apply to this bijector, or not here; the message says why."""


class Seen(NamedTuple):
    """What a check looked at and found in order."""

    worst: float
    """The largest error, as a share of what is allowed."""
    cases: int = 1
    detail: str = ""
    """What it could not look at, and why."""


def require(condition: bool | np.bool_, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def at_most(error: ArrayLike, allowed: ArrayLike, what: str) -> float:
    """Raise unless every |error| of a row is at most what the row is allowed; give the worst share. NaN raises."""
    error = np.abs(np.asarray(error, np.float64))
    largest = error.max(axis=1) if error.ndim == 2 else error
    allowed = np.broadcast_to(allowed, largest.shape)
    share = np.where(error.any() if error.ndim == 0 else largest != 0, largest / allowed, 0.0)
    if not np.all(share <= 1):
        row = int(np.argmax(np.where(np.isnan(share), np.inf, share)))
        raise AssertionError(f"{what}, row {row}: {largest[row]:.3e}, where at most {allowed[row]:.3e} is explained")
    return float(share.max(initial=0.0))

"""SIGTERM and SIGINT: a run ends after the step it is at, with a checkpoint, at the same step in all processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from typing import Any

import jax
from jax.experimental import multihost_utils

from experiments.errors import Interrupted


class Interruption:
    """Catches SIGTERM and SIGINT while it is used with ``with``; a second SIGINT ends the process at once.

    In a pod jax has taken SIGTERM already: it tells the others, and all of them learn of it at the same call of
    ``check``. SIGINT is passed on as SIGTERM there.
    """

    def __init__(self):
        self._number: int | None = None
        self._calls = 0
        self._pod = jax.process_count() > 1
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        for number in (signal.SIGINT,) if self._pod else (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._caught)
        return self

    def __exit__(self, *error) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _caught(self, number: int, frame) -> None:
        if self._number == signal.SIGINT == number:
            raise KeyboardInterrupt
        self._number = number
        print(
            f"{signal.Signals(number).name}: stopping after the step that is under way, with a checkpoint", flush=True
        )
        if self._pod:
            os.kill(os.getpid(), signal.SIGTERM)

    def check(self) -> None:
        """Raise ``Interrupted`` if a signal came. In a pod all processes call this equally often."""
        self._calls += 1
        if self._pod and multihost_utils.reached_preemption_sync_point(self._calls):
            raise Interrupted(self._number or signal.SIGTERM)
        if not self._pod and self._number:
            raise Interrupted(self._number)

    def between(self, items: Iterable) -> Iterator:
        """Give the items, with a check before each."""
        for item in items:
            self.check()
            yield item

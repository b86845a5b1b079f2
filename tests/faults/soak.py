"""Train a small model for minutes and watch the process: memory, open files, threads, speed, compilations.

Usage: python -m tests.faults.soak [--minutes 30] [--out DIR]

It fails where memory grows, where steps slow down, where files or threads pile up, or where something is compiled after
the first evaluation. The first tenth of the time, or all until the first evaluation, is not counted: caches fill.

Evaluations are a minute apart. Each checkpoint leaves some memory behind: tensorstore does not give back the strings of
``KvStore.Spec.to_json()``, which orbax calls for every array, 0.2 kB each time (0.17 MiB a checkpoint of this model).
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import tyro

from experiments import command_line
from experiments.errors import Interrupted, UserError
from experiments.runs.metrics import read_metrics
from experiments.train import train
from tests.runs import config_of

MEBIBYTE = 2**20
GROWTH = 20.0
"""MiB an hour that count as flat: what the allocator keeps of many sizes."""
SLOWER = 1.25
"""Seconds a step in the last quarter, of those in the first."""


@dataclass(frozen=True)
class Arguments:
    minutes: float = 30.0
    """How long."""
    out: Path | None = None
    """Run directory; a temporary one by default."""


class Observer(threading.Thread):
    """Notes every few seconds: time, resident MiB, open files, threads, compilations so far.

    ``counted`` is the number of the first row that counts: a tenth of the time is over and an evaluation is written.
    """

    def __init__(self, minutes: float, metrics: Path):
        super().__init__(daemon=True)
        self._seconds, self._metrics, self._compilations = 60 * minutes, metrics, 0
        self.rows, self.counted = [], None
        jax.monitoring.register_event_duration_secs_listener(self._event)

    def _event(self, name: str, seconds: float, **_) -> None:
        self._compilations += name.endswith("backend_compile_duration")

    def run(self) -> None:
        begin = time.monotonic()
        while (passed := time.monotonic() - begin) < self._seconds:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            files = len(os.listdir("/proc/self/fd"))
            memory = pages * os.sysconf("SC_PAGE_SIZE") / MEBIBYTE
            self.rows.append((passed, memory, files, threading.active_count(), self._compilations))
            if self.counted is None and passed > self._seconds / 10 and self._evaluated():
                self.counted = len(self.rows)
            time.sleep(5)
        os.kill(os.getpid(), 15)

    def _evaluated(self) -> bool:
        return self._metrics.exists() and '"validation"' in self._metrics.read_text()


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m tests.faults.soak", description=__doc__)
    )
    run_dir = options.out or Path(tempfile.mkdtemp()) / "soak"
    config = config_of(
        "digits",
        model={"features": 4, "blocks": 1},
        training={"batch_size": 32, "steps": 10**9, "eval_every": 2000, "measure_batches": 5},
    )
    observer = Observer(options.minutes, run_dir / "metrics.jsonl")
    observer.start()
    try:
        train(config, run_dir)
    except Interrupted as stopped:
        print(stopped)
    if observer.counted is None:
        raise UserError(f"no evaluation came within {options.minutes:g} minutes: give --minutes more")
    np.savetxt(run_dir / "soak.txt", observer.rows, "%.1f", header="seconds memory files threads compilations")
    found = np.array(observer.rows)[observer.counted :]
    hours, memory, files, threads, compilations = found[:, 0] / 3600, *found[:, 1:].T
    slope = float(np.polyfit(hours, memory, 1)[0])
    lines = [line for line in read_metrics(run_dir) if line["split"] == "validation"]
    seconds = np.diff([line["training_seconds"] for line in lines])[1:]
    quarter = max(1, len(seconds) // 4)
    slower = float(np.median(seconds[-quarter:]) / np.median(seconds[:quarter]))
    print(
        f"memory {memory[0]:.0f} to {memory[-1]:.0f} MiB, {slope:+.1f} MiB an hour; open files {files.min():.0f} to "
        f"{files.max():.0f}; threads {threads.min():.0f} to {threads.max():.0f}; seconds a step, last quarter to first "
        f"{slower:.2f}; compilations {compilations[0]:.0f} to {compilations[-1]:.0f}"
    )
    wrong = {
        "memory grows": slope > GROWTH,
        "steps slow down": slower > SLOWER,
        "open files pile up": files[-quarter:].max() > files[:quarter].max() + 5,
        "threads pile up": threads[-quarter:].max() > threads[:quarter].max() + 5,
        "something is compiled again": compilations[-1] > compilations[0],
    }
    if any(wrong.values()):
        raise UserError("; ".join(name for name, is_so in wrong.items() if is_so) + f"; the run is in {run_dir}")
    print(f"soak: {options.minutes:g} minutes, {lines[-1]['step']} steps, all flat; the run is in {run_dir}")


if __name__ == "__main__":
    command_line.run(main, sys.argv[1:])

"""What a person sees of a run while it goes on: a bar in a terminal, plain lines in a log file."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.config import Config
from experiments.terminal import console

SECONDS_BETWEEN_LINES = 30
"""At least so often something is printed where the output is not a terminal."""


class TrainingProgress:
    """Shows the loss and examples/s of a run; use it with ``with``. It also keeps the run's clock."""

    def __init__(
        self, config: Config, first_step: int, run_dir: Path, seconds_before: float = 0.0, quiet: bool = False
    ):
        self._console = console(soft_wrap=True, quiet=quiet)
        self._config, self._first_step, self._step = config, first_step, first_step
        self._started = self._last_line = time.monotonic()
        self._clock_start: float | None = None  # after the first step, which compiles
        self._clock_step = first_step
        self._outside = self._outside_before = self._waited = 0.0
        self._seconds_before = seconds_before
        self._has_evaluated = False
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("compiling", total=config.training.steps, completed=first_step)
        begin = f"going on from step {first_step}" if first_step else "starting"
        rest = "nothing left to train" if first_step == config.training.steps else "the first step compiles ..."
        self.say(f"{config.name}: {begin}, to step {config.training.steps}, in {run_dir}; {rest}")

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(self, *error) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        self._console.print(line, highlight=False, markup=False)
        self._last_line = time.monotonic()

    def examples_per_second(self) -> float:
        """Over this start of the run, without the first step and without evaluations. NaN before the second step."""
        if self._clock_start is None or self._step == self._clock_step:
            return float("nan")
        return (self._step - self._clock_step) * self._config.training.batch_size / self._seconds()

    def training_seconds(self) -> float:
        """Over all starts of the run, compilation included, evaluations left out."""
        return self._seconds_before + time.monotonic() - self._started - self._outside

    def trained(self, step: int, score: float) -> None:
        """Tell that ``step`` is done; ``score`` is its loss in the unit of the data."""
        self._step = step
        if self._clock_start is None:
            self._clock_start, self._clock_step = time.monotonic(), step
            self._waited, self._outside_before = 0.0, self._outside
            self._last_line = time.monotonic()
            return
        rate = self.examples_per_second()
        said = f"{score:.3f} {self._config.data.said_unit}, {rate:.0f} examples/s"
        self._bar.update(self._task, completed=step, description=said)
        if not self._console.is_terminal and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self.say(f"step {step}: train {said}")

    @contextlib.contextmanager
    def waiting(self):
        """While the next batch is fetched."""
        start = time.monotonic()
        yield
        self._waited += time.monotonic() - start

    def waiting_for_data(self) -> float:
        """The share of training time that went into fetching batches, without the first step and evaluations."""
        if self._clock_start is None or self._step == self._clock_step:
            return float("nan")
        return self._waited / self._seconds()

    def _seconds(self) -> float:
        """Since the clock started, without evaluations."""
        return time.monotonic() - self._clock_start - (self._outside - self._outside_before)

    @contextlib.contextmanager
    def paused(self):
        """Stop the clock of examples per second for an evaluation."""
        start = time.monotonic()
        if not self._has_evaluated:
            self.say(f"step {self._step}: the first evaluation compiles ...")
        self._has_evaluated = True
        yield
        self._outside += time.monotonic() - start

    def evaluated(self, step: int, held_out: dict[str, float]) -> None:
        data = self._config.data
        self.say(
            f"step {step}: validation {held_out[data.unit]:.4f} {data.said_unit}, round-trip error "
            f"{held_out['round_trip_error']:.1e}, train/eval gap {held_out['train_eval_gap']:+.4f}, "
            f"{self.examples_per_second():.0f} examples/s"
        )

    def summary(self) -> str:
        seconds = time.monotonic() - self._started
        if self._step == self._first_step:
            return "nothing left to train"
        rate = f"{self.examples_per_second():.0f} examples/s without compilation and evaluations"
        return f"{self._step - self._first_step} steps in {seconds:.0f} s, {rate}"

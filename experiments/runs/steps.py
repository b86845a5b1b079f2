"""The steps of a run, with evaluations between them, from where it starts to its end or to a signal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax

from experiments.config import Config
from experiments.data.batches import training_batches
from experiments.data.data import Example
from experiments.errors import Interrupted
from experiments.machine import pod
from experiments.runs.health import Health
from experiments.runs.interruption import Interruption
from experiments.runs.metrics import MetricsLog, NoLog
from experiments.runs.opening import position, run_key
from experiments.runs.progress import TrainingProgress
from experiments.runs.validation import Validation
from nvpjax.parallel import shard, unreplicate
from nvpjax.training import TrainState


@dataclass
class Steps:
    """Call ``go`` once; all that it needs is made before."""

    config: Config
    train_step: Callable
    validation: Validation
    health: Health
    progress: TrainingProgress
    log: MetricsLog | NoLog
    interruption: Interruption
    watch: pod.Watch | None

    def go(self, first_step: int, train_state: TrainState, owed: bool, train_examples: Sequence[Example]) -> None:
        """Train up to the last step; ``owed``: the evaluation of ``first_step`` comes first.

        A signal ends it after the step or evaluation that is under way, with a checkpoint.
        """
        config, key = self.config, run_key(self.config)
        batches = training_batches(train_examples, config, first_step)
        step, evaluated = first_step, not owed
        if self.watch:
            self.watch.begin(first_step)
        try:
            with self.progress:
                if owed:
                    train_state, evaluated = self._evaluated(step, train_state), True
                for step in range(first_step + 1, config.training.steps + 1):
                    with self.progress.waiting():
                        batch = shard(next(batches), jax.local_device_count())
                    train_state, metrics = self.train_step(train_state, key, batch)
                    self._tell(step, metrics, is_first=step == first_step + 1)
                    evaluated = not self._due(step)
                    if not evaluated:
                        self.health.look()
                        train_state, evaluated = self._evaluated(step, train_state), True
                    self.interruption.check()
                    if self.watch:
                        self.watch.step(step)
        except Interrupted as interrupted:
            self.health.look()
            checkpoints = self.validation.checkpoints
            if checkpoints.latest_step() != step:
                checkpoints.save(step, unreplicate(train_state), position(config, step, evaluated), None)
            checkpoints.wait()
            raise stopped(interrupted, config, step, self.validation.run_dir) from None

    def _due(self, step: int) -> bool:
        """Whether an evaluation comes after this step."""
        return step % self.config.training.eval_every == 0 or step == self.config.training.steps

    def _evaluated(self, step: int, train_state: TrainState) -> TrainState:
        pod.no_step_due(self.watch)
        return self.validation(step, train_state, position(self.config, step))

    def _tell(self, step: int, metrics: dict, is_first: bool) -> None:
        """A step's numbers, to those who look at them."""
        self.health.after(step, metrics)
        if not (is_first or self._due(step) or step % self.config.training.log_every == 0):
            return
        data = self.config.data
        values = {name: float(value) for name, value in unreplicate(metrics).items()}
        score = values.pop("nats") / data.nats_per_unit
        self.health.loss(step, score)
        self.progress.trained(step, score)
        if not is_first:  # it has compiled
            values["examples_per_second"] = self.progress.examples_per_second()
            values["waiting_for_data"] = self.progress.waiting_for_data()
        values["training_seconds"] = self.progress.training_seconds()  # of runs that a signal ends, too
        self.log.write(step, "train", **{data.unit: score}, **values)


def stopped(interrupted: Interrupted, config: Config, step: int, run_dir: Path) -> Interrupted:
    """What a signal ends in: a line that says where."""
    line = (
        f"{config.name}: stopped by a signal after step {step} of {config.training.steps}, with a checkpoint in "
        f"{run_dir}; the same command goes on from there"
    )
    return Interrupted(interrupted.number, line)

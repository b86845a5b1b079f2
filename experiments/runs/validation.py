"""What a run does every ``eval_every`` steps: moments measured anew, validation examples, samples, a checkpoint."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jax
import numpy as np

from experiments.config import Config
from experiments.data.batches import training_batches
from experiments.data.data import Example
from experiments.machine import pod
from experiments.runs.build import build_measure_step
from experiments.runs.checkpoints import Checkpoints, Position
from experiments.runs.evaluation import Evaluators, evaluate_examples, measure_anew
from experiments.runs.interruption import Interruption
from experiments.runs.metrics import MetricsLog, NoLog
from experiments.runs.progress import TrainingProgress
from experiments.runs.trained import density_of
from experiments.sample import draws_of, make_sampler
from nvpjax.parallel import parallel_eval_step, unreplicate
from nvpjax.training import TrainState


@dataclass(frozen=True)
class Validation:
    """Call it at each step where an evaluation is due; it compiles once. In a pod all processes call it."""

    config: Config
    run_dir: Path
    key: jax.Array
    train_examples: Sequence[Example]
    validation_examples: Sequence[Example]
    evaluators: Evaluators
    checkpoints: Checkpoints
    log: MetricsLog | NoLog
    progress: TrainingProgress
    interruption: Interruption

    def __call__(self, step: int, train_state: TrainState, position: Position) -> TrainState:
        """Evaluate, draw and save; give the train state with moments measured anew, as it is saved."""
        config, data, watched = self.config, self.config.data, self.interruption.between
        seconds = self.progress.training_seconds()
        with self.progress.paused():
            train_state, nats = self._measured_anew(step, train_state)
            held_out = evaluate_examples(
                self.evaluators,
                train_state,
                self.validation_examples,
                data,
                config.training.batch_size,
                progress=watched,
            )
            host_state = unreplicate(train_state)
            if pod.is_first():
                self._draw_samples(step, host_state)
            measured = {f"training_{data.unit}": nats / data.nats_per_unit} if config.training.measure_batches else {}
            self.log.write(step, "validation", **held_out, **measured, training_seconds=seconds)
            self.checkpoints.save(step, host_state, position, held_out[data.unit])
        self.progress.evaluated(step, held_out)
        return train_state

    def _measured_anew(self, step: int, train_state: TrainState) -> tuple[TrainState, float]:
        """With moments of the parameters, and of their averages where they are kept; the nats of what is evaluated."""
        noise = jax.random.fold_in(self.key, step)

        def measured(params, state):
            batches = training_batches(self.train_examples, self.config, step)
            ahead = itertools.islice(batches, self.config.training.measure_batches)
            return measure_anew(self._measure_step, params, state, noise, self.interruption.between(ahead))

        state, nats = measured(train_state.params, train_state.state)
        train_state = train_state._replace(state=state)
        if train_state.averages is not None:
            state, nats = measured(*train_state.averages)
            train_state = train_state._replace(averages=train_state.averages._replace(state=state))
        return train_state, nats

    def _draw_samples(self, step: int, train_state: TrainState) -> None:
        config = self.config
        key, density = jax.random.key(config.training.seed), density_of(config, train_state)
        draws, path = self._draws, self.run_dir / f"samples_{step:06d}.png"
        x = np.asarray(self._sampler(key, density, config.data.as_given(draws.context), 1.0))
        lost = np.mean(np.isnan(x.reshape(len(x), -1)).any(axis=1))
        if lost:
            self.progress.say(f"step {step}: {lost:.0%} of the samples drawn hold values that are no numbers")
        title = f"{config.name}: samples at step {step}"
        config.data.draw(path, x, title, draws.row_titles, draws.context)

    @cached_property
    def _measure_step(self):
        return parallel_eval_step(build_measure_step(self.config))

    @cached_property
    def _draws(self):
        return draws_of(self.config)

    @cached_property
    def _sampler(self):
        return make_sampler(self._draws.number)

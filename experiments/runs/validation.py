"""What a run does every ``eval_every`` steps: moments measured anew, validation images, samples, a checkpoint."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jax
import numpy as np

from experiments.data.images import training_batches
from experiments.machine import pod
from experiments.pictures.grids import save_grid, to_pixels
from experiments.runs.build import build_measure_step
from experiments.runs.checkpoints import Checkpoints, Position
from experiments.runs.config import Config
from experiments.runs.evaluation import Evaluators, evaluate_images, measure_anew
from experiments.runs.interruption import Interruption
from experiments.runs.metrics import MetricsLog, NoLog
from experiments.runs.progress import TrainingProgress
from experiments.sample import make_sampler
from nvpjax.parallel import parallel_measure_step, unreplicate
from nvpjax.training import TrainState

SAMPLES = 64
"""Images in the sample grids of a run."""


@dataclass(frozen=True)
class Validation:
    """Call it at each step where an evaluation is due; it compiles once. In a pod all processes call it."""

    config: Config
    run_dir: Path
    key: jax.Array
    train_images: Sequence[np.ndarray]
    validation_images: Sequence[np.ndarray]
    evaluators: Evaluators
    checkpoints: Checkpoints
    log: MetricsLog | NoLog
    progress: TrainingProgress
    interruption: Interruption

    def __call__(self, step: int, train_state: TrainState, position: Position) -> TrainState:
        """Evaluate, draw and save; give the train state with moments measured anew, as it is saved."""
        config, watched = self.config, self.interruption.between
        seconds = self.progress.training_seconds()
        with self.progress.paused():
            ahead = itertools.islice(training_batches(self.train_images, config, step), config.measure_batches)
            noise = jax.random.fold_in(self.key, step)
            train_state, bits = measure_anew(self._measure_step, train_state, noise, watched(ahead))
            held_out = evaluate_images(
                self.evaluators, train_state, self.validation_images, config.batch_size, progress=watched
            )
            host_state = unreplicate(train_state)
            if pod.is_first():
                self._draw_samples(step, host_state)
            self.log.write(step, "validation", **held_out, training_bits_per_dim=bits, training_seconds=seconds)
            self.checkpoints.save(step, host_state, position, held_out["bits_per_dim"])
        self.progress.evaluated(step, held_out)
        return train_state

    def _draw_samples(self, step: int, train_state: TrainState) -> None:
        config = self.config
        x = self._sampler(jax.random.key(config.seed), train_state.params, train_state.state, 1.0)
        pixels, _ = to_pixels(np.asarray(x), config.levels)
        path = self.run_dir / f"samples_{step:06d}.png"
        save_grid(path, pixels, config.levels, title=f"{config.name}: samples at step {step}")

    @cached_property
    def _measure_step(self):
        return parallel_measure_step(build_measure_step(self.config))

    @cached_property
    def _sampler(self):
        return make_sampler(self.config, SAMPLES)

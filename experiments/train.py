"""Train a flow on images, data-parallel over the local devices.

Usage: python -m experiments.train CONFIG [--run-dir DIR] [--steps N] [--batch-size N] [--seed N] [--data-dir DIR] [...]

A run directory that holds checkpoints of this run is taken up where it stopped. What a run leaves there: config.json,
starts.jsonl (code, packages, machine and command of each start), metrics.jsonl, TensorBoard events, checkpoints/,
samples_STEP.png.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import tyro

from experiments import command_line
from experiments.build import build_measure_step, build_train_state, build_train_step, train_state_like
from experiments.checkpoints import Checkpoints
from experiments.command_line import UserError
from experiments.config import Config, check_run_directory, open_run_directory
from experiments.configs import all_configs
from experiments.data import load_images, training_batches
from experiments.evaluation import check_devices, evaluate_images, make_evaluators, measure_anew
from experiments.metrics import MetricsLog, training_seconds
from experiments.pictures import save_grid, to_pixels
from experiments.progress import TrainingProgress
from experiments.provenance import write_start
from experiments.sample import make_sampler
from nvpjax.parallel import parallel_measure_step, parallel_train_step, replicate, shard, unreplicate

SAMPLES = 64
"""Images in the sample grids of a run."""


@dataclass(frozen=True)
class Arguments:
    config: tyro.conf.OmitArgPrefixes[Config]
    run_dir: Path | None = None
    """Where the run is kept; runs/CONFIG by default. One that holds this run's checkpoints is resumed."""


def train(config: Config, run_dir: Path) -> str:
    """Train, and give the line that says what came out and where."""
    # ------------------------------------------------------------------ data and run directory
    devices = jax.local_device_count()
    check_devices(config.batch_size)
    check_run_directory(config, run_dir)
    train_images, validation_images = load_images(config, "train", for_training=True), load_images(config, "validation")
    open_run_directory(config, run_dir)

    with Checkpoints(run_dir) as checkpoints:
        # -------------------------------------------------------------- model: anew, or from the latest checkpoint
        first_step = checkpoints.latest_step() or 0
        progress = TrainingProgress(config, first_step, run_dir, training_seconds(run_dir, first_step))
        write_start(run_dir, first_step)
        if first_step:
            train_state = checkpoints.restore(first_step, train_state_like(config))
        else:
            train_state = build_train_state(config)
        train_state = replicate(train_state)
        key = jax.random.key(config.seed)  # with the step number it gives the noise of every step

        train_step = parallel_train_step(build_train_step(config))
        measure_step = parallel_measure_step(build_measure_step(config))
        evaluators = make_evaluators(config)
        sampler = make_sampler(config, SAMPLES)
        batches = training_batches(train_images, config, first_step)

        # -------------------------------------------------------------- steps
        with MetricsLog(run_dir, first_step) as log, progress:
            for step in range(first_step + 1, config.steps + 1):
                train_state, metrics = train_step(train_state, key, shard(next(batches), devices))

                if step % config.log_every == 0 or step == config.steps or step == first_step + 1:
                    values = {name: float(value) for name, value in unreplicate(metrics).items()}
                    if not all(math.isfinite(value) for value in values.values()):
                        raise UserError(
                            f"training diverged: {values} at step {step}; what was saved up to step "
                            f"{checkpoints.latest_step() or 0} is kept in {run_dir}; use a lower --learning-rate "
                            "with a new --run-dir"
                        )
                    progress.trained(step, values["bits_per_dim"])
                    if step > first_step + 1:  # the first one has compiled
                        values["images_per_second"] = progress.images_per_second()
                    log.write(step, "train", **values)

                if step % config.eval_every == 0 or step == config.steps:
                    seconds = progress.training_seconds()
                    with progress.paused():
                        ahead = itertools.islice(training_batches(train_images, config, step), config.measure_batches)
                        noise = jax.random.fold_in(key, step)
                        train_state, bits = measure_anew(measure_step, train_state, noise, ahead)
                        held_out = evaluate_images(evaluators, train_state, validation_images, config.batch_size)
                        host_state = unreplicate(train_state)
                        x = sampler(jax.random.key(config.seed), host_state.params, host_state.state, 1.0)
                        pixels, _ = to_pixels(np.asarray(x), config.levels)
                        title = f"{config.name}: samples at step {step}"
                        save_grid(run_dir / f"samples_{step:06d}.png", pixels, config.levels, title=title)
                        at_once = {"training_bits_per_dim": bits, "training_seconds": seconds}
                        log.write(step, "validation", **held_out, **at_once)
                        checkpoints.save(step, host_state, held_out["bits_per_dim"])
                    progress.evaluated(step, held_out)

        # -------------------------------------------------------------- the test images, once, with the best checkpoint
        checkpoints.wait()
        best_step = checkpoints.best_step()
        if best_step is None:
            raise UserError(f"nothing trained: --steps {config.steps}; ask for at least 1")
        best = replicate(checkpoints.restore(best_step, train_state_like(config)))
        result = evaluate_images(evaluators, best, load_images(config, "test"), config.batch_size)
    return (
        f"{config.name}: test {result['bits_per_dim']:.4f} ± {result['standard_error']:.4f} bits/dim on "
        f"{result['images']} images, from step {best_step} (best on validation images, of {config.steps}); "
        f"{progress.summary()}; round-trip error {result['round_trip_error']:.1e}, train/eval gap "
        f"{result['train_eval_gap']:+.4f}; samples, metrics and checkpoints in {run_dir}"
    )


def main(arguments: Sequence[str]) -> None:
    configs = {name: (summary, Arguments(config)) for name, (summary, config) in all_configs().items()}
    options = command_line.parse(
        lambda: tyro.extras.overridable_config_cli(
            configs, args=arguments, prog="python -m experiments.train", description=__doc__
        )
    )
    print(train(options.config, options.run_dir or Path("runs") / options.config.name))


if __name__ == "__main__":
    command_line.run(main)

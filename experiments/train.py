"""Train a flow on images, data-parallel over the devices of this machine or of a pod.

Usage: python -m experiments.train CONFIG [--run-dir DIR] [--steps N] [--batch-size N] [--seed N] [--data-dir DIR] [...]

A run directory that holds checkpoints of this run is taken up where it stopped, on as many devices as there are now.
What a run leaves there: config.json, starts.jsonl (code, packages, machine and command of each start), metrics.jsonl,
TensorBoard events, checkpoints/, samples_STEP.png.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import tyro

from experiments import command_line
from experiments.configs import all_configs
from experiments.data.images import load_images, training_batches
from experiments.errors import Interrupted, UserError
from experiments.machine import pod
from experiments.machine.pod import Multihost
from experiments.runs.build import build_train_state, build_train_step, train_state_like
from experiments.runs.checkpoints import Checkpoints, Position
from experiments.runs.config import Config, check_run_directory, open_run_directory
from experiments.runs.evaluation import check_devices, evaluate_images, make_evaluators
from experiments.runs.health import Health
from experiments.runs.interruption import Interruption
from experiments.runs.metrics import MetricsLog, NoLog, training_seconds
from experiments.runs.progress import TrainingProgress
from experiments.runs.provenance import write_start
from experiments.runs.run_lock import locked
from experiments.runs.validation import Validation
from nvpjax.parallel import parallel_train_step, replicate, shard, unreplicate


@dataclass(frozen=True)
class Arguments:
    config: tyro.conf.OmitArgPrefixes[Config]
    run_dir: Path | None = None
    """Where the run is kept; runs/CONFIG by default. One that holds this run's checkpoints is resumed."""
    pod: tyro.conf.OmitArgPrefixes[Multihost] = Multihost()
    keep: int = 2
    """Latest checkpoints that are kept, beside the best."""
    max_skipped: int = 10
    """Steps in a row with a loss or gradients that are not finite; one more ends the run."""

    def __post_init__(self):
        if self.keep < 1 or self.max_skipped < 0:
            raise UserError(f"expected --keep >= 1 and --max-skipped >= 0, got {self.keep} and {self.max_skipped}")


def train(
    config: Config, run_dir: Path, *, keep: int = 2, max_skipped: int = 10, watch: pod.Watch | None = None
) -> str:
    """Train, and give the line that says what came out and where. SIGTERM and SIGINT raise ``Interrupted``.

    In a pod all processes call it, each with its ``watch``.
    """
    with contextlib.ExitStack() as stack:
        # -------------------------------------------------------------- data and run directory
        devices = jax.local_device_count()
        key = jax.random.key(config.seed)  # with the step number it gives the noise of every step
        check_devices(config.batch_size)
        check_run_directory(config, run_dir)
        with pod.first_process_before_others():  # it prepares the sets that are embedded
            train_images = load_images(config, "train", for_training=True)
            validation_images = load_images(config, "validation")
            if pod.is_first():
                stack.enter_context(locked(run_dir))
                check_run_directory(config, run_dir)  # again, now that no other program writes there
                if not (run_dir / "config.json").exists():
                    open_run_directory(config, run_dir)

        # -------------------------------------------------------------- model: anew, or from the latest checkpoint
        interruption = stack.enter_context(Interruption())
        checkpoints = stack.enter_context(Checkpoints(run_dir, keep, going_on=True))

        def position(step: int, evaluated: bool = True) -> Position:
            return Position(step * config.batch_size, jax.random.key_data(key).tolist(), evaluated)

        found = checkpoints.restore_latest(train_state_like(config))
        first_step, train_state, there = found or (0, build_train_state(config), position(0))
        if there._replace(evaluated=True) != position(first_step):
            raise UserError(
                f"the checkpoint of step {first_step} is of another run: {there}, not {position(first_step)}"
            )
        if config.steps < first_step:
            raise UserError(
                f"{run_dir} has trained {first_step} steps already: expected --steps {first_step} or more, got "
                f"{config.steps}"
            )
        if pod.is_first():
            open_run_directory(config, run_dir)  # what may change, such as the number of steps
        train_state = replicate(train_state)

        train_step, evaluators = parallel_train_step(build_train_step(config)), make_evaluators(config)
        batches = training_batches(train_images, config, first_step)

        # -------------------------------------------------------------- what people see
        seconds = training_seconds(run_dir, first_step)
        progress = TrainingProgress(config, first_step, run_dir, seconds, quiet=not pod.is_first())
        finished = first_step == config.steps
        due = not there.evaluated or (finished and first_step > 0 and not checkpoints.was_evaluated(first_step))
        log = stack.enter_context(MetricsLog(run_dir, first_step, again=due) if pod.is_first() else NoLog())
        health = Health(config, max_skipped, progress.say, log)
        if pod.is_first():
            write_start(run_dir, first_step)

        made = (checkpoints, log, progress, interruption)
        validation = Validation(config, run_dir, key, train_images, validation_images, evaluators, *made)

        # -------------------------------------------------------------- steps
        step = first_step
        if watch:
            watch.begin(first_step)
        try:
            with progress:
                if due:
                    pod.no_step_due(watch)
                    train_state = validation(step, train_state, position(step))
                for step in range(first_step + 1, config.steps + 1):
                    due = step % config.eval_every == 0 or step == config.steps
                    with progress.waiting():
                        batch = shard(next(batches), devices)
                    train_state, metrics = train_step(train_state, key, batch)
                    health.after(step, metrics)
                    if due or step % config.log_every == 0 or step == first_step + 1:
                        values = {name: float(value) for name, value in unreplicate(metrics).items()}
                        health.loss(step, **values)
                        progress.trained(step, values["bits_per_dim"])
                        if step > first_step + 1:  # the first one has compiled
                            values["images_per_second"] = progress.images_per_second()
                            values["waiting_for_data"] = progress.waiting_for_data()
                        log.write(step, "train", **values)
                    if due:
                        health.look()
                        pod.no_step_due(watch)
                        train_state = validation(step, train_state, position(step))
                    interruption.check()
                    if watch:
                        watch.step(step)
            checkpoints.wait()

            # ---------------------------------------------------------- the test images, once, with the best checkpoint
            best = checkpoints.restore_best(train_state_like(config))
            if best is None:
                raise UserError(f"nothing trained: --steps {config.steps}; ask for at least 1")
            best_step, best_state = best
            test_images = load_images(config, "test")
            pod.no_step_due(watch)
            result = evaluate_images(
                evaluators, replicate(best_state), test_images, config.batch_size, progress=interruption.between
            )
        except Interrupted as interrupted:
            health.look()
            if checkpoints.latest_step() != step:
                checkpoints.save(step, unreplicate(train_state), position(step, evaluated=not due), None)
            checkpoints.wait()
            raise Interrupted(
                interrupted.number,
                f"{config.name}: stopped by a signal after step {step} of {config.steps}, with a checkpoint in "
                f"{run_dir}; the same command goes on from there",
            ) from None
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
    config, run_dir = options.config, options.run_dir or Path("runs") / options.config.name
    check_run_directory(config, run_dir)  # before anything of a pod is written there
    with pod.joined(options.pod, run_dir) as watch:
        line = train(config, run_dir, keep=options.keep, max_skipped=options.max_skipped, watch=watch)
        if pod.is_first():
            print(line)


if __name__ == "__main__":
    command_line.run(main)

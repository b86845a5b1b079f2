"""How a run begins: its data and directory opened, its train state made anew or taken up from the latest checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from experiments.config import Config
from experiments.data.batches import training_batches
from experiments.data.data import Example
from experiments.errors import UserError
from experiments.machine import pod
from experiments.runs.build import build_train_state, expect_room, train_state_like
from experiments.runs.checkpoints import Checkpoints, Position
from experiments.runs.config_file import to_json
from experiments.runs.directory import check_run_directory, flattened, open_run_directory
from experiments.runs.evaluation import check_devices
from experiments.runs.provenance import surroundings
from experiments.runs.run_lock import locked
from nvpjax.training import TrainState


class Examples(NamedTuple):
    train: Sequence[Example]
    validation: Sequence[Example]


class Start(NamedTuple):
    """Where a run goes on."""

    step: int
    train_state: TrainState
    owed: bool
    """Whether the evaluation of that step was not made."""


def run_key(config: Config) -> jax.Array:
    """With the step number it gives the noise of every step."""
    return jax.random.key(config.training.seed)


def position(config: Config, step: int, evaluated: bool = True) -> Position:
    return Position(step * config.training.batch_size, jax.random.key_data(run_key(config)).tolist(), evaluated)


def open_run(config: Config, run_dir: Path, stack: contextlib.ExitStack) -> Examples:
    """Read the data, and hold the run directory until ``stack`` ends. In a pod all processes call it."""
    pod.expect_same(**_of_this_process(config))
    check_devices(config.training.batch_size)
    check_run_directory(config, run_dir)
    with pod.first_process_before_others():  # it prepares the sets that are embedded
        examples = Examples(config.data.examples("train", for_training=True), config.data.examples("validation"))
        if pod.is_first():
            stack.enter_context(locked(run_dir))
            check_run_directory(config, run_dir)  # again, now that no other program writes there
            if not (run_dir / "config.json").exists():
                open_run_directory(config, run_dir)
    if pod.is_one_of_many():
        version, fingerprint = config.data.version()
        pod.expect_same(**{"version of the data": version, "fingerprint of the data": fingerprint})
    return examples


def _of_this_process(config: Config) -> dict[str, str | int]:
    """What all processes of a pod are to have in common. Where data lie may differ; what they hold is compared too."""
    of_config = {f"config's {name}": str(value) for name, value in flattened(to_json(config)).items()}
    for place in ("data_dir", "path"):
        of_config.pop(f"config's data.{place}", None)
    here = surroundings()
    return {
        "JAX version": here["packages"]["jax"],
        "code": here["git_revision"],
        "devices": jax.local_device_count(),
        **of_config,
    }


def start_of(config: Config, run_dir: Path, checkpoints: Checkpoints, examples: Examples) -> Start:
    """Take the run up from its latest checkpoint, or begin it; then its directory holds this config."""
    like = train_state_like(config)
    expect_room(config, like)
    found = checkpoints.restore_latest(like)
    if found is None:
        first_batch = next(training_batches(examples.train, config))
        found = 0, build_train_state(config, first_batch), position(config, 0)
    step, train_state, there = found
    if there._replace(evaluated=True) != position(config, step):
        raise UserError(f"the checkpoint of step {step} is of another run: {there}, not {position(config, step)}")
    steps = config.training.steps
    if steps < step:
        raise UserError(f"{run_dir} has trained {step} steps already: expected --steps {step} or more, got {steps}")
    if pod.is_first():
        open_run_directory(config, run_dir)  # what may change, such as the number of steps
    # A longer run that is shortened to the step of its last checkpoint ends there, evaluated.
    never = step == steps and step > 0 and not checkpoints.was_evaluated(step)
    return Start(step, train_state, owed=not there.evaluated or never)

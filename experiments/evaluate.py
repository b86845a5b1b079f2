"""Evaluate a run: bits/dim and round-trip error on images that it was not trained on.

Usage: python -m experiments.evaluate RUN_DIR [--split test] [--json]
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import tyro
from rich.progress import track

from experiments import command_line
from experiments.build import build_flow, train_state_like
from experiments.checkpoints import Checkpoints
from experiments.command_line import UserError
from experiments.config import Config, read_config
from experiments.data import load_images
from nvpjax.parallel import parallel_eval_step, replicate, shard
from nvpjax.training import TrainState, make_eval_step, make_train_mode_bits

NOISE_SEED = 2_718
"""Of the dequantisation noise in evaluation: the same for every run, so that numbers compare."""


@dataclass(frozen=True)
class Arguments:
    run_dir: tyro.conf.Positional[Path]
    """Directory that train wrote."""
    split: Literal["test", "validation", "train"] = "test"
    """Images to evaluate on."""
    checkpoint: Literal["best", "latest"] = "best"
    """Lowest validation bits/dim, or the last step."""
    batch_size: int | None = None
    """Images at a time; the training batch size by default. It does not change the result."""
    data_dir: Path | None = None
    """Where prepared data sets lie; as in training by default."""
    json: bool = False
    """Print one JSON object instead of a sentence."""


def make_evaluators(config: Config) -> tuple[Callable, Callable]:
    """Compile the two evaluations of ``evaluate_images`` for all local devices."""
    flow = build_flow(config)
    return (
        parallel_eval_step(make_eval_step(flow, levels=config.levels)),
        parallel_eval_step(make_train_mode_bits(flow, levels=config.levels)),
    )


def evaluate_images(
    evaluators: tuple[Callable, Callable],
    train_state: TrainState,
    images: Sequence[np.ndarray],
    batch_size: int,
    progress: Callable = lambda batches: batches,
) -> dict[str, float]:
    """Evaluate replicated parameters on ``images``, each counted exactly once.

    Gives ``bits_per_dim`` (mean over images) and its standard error over images, ``round_trip_error`` (the worst image)
    and ``train_eval_gap``: bits/dim with the batch's own statistics minus bits/dim with running averages, both on the
    first full batch (as many images as the devices divide evenly, where the set is smaller).
    """
    evaluate, train_mode = evaluators
    key = jax.random.key(NOISE_SEED)
    devices = jax.local_device_count()
    variables = (train_state.params, train_state.state)
    per_image: dict[str, list[np.ndarray]] = {"bits_per_dim": [], "round_trip_error": []}
    for start in progress(range(0, len(images), batch_size)):
        indices = np.arange(start, min(start + batch_size, len(images)))
        padded = np.resize(indices, batch_size)  # the last batch is filled up; what is filled in is dropped below
        batch = np.stack([images[index] for index in padded])
        metrics = evaluate(*variables, key, shard(batch, devices), shard(padded, devices))
        for name, values in per_image.items():
            values.append(np.asarray(metrics[name], np.float64).reshape(-1)[: len(indices)])
    bits, errors = (np.concatenate(values) for values in per_image.values())

    number = min(batch_size, len(images)) // devices * devices
    gap = math.nan
    if number >= 2 * devices:
        batch = np.stack([images[index] for index in range(number)])
        with_batch = train_mode(*variables, key, shard(batch, devices), shard(np.arange(number), devices))
        gap = float(np.mean(np.asarray(with_batch, np.float64)) - np.mean(bits[:number]))
    return {
        "bits_per_dim": float(np.mean(bits)),
        "standard_error": float(np.std(bits, ddof=1) / math.sqrt(len(bits))) if len(bits) > 1 else math.nan,
        "round_trip_error": float(np.max(errors)),
        "train_eval_gap": gap,
        "images": len(bits),
    }


def check_devices(batch_size: int) -> None:
    devices = jax.local_device_count()
    if batch_size < 1 or batch_size % devices:
        raise UserError(f"--batch-size {batch_size} is not a positive multiple of the {devices} local devices")


def restore_run(run_dir: Path, checkpoint: str) -> tuple[Config, int, TrainState]:
    """Read a run directory: its config, the step of its "best" or "latest" checkpoint, and the train state there."""
    config = read_config(run_dir)
    with Checkpoints(run_dir) as checkpoints:
        step = checkpoints.best_step() if checkpoint == "best" else checkpoints.latest_step()
        if step is None:
            raise UserError(f"{run_dir} holds no checkpoint yet: train for at least {config.eval_every} steps")
        return config, step, checkpoints.restore(step, train_state_like(config))


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.evaluate", description=__doc__)
    )
    config, step, train_state = restore_run(options.run_dir, options.checkpoint)
    if options.data_dir is not None:
        config = dataclasses.replace(config, data_dir=options.data_dir)
    batch_size = options.batch_size or config.batch_size
    check_devices(batch_size)
    images = load_images(config, options.split)
    result = evaluate_images(
        make_evaluators(config),
        replicate(train_state),
        images,
        batch_size,
        progress=lambda batches: track(batches, f"{options.split} images", disable=options.json, transient=True),
    )
    if options.json:
        print(json.dumps({"config": config.name, "split": options.split, "step": step, **result}))
        return
    print(
        f"{config.name}: {options.split} {result['bits_per_dim']:.4f} ± {result['standard_error']:.4f} bits/dim on "
        f"{result['images']} images, step {step} ({options.checkpoint}), round-trip error "
        f"{result['round_trip_error']:.1e}, train/eval gap {result['train_eval_gap']:+.4f}, from {options.run_dir}"
    )


if __name__ == "__main__":
    command_line.run(main)

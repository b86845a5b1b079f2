"""Train configs within so many minutes each, on a machine that is lent, and pack what is worth bringing home.

Usage: python -m experiments.within OUT --configs cifar10 cifar10_fast --minutes 20 5 [--data-dir DIR] [--options ...]
       python -m experiments.within OUT --unpack cifar10 --run-dir DIR

Of each config a step is timed first, and as many are trained as the minutes allow, along the whole of the learning
rate's cosine. Then the test images are evaluated, and OUT/CONFIG holds record.json (as the ledger has them),
metrics.jsonl, samples.png and parameters_NN.npz, no file above --part megabytes. On an accelerator OUT holds the table
of ``experiments.bench.accelerator`` too. --unpack makes a run directory of what was brought home, for evaluate, sample
and the others.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
import tyro

from experiments import command_line
from experiments.bench import accelerator
from experiments.bench.batches import random_batch
from experiments.config import Config, with_data_dir
from experiments.configs import all_configs
from experiments.errors import UserError
from experiments.evaluate import main as evaluate
from experiments.runs.build import build_train_state, build_train_step, train_state_like
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.config_file import from_json, read_config, to_json
from experiments.runs.directory import open_run_directory
from experiments.runs.files import write_atomically
from experiments.runs.opening import position
from experiments.runs.trained import restore_run
from experiments.sample import main as sample
from experiments.train import train
from nvpjax.parallel import parallel_train_step, replicate, shard
from nvpjax.training import TrainState

SHARE = 0.9
"""Of the minutes that steps may take: the rest is for evaluations and what is written."""


@dataclass(frozen=True)
class Arguments:
    out: tyro.conf.Positional[Path]
    """Folder for what is brought home; runs themselves are kept in OUT/runs."""
    configs: tuple[str, ...] = ("cifar10",)
    """Configs to train, one after the other."""
    minutes: tuple[float, ...] = (20.0,)
    """Of each, compilation included."""
    data_dir: Path | None = None
    """Where prepared data sets lie; as in training by default."""
    draws: int = 5
    """Draws of noise a test image."""
    table_minutes: float = 5.0
    """For the accelerator's table; 0 leaves it out, and a machine without an accelerator has none."""
    part: float = 15.0
    """Megabytes of a file of parameters, at most."""
    unpack: str | None = None
    """Config whose parameters, in OUT, are put into a run directory; nothing is trained."""
    run_dir: Path | None = None
    """With --unpack: the run directory to make; runs/CONFIG_unpacked by default."""

    def __post_init__(self):
        unknown = sorted({*self.configs} - {*all_configs()})
        if unknown or len(self.configs) != len(self.minutes) or min(self.minutes) <= 0 or self.part <= 0:
            raise UserError(
                f"expected --configs among {', '.join(all_configs())} and as many --minutes above 0, got "
                f"{' '.join(self.configs)} and {' '.join(map(str, self.minutes))}, --part {self.part:g}"
            )


def fitted(config: Config, minutes: float) -> Config:
    """The config with as many steps as the minutes allow."""
    begin = time.monotonic()
    batch, key = random_batch(config), jax.random.key(0)
    held = replicate(build_train_state(config, batch, axis_name=None))
    step = parallel_train_step(build_train_step(config))
    shards, seconds = shard(batch, jax.local_device_count()), []
    while len(seconds) < 6:
        started = time.monotonic()
        held, _ = jax.block_until_ready(step(held, key, shards))
        seconds.append(time.monotonic() - started)
    left = SHARE * (60 * minutes - (time.monotonic() - begin)) - seconds[0]  # training compiles anew
    steps = max(1, int(left / np.median(seconds[1:])))
    print(
        f"{config.name}: {1000 * np.median(seconds[1:]):.0f} ms a step, {steps} steps in {minutes:g} minutes",
        flush=True,
    )
    warmup, every = min(config.training.warmup_steps, steps // 10), math.ceil(steps / 4)
    return replace(config, training=replace(config.training, steps=steps, warmup_steps=warmup, eval_every=every))


def pack(run_dir: Path, folder: Path, part: float) -> None:
    """Put the numbers, samples and parameters of a run into a folder, in files below ``part`` megabytes."""
    config, step, train_state = restore_run(run_dir, "best")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(run_dir / "evaluation_test.json", folder / "record.json")
    for name in ("metrics.jsonl", "samples.png"):
        shutil.copy(run_dir / name, folder / name)
    leaves = jax.tree.leaves(train_state.evaluated)
    parts: list[dict[str, np.ndarray]] = [{}]
    size = 0
    for number, leaf in enumerate(leaves):
        array = np.asarray(leaf)
        if size and size + array.nbytes > 1e6 * part:
            parts.append({})
            size = 0
        parts[-1][f"{number:05d}"] = array
        size += array.nbytes
    for number, arrays in enumerate(parts):
        np.savez(folder / f"parameters_{number:02d}.npz", **arrays)
    about = {"config": to_json(config), "step": step, "arrays": len(leaves)}
    write_atomically(folder / "run.json", json.dumps(about) + "\n")


def unpacked(folder: Path, run_dir: Path) -> str:
    """Make a run directory of a packed run: what was evaluated there, ready to be evaluated and sampled from here."""
    try:
        about = json.loads((folder / "run.json").read_text())
        arrays: dict[str, np.ndarray] = {}
        for path in sorted(folder.glob("parameters_*.npz")):
            with np.load(path) as held:
                arrays |= dict(held)
        score = json.loads((folder / "record.json").read_text())["result"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder} holds no packed run ({error})") from None
    config = from_json(about["config"])
    like = train_state_like(config)
    structure = jax.tree.structure(like.evaluated)
    names = [f"{number:05d}" for number in range(about["arrays"])]
    shapes = [leaf.shape for leaf in jax.tree.leaves(like.evaluated)]
    if [arrays[name].shape if name in arrays else None for name in names] != shapes:
        raise UserError(
            f"{folder}: expected {len(shapes)} arrays of the config's shapes: a file of parameters is missing"
        )
    params, state = jax.tree.unflatten(structure, [arrays[name] for name in names])
    empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    averages = None if like.averages is None else like.averages._replace(params=params, state=state)
    train_state: TrainState = empty._replace(params=params, state=state, averages=averages)
    if run_dir.exists():
        raise UserError(f"{run_dir} exists: choose another --run-dir")
    open_run_directory(config, run_dir)
    with Checkpoints(run_dir, config=about["config"]) as checkpoints:
        checkpoints.save(about["step"], train_state, position(config, about["step"]), score[config.data.unit])
    return f"{config.name}: {len(names)} arrays of step {about['step']} put into {run_dir}: evaluate and sample read it"


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.within", description=__doc__)
    )
    if options.unpack:
        print(unpacked(options.out / options.unpack, options.run_dir or Path("runs") / f"{options.unpack}_unpacked"))
        return
    for name, minutes in zip(options.configs, options.minutes, strict=True):
        run_dir = options.out / "runs" / name
        begun = (run_dir / "config.json").exists()  # and was interrupted: it goes on to the steps that it was given
        config = read_config(run_dir) if begun else all_configs()[name][1]
        config = with_data_dir(config, options.data_dir)
        config = config if begun else fitted(config, minutes)
        train(config, run_dir, test=False)
        evaluate([str(run_dir), "--draws", str(options.draws)])
        sample([str(run_dir)])
        pack(run_dir, options.out / name, options.part)
    if jax.default_backend() != "cpu" and options.table_minutes > 0:
        minutes = str(options.table_minutes)
        accelerator.main(["--config", options.configs[0], "--minutes", minutes, "--out", str(options.out)])
    print(f"{len(options.configs)} configs trained, evaluated and packed in {options.out}")


if __name__ == "__main__":
    command_line.run(main, training=True)

"""Whether steps wait for data: images/s of the input pipeline alone, of steps, and the share of time spent waiting.

Usage: python -m experiments.bench.input_pipeline [patches] [--batch-size 64] [--steps 20]

Both ways of reading are measured: from memory, where a set fits into it, and from the files, as a large set is read.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import tyro
from rich.progress import track

from experiments import command_line
from experiments.configs import all_configs
from experiments.data import images as data
from experiments.errors import UserError
from experiments.runs.build import build_train_state, build_train_step
from experiments.runs.config import Config
from nvpjax.parallel import parallel_train_step, replicate, shard


@dataclass(frozen=True)
class Arguments:
    config: tyro.conf.Positional[Literal[tuple(all_configs())]] = "patches"
    """Data set and model."""
    batch_size: int = 64
    """Images a step."""
    steps: int = 20
    """Steps, after the first, which compiles."""
    data_dir: Path = Path("data")
    """Where the data sets of tensorflow-datasets lie."""


def pipeline_alone(images, config: Config, steps: int) -> float:
    """Images/s of batches that nothing is done with."""
    batches = data.training_batches(images, config)
    next(batches)
    begin = time.perf_counter()
    for _ in itertools.islice(batches, steps):
        pass
    return steps * config.batch_size / (time.perf_counter() - begin)


def training(images, config: Config, steps: int, way: str) -> tuple[float, float]:
    """Images/s of training, and the share of its time in which it waits for the next batch."""
    step, train_state = parallel_train_step(build_train_step(config)), replicate(build_train_state(config))
    batches, key, waited = data.training_batches(images, config), jax.random.key(0), 0.0
    for number in track(range(steps + 1), f"steps, {way}", transient=True):
        if number == 1:  # the first has compiled
            begin, waited = time.perf_counter(), 0.0
        asked = time.perf_counter()
        batch = shard(next(batches), jax.local_device_count())
        waited += time.perf_counter() - asked
        train_state, _ = jax.block_until_ready(step(train_state, key, batch))
    seconds = time.perf_counter() - begin
    return steps * config.batch_size / seconds, waited / seconds


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(
            Arguments, args=arguments, prog="python -m experiments.bench.input_pipeline", description=__doc__
        )
    )
    if options.steps < 1:
        raise UserError(f"expected --steps of at least 1, got {options.steps}")
    config = dataclasses.replace(
        all_configs()[options.config][1], batch_size=options.batch_size, data_dir=options.data_dir
    )
    rows = []
    for way, bytes_in_memory in {"from memory": data.IN_MEMORY_BYTES, "from files": 0}.items():
        data.IN_MEMORY_BYTES = bytes_in_memory
        images = data.load_images(config, "train", for_training=True)
        alone = pipeline_alone(images, config, 10 * options.steps)
        rows.append((way, alone, *training(images, config, options.steps, way)))
    shape = "x".join(map(str, config.image_shape))
    print(f"\n| {options.config}, {shape}, batch {options.batch_size} | pipeline alone | training | waiting for data |")
    print("|---|---|---|---|")
    for way, alone, rate, share in rows:
        print(f"| {way} | {alone:,.0f} images/s | {rate:,.1f} images/s | {100 * share:.2f} % |")
    print(f"{options.steps} steps each; {jax.devices()[0].device_kind}, jax {jax.__version__}")


if __name__ == "__main__":
    command_line.run(main)

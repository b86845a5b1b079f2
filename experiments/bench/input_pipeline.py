"""Whether steps wait for data: images/s of the input pipeline alone, of steps, and the share of time spent waiting.

Usage: python -m experiments.bench.input_pipeline [patches] [--batch-size 64] [--steps 20]

Both ways of reading are measured: from memory, where a set fits into it, and from the files, as a large set is read.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import jax
import tyro
from rich.progress import track

from experiments import command_line
from experiments.config import Config, with_data_dir
from experiments.configs import all_configs
from experiments.data import ImageData, images
from experiments.data.batches import training_batches
from experiments.data.data import Example
from experiments.errors import UserError
from experiments.runs.build import build_train_state, build_train_step
from nvpjax.parallel import parallel_train_step, replicate, shard

OF_IMAGES = tuple(name for name, (_, config) in all_configs().items() if isinstance(config.data, ImageData))


@dataclass(frozen=True)
class Arguments:
    config: tyro.conf.Positional[Literal[OF_IMAGES]] = "patches"
    """Data set and model."""
    batch_size: int = 64
    """Images a step."""
    steps: int = 20
    """Steps, after the first, which compiles."""
    data_dir: Path = Path("data")
    """Where the data sets of tensorflow-datasets lie."""


def pipeline_alone(examples: Sequence[Example], config: Config, steps: int) -> float:
    """Images/s of batches that nothing is done with."""
    batches = training_batches(examples, config)
    next(batches)
    begin = time.perf_counter()
    for _ in itertools.islice(batches, steps):
        pass
    return steps * config.training.batch_size / (time.perf_counter() - begin)


def training(examples: Sequence[Example], config: Config, steps: int, way: str) -> tuple[float, float]:
    """Images/s of training, and the share of its time in which it waits for the next batch."""
    batches, key, waited = training_batches(examples, config), jax.random.key(0), 0.0
    step = parallel_train_step(build_train_step(config))
    train_state = replicate(build_train_state(config, next(training_batches(examples, config))))
    for number in track(range(steps + 1), f"steps, {way}", transient=True):
        if number == 1:  # the first has compiled
            begin, waited = time.perf_counter(), 0.0
        asked = time.perf_counter()
        batch = shard(next(batches), jax.local_device_count())
        waited += time.perf_counter() - asked
        train_state, _ = jax.block_until_ready(step(train_state, key, batch))
    seconds = time.perf_counter() - begin
    return steps * config.training.batch_size / seconds, waited / seconds


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(
            Arguments, args=arguments, prog="python -m experiments.bench.input_pipeline", description=__doc__
        )
    )
    if options.steps < 1:
        raise UserError(f"expected --steps of at least 1, got {options.steps}")
    config = with_data_dir(all_configs()[options.config][1], options.data_dir)
    config = replace(config, training=replace(config.training, batch_size=options.batch_size))
    rows = []
    for way, bytes_in_memory in {"from memory": images.IN_MEMORY_BYTES, "from files": 0}.items():
        images.IN_MEMORY_BYTES = bytes_in_memory
        examples = config.data.examples("train", for_training=True)
        alone = pipeline_alone(examples, config, 10 * options.steps)
        rows.append((way, alone, *training(examples, config, options.steps, way)))
    shape = "x".join(map(str, config.data.image_shape))
    print(f"\n| {options.config}, {shape}, batch {options.batch_size} | pipeline alone | training | waiting for data |")
    print("|---|---|---|---|")
    for way, alone, rate, share in rows:
        print(f"| {way} | {alone:,.0f} images/s | {rate:,.1f} images/s | {100 * share:.2f} % |")
    print(f"{options.steps} steps each; {jax.devices()[0].device_kind}, jax {jax.__version__}")


if __name__ == "__main__":
    command_line.run(main)

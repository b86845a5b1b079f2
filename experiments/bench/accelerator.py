"""What an accelerator makes of a published model: train steps, their rate, memory, samples. One record for the ledger.

Usage: python -m experiments.bench.accelerator [--config cifar10] [--batch-size 64] [--minutes 5]

For networks in float32 (matrix products exact, or in TensorFloat-32 where the device has it) and in bfloat16: the rate
of a matrix product, the train step beside it, and samples. Operations are the compiler's count of the model with its
layers written out. What the time does not allow is left out, and the record says so. ``make ledger`` puts records into
docs/performance.md.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import tyro

from experiments import command_line
from experiments.bench.batches import random_batch
from experiments.bench.programs import matrix_product, operations, train_step
from experiments.bench.timing import medians_in_turns
from experiments.config import Config
from experiments.configs import all_configs
from experiments.errors import UserError
from experiments.ledger import SPEED_COLUMNS, speed_cells
from experiments.runs.build import build_train_state
from experiments.runs.provenance import surroundings
from experiments.runs.records import SPEED, write_record
from experiments.runs.trained import density_of
from experiments.sample import make_sampler

PRECISIONS = {
    "float32": ("float32", "float32"),
    "TensorFloat-32": ("tensorfloat32", "float32"),
    "bfloat16": (None, "bfloat16"),
}
"""By name: what jax computes products of float32 arrays in, its default for None; and the networks' precision."""


@dataclass(frozen=True)
class Arguments:
    config: Literal[tuple(sorted(all_configs()))] = "cifar10"
    """Whose model."""
    batch_size: int = 64
    """Images a step, and samples at once."""
    matrix: int = 8192
    """Rows and columns of the matrices whose product sets the mark."""
    steps: int = 20
    """Of each kind; the median counts."""
    minutes: float = 5.0
    """No precision is begun that would, by the one before it, not end within them."""
    cpu: bool = False
    """Measure a CPU too, where there is no accelerator."""
    out: Path = SPEED
    """Folder for the record."""


def measure(config: Config, options: Arguments) -> dict[str, float]:
    """Everything for one precision."""
    key, batch = jax.random.key(1), random_batch(config)
    train = train_step(config)
    density = density_of(config, build_train_state(config, batch, axis_name=None))
    labels = jnp.asarray(batch["label"]) if config.classes else None
    sampler = make_sampler(options.batch_size)
    product = matrix_product(options.matrix, config.training.precision)
    runs = {"train": train.run, "sample": lambda: sampler(key, density, labels, 1.0), "product": product.run}
    seconds = medians_in_turns(runs, options.steps)
    return {
        "product_operations_per_second": product.operations / seconds["product"],
        "step_seconds": seconds["train"],
        "compilation_seconds": train.compilation,
        "temporary_bytes": train.temporary,
        "sampling_seconds": seconds["sample"],
    }


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.bench.accelerator", description=__doc__)
    )
    if min(options.batch_size, options.matrix, options.steps, options.minutes) <= 0:
        raise UserError("expected --batch-size, --matrix, --steps and --minutes above 0")
    device = jax.devices()[0]
    if device.platform == "cpu" and not options.cpu:
        raise UserError("no accelerator was found, jax has a CPU only: install jax[cuda13] or jax[tpu], or give --cpu")
    begin = time.monotonic()
    config = all_configs()[options.config][1]
    config = replace(config, training=replace(config.training, batch_size=options.batch_size))
    count = operations(config)
    print(f"{config.name} on {device.device_kind}: {count / 1e9:.4g} GFLOP a step of {options.batch_size} images")
    print(f"| precision | {' | '.join(SPEED_COLUMNS)} |")
    print("|---" * (1 + len(SPEED_COLUMNS)) + "|")
    measured, longest = {}, 0.0
    for name, (products, precision) in PRECISIONS.items():
        started = time.monotonic()
        if measured and started + longest - begin > 60 * options.minutes:
            print(f"{name} is left out: it would not end within {options.minutes:g} minutes")
            continue
        with jax.default_matmul_precision(products):
            training = replace(config.training, precision=precision)
            measured[name] = measure(replace(config, training=training), options)
        longest = max(longest, time.monotonic() - started)
        print(f"| {name} | {' | '.join(speed_cells(measured[name], count, options.batch_size))} |", flush=True)
    record = {
        "config": config.name,
        "batch_size": options.batch_size,
        "device": device.device_kind,
        "operations": count,
        "measured": measured,
        "surroundings": surroundings(),
    }
    path = options.out / f"{config.name}_{options.batch_size}_{device.device_kind.replace(' ', '_')}.json"
    write_record(record, path)
    print(f"{len(measured)} of {len(PRECISIONS)} precisions in {time.monotonic() - begin:.0f} s; the record is {path}")


if __name__ == "__main__":
    command_line.run(main, compile_anew=True, training=True)

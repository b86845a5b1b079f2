"""Train configs with three learning rates and hold the distance between training and test bits/dim against a bound.

Usage: python -m experiments.kit.stability [--configs mnist_fast patches] [--steps 1000] [--data-dir DIR]

Batch-norm flows are known for test bits/dim that jump while training goes well. At every evaluation this compares
bits/dim of held-out images (running averages) with bits/dim of training images (the batch's own moments) at the same
parameters, and prints the largest distance of a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro

from experiments import command_line
from experiments.config import with_data_dir
from experiments.configs import all_configs
from experiments.errors import UserError
from experiments.runs.metrics import read_metrics
from experiments.train import train

BOUND = 0.3
"""Bits/dim between training and test images that a run may not pass."""


@dataclass(frozen=True)
class Arguments:
    configs: tuple[Literal["mnist_fast", "patches"], ...] = ("mnist_fast", "patches")
    """What to train."""
    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    """Each constant after the warm-up: nothing falls that could hide a trouble."""
    steps: int = 1000
    """Steps a run."""
    eval_every: int = 100
    """Steps between evaluations."""
    data_dir: Path | None = None
    """Where prepared data sets lie."""
    out: Path = Path("runs/stability")
    """Directory of the runs; none of them may be there yet."""


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.kit.stability", description=__doc__)
    )
    rows = []
    for name in options.configs:
        for rate in options.learning_rates:
            config = with_data_dir(all_configs()[name][1], options.data_dir)
            training = replace(
                config.training,
                learning_rate=rate,
                final_learning_rate=rate,
                steps=options.steps,
                eval_every=options.eval_every,
            )
            config = replace(config, training=training)
            run_dir = options.out / f"{name}_{rate:g}"
            if run_dir.exists():
                raise UserError(f"{run_dir} exists: move it away, or choose another --out")
            print(train(config, run_dir), flush=True)
            rows.append((name, rate, *distances(run_dir)))
    print("\n| config | learning rate | evaluations | largest distance, train and held out | at step | last held out |")
    print("|---|---|---|---|---|---|")
    for name, rate, number, largest, step, last in rows:
        print(f"| {name} | {rate:g} | {number} | {largest:+.3f} | {step} | {last:.4f} |")
    kept = sum(abs(row[3]) <= BOUND for row in rows)
    print(
        f"{kept} of {len(rows)} runs stay within {BOUND} bits/dim of their training at every evaluation; {options.out}"
    )


def distances(run_dir: Path) -> tuple[int, float, int, float]:
    """Give the number of evaluations, the largest held-out minus training bits/dim, its step, and the last held-out."""
    evaluations = [line for line in read_metrics(run_dir) if line["split"] == "validation"]
    found = {line["step"]: line["bits_per_dim"] - line["training_bits_per_dim"] for line in evaluations}
    worst = max(found, key=lambda step: abs(found[step]))
    return len(found), found[worst], worst, evaluations[-1]["bits_per_dim"]


if __name__ == "__main__":
    command_line.run(main)

"""What learned noise, averages of parameters and labels each bring on digits, at the same number of steps.

Usage: python -m experiments.kit.gains [--steps 400] [--seeds 0 1 2] [--out DIR]

Each is trained beside the plain config with the same seeds; the table has test bits/dim, mean and spread over seeds.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments import command_line
from experiments.errors import UserError
from experiments.kit.programs import command, output_of

WAYS = {
    "plain": [],
    "averages": ["--average-decay", "0.99"],
    "labels": ["--classes", "10"],
    "learned noise": ["--noise", "learned", "--noise-features", "16", "--noise-blocks", "1", "--noise-layers", "2"],
}


@dataclass(frozen=True)
class Arguments:
    steps: int = 400
    """Training steps of each run."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of weights, order and noise."""
    ways: tuple[str, ...] = tuple(WAYS)
    """Which."""
    draws: int = 1
    """Of noise an image in evaluation."""
    data_dir: Path = Path("data")
    """Where prepared data sets lie."""
    out: Path = Path("runs/gains")
    """Directory of the runs; those that are there are taken up."""


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.kit.gains", description=__doc__)
    )
    if not set(options.ways) <= set(WAYS):
        raise UserError(f"expected --ways among {', '.join(WAYS)}, got {', '.join(options.ways)}")
    print("| digits | test bits/dim, mean over seeds | spread (standard deviation) | each | seconds of training |")
    print("|---|---|---|---|---|")
    for way in options.ways:
        scores, seconds = [], []
        for seed in options.seeds:
            run_dir = options.out / f"{way.replace(' ', '_')}_{seed}"
            common = ["--steps", options.steps, "--eval-every", options.steps // 2, "--seed", seed]
            where = ["--run-dir", run_dir, "--data-dir", options.data_dir]
            output_of(command("train", "digits", *common, *WAYS[way], *where))
            asked = command("evaluate", run_dir, "--checkpoint", "latest", "--draws", options.draws, "--json")
            record = json.loads(output_of(asked))
            scores.append(record["result"]["bits_per_dim"])
            seconds.append(record["training"]["seconds"])
        spread = statistics.stdev(scores) if len(scores) > 1 else float("nan")
        each = ", ".join(f"{score:.4f}" for score in scores)
        mean = statistics.mean(scores)
        print(f"| {way} | {mean:.4f} | {spread:.4f} | {each} | {statistics.mean(seconds):.0f} |", flush=True)
    print(f"{len(options.ways)} ways, {len(options.seeds)} seeds, {options.steps} steps each; runs in {options.out}")


if __name__ == "__main__":
    command_line.run(main)

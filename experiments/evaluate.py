"""Evaluate a run: bits/dim and round-trip error on images that it was not trained on.

Usage: python -m experiments.evaluate RUN_DIR [--split test] [--draws 1] [--json] [--ledger]

The record of the evaluation, with all that a reader needs to believe it, is written to RUN_DIR/evaluation_SPLIT.json.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.progress import track

from experiments import command_line
from experiments.data.images import load_images, with_data_dir
from experiments.errors import UserError
from experiments.runs.evaluation import check_devices, evaluate_images, make_evaluators
from experiments.runs.records import RESULTS, ledger_name, make_record, write_record
from experiments.runs.trained import restore_run
from nvpjax.parallel import replicate


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
    draws: int = 1
    """Draws of dequantisation noise an image. The mean over draws is a bound; importance weighting comes nearer."""
    data_dir: Path | None = None
    """Where prepared data sets lie; as in training by default."""
    json: bool = False
    """Print the record, one JSON object, instead of a sentence."""
    ledger: bool = False
    """Keep the record under experiments/results too, from where make ledger makes the README's table."""


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.evaluate", description=__doc__)
    )
    config, step, train_state = restore_run(options.run_dir, options.checkpoint)
    config = with_data_dir(config, options.data_dir)
    batch_size = config.batch_size if options.batch_size is None else options.batch_size
    check_devices(batch_size)
    if options.draws < 1:
        raise UserError(f"expected --draws of at least 1, got {options.draws}")
    images = load_images(config, options.split)
    result = evaluate_images(
        make_evaluators(config),
        replicate(train_state),
        images,
        batch_size,
        options.draws,
        progress=lambda batches: track(batches, f"{options.split} images", disable=options.json, transient=True),
    )
    record = make_record(config, options.run_dir, options.split, step, result)
    paths = [options.run_dir / f"evaluation_{options.split}.json"]
    paths += [RESULTS / ledger_name(record)] if options.ledger else []
    for path in paths:
        write_record(record, path)
    if options.json:
        print(json.dumps(record))
        return
    print(
        f"{config.name}: {options.split} {result['bits_per_dim']:.4f} ± {result['standard_error']:.4f} bits/dim on "
        f"{result['images']} images (importance-weighted {result['importance_weighted']:.4f}, draws {options.draws}), "
        f"step {step} ({options.checkpoint}), round-trip error median {result['round_trip_error_median']:.1e}, 99.9 % "
        f"{result['round_trip_error_99.9']:.1e}, worst {result['round_trip_error']:.1e}, train/eval gap "
        f"{result['train_eval_gap']:+.4f}; record in {paths[-1]}"
    )


if __name__ == "__main__":
    command_line.run(main)

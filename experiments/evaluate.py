"""Evaluate a run: bits/dim or nats, and round-trip error, on examples that it was not trained on.

Usage: python -m experiments.evaluate RUN_DIR [--split test] [--draws 1] [--no-averages] [--json] [--ledger]

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
from experiments.config import with_data_dir
from experiments.configs import all_configs
from experiments.errors import UserError
from experiments.runs.evaluation import check_devices, evaluate_examples, make_evaluators
from experiments.runs.records import RESULTS, ledger_name, make_record, write_record
from experiments.runs.trained import restore_run
from experiments.terminal import console
from nvpjax.parallel import replicate


@dataclass(frozen=True)
class Arguments:
    run_dir: tyro.conf.Positional[Path]
    """Directory that train wrote."""
    split: Literal["test", "validation", "train"] = "test"
    """Examples to evaluate on."""
    checkpoint: Literal["best", "latest"] = "best"
    """Lowest score on validation examples, or the last step."""
    batch_size: int | None = None
    """Examples at a time; the training batch size by default. It does not change the result."""
    averages: bool = True
    """Evaluate averages of the parameters where the run keeps them, or the parameters of that step themselves."""
    draws: int = 1
    """Draws of noise an image. The mean over draws is a bound; importance weighting comes nearer."""
    data_dir: Path | None = None
    """Where prepared data sets lie; as in training by default."""
    data: Path | None = None
    """Where the run's own file or folder of data lies, if it was moved."""
    json: bool = False
    """Print the record, one JSON object, instead of a sentence."""
    ledger: bool = False
    """Keep the record under experiments/results too, from where make ledger makes the README's table."""


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.evaluate", description=__doc__)
    )
    config, step, train_state = restore_run(options.run_dir, options.checkpoint)
    if options.ledger and config.name not in all_configs():
        raise UserError(f"--ledger is for the configs whose data everybody can have, not for {config.name}: drop it")
    if not options.averages:
        if options.ledger:
            raise UserError("--no-averages is for comparison, the ledger for what a run is evaluated by: drop --ledger")
        train_state = train_state._replace(averages=None)
    config = with_data_dir(config, options.data_dir, options.data)
    data = config.data
    batch_size = config.training.batch_size if options.batch_size is None else options.batch_size
    check_devices(batch_size)
    if options.draws < 1:
        raise UserError(f"expected --draws of at least 1, got {options.draws}")
    terminal = console()
    shown = terminal.is_terminal and not options.json  # else it would be an empty line
    result = evaluate_examples(
        make_evaluators(config),
        replicate(train_state),
        data.examples(options.split),
        data,
        batch_size,
        options.draws,
        progress=lambda batches: track(
            batches, f"{options.split} examples", disable=not shown, transient=True, console=terminal
        ),
    )
    record = make_record(config, options.run_dir, options.split, step, result)
    name = options.split if options.averages else f"{options.split}_without_averages"
    paths = [options.run_dir / f"evaluation_{name}.json"]
    paths += [RESULTS / ledger_name(record)] if options.ledger else []
    kept = f"record in {paths[-1]}"
    try:
        for path in paths:
            write_record(record, path)
    except UserError as error:  # of a directory that may be read alone: the number is there all the same
        kept = f"no record, since {error}"
    if options.json:
        print(json.dumps(record))
        return
    given = " given their labels" if config.classes else ""
    averages = ", averages of parameters" if train_state.averages is not None else ""
    print(
        f"{config.name}: {options.split} {result[data.unit]:.4f} ± {result['standard_error']:.4f} {data.said_unit}"
        f"{data.quality(result)} on {result['examples']} examples{given} (importance-weighted "
        f"{result['importance_weighted']:.4f}, draws {options.draws}), step {step} ({options.checkpoint}{averages}), "
        f"round-trip error median {result['round_trip_error_median']:.1e}, 99.9 % "
        f"{result['round_trip_error_99.9']:.1e}, worst {result['round_trip_error']:.1e}, train/eval gap "
        f"{result['train_eval_gap']:+.4f}; {kept}"
    )


if __name__ == "__main__":
    command_line.run(main)

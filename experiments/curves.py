"""Plot the training curves of a run: bits/dim or nats, train/eval gap and round-trip error over the steps.

Usage: python -m experiments.curves RUN_DIR [--out FILE.png]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from experiments import command_line
from experiments.errors import UserError
from experiments.pictures.grids import save_picture
from experiments.pictures.plots import figure
from experiments.runs.config_file import read_config
from experiments.runs.metrics import read_metrics


@dataclass(frozen=True)
class Arguments:
    run_dir: tyro.conf.Positional[Path]
    """Directory that train wrote."""
    out: Path | None = None
    """Picture to write; RUN_DIR/curves.png by default."""


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.curves", description=__doc__)
    )
    config = read_config(options.run_dir)
    lines = read_metrics(options.run_dir)
    training, held_out = ([line for line in lines if line["split"] == split] for split in ("train", "validation"))
    if not training or not held_out:
        raise UserError(
            f"{options.run_dir} holds no evaluation yet: train for at least {config.training.eval_every} steps"
        )

    def column(lines, name):
        return np.array([line[name] for line in lines])

    data = config.data
    steps, scores = column(training, "step"), column(training, data.unit)
    evaluated, held_out_scores = column(held_out, "step"), column(held_out, data.unit)
    page, (curves, gaps, errors) = figure(3, 1, size=(8, 8), height_ratios=(3, 1, 1), sharex=True)
    curves.plot(steps, scores, color="0.8", linewidth=0.5, label="training, one batch")
    window = max(1, len(scores) // 100)
    smooth = np.convolve(scores, np.ones(window) / window, mode="valid")
    curves.plot(
        steps[window - 1 :], smooth, color="C0", label=f"training, mean of {window * config.training.log_every} steps"
    )
    curves.plot(
        evaluated, held_out_scores, "o-", color="C3", markersize=3, label="validation examples, running averages"
    )
    evaluations = held_out_scores[np.isfinite(held_out_scores)]  # all are in the picture; how a run begins need not be
    low, high = min([*smooth, *evaluations]), max([np.quantile(smooth, 0.95), *evaluations])
    curves.set(ylabel=data.said_unit, ylim=(low - 0.1 * (high - low), high + 0.3 * (high - low)))
    best = np.nanargmin(held_out_scores) if evaluations.size else -1  # the checkpoint that programs take
    curves.set_title(
        f"{config.name}: {held_out_scores[best]:.4f} {data.said_unit} on validation examples at step {evaluated[best]}"
    )
    curves.legend(frameon=False)
    gaps.plot(evaluated, column(held_out, "train_eval_gap"), "o-", color="C2", markersize=3)
    gaps.axhline(0, color="0.7", linewidth=0.8)
    gaps.set(ylabel=f"train/eval gap\n({data.said_unit})")
    errors.semilogy(evaluated, column(held_out, "round_trip_error"), "o-", color="C4", markersize=3)
    errors.set(ylabel="round-trip error\n(worst)", xlabel="step")
    out = options.out or options.run_dir / "curves.png"
    save_picture(out, page.savefig)
    print(f"{config.name}: curves of {len(training)} training lines and {len(held_out)} evaluations written to {out}")


if __name__ == "__main__":
    command_line.run(main)

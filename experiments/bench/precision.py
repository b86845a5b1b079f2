"""What networks in bfloat16 do to a trained model: its score, and how far its inverse is off, tail included.

Usage: python -m experiments.bench.precision RUN_DIR [--split train] [--examples 1024]

The parameters of one run are evaluated with networks in float32 and in bfloat16. Errors are
max |x − f⁻¹(f(x))| over an example; of images, in units of the pixel range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.progress import track

from experiments import command_line
from experiments.config import with_data_dir
from experiments.data.data import batch_of
from experiments.errors import UserError
from experiments.runs.build import build_flow
from experiments.runs.evaluation import NOISE_SEED
from experiments.runs.trained import restore_run
from nvpjax.training import make_eval_step, make_round_trip


@dataclass(frozen=True)
class Arguments:
    run_dir: tyro.conf.Positional[Path]
    """Directory that train wrote."""
    split: Literal["test", "validation", "train"] = "train"
    """Examples to evaluate on. A tail wants many."""
    examples: int = 1024
    """The first so many of them."""
    batch_size: int = 64
    """Examples at a time."""
    data_dir: Path | None = None
    """Where prepared data sets lie; as in training by default."""


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.bench.precision", description=__doc__)
    )
    if min(options.examples, options.batch_size) < 1:
        got = f"{options.examples} and {options.batch_size}"
        raise UserError(f"expected --examples and --batch-size >= 1, got {got}")
    config, step, train_state = restore_run(options.run_dir, "best")
    data = with_data_dir(config, options.data_dir).data
    examples = data.examples(options.split)
    chosen = range(min(options.examples, len(examples)))
    batches = [chosen[first : first + options.batch_size] for first in chosen[:: options.batch_size]]
    key = jax.random.key(NOISE_SEED)
    print(f"| networks in | {data.said_unit} | error: median | 90 % | 99 % | 99.9 % | worst |")
    print("|---|---|---|---|---|---|---|")
    for precision, dtype in {"float32": None, "bfloat16": jnp.bfloat16}.items():
        flow = build_flow(config, axis_name=None, network_dtype=dtype)
        objective = data.objective(flow, labels=config.classes > 0)
        programs = [jax.jit(make(objective)) for make in (make_eval_step, make_round_trip)]
        nats, errors = [], []
        for indices in track(batches, precision, transient=True):
            batch = {**batch_of(examples, indices), "index": np.array(indices)}
            for program, values in zip(programs, (nats, errors), strict=True):
                values.extend(program(*train_state.evaluated, key, batch).tolist())
        quantiles = " | ".join(f"{value:.1e}" for value in np.quantile(errors, [0.5, 0.9, 0.99, 0.999, 1]))
        print(f"| {precision} | {np.mean(nats) / data.nats_per_unit:.4f} | {quantiles} |", flush=True)
    which = f"{len(chosen)} examples of {options.split}, step {step} of {options.run_dir}"
    print(f"{config.name}: {which}, jax {jax.__version__}")


if __name__ == "__main__":
    command_line.run(main)

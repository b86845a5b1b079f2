"""What a config costs: one train step, one evaluation batch and some samples on random data, timed and counted.

Usage: python -m experiments.cost CONFIG [--batch-size 64] [--samples 64]
       python -m experiments.cost CONFIG --count

No data are read: this tells, before a data set is prepared, whether a model fits a machine. With --count nothing is run
either: parameters and operations of a train step are counted, and kept under experiments/results/cost for
``make ledger``.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import tyro

from experiments import command_line
from experiments.bench.batches import random_batch
from experiments.bench.programs import operations
from experiments.config import Config
from experiments.configs import all_configs
from experiments.errors import UserError
from experiments.runs.build import build_objective, build_train_state, build_train_step, number_of_parameters
from experiments.runs.records import COST, write_record
from experiments.runs.trained import density_of
from experiments.sample import draws_of, make_sampler
from nvpjax.training import make_eval_step


@dataclass(frozen=True)
class Arguments:
    config: tyro.conf.Positional[Literal[tuple(sorted(all_configs()))]]
    """Whose model."""
    batch_size: int | None = None
    """Examples a step; as in training by default."""
    samples: int = 64
    """Samples drawn."""
    steps: int = 2
    """Times each program is run after the first, to be timed; the median counts."""
    count: bool = False
    """Run nothing; count what a train step of the config takes, and keep it for the table of what was not run."""


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.cost", description=__doc__)
    )
    config = all_configs()[options.config][1]
    if options.count:
        return _count(config)
    batch_size = config.training.batch_size if options.batch_size is None else options.batch_size
    if min(batch_size, options.samples, options.steps) < 1:
        got = f"{batch_size}, {options.samples} and {options.steps}"
        raise UserError(f"expected --batch-size, --samples and --steps of at least 1, got {got}")
    key, batch = jax.random.key(0), random_batch(config, batch_size)
    start = build_train_state(config, batch, axis_name=None)
    number = sum(leaf.size for leaf in jax.tree.leaves(start.params))
    shape = config.data.event_shape
    print(f"{config.name}: {number:,} parameters, batch {batch_size} of {shape} on {jax.devices()[0]}")
    train_step = build_train_step(config, axis_name=None)
    evaluate = make_eval_step(build_objective(config, axis_name=None))
    _cost("train step", batch_size, options.steps, train_step, start, key, batch)
    numbered = {**batch, "index": jnp.arange(batch_size)}
    _cost("evaluation", batch_size, options.steps, evaluate, *start.evaluated, key, numbered)
    density, labels = density_of(config, start), draws_of(config, options.samples).context
    number = options.samples if labels is None else len(labels)
    x = _cost("samples", number, options.steps, make_sampler(number), key, density, labels, 1.0)
    finite = "all finite" if bool(jnp.all(jnp.isfinite(x))) else "not all finite"
    print(f"{config.name}: one train step, one evaluation batch and {number} samples done; samples {finite}")


def _count(config: Config) -> None:
    batch_size = config.training.batch_size
    counted = {
        "config": config.name,
        "parameters": number_of_parameters(config),
        "batch_size": batch_size,
        "operations": operations(config),
        "jax": jax.__version__,
    }
    path = COST / f"{config.name}.json"
    write_record(counted, path)
    print(
        f"{config.name}: {counted['parameters']:,} parameters, {counted['operations'] / 1e9:,.3g} GFLOP a train step "
        f"of {batch_size} examples; written to {path}"
    )


def _cost(name: str, examples: int, steps: int, function: Callable, *arguments):
    """Compile, run and print; give the result of the last run."""
    begin = time.monotonic()
    lowered = jax.jit(function).lower(*arguments)
    compiled = lowered.compile()
    compilation = time.monotonic() - begin
    result = jax.block_until_ready(compiled(*arguments))
    seconds = []
    for _ in range(steps):
        begin = time.monotonic()
        result = jax.block_until_ready(compiled(*arguments))
        seconds.append(time.monotonic() - begin)
    median = statistics.median(seconds)
    # Not the compiled program's count: what oneDNN computes (JAX 0.12) counts nothing there.
    done = lowered.cost_analysis().get("flops", math.nan)
    memory = compiled.memory_analysis()
    kept, temporary = (bytes_ / 2**20 for bytes_ in (memory.argument_size_in_bytes, memory.temp_size_in_bytes))
    print(
        f"{name}: {median:.2f} s ({examples / median:.1f} examples/s), {done / 1e9:.1f} GFLOP "
        f"({done / examples / 1e9:.3g} an example, {done / median / 1e9:.0f} GFLOP/s), "
        f"arguments {kept:.1f} MiB, temporary {temporary:.1f} MiB, compiled in {compilation:.0f} s",
        flush=True,
    )
    return result


if __name__ == "__main__":
    command_line.run(main, compile_anew=True, training=True)

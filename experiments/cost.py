"""What a config costs: one train step, one evaluation batch and one sample grid on random images, timed and counted.

Usage: python -m experiments.cost CONFIG [--batch-size 64] [--samples 64]

Nothing is read and nothing is written: this tells, before a data set is prepared, whether a model fits a machine.
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
from experiments.configs import all_configs
from experiments.errors import UserError
from experiments.runs.build import build_flow, build_train_state, build_train_step
from experiments.sample import make_sampler
from nvpjax.training import make_eval_step


@dataclass(frozen=True)
class Arguments:
    config: tyro.conf.Positional[Literal[tuple(sorted(all_configs()))]]
    """Whose model."""
    batch_size: int | None = None
    """Images a step; as in training by default."""
    samples: int = 64
    """Images of the grid."""
    steps: int = 2
    """Times each program is run after the first, to be timed; the median counts."""


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.cost", description=__doc__)
    )
    config = all_configs()[options.config][1]
    batch_size = config.batch_size if options.batch_size is None else options.batch_size
    if min(batch_size, options.samples, options.steps) < 1:
        got = f"{batch_size}, {options.samples} and {options.steps}"
        raise UserError(f"expected --batch-size, --samples and --steps of at least 1, got {got}")
    key = jax.random.key(0)
    images = jax.random.randint(key, (batch_size, *config.image_shape), 0, config.levels).astype(jnp.uint8)
    start = build_train_state(config)
    number = sum(leaf.size for leaf in jax.tree.leaves(start.params))
    print(f"{config.name}: {number:,} parameters, batch {batch_size} of {config.image_shape} on {jax.devices()[0]}")
    train_step = build_train_step(config, axis_name=None)
    evaluate = make_eval_step(build_flow(config, axis_name=None), levels=config.levels)
    variables = (start.params, start.state)
    _cost("train step", batch_size, options.steps, train_step, start, key, images)
    _cost("evaluation", batch_size, options.steps, evaluate, *variables, key, images, jnp.arange(batch_size))
    sampler = make_sampler(config, options.samples)
    x = _cost("sample grid", options.samples, options.steps, sampler, key, *variables, 1.0)
    finite = "all finite" if bool(jnp.all(jnp.isfinite(x))) else "not all finite"
    print(f"{config.name}: one train step, one evaluation batch and {options.samples} samples done; samples {finite}")


def _cost(name: str, images: int, steps: int, function: Callable, *arguments):
    """Compile, run and print; give the result of the last run."""
    begin = time.monotonic()
    compiled = jax.jit(function).lower(*arguments).compile()
    compilation = time.monotonic() - begin
    result = jax.block_until_ready(compiled(*arguments))
    seconds = []
    for _ in range(steps):
        begin = time.monotonic()
        result = jax.block_until_ready(compiled(*arguments))
        seconds.append(time.monotonic() - begin)
    median = statistics.median(seconds)
    operations = compiled.cost_analysis().get("flops", math.nan)
    memory = compiled.memory_analysis()
    kept, temporary = (bytes_ / 2**20 for bytes_ in (memory.argument_size_in_bytes, memory.temp_size_in_bytes))
    print(
        f"{name}: {median:.2f} s ({images / median:.1f} images/s), {operations / 1e9:.1f} GFLOP "
        f"({operations / images / 1e9:.3g} an image, {operations / median / 1e9:.0f} GFLOP/s), "
        f"arguments {kept:.1f} MiB, temporary {temporary:.1f} MiB, compiled in {compilation:.0f} s",
        flush=True,
    )
    return result


if __name__ == "__main__":
    command_line.run(main, compile_anew=True)

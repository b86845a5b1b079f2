"""How long the published CIFAR-10 model's train step takes to compile: as loops, and with its layers written out.

Usage: python -m experiments.bench.compilation [--features 64] [--blocks 8] [--batch-size 2]

Trace and compile, each form anew, nothing from a cache. Memory and operations are the compiler's own count; it counts
what is inside a loop once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
import optax
import tyro

from experiments import command_line
from experiments.bench.timing import compiled_anew
from nvpjax import PixelLikelihood, RealNVP
from nvpjax.training import create_train_state, make_train_step


@dataclass(frozen=True)
class Arguments:
    features: int = 64
    """Feature maps of the first scale's networks."""
    blocks: int = 8
    """Residual blocks of each network."""
    scales: int = 2
    """Scales of the model."""
    side: int = 32
    """Height and width of the images, of three channels."""
    batch_size: int = 2
    """Images a step. The program is the same for any number."""


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.bench.compilation", description=__doc__)
    )
    optimizer = optax.adam(1e-3)
    shape = (options.batch_size, options.side, options.side, 3)
    key, batch = jax.random.key(0), {"image": np.zeros(shape, np.uint8)}
    print("| layers | trace + compile, s | processor, s | lines of the program | GFLOP | temporary, MB |")
    print("|---|---|---|---|---|---|")
    seconds = {}
    for name, scan in {"written out": False, "loops": True}.items():
        model = RealNVP(scales=options.scales, features=options.features, blocks=options.blocks)
        objective = PixelLikelihood(model.build(shape[1:], scan=scan))
        start = jax.eval_shape(partial(create_train_state, objective, optimizer), key, batch)
        begin = time.process_time()
        step = make_train_step(objective, optimizer)
        compiled, seconds[name] = compiled_anew(step, start, key, batch, donate_argnums=0)
        processor = time.process_time() - begin
        memory = compiled.memory_analysis().temp_size_in_bytes
        print(
            f"| {name} | {seconds[name]:.1f} | {processor:.1f} | {compiled.as_text().count(chr(10)):,} | "
            f"{compiled.cost_analysis()['flops'] / 1e9:.1f} | {memory / 1e6:.0f} |",
            flush=True,
        )
    print(f"loops take {seconds['loops'] / seconds['written out']:.2f} of it; {options}, jax {jax.__version__}")


if __name__ == "__main__":
    command_line.run(main, compile_anew=True)

"""How long the published CIFAR-10 model's train step takes to compile: as loops, and with its layers written out.

Usage: python -m experiments.bench.compilation [--features 64] [--blocks 8] [--batch-size 2]

Trace and compile, each form anew, nothing from a cache. Memory and operations are the compiler's own count; it counts
what is inside a loop once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
import tyro

from experiments import command_line
from experiments.bench.timing import compiled_anew
from nvpjax import real_nvp
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
    key, images = jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct(shape, jnp.uint8)
    print("| layers | trace + compile, s | processor, s | lines of the program | GFLOP | temporary, MB |")
    print("|---|---|---|---|---|---|")
    x, seconds = jnp.full(shape, 0.5), {}
    for name, scan in {"written out": False, "loops": True}.items():
        flow = real_nvp(3, scales=options.scales, features=options.features, blocks=options.blocks, scan=scan)
        start = jax.eval_shape(lambda key, flow=flow: create_train_state(flow, optimizer, key, x), key)
        begin = time.process_time()
        compiled, seconds[name] = compiled_anew(make_train_step(flow, optimizer), start, key, images, donate_argnums=0)
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

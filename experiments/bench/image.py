"""The train step of an image model beside a matrix product and a peer's Glow, its memory, and samples by batch size.

Usage: python -m experiments.bench.image [--features 32] [--blocks 2] [--batch-size 16] [--repeats 5]

All take turns in one run. Operations, bytes and temporary memory are the compiler's own count (of a Glow, those of its
convolutions and products, by PyTorch). Peer: normflows, of the extra "peers-torch", left out where it is not installed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np
import tyro

from experiments import command_line
from experiments.bench.batches import random_batch
from experiments.bench.normflows_glow import normflows_glow
from experiments.bench.programs import Program, matrix_product, train_step
from experiments.bench.timing import medians_in_turns
from experiments.config import Config
from experiments.configs import all_configs
from experiments.runs.build import build_train_state
from experiments.runs.trained import density_of
from experiments.sample import make_sampler
from nvpjax import Glow


@dataclass(frozen=True)
class Sizes:
    """Of which Real NVP, on how many images: what the benches of images have in common on their command lines."""

    features: int = 32
    """Feature maps of the first scale's networks."""
    blocks: int = 2
    """Residual blocks of each network."""
    scales: int = 2
    """Scales of the model."""
    batch_size: int = 16
    """Images of 32x32x3 a step."""

    def config(self) -> Config:
        config = all_configs()["cifar10"][1]
        model = replace(config.model, features=self.features, blocks=self.blocks, scales=self.scales)
        return replace(config, model=model, training=replace(config.training, batch_size=self.batch_size))


@dataclass(frozen=True)
class Arguments(Sizes):
    matrix: int = 2048
    """Rows and columns of the matrices whose product sets the mark."""
    samples: tuple[int, ...] = (1, 4, 16, 64)
    """Batch sizes to sample by."""
    precisions: tuple[str, ...] = ("float32",)
    """Of the networks; bfloat16 is slow on CPUs but for those with AMX, with JAX 0.12."""
    repeats: int = 5
    """Of each, in turns; the medians count."""


def glow(batch: np.ndarray, levels: int = 2, blocks: int = 8, hidden: int = 320) -> Program:
    """A multi-scale Glow of normflows, by Adam; its sizes are those whose operations come near the Real NVP's."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    x = torch.from_numpy(batch.astype(np.float32) / 256).permute(0, 3, 1, 2).contiguous()
    model = normflows_glow(batch.shape[1:], Glow(levels=levels, depth=blocks, features=hidden))
    with torch.no_grad():
        model.log_prob(x, None)  # actnorm measures
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def run():
        optimizer.zero_grad()
        loss = -model.log_prob(x, None).mean()
        loss.backward()
        optimizer.step()

    with FlopCounterMode(display=False) as counter:
        run()
    return Program(run, counter.get_total_flops())


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.bench.image", description=__doc__)
    )
    config = options.config()
    product = f"{options.matrix} x {options.matrix} product"
    programs = {product: matrix_product(options.matrix)}
    for precision in options.precisions:
        for memory in ("stored", "checkpointed", "reversible") if precision == "float32" else ("stored",):
            training = replace(config.training, memory=memory, precision=precision)
            programs[f"{memory}, {precision}"] = train_step(replace(config, training=training))
    if importlib.util.find_spec("normflows"):
        programs["normflows, Glow"] = glow(random_batch(config)["image"])
    medians = medians_in_turns({name: program.run for name, program in programs.items()}, options.repeats, "steps")
    mark = programs[product].operations / medians[product]
    print("| train step | trace + compile, s | temporary, MB | GFLOP | ms | GFLOP/s | of the product's |")
    print("|---|---|---|---|---|---|---|")
    for name, program in programs.items():
        seconds = medians[name]
        rate = program.operations / seconds
        compiled = f"{program.compilation:.1f} | {program.temporary / 1e6:.1f}" if program.compilation else " | "
        cells = f"{program.operations / 1e9:.1f} | {1000 * seconds:.0f} | {rate / 1e9:.0f} | {rate / mark:.2f}"
        print(f"| {name} | {compiled} | {cells} |")

    density = density_of(config, build_train_state(config, random_batch(config), axis_name=None))
    key, samplers = jax.random.key(2), {number: make_sampler(number) for number in options.samples}
    runs = {
        str(number): lambda sampler=sampler: sampler(key, density, None, 1.0) for number, sampler in samplers.items()
    }
    medians = medians_in_turns(runs, options.repeats, "samples")
    print("\n| images sampled at once | ms | ms an image |\n|---|---|---|")
    for number in options.samples:
        print(f"| {number} | {1000 * medians[str(number)]:.0f} | {1000 * medians[str(number)] / number:.1f} |")
    print(f"{options}, jax {jax.__version__}, {jax.devices()[0].device_kind}")


if __name__ == "__main__":
    command_line.run(main, compile_anew=True, training=True)

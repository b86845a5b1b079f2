"""The train step of an image model beside a matrix product and a peer's Glow, its memory, and samples by batch size.

Usage: python -m experiments.bench.image [--features 32] [--blocks 2] [--batch-size 16] [--repeats 5]

All take turns in one run. Operations, bytes and temporary memory are the compiler's own count (of a Glow, those of its
convolutions and products, by PyTorch). Peer: normflows, of the extra "peers-torch", left out where it is not installed.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments import command_line
from experiments.bench.timing import compiled_anew, medians_in_turns
from experiments.configs import all_configs
from experiments.runs.build import build_train_state, build_train_step
from experiments.runs.config import Config
from experiments.sample import make_sampler


@dataclass(frozen=True)
class Model:
    """Which Real NVP, on how many images: what the benches of images have in common on their command lines."""

    features: int = 32
    """Feature maps of the first scale's networks."""
    blocks: int = 2
    """Residual blocks of each network."""
    scales: int = 2
    """Scales of the model."""
    batch_size: int = 16
    """Images of 32x32x3 a step."""

    def config_and_images(self) -> tuple[Config, np.ndarray]:
        sizes = {field.name: getattr(self, field.name) for field in dataclasses.fields(Model)}
        config = dataclasses.replace(all_configs()["cifar10"][1], **sizes)
        return config, random_images(config)


@dataclass(frozen=True)
class Arguments(Model):
    matrix: int = 2048
    """Rows and columns of the matrices whose product sets the mark."""
    samples: tuple[int, ...] = (1, 4, 16, 64)
    """Batch sizes to sample by."""
    precisions: tuple[str, ...] = ("float32",)
    """Of the networks; bfloat16 is emulated on CPUs."""
    repeats: int = 5
    """Of each, in turns; the medians count."""


@dataclass(frozen=True)
class Program:
    """Something to run, and what it takes."""

    run: Callable[[], object]
    operations: float
    compiled: str = " | "
    """Seconds of tracing and compiling, and MB of temporary memory, as cells of the table."""


def random_images(config: Config) -> np.ndarray:
    shape = (config.batch_size, *config.image_shape)
    return np.random.default_rng(0).integers(0, config.levels, shape).astype(np.uint8)


def matrix_product(size: int, dtype: str = "float32") -> Program:
    a = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(jnp.matmul)
    return Program(lambda: product(a, a), 2.0 * size**3)


def train_step(config: Config, batch: np.ndarray) -> Program:
    key, step = jax.random.key(1), build_train_step(config, axis_name=None)
    held = [build_train_state(config)]
    compiled, seconds = compiled_anew(step, held[0], key, batch, donate_argnums=0)

    def run():
        held[0], metrics = compiled(held[0], key, batch)
        return metrics

    memory = compiled.memory_analysis().temp_size_in_bytes
    return Program(run, compiled.cost_analysis()["flops"], f"{seconds:.1f} | {memory / 1e6:.1f}")


def glow(batch: np.ndarray, levels: int = 2, blocks: int = 8, hidden: int = 320) -> Program:
    """A multi-scale Glow of normflows, by Adam; its sizes are those whose operations come near the Real NVP's."""
    import normflows
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    x = torch.from_numpy(batch.astype(np.float32) / 256).permute(0, 3, 1, 2).contiguous()
    _, channels, height, width = x.shape
    bases, flows, merges = [], [], []
    for level in range(levels):  # from the coarsest
        times = 2 ** (levels - level)
        of_block = channels * 2 * times
        level_flows = [normflows.flows.GlowBlock(of_block, hidden) for _ in range(blocks)]
        flows.append([*level_flows, normflows.flows.Squeeze()])
        of_latents = of_block if level == 0 else of_block // 2
        bases.append(normflows.distributions.DiagGaussian((of_latents, height // times, width // times)))
        merges += [normflows.flows.Merge()] if level else []
    model = normflows.MultiscaleFlow(bases, flows, merges, class_cond=False)
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
    config, batch = options.config_and_images()
    product = f"{options.matrix} x {options.matrix} product"
    programs = {product: matrix_product(options.matrix)}
    for precision in options.precisions:
        for memory in ("stored", "checkpointed", "reversible") if precision == "float32" else ("stored",):
            form = dataclasses.replace(config, memory=memory, precision=precision)
            programs[f"{memory}, {precision}"] = train_step(form, batch)
    if importlib.util.find_spec("normflows"):
        programs["normflows, Glow"] = glow(batch)
    medians = medians_in_turns({name: program.run for name, program in programs.items()}, options.repeats, "steps")
    mark = programs[product].operations / medians[product]
    print("| train step | trace + compile, s | temporary, MB | GFLOP | ms | GFLOP/s | of the product's |")
    print("|---|---|---|---|---|---|---|")
    for name, program in programs.items():
        seconds = medians[name]
        rate = program.operations / seconds
        cells = f"{program.operations / 1e9:.1f} | {1000 * seconds:.0f} | {rate / 1e9:.0f} | {rate / mark:.2f}"
        print(f"| {name} | {program.compiled} | {cells} |")

    state, key = build_train_state(config), jax.random.key(2)
    samplers = {number: make_sampler(config, number) for number in options.samples}
    runs = {
        str(number): lambda sampler=sampler: sampler(key, state.params, state.state, 1.0)
        for number, sampler in samplers.items()
    }
    medians = medians_in_turns(runs, options.repeats, "samples")
    print("\n| images sampled at once | ms | ms an image |\n|---|---|---|")
    for number in options.samples:
        print(f"| {number} | {1000 * medians[str(number)]:.0f} | {1000 * medians[str(number)] / number:.1f} |")
    print(f"{options}, jax {jax.__version__}, {jax.devices()[0].device_kind}")


if __name__ == "__main__":
    command_line.run(main, compile_anew=True)

"""A train step of the same Real NVP by this library and by a program in PyTorch, eager, with their parameters counted.

Usage: python -m experiments.bench.real_nvp [--features 16] [--blocks 2] [--batch-size 32] [--devices 2] [--repeats 9]

All take turns in one run, each with all cores: ours as one program, and under pmap on as many virtual devices as
--devices says, each with its share of the images. PyTorch, of the extra "peers-torch", is left out where it is not
installed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import tyro

from experiments import command_line
from experiments.bench.batches import random_batch
from experiments.bench.image import Sizes
from experiments.bench.programs import train_step
from experiments.bench.timing import medians_in_turns
from experiments.config import Config
from experiments.errors import UserError
from experiments.runs.build import build_train_state, build_train_step
from nvpjax.parallel import AXIS, parallel_train_step, replicate, shard


@dataclass(frozen=True)
class Arguments(Sizes):
    features: int = 16
    """Feature maps of the first scale's networks."""
    batch_size: int = 32
    """Images of 32x32x3 a step."""
    devices: int = 2
    """Virtual devices, one a core; 1 leaves them out."""
    repeats: int = 9
    """Of each, in turns; the medians count."""


def by_pmap(config: Config, devices: int) -> Callable[[], object]:
    key, batch = jax.random.key(1), random_batch(config)
    held = [replicate(jax.device_get(build_train_state(config, batch, axis_name=None)))]
    step, shards = parallel_train_step(build_train_step(config, axis_name=AXIS)), shard(batch, devices)

    def run():
        held[0], metrics = step(held[0], key, shards)
        return metrics

    return run


def by_torch(config: Config) -> tuple[Callable[[], object], int]:
    """The step, and the number of its parameters."""
    from experiments.bench import torch_real_nvp

    model, batch = config.model, random_batch(config)
    return torch_real_nvp.train_step(batch["image"], scales=model.scales, features=model.features, blocks=model.blocks)


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.bench.real_nvp", description=__doc__)
    )
    if options.devices < 1 or options.batch_size % options.devices:
        raise UserError(f"--devices {options.devices}: expected at least 1, and to divide --batch-size")
    jax.config.update("jax_num_cpu_devices", options.devices)
    config = options.config()
    ours = train_step(config)
    runs = {"nvpjax": ours.run}
    if options.devices > 1:
        runs[f"nvpjax, pmap over {options.devices}"] = by_pmap(config, options.devices)
    if importlib.util.find_spec("torch"):
        runs["PyTorch, eager"], parameters = by_torch(config)
        if parameters != ours.parameters:
            raise AssertionError(
                f"{ours.parameters:,} parameters here and {parameters:,} in PyTorch: not the same model"
            )
    medians = medians_in_turns(runs, options.repeats, "steps")
    last = list(medians)[-1]
    print(f"| train step, {ours.parameters:,} parameters | ms | images/s | of {last}'s time |\n|---|---|---|---|")
    for name, seconds in medians.items():
        share = seconds / medians[last]
        print(f"| {name} | {1000 * seconds:.0f} | {options.batch_size / seconds:.0f} | {share:.2f} |")
    print(f"{options}, jax {jax.__version__}")


if __name__ == "__main__":
    command_line.run(main, compile_anew=True, training=True)

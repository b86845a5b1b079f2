"""What data parallelism costs: one train step as plain jit, under pmap and under shard_map, alternated.

Usage: python -m experiments.bench.parallel [--devices 8] [--batch-size 64] [--repeats 30]

On the CPU the devices are virtual and share the cores: the arithmetic is the same in all three, and what is above the
plain step is the cost of dividing it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import numpy as np
import optax
import tyro
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments import command_line
from experiments.bench.timing import medians_in_turns
from experiments.errors import UserError
from nvpjax import PixelLikelihood, RealNVP
from nvpjax.parallel import AXIS, parallel_train_step, replicate, shard
from nvpjax.training import TrainState, create_train_state, make_train_step

Run = Callable[[], object]
Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class Arguments:
    devices: int = 8
    """Devices; virtual ones on the CPU."""
    batch_size: int = 64
    """Images a step, over all devices."""
    size: int = 16
    """Height and width of the images, of three channels."""
    features: int = 8
    """Feature maps of the first scale's networks."""
    repeats: int = 30
    """Steps of each kind; the medians count."""


def _model(options: Arguments, axis_name: str | None) -> tuple[Callable, TrainState]:
    shape = (options.size, options.size, 3)
    model = RealNVP(scales=2, features=options.features, blocks=1)
    objective, optimizer = PixelLikelihood(model.build(shape, axis_name=axis_name)), optax.adam(1e-3)
    blank = {"image": np.zeros((2, *shape), np.uint8)}
    init = jax.jit(lambda key: create_train_state(objective, optimizer, key, blank))
    return make_train_step(objective, optimizer, axis_name=axis_name), jax.device_get(init(jax.random.key(0)))


def plain(options: Arguments, batch: Batch) -> Run:
    step, train_state = _model(options, axis_name=None)
    return _repeated(jax.jit(step, donate_argnums=0), jax.device_put(train_state), batch)


def by_pmap(options: Arguments, batch: Batch) -> Run:
    step, train_state = _model(options, AXIS)
    return _repeated(parallel_train_step(step), replicate(train_state), shard(batch, options.devices))


def by_shard_map(options: Arguments, batch: Batch) -> Run:
    step, train_state = _model(options, AXIS)
    mesh = Mesh(np.array(jax.devices()[: options.devices]), (AXIS,))
    everywhere, divided = PartitionSpec(), PartitionSpec(AXIS)
    # check_vma: the step averages by itself, so that its results are the same everywhere.
    mapped = jax.shard_map(
        step, mesh=mesh, in_specs=(everywhere, everywhere, divided), out_specs=everywhere, check_vma=False
    )
    train_state = jax.device_put(train_state, NamedSharding(mesh, everywhere))
    return _repeated(jax.jit(mapped, donate_argnums=0), train_state, batch)


def _repeated(step: Callable, train_state: TrainState, batch: Batch) -> Run:
    def run() -> object:
        nonlocal train_state
        train_state, metrics = step(train_state, jax.random.key(0), batch)
        return metrics

    return run


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.bench.parallel", description=__doc__)
    )
    if min(options.devices, options.repeats) < 1 or options.batch_size % options.devices:
        raise UserError("expected --devices and --repeats of at least 1, and a --batch-size that the devices divide")
    jax.config.update("jax_num_cpu_devices", options.devices)
    rng = np.random.default_rng(0)
    shape = (options.batch_size, options.size, options.size, 3)
    batch = {"image": rng.integers(0, 256, shape).astype(np.uint8)}
    runs = {"plain jit": plain, "pmap": by_pmap, "shard_map": by_shard_map}
    runs = {name: build(options, batch) for name, build in runs.items()}
    medians = medians_in_turns(runs, options.repeats, "steps")
    print(
        f"\n| step on {options.devices} x {jax.devices()[0].device_kind} | median, ms | of plain jit |\n|---|---|---|"
    )
    for name, median in medians.items():
        print(f"| {name} | {1000 * median:.1f} | {median / medians['plain jit']:.2f} |")
    print(f"{options.repeats} steps of each kind, alternated, batch {options.batch_size}, jax {jax.__version__}")


if __name__ == "__main__":
    command_line.run(main)

"""What a train step of each config that two cores train takes, and of each model at a size for a laptop.

Usage: python -m experiments.bench.configs [--rows digits "digits, glow"] [--batch-size 8] [--repeats 5]

Random batches: nothing is read. All take turns in one run, a matrix product too. Operations are the compiler's count of
the step with its layers written out; what goes entry by entry, as the density of an IAF does, is a loop that counts
once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import jax
import tyro

from experiments import command_line
from experiments.bench.programs import matrix_product, train_step
from experiments.bench.timing import medians_in_turns
from experiments.config import Config
from experiments.configs import all_configs
from experiments.errors import UserError
from nvpjax.models import (
    FFJORD,
    IAF,
    MAF,
    NICE,
    FFJORDVectors,
    FlowPlusPlus,
    Glow,
    Jet,
    Model,
    ResidualFlow,
    ResidualFlowVectors,
    SplineCoupling,
    TarFlow,
)

TRAINED: dict[str, int | None] = {
    "digits": None,
    "patches": None,
    "mnist_fast": None,
    "mnist_tarflow": None,
    "mnist": 16,
    "cifar10_fast": None,
    "breast_cancer": None,
}
"""Configs as they are, with a batch size where theirs is for an accelerator."""

OTHER_MODELS: tuple[tuple[str, str, Model], ...] = (
    ("digits", "nice", NICE(layers=4, hidden=(256, 256))),
    ("digits", "glow", Glow(levels=2, depth=4, features=32)),
    ("digits", "flow_plus_plus", FlowPlusPlus(couplings=(2, 1, 1), features=16, blocks=1, components=8)),
    ("digits", "tarflow", TarFlow(patch=2, width=64, layers=4, depth=2, head_width=32)),
    ("digits", "jet", Jet(patch=2, width=64, couplings=10, depth=1, head_width=32)),
    ("digits", "residual_flow", ResidualFlow(scales=2, blocks=2, features=32, dense_blocks=1)),
    ("digits", "ffjord", FFJORD(scales=2, blocks=1, features=(32, 32))),
    ("breast_cancer", "residual_flow_vectors", ResidualFlowVectors(blocks=5)),
    ("breast_cancer", "ffjord_vectors", FFJORDVectors()),
    ("breast_cancer", "maf", MAF(layers=5, hidden=(64, 64))),
    ("breast_cancer", "iaf", IAF(layers=5, hidden=(64, 64))),
    ("breast_cancer", "spline_coupling", SplineCoupling(layers=8, hidden=(64, 64))),
)
"""The models that no config above has, on the data of one."""


def rows() -> dict[str, Config]:
    """What is measured, by name."""
    configs = {name: config for name, (_, config) in all_configs().items()}
    trained = {
        name: _with_batch_size(configs[name], configs[name].training.batch_size if size is None else size)
        for name, size in TRAINED.items()
    }
    others = {f"{data}, {name}": replace(configs[data], model=model) for data, name, model in OTHER_MODELS}
    return {**trained, **others}


def _with_batch_size(config: Config, batch_size: int) -> Config:
    return replace(config, training=replace(config.training, batch_size=batch_size))


@dataclass(frozen=True)
class Arguments:
    rows: tuple[Literal[tuple(rows())], ...] = tuple(rows())
    """Which."""
    batch_size: int | None = None
    """Examples a step; as in training by default, 16 for mnist."""
    matrix: int = 2048
    """Rows and columns of the matrices whose product sets the mark."""
    repeats: int = 5
    """Steps of each, in turns; the medians count."""


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.bench.configs", description=__doc__)
    )
    if min(options.matrix, options.repeats, options.batch_size or 1) < 1 or options.batch_size == 0:
        raise UserError("expected --batch-size, --matrix and --repeats of at least 1")
    configs = {name: rows()[name] for name in options.rows}
    if options.batch_size is not None:
        configs = {name: _with_batch_size(config, options.batch_size) for name, config in configs.items()}
    product = matrix_product(options.matrix)
    programs = {}
    for name, config in configs.items():
        programs[name] = train_step(config)
        print(f"{name}: compiled in {programs[name].compilation:.0f} s", flush=True)
    runs = {"product": product.run, **{name: program.run for name, program in programs.items()}}
    medians = medians_in_turns(runs, options.repeats, "steps")
    mark = product.operations / medians["product"]
    print("| train step | parameters | batch | ms | examples/s | GFLOP | GFLOP/s | of the product's |")
    print("|---|---|---|---|---|---|---|---|")
    for name, config in configs.items():
        seconds, batch_size, program = medians[name], config.training.batch_size, programs[name]
        rate = program.operations / seconds
        print(
            f"| {name} | {program.parameters:,} | {batch_size} | {1000 * seconds:.1f} | {batch_size / seconds:,.0f} | "
            f"{program.operations / 1e9:.3g} | {rate / 1e9:.3g} | {rate / mark:.2f} |"
        )
    print(
        f"{options.matrix} x {options.matrix} product {mark / 1e9:.0f} GFLOP/s, {options.repeats} turns, "
        f"jax {jax.__version__}, {jax.devices()[0].device_kind}"
    )


if __name__ == "__main__":
    command_line.run(main, compile_anew=True, training=True)

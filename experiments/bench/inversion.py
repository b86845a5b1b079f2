"""Samples of a TarFlow by the three ways back: milliseconds, and operations counted.

Usage: python -m experiments.bench.inversion [--number 1 16 64] [--size 28] [--patch 4] [--width 128] [--repeats 5]

Whole passes are the definition, step by step goes with what attention keeps, rounds find blocks of positions at once.
All take turns in one run, with weights away from the start. Operations are those of matrix products, of all turns of
loops; of rounds, whose number depends on the numbers, those of one round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments import command_line
from experiments.bench.products import operations_of_products
from experiments.bench.timing import medians_in_turns
from experiments.errors import UserError
from nvpjax import Autoregressive, Bijector, Flow, Rounds, StepByStep, TarFlow, WholePasses
from nvpjax.combinator import with_leaves
from nvpjax.testing import moved_from_start


@dataclass(frozen=True)
class Arguments:
    number: tuple[int, ...] = (1, 16, 64)
    """Samples at once."""
    size: int = 28
    """Height and width of images of one channel."""
    patch: int = 4
    """Side of patches."""
    width: int = 128
    """Channels of the transformers."""
    layers: int = 4
    """Autoregressive layers."""
    depth: int = 4
    """Blocks of each transformer."""
    block: int = 32
    """Positions that rounds find at once."""
    tolerance: float = 1e-3
    """Of rounds that stop early."""
    moved: float = 0.01
    """How far weights are from the start: normal numbers of this deviation are added."""
    repeats: int = 5
    """Of each, in turns; the medians count."""


def by(inversion, bijector: Bijector) -> Bijector:
    """The bijector with all its autoregressive layers inverted that way."""

    def of_leaf(leaf: Bijector) -> Bijector:
        return replace(leaf, inversion=inversion) if isinstance(leaf, Autoregressive) else leaf

    return with_leaves(of_leaf, bijector)


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.bench.inversion", description=__doc__)
    )
    if min(options.number, default=0) < 1 or options.repeats < 1:
        raise UserError("expected --number and --repeats of at least 1")
    model, shape = TarFlow(options.patch, options.width, options.layers, options.depth), (options.size, options.size, 1)
    try:
        flow = model.build(shape)
    except ValueError as error:
        raise UserError(str(error)) from None
    ways = {
        "whole passes": WholePasses(),
        "step by step": StepByStep(),
        "rounds, exact": Rounds(options.block),
        f"rounds to {options.tolerance:g}": Rounds(options.block, options.tolerance),
    }
    params, state = jax.jit(flow.init)(jax.random.key(0), jnp.zeros((1, *shape)))
    params = moved_from_start(jax.random.key(1), params, options.moved)
    positions = (options.size // options.patch) ** 2
    print(f"| of {positions} positions | samples | ms | ms a sample | GFLOP of products | furthest from whole passes |")
    print("|---|---|---|---|---|---|")
    for number in options.number:
        z = jax.random.normal(jax.random.key(2), (number, positions, options.patch**2))
        flows = {name: Flow(by(way, flow.bijector), flow.base) for name, way in ways.items()}
        programs = {name: jax.jit(lambda z, of=of: of.from_latents(params, state, z)[0]) for name, of in flows.items()}
        medians = medians_in_turns({name: partial(program, z) for name, program in programs.items()}, options.repeats)
        images = {name: np.asarray(program(z)) for name, program in programs.items()}
        for name, seconds in medians.items():
            off = np.abs(images[name] - images["whole passes"]).max()
            done, milliseconds = operations_of_products(programs[name], z) / 1e9, 1000 * seconds
            row = f"{milliseconds:.1f} | {milliseconds / number:.2f} | {done:.3g} | {off:.1e}"
            print(f"| {name} | {number} | {row} |", flush=True)
    print(f"{model}, {options.repeats} turns, jax {jax.__version__}, {jax.devices()[0].device_kind}")


if __name__ == "__main__":
    command_line.run(main, compile_anew=True, training=True)

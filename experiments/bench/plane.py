"""Families of flows of the plane and of the torus: nats at about equal parameters and in equal seconds, and pictures.

Usage: python -m experiments.bench.plane [--seconds 60] [--seeds 3] [--densities ...] [--families ...] [--out FILE.png]

Each family's width is the one that gives it nearest to PARAMETERS, and it takes as many steps of fresh points as fit
into the seconds, compilation apart: processor seconds, so pin it to one core (``taskset -c 0``) for numbers that
compare. The table has nats of 20,000 held-out points above the entropy of the data, where that is known.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from experiments import command_line
from experiments.data.densities import DENSITIES, TORUS, DensityOfThePlane
from experiments.pictures.grids import save_picture
from experiments.pictures.plots import figure
from experiments.runs.files import write_atomically
from experiments.runs.records import RESULTS
from nvpjax import (
    ActNorm,
    Affine,
    Autoregressive,
    BernsteinPolynomial,
    Bijector,
    BlockAutoregressive,
    Chain,
    ChannelMask,
    CircularSpline,
    Coupling,
    Flow,
    InTurn,
    InvertibleResidual,
    Likelihood,
    LogisticMixture,
    Moebius,
    MonotoneIntegral,
    Objective,
    RationalQuadraticSpline,
    Repeat,
    Reverse,
    SumOfSquares,
    UniformCircle,
    Wrap,
)
from nvpjax.bijectors.transforms import Additive, Transform
from nvpjax.continuous import Continuous, FlowMatching
from nvpjax.nets import MADE, MLP, ConcatSquash, ContractiveMLP, OfAngles
from nvpjax.training import TrainState, create_train_state, make_eval_step, make_train_step

PARAMETERS = 20_000
HELD_OUT = 20_000
BATCH_SIZE = 256
ROUND = 10
"""Steps of one compiled loop."""
SIDE = 200
"""Of a density's picture, in points."""

Width = int


def couplings(transform: Transform, width: Width) -> Flow:
    layer = Chain((Coupling(ChannelMask("first"), transform, MLP((width, width))), ActNorm()))
    return Flow(Repeat(layer, 8, alternate=True))


def on_the_torus(transform: Transform, width: Width) -> Flow:
    network = OfAngles(MLP((width, width)), (0,))
    layer = Coupling(ChannelMask("first"), InTurn((transform, Additive())), network)
    return Flow(Chain((Wrap(), Repeat(layer, 6, alternate=True))), UniformCircle())


def autoregressive(transform: Transform, width: Width, layers: int = 4) -> Flow:
    return Flow(Repeat(Chain((Autoregressive(transform, MADE((width, width))), ActNorm(), Reverse())), layers))


def layers(layer: Callable[[Width], Bijector], number: int, width: Width) -> Flow:
    return Flow(Repeat(Chain((ActNorm(), layer(width), Reverse())), number))


def continuous(width: Width) -> Flow:
    return Flow(Continuous(ConcatSquash((width, width, width))))


SIGMOIDAL = InTurn((LogisticMixture(8), LogisticMixture(8)))
OF_THE_PLANE: dict[str, Callable[[Width], Objective]] = {
    "affine couplings": lambda width: Likelihood(couplings(Affine(), width)),
    "spline couplings": lambda width: Likelihood(couplings(RationalQuadraticSpline(8, 5.0), width)),
    "Bernstein couplings": lambda width: Likelihood(couplings(BernsteinPolynomial(16, 5.0), width)),
    # Of degree 7 each: eight in a row would be of degree 7⁸, whose values overflow.
    "sums of squares, autoregressive": lambda width: Likelihood(autoregressive(SumOfSquares(), width, layers=2)),
    "monotone integrals": lambda width: Likelihood(
        couplings(MonotoneIntegral(MLP((16, 16), jax.nn.silu), limit=5.0), width)
    ),
    "deep sigmoidal, autoregressive": lambda width: Likelihood(autoregressive(SIGMOIDAL, width)),
    "splines, autoregressive": lambda width: Likelihood(autoregressive(RationalQuadraticSpline(8, 5.0), width)),
    "block networks": lambda width: Likelihood(layers(lambda width: BlockAutoregressive((width, width)), 4, width)),
    "residual": lambda width: Likelihood(
        layers(lambda width: InvertibleResidual(ContractiveMLP((width, width))), 16, width)
    ),
    "continuous": lambda width: Likelihood(continuous(width)),
    "continuous, by flow matching": lambda width: FlowMatching(continuous(width)),
}
OF_THE_TORUS: dict[str, Callable[[Width], Objective]] = {
    "circular splines": lambda width: Likelihood(on_the_torus(CircularSpline(8), width)),
    "Möbius maps": lambda width: Likelihood(on_the_torus(Moebius(8), width)),
    "splines that know no circle": lambda width: Likelihood(couplings(RationalQuadraticSpline(8, math.pi), width)),
}
COMPARED = {"checkerboard": OF_THE_PLANE, "two_spirals": OF_THE_PLANE, "torus": OF_THE_TORUS}
DATA: dict[str, DensityOfThePlane] = {**DENSITIES, "torus": TORUS}


@dataclass(frozen=True)
class Arguments:
    seconds: float = 60.0
    """Of training, each."""
    seeds: int = 3
    """Trainings of each family on each density."""
    densities: tuple[Literal["checkerboard", "two_spirals", "torus"], ...] = tuple(COMPARED)
    """What to learn."""
    families: tuple[str, ...] = ()
    """By name; all by default."""
    learning_rate: float = 3e-3
    """Adam's highest; it falls to 0 along a cosine."""
    out: Path = RESULTS / "plane" / "plane.png"
    """Picture; the numbers go into a file of the same name that ends in .json."""


class Result(NamedTuple):
    nats: float
    steps: int
    parameters: int
    density: np.ndarray
    """On a grid over the data."""


def number_of_parameters(objective: Objective) -> int:
    batch = {"x": jax.ShapeDtypeStruct((2, 2), jnp.float32)}
    params, _ = jax.eval_shape(objective.init, jax.random.key(0), batch)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def of_size(family: Callable[[Width], Objective]) -> Objective:
    """The width that comes nearest to PARAMETERS."""
    low, high = 1, 512
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if number_of_parameters(family(middle)) <= PARAMETERS else (low, middle)
    return min((family(low), family(high)), key=lambda flow: abs(number_of_parameters(flow) - PARAMETERS))


def train(objective: Objective, data: DensityOfThePlane, options: Arguments, seed: int) -> tuple[TrainState, int]:
    """Take as many steps as fit into the seconds: the first rounds tell how many."""
    rng, key = np.random.default_rng(seed), jax.random.key(seed)

    def points():
        drawn = rng.permutation(data.sample(rng, ROUND * BATCH_SIZE))
        return jnp.asarray(drawn, jnp.float32).reshape(ROUND, BATCH_SIZE, 2)

    optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.inject_hyperparams(optax.adam)(0.0))
    step = make_train_step(objective, optimizer)
    start = jax.jit(lambda key, x: create_train_state(objective, optimizer, key, {"x": x}))

    @jax.jit
    def go(state, x, rate):
        clip, adam = state.optimizer_state
        adam = adam._replace(hyperparams={**adam.hyperparams, "learning_rate": rate})
        state = state._replace(optimizer_state=(clip, adam))
        return jax.lax.scan(lambda state, x: step(state, key, {"x": x}), state, x)[0]

    state = jax.block_until_ready(go(start(key, points()[0]), points(), jnp.float32(1e-4)))
    begin = time.process_time()
    for _ in range(3):
        state = jax.block_until_ready(go(state, points(), jnp.float32(1e-4)))
    rounds = max(10, round(3 * options.seconds / (time.process_time() - begin)))
    rate = optax.warmup_cosine_decay_schedule(0.0, options.learning_rate, rounds // 10, rounds)
    state = start(key, points()[0])
    for number in range(rounds):
        state = jax.block_until_ready(go(state, points(), jnp.float32(rate(number + 1))))
    return state, rounds * ROUND


def run(family: Callable[[Width], Objective], data: DensityOfThePlane, options: Arguments, seed: int) -> Result:
    objective = of_size(family)
    state, steps = train(objective, data, options, seed)
    evaluate = jax.jit(make_eval_step(objective))

    def nats(points):
        parts = jnp.asarray(points, jnp.float32).reshape(-1, 2000, 2)
        return np.concatenate([evaluate(*state.evaluated, jax.random.key(0), {"x": part}) for part in parts])

    held_out = data.sample(np.random.default_rng(10_000 + seed), HELD_OUT)
    return Result(float(nats(held_out).mean()), steps, number_of_parameters(objective), np.exp(-nats(_grid(data))))


def _limits(data: DensityOfThePlane) -> np.ndarray:
    points = data.sample(np.random.default_rng(0), HELD_OUT)
    low, high = points.min(axis=0), points.max(axis=0)
    return np.stack([low - 0.05 * (high - low), high + 0.05 * (high - low)], axis=1)


def _grid(data: DensityOfThePlane) -> np.ndarray:
    axes = [np.linspace(*side, SIDE) for side in _limits(data)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def draw(path: Path, densities: dict[str, dict[str, np.ndarray]], titles: dict[tuple[str, str], str]) -> None:
    """A row a density: the data, then each family's density."""
    columns = 1 + max(map(len, densities.values()))
    page, axes = figure(len(densities), columns, size=(2.2 * columns, 2.5 * len(densities)), squeeze=False)
    for row, (name, families) in zip(axes, densities.items()):
        limits = _limits(DATA[name])
        points = DATA[name].sample(np.random.default_rng(1), 4000)
        row[0].scatter(*points.T, s=1, linewidths=0, color="0.2")
        row[0].set_title(f"{name.replace('_', ' ')}: data", fontsize=8)
        row[0].set(xlim=limits[0], ylim=limits[1])
        for axis in row[len(families) + 1 :]:
            axis.set_axis_off()
        for axis, (family, density) in zip(row[1:], families.items()):
            image = density.reshape(SIDE, SIDE).T
            brightest = np.quantile(image, 0.995)
            axis.imshow(image, origin="lower", extent=limits.ravel(), aspect="auto", cmap="magma", vmax=brightest)
            axis.set_title(titles[name, family], fontsize=8)
        for axis in row:
            axis.set(xticks=[], yticks=[])
    save_picture(path, page.savefig)


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.bench.plane", description=__doc__)
    )
    numbers, densities, titles = [], {}, {}
    print("| density | family | parameters | steps | nats, median of seeds | spread |\n" + "|---" * 6 + "|")
    for name in options.densities:
        entropy = DATA[name].entropy or 0.0
        for family, make in COMPARED[name].items():
            if options.families and family not in options.families:
                continue
            results = list(map(partial(run, make, DATA[name], options), range(options.seeds)))
            above = [result.nats - entropy for result in results]
            middle = statistics.median(above)
            densities.setdefault(name, {})[family] = results[0].density
            titles[name, family] = f"{family}\n{above[0]:.3f} nats"
            numbers.append(
                {
                    "density": name,
                    "family": family,
                    "parameters": results[0].parameters,
                    "steps": [result.steps for result in results],
                    "nats": [result.nats for result in results],
                    "entropy": DATA[name].entropy,
                }
            )
            steps = statistics.median(result.steps for result in results)
            print(
                f"| {name} | {family} | {results[0].parameters:,} | {steps:,.0f} | {middle:.3f} "
                f"| {max(above) - min(above):.3f} |",
                flush=True,
            )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    draw(options.out, densities, titles)
    record = {"seconds": options.seconds, "learning_rate": options.learning_rate, "rows": numbers}
    write_atomically(options.out.with_suffix(".json"), json.dumps(record, indent=1) + "\n")
    print(f"plane: {len(numbers)} rows of {options.seeds} seeds; picture in {options.out}, numbers beside it")


if __name__ == "__main__":
    command_line.run(main)

"""Families of flows of the plane and of the torus: nats at about equal parameters and in equal seconds, and pictures.

Usage: python -m experiments.bench.plane [--seconds 60] [--seeds 3] [--densities ...] [--families ...] [--out FILE.png]

Each family's width is the one that gives it nearest to PARAMETERS, and it takes as many steps of fresh points as fit
into the seconds, compilation apart: processor seconds, so pin it to one core (``taskset -c 0``) for numbers that
compare. The table has nats of 20,000 held-out points above the entropy of the data, where that is known. What is
through is in OUT and beside it, and is not trained again.
"""

from __future__ import annotations

import io
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
from experiments.bench.flows_of_the_plane import OF_THE_PLANE, OF_THE_TORUS, Width
from experiments.data.densities import DENSITIES, TORUS, DensityOfThePlane
from experiments.errors import UserError
from experiments.pictures.grids import save_picture
from experiments.pictures.plots import figure
from experiments.runs.files import write_atomically
from experiments.runs.records import RESULTS
from nvpjax import Objective
from nvpjax.training import TrainState, create_train_state, make_eval_step, make_train_step

PARAMETERS = 20_000
HELD_OUT = 20_000
BATCH_SIZE = 256
ROUND = 10
"""Steps of one compiled loop."""
SIDE = 200
"""Of a density's picture, in points."""

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


SETTINGS = ("seconds", "seeds", "learning_rate")
"""Which rows that compare have in common."""


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


def draw(path: Path, kept: Kept) -> None:
    """A row a density: the data, then each family's density."""
    names = list(dict.fromkeys(row["density"] for row in kept.rows))
    columns = 1 + max(sum(row["density"] == name for row in kept.rows) for name in names)
    page, axes = figure(len(names), columns, size=(2.2 * columns, 2.5 * len(names)), squeeze=False)
    for name, places in zip(names, axes):
        limits, rows = _limits(DATA[name]), [row for row in kept.rows if row["density"] == name]
        points = DATA[name].sample(np.random.default_rng(1), 4000)
        places[0].scatter(*points.T, s=1, linewidths=0, color="0.2")
        places[0].set_title(f"{name.replace('_', ' ')}: data", fontsize=8)
        places[0].set(xlim=limits[0], ylim=limits[1])
        for axis in places[len(rows) + 1 :]:
            axis.set_axis_off()
        for axis, row in zip(places[1:], rows):
            image = kept.density(row).reshape(SIDE, SIDE).T
            brightest = np.quantile(image, 0.995)
            axis.imshow(image, origin="lower", extent=limits.ravel(), aspect="auto", cmap="magma", vmax=brightest)
            axis.set_title(f"{row['family']}\n{row['nats'][0] - (row['entropy'] or 0.0):.3f} nats", fontsize=8)
        for axis in places:
            axis.set(xticks=[], yticks=[])
    save_picture(path, page.savefig)


class Kept:
    """What is through: rows of numbers in a file of JSON beside the picture, densities in one of numpy."""

    def __init__(self, options: Arguments):
        self._picture, self._settings = options.out, {key: getattr(options, key) for key in SETTINGS}
        self.rows: list[dict] = []
        self.densities: dict[str, np.ndarray] = {}
        if self._numbers.exists():
            record = json.loads(self._numbers.read_text())
            held = {key: record.get(key) for key in SETTINGS}
            if held != self._settings:
                raise UserError(f"{self._numbers} is of {held}, not of {self._settings}: name another file (--out)")
            if self._arrays.exists():
                with np.load(self._arrays) as arrays:
                    self.densities = dict(arrays)
            # Numbers are committed, densities are not: what cannot be drawn is trained again.
            self.rows = [row for row in record["rows"] if self._name(row) in self.densities]

    @property
    def _numbers(self) -> Path:
        return self._picture.with_suffix(".json")

    @property
    def _arrays(self) -> Path:
        return self._picture.with_suffix(".npz")

    def density(self, row: dict) -> np.ndarray:
        return self.densities[self._name(row)]

    def _name(self, row):
        return f"{row['density']}, {row['family']}"

    def row(self, density: str, family: str) -> dict | None:
        return next((row for row in self.rows if (row["density"], row["family"]) == (density, family)), None)

    def add(self, row: dict, density: np.ndarray) -> None:
        self.rows.append(row)
        self.densities[self._name(row)] = density.astype(np.float32)
        self._picture.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **self.densities)
        write_atomically(self._arrays, buffer.getvalue())  # first: numbers without a density would be no row
        write_atomically(self._numbers, json.dumps({**self._settings, "rows": self.rows}, indent=1) + "\n")


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.bench.plane", description=__doc__)
    )
    kept = Kept(options)
    print("| density | family | parameters | steps | nats, median of seeds | spread |\n" + "|---" * 6 + "|")
    for name in options.densities:
        for family, make in COMPARED[name].items():
            if options.families and family not in options.families:
                continue
            if kept.row(name, family) is None:
                results = list(map(partial(run, make, DATA[name], options), range(options.seeds)))
                row = {
                    "density": name,
                    "family": family,
                    "parameters": results[0].parameters,
                    "steps": [result.steps for result in results],
                    "nats": [result.nats for result in results],
                    "entropy": DATA[name].entropy,
                }
                kept.add(row, results[0].density)
            print(line(kept.row(name, family)), flush=True)
    draw(options.out, kept)
    print(f"plane: {len(kept.rows)} rows of {options.seeds} seeds; picture in {options.out}, numbers beside it")


def line(row: dict) -> str:
    above, steps = [nats - (row["entropy"] or 0.0) for nats in row["nats"]], statistics.median(row["steps"])
    return (
        f"| {row['density']} | {row['family']} | {row['parameters']:,} | {steps:,.0f} "
        f"| {statistics.median(above):.3f} | {max(above) - min(above):.3f} |"
    )


if __name__ == "__main__":
    command_line.run(main)

"""Data with heavy tails by flows with and without parts that have them: held-out nats, and the tails' exponents.

Usage: python -m experiments.bench.tails [--seeds 3] [--rows 5000] [--out FILE.json]

Two columns, sums of two independent Student's t of so many degrees; of one degree they are Cauchy's. Nats are of 20,000
held-out rows, above the entropy. The exponent is Hill's estimate from the largest 200 of 20,000 draws (their distance
from the median): of a tail that falls as |x| to the power −(a + 1) it is near a, of a normal's large.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import tyro
from scipy import stats

from experiments import command_line
from experiments.runs.files import write_atomically
from nvpjax import (
    ActNorm,
    Affine,
    Bijector,
    Chain,
    ChannelMask,
    Coupling,
    Flow,
    HeavyTails,
    RationalQuadraticSpline,
    Repeat,
    StudentT,
    fit,
)
from nvpjax.nets import MLP

HELD_OUT = 20_000
LARGEST = 200
MIXING = np.array([[1.0, 0.0], [0.7, 0.6]])


@dataclass(frozen=True)
class Arguments:
    seeds: int = 3
    """Draws of the data, with weights of their own."""
    rows: int = 5_000
    """To train on; a tenth of them to stop by."""
    degrees: tuple[float, ...] = (1.0, 2.0, 5.0)
    """Of freedom, of the data."""
    out: Path | None = None
    """File for the numbers."""


def couplings(transform) -> Bijector:
    return Repeat(Chain((ActNorm(), Coupling(ChannelMask("first"), transform, MLP((64, 64))))), 6, alternate=True)


def _flows(transform) -> dict[str, Flow]:
    return {
        "normal base": Flow(couplings(transform)),
        "Student's t for a base": Flow(couplings(transform), StudentT()),
        "heavy tails first, normal base": Flow(Chain((HeavyTails(), couplings(transform)))),
    }


FLOWS: dict[str, dict[str, Flow]] = {
    "affine couplings": _flows(Affine()),
    "spline couplings": _flows(RationalQuadraticSpline(8, 5.0)),
}


def draw(rng: np.random.Generator, degrees: float, number: int) -> np.ndarray:
    return (rng.standard_t(degrees, (number, 2)) @ MIXING.T).astype(np.float32)


def entropy(degrees: float) -> float:
    return 2 * float(stats.t(degrees).entropy()) + np.log(abs(np.linalg.det(MIXING)))


def exponent(x: np.ndarray) -> float:
    """Hill's estimate for the distance from the median."""
    size = np.sort(np.linalg.norm(x - np.median(x, axis=0), axis=1))[-LARGEST:]
    return float(1 / np.mean(np.log(size[1:] / size[0])))


def run(flow: Flow, degrees: float, options: Arguments, seed: int) -> tuple[float, float]:
    """Held-out nats above the entropy, and the exponent of draws."""
    rng, key = np.random.default_rng(seed), jax.random.key(seed)
    density, _ = fit(key, flow, draw(rng, degrees, options.rows), progress=False)
    held_out = draw(np.random.default_rng(10_000 + seed), degrees, HELD_OUT)
    nats = -np.mean(np.asarray(density.log_prob(held_out), np.float64))
    return nats - entropy(degrees), exponent(np.asarray(density.sample(jax.random.fold_in(key, 1), HELD_OUT)))


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.bench.tails", description=__doc__)
    )
    rows = []
    print("| degrees | flow | with | nats above the entropy, median | worst seed | exponent of draws, of data |")
    print("|---" * 6 + "|")
    for degrees in options.degrees:
        of_data = exponent(draw(np.random.default_rng(0), degrees, HELD_OUT))
        for family, flows in FLOWS.items():
            for name, flow in flows.items():
                nats, exponents = zip(*(run(flow, degrees, options, seed) for seed in range(options.seeds)))
                print(
                    f"| {degrees:g} | {family} | {name} | {statistics.median(nats):.3f} | {max(nats):.3f} "
                    f"| {statistics.median(exponents):.2f}, {of_data:.2f} |",
                    flush=True,
                )
                rows.append({"degrees": degrees, "family": family, "with": name, "nats": nats, "exponents": exponents})
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.out, json.dumps({"rows": rows}, indent=1) + "\n")
    print(f"tails: {len(rows)} rows of {options.seeds} seeds" + (f", numbers in {options.out}" if options.out else ""))


if __name__ == "__main__":
    command_line.run(main)

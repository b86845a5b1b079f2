"""A flow of vectors by this library and its peers, in turns: first step, train step, densities, samples.

Usage: python -m experiments.bench.vectors [--layers 8 16 32 64] [--transform affine] [--repeats 7]

The peers are the extra "peers" and, with torch, the extra "peers-torch"; those that are not installed are left out.
"networks" is no flow but the products of the networks alone, which no library can do without.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
import tyro

from experiments import command_line
from experiments.bench.contenders import CONTENDERS, Contender, Sizes, Transform
from experiments.bench.timing import medians_in_turns

KINDS = ("step", "log_prob", "sample")
OWN = ("nvpjax", "networks")
"""What is no peer."""


@dataclass(frozen=True)
class Arguments:
    layers: tuple[int, ...] = (8, 16, 32, 64)
    """Numbers of couplings."""
    transform: Transform = "affine"
    """What a coupling does to an entry."""
    contenders: tuple[str, ...] = tuple(CONTENDERS)
    """Which libraries."""
    entries: int = 64
    """Of a vector."""
    hidden: int = 256
    """Width of each network's two hidden layers."""
    bins: int = 8
    """Of splines."""
    batch_size: int = 512
    """Vectors a train step."""
    points: int = 4096
    """Vectors whose densities are asked for, and samples."""
    repeats: int = 7
    """Of each, in turns; the medians count."""


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.bench.vectors", description=__doc__)
    )
    rng = np.random.default_rng(0)
    batch = rng.normal(size=(options.batch_size, options.entries)).astype(np.float32)
    points = rng.normal(size=(options.points, options.entries)).astype(np.float32)
    installed = [name for name in options.contenders if name == "networks" or importlib.util.find_spec(name)]
    print(f"| layers | library | first step, s | {' | '.join(f'{kind}, ms | of best peer' for kind in KINDS)} |")
    print("|---" * (3 + 2 * len(KINDS)) + "|")
    worst = dict.fromkeys(KINDS, 0.0)
    for layers in options.layers:
        sizes = Sizes(layers, options.entries, options.hidden, options.bins, limit=4.0)
        built: dict[str, Contender] = {}
        first: dict[str, float] = {}
        for name in installed:
            begin = time.perf_counter()
            built[name] = CONTENDERS[name](options.transform, sizes, batch, points)
            jax.block_until_ready(built[name].step())
            first[name] = time.perf_counter() - begin
        medians = {}
        for kind in KINDS:
            runs = {name: getattr(contender, kind) for name, contender in built.items()}
            medians[kind] = medians_in_turns(runs, options.repeats, f"{layers} layers, {kind}")
        for name in installed:
            cells = [f"{layers} | {name} | {first[name]:.1f}"]
            for kind in KINDS:
                best = min((value for peer, value in medians[kind].items() if peer not in OWN), default=float("nan"))
                ratio = medians[kind][name] / best
                cells.append(f"{1000 * medians[kind][name]:.0f} | {ratio:.2f}")
                if name == "nvpjax":
                    worst[kind] = max(worst[kind], ratio)
            print(f"| {' | '.join(cells)} |", flush=True)
    ratios = ", ".join(f"{kind} {ratio:.2f}" for kind, ratio in worst.items())
    print(
        f"nvpjax at worst, of the best peer: {ratios}; {options.transform}, {options.repeats} turns, "
        f"jax {jax.__version__}"
    )


if __name__ == "__main__":
    command_line.run(main, compile_anew=True)

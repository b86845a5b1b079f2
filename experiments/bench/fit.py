"""From a table to a density by this library and flowjax, with defaults: test nats, seconds, the lines a caller types.

Usage: python -m experiments.bench.fit [--seeds 5] [--models maf spline_coupling]

The table is scikit-learn's breast_cancer: 569 rows of 30 columns; for each seed 60 % of the rows to train on, 20 % to
stop by, 20 % to test on, the same for both. Columns are standardised by the first 80 %, whose shares each library draws
by itself. flowjax is of the extra "peers"; where it is not installed it is left out. N(0, I) is there to compare with.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import statistics
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.progress import track
from sklearn.datasets import load_breast_cancer

from experiments import command_line

VALIDATION = 0.25
"""Of the 80 % that are not tested on."""


@dataclass(frozen=True)
class Arguments:
    seeds: int = 5
    """Divisions of the rows, with weights of their own."""
    models: tuple[str, ...] = ("maf", "spline_coupling")
    """Which flows."""


def nvpjax_maf(key, x, validation):
    from nvpjax import MAF, fit

    density, _ = fit(key, MAF().build(x.shape[1:]), x, validation=validation)
    return density


def nvpjax_spline_coupling(key, x, validation):
    from nvpjax import SplineCoupling, fit

    density, _ = fit(key, SplineCoupling().build(x.shape[1:]), x, validation=validation)
    return density


def flowjax_maf(key, x, validation):
    from flowjax.distributions import Normal
    from flowjax.flows import masked_autoregressive_flow
    from flowjax.train import fit_to_data

    flow_key, fit_key = jax.random.split(key)
    flow = masked_autoregressive_flow(flow_key, base_dist=Normal(jnp.zeros(x.shape[1])))
    density, _ = fit_to_data(fit_key, flow, x, val_prop=validation)
    return density


def flowjax_spline_coupling(key, x, validation):
    from flowjax.bijections import RationalQuadraticSpline
    from flowjax.distributions import Normal
    from flowjax.flows import coupling_flow
    from flowjax.train import fit_to_data

    flow_key, fit_key = jax.random.split(key)
    base, spline = Normal(jnp.zeros(x.shape[1])), RationalQuadraticSpline(knots=8, interval=4)
    flow = coupling_flow(flow_key, base_dist=base, transformer=spline)
    density, _ = fit_to_data(fit_key, flow, x, val_prop=validation)
    return density


CALLERS = {
    "maf": {"nvpjax": nvpjax_maf, "flowjax": flowjax_maf},
    "spline_coupling": {"nvpjax": nvpjax_spline_coupling, "flowjax": flowjax_spline_coupling},
}


def divided(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows to fit, and those to test on."""
    x = load_breast_cancer().data
    x, cut = np.random.default_rng(seed).permutation(x), round(0.8 * len(x))
    standard = (x - x[:cut].mean(axis=0)) / x[:cut].std(axis=0)
    return standard[:cut], standard[cut:]


def lines_of(caller: Callable) -> str:
    """What a caller types: the function without its head and its end."""
    body = textwrap.dedent("".join(inspect.getsourcelines(caller)[0][1:-1]))
    return "\n".join(line for line in body.splitlines() if line)


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.bench.fit", description=__doc__)
    )
    print("| flow | library | test nats | ± over seeds | seconds, median | lines |")
    print("|---|---|---|---|---|---|")
    results: dict[str, float] = {}
    for model in options.models:
        for library, caller in CALLERS[model].items():
            if importlib.util.find_spec(library) is None:
                continue
            nats, seconds = [], []
            for seed in track(range(options.seeds), f"{model}, {library}", transient=True):
                x, test = divided(seed)
                begin = time.perf_counter()
                density = jax.block_until_ready(caller(jax.random.key(seed), x, VALIDATION))
                seconds.append(time.perf_counter() - begin)
                nats.append(-float(np.mean(density.log_prob(jnp.asarray(test, jnp.float32)))))
            spread = statistics.stdev(nats) if len(nats) > 1 else math.nan
            results[f"{model} {library}"] = statistics.mean(nats)
            print(
                f"| {model} | {library} | {statistics.mean(nats):.2f} | {spread:.2f} | "
                f"{statistics.median(seconds):.1f} | {len(lines_of(caller).splitlines())} |",
                flush=True,
            )
    for model in options.models:
        for library, caller in CALLERS[model].items():
            print(f"\n{model}, {library}:\n{textwrap.indent(lines_of(caller), '    ')}")
    baseline = statistics.mean(
        float(np.mean(np.sum(0.5 * test**2 + 0.5 * math.log(2 * math.pi), axis=1)))
        for _, test in map(divided, range(options.seeds))
    )
    means = ", ".join(f"{name} {value:.2f}" for name, value in results.items())
    print(f"\ntest nats: {means}, N(0, I) {baseline:.2f}; {options.seeds} seeds, jax {jax.__version__}")


if __name__ == "__main__":
    command_line.run(main, compile_anew=True)

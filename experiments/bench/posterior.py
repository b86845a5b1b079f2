"""From the same simulations to a posterior by this library, flowjax and sbi: nats from the exact posterior, seconds.

Usage: python -m experiments.bench.posterior [--seeds 3] [--simulations 10000] [--tasks two_moons gaussian_linear]

Two tasks whose posterior is known (Lueckmann, Boelts, Greenberg, Gonçalves, Macke, *Benchmarking simulation-based
inference*, 2021, appendix T). What is measured is the mean of log p(θ | x) − log q(θ | x) over fresh pairs, which is
KL(p ‖ q) averaged over x. Every library's flow is fitted with its own defaults of training. Two moons' prior has a
border: "mapped" flows have a fixed map from the plane onto the square at their end; "cut off" ones have none, and are
divided by the share of their draws that are in the square, as sbi does. flowjax is of the extra "peers", sbi of
"peers-torch"; what is not installed is left out.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
import math
import statistics
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.progress import track
from scipy.stats import norm

from experiments import command_line

FRESH = 5000
"""Pairs that the gap is a mean of."""
DRAWS = 500
"""For each x, to find the share inside of the square."""


@dataclass(frozen=True)
class Arguments:
    seeds: int = 3
    """Simulations and weights anew."""
    simulations: int = 10_000
    """To fit to."""
    tasks: tuple[str, ...] = ("two_moons", "gaussian_linear")
    """Which of the two."""
    libraries: tuple[str, ...] = ("nvpjax", "flowjax", "sbi")
    """Which of those that are installed."""


def moved(theta: np.ndarray) -> np.ndarray:
    """Where two moons' half circle is put by θ."""
    along, across = (theta[:, 0] + theta[:, 1]) / math.sqrt(2), (theta[:, 1] - theta[:, 0]) / math.sqrt(2)
    return np.stack([0.25 - np.abs(along), across], axis=1)


def half_circle(angle: np.ndarray, radius: np.ndarray) -> np.ndarray:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)


def two_moons(random: np.random.Generator, number: int) -> tuple[np.ndarray, np.ndarray]:
    theta = random.uniform(-1, 1, (number, 2))
    angle, radius = random.uniform(-np.pi / 2, np.pi / 2, number), random.normal(0.1, 0.01, number)
    return theta, half_circle(angle, radius) + moved(theta)


def two_moons_log_likelihood(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    point = x - moved(theta)
    radius = np.linalg.norm(point, axis=1)
    return np.where(point[:, 0] > 0, norm.logpdf(radius, 0.1, 0.01) - np.log(np.pi * radius), -np.inf)


def two_moons_log_total(x: np.ndarray) -> np.ndarray:
    """log ∫ p(x | θ) dθ over the prior's square, of each row.

    By going back from points of the half circle, even in probability: each is moved to x by two θ at most.
    """
    angles = np.pi * ((np.arange(400) + 0.5) / 400 - 0.5)
    radii = norm.ppf((np.arange(50) + 0.5) / 50, 0.1, 0.01)
    points = half_circle(*np.meshgrid(angles, radii)).reshape(-1, 2)
    totals = []
    for row in x:
        along, across = points[:, 0] + 0.25 - row[0], row[1] - points[:, 1]
        totals.append(2 * np.mean((along > 0) & (along + np.abs(across) < math.sqrt(2))))
    return np.log(totals)


def two_moons_log_posterior(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    return two_moons_log_likelihood(theta, x) - two_moons_log_total(x)


def gaussian_linear(random: np.random.Generator, number: int) -> tuple[np.ndarray, np.ndarray]:
    theta = random.normal(0, math.sqrt(0.1), (number, 10))
    return theta, theta + random.normal(0, math.sqrt(0.1), (number, 10))


def gaussian_linear_log_posterior(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    return norm.logpdf(theta, x / 2, math.sqrt(0.05)).sum(axis=1)


def nvpjax_mapped(seed, theta, x):
    from nvpjax import MAF, Chain, FixedAffine, Flow, Logit, fit

    model = MAF(layers=5, hidden=(64, 64), transform="spline").build((2,))
    flow = Flow(Chain((FixedAffine(0.5, 0.5), Logit(0.05), model.bijector)), model.base)
    density, _ = fit(jax.random.key(seed), flow, theta, x)
    return density.log_prob


def nvpjax_cut_off(seed, theta, x):
    from nvpjax import MAF, Chain, FixedAffine, Flow, fit

    model = MAF(layers=5, hidden=(64, 64), transform="spline").build((2,))
    flow = Flow(Chain((FixedAffine(3**0.5), model.bijector)), model.base)
    density, _ = fit(jax.random.key(seed), flow, theta, x)
    draw = jax.jit(lambda x: density.sample(jax.random.key(0), DRAWS * len(x), jnp.tile(x, (DRAWS, 1))))
    return cut_off(density.log_prob, lambda x: draw(x).reshape(DRAWS, len(x), 2))


def nvpjax_gaussian_linear(seed, theta, x):
    from nvpjax import MAF, fit

    density, _ = fit(jax.random.key(seed), MAF(layers=5, hidden=(64, 64)).build((10,)), theta, x)
    return density.log_prob


def flowjax_mapped(seed, theta, x):
    from flowjax.bijections import RationalQuadraticSpline, Tanh
    from flowjax.distributions import StandardNormal, Transformed
    from flowjax.flows import masked_autoregressive_flow
    from flowjax.train import fit_to_data

    flow_key, fit_key = jax.random.split(jax.random.key(seed))
    spline = RationalQuadraticSpline(knots=8, interval=4)
    flow = masked_autoregressive_flow(flow_key, base_dist=StandardNormal((2,)), cond_dim=2, transformer=spline)
    density, _ = fit_to_data(fit_key, Transformed(flow, Tanh((2,))), (theta, x))
    return density.log_prob


def flowjax_cut_off(seed, theta, x):
    from flowjax.bijections import RationalQuadraticSpline
    from flowjax.distributions import StandardNormal
    from flowjax.flows import masked_autoregressive_flow
    from flowjax.train import fit_to_data

    flow_key, fit_key = jax.random.split(jax.random.key(seed))
    spline = RationalQuadraticSpline(knots=8, interval=4)
    flow = masked_autoregressive_flow(flow_key, base_dist=StandardNormal((2,)), cond_dim=2, transformer=spline)
    density, _ = fit_to_data(fit_key, flow, (theta, x))
    return cut_off(density.log_prob, lambda x: density.sample(jax.random.key(0), (DRAWS,), condition=x))


def flowjax_gaussian_linear(seed, theta, x):
    from flowjax.distributions import StandardNormal
    from flowjax.flows import masked_autoregressive_flow
    from flowjax.train import fit_to_data

    flow_key, fit_key = jax.random.split(jax.random.key(seed))
    flow = masked_autoregressive_flow(flow_key, base_dist=StandardNormal((10,)), cond_dim=10)
    density, _ = fit_to_data(fit_key, flow, (theta, x))
    return density.log_prob


def sbi_mapped(seed, theta, x):
    import torch
    from sbi.inference import NPE
    from sbi.neural_nets import posterior_nn
    from sbi.utils import BoxUniform

    torch.manual_seed(seed)
    prior = BoxUniform(-torch.ones(2), torch.ones(2))
    network = posterior_nn("zuko_nsf", z_score_theta="transform_to_unconstrained", x_dist=prior)
    inference = NPE(prior, density_estimator=network)
    estimator = inference.append_simulations(torch.from_numpy(theta), torch.from_numpy(x)).train()
    return of_torch(estimator)


def sbi_cut_off(seed, theta, x):
    import torch
    from sbi.inference import NPE
    from sbi.utils import BoxUniform

    torch.manual_seed(seed)
    inference = NPE(BoxUniform(-torch.ones(2), torch.ones(2)), density_estimator="nsf")
    estimator = inference.append_simulations(torch.from_numpy(theta), torch.from_numpy(x)).train()
    return cut_off(of_torch(estimator), lambda x: estimator.sample((DRAWS,), torch.from_numpy(x)).detach().numpy())


def sbi_gaussian_linear(seed, theta, x):
    import torch
    from sbi.inference import NPE

    torch.manual_seed(seed)
    prior = torch.distributions.MultivariateNormal(torch.zeros(10), 0.1 * torch.eye(10))
    inference = NPE(prior, density_estimator="maf")
    estimator = inference.append_simulations(torch.from_numpy(theta), torch.from_numpy(x)).train()
    return of_torch(estimator)


def of_torch(estimator) -> Callable:
    import torch

    def log_prob(theta, x):
        with torch.no_grad():
            return estimator.log_prob(torch.from_numpy(theta)[None], torch.from_numpy(x))[0].numpy()

    return log_prob


def cut_off(log_prob: Callable, sample: Callable) -> Callable:
    """The density of what lies in the square: q over the share of its draws there; ``sample(x)`` gives them first."""

    def log_prob_inside(theta, x):
        parts = np.array_split(x, max(1, len(x) // 50))
        shares = [np.mean(np.all(np.abs(np.asarray(sample(part))) < 1, axis=-1), axis=0) for part in parts]
        return np.asarray(log_prob(theta, x)) - np.log(np.concatenate(shares))

    return log_prob_inside


class Task(NamedTuple):
    simulate: Callable
    log_posterior: Callable
    log_prior: Callable
    callers: dict[str, Callable]


TASKS = {
    "two_moons": Task(
        two_moons,
        two_moons_log_posterior,
        lambda theta: np.full(len(theta), -math.log(4)),
        {
            "nvpjax, mapped": nvpjax_mapped,
            "nvpjax, cut off": nvpjax_cut_off,
            "flowjax, mapped": flowjax_mapped,
            "flowjax, cut off": flowjax_cut_off,
            "sbi, mapped": sbi_mapped,
            "sbi, cut off": sbi_cut_off,
        },
    ),
    "gaussian_linear": Task(
        gaussian_linear,
        gaussian_linear_log_posterior,
        lambda theta: norm.logpdf(theta, 0, math.sqrt(0.1)).sum(axis=1),
        {"nvpjax": nvpjax_gaussian_linear, "flowjax": flowjax_gaussian_linear, "sbi": sbi_gaussian_linear},
    ),
}


def lines_of(caller: Callable) -> str:
    """What a caller types: the function without its head and its end."""
    body = textwrap.dedent("".join(inspect.getsourcelines(caller)[0][1:-1]))
    return "\n".join(line for line in body.splitlines() if line)


def gap(task: Task, caller: Callable, seed: int, simulations: int) -> tuple[float, float]:
    """Nats from the exact posterior, and the seconds of the fit."""
    random = np.random.default_rng(seed)
    simulated, (theta, x) = task.simulate(random, simulations), task.simulate(random, FRESH)
    theta, x = theta.astype(np.float32), x.astype(np.float32)
    begin = time.perf_counter()
    # sbi writes a line an epoch, and a folder of events where it is run.
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        log_prob = caller(seed, *(each.astype(np.float32) for each in simulated))
    seconds = time.perf_counter() - begin
    return float(np.mean(task.log_posterior(theta, x) - np.asarray(log_prob(theta, x)))), seconds


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.bench.posterior", description=__doc__)
    )
    print("| task | library | nats from the posterior | ± over seeds | seconds, median | lines |")
    print("|---|---|---|---|---|---|")
    typed = []
    for name in options.tasks:
        task = TASKS[name]
        for contender, caller in task.callers.items():
            library = contender.split(",")[0]
            if library not in options.libraries or importlib.util.find_spec(library) is None:
                continue
            found = [
                gap(task, caller, seed, options.simulations)
                for seed in track(range(options.seeds), f"{name}, {contender}", transient=True)
            ]
            gaps, seconds = zip(*found)
            spread = statistics.stdev(gaps) if len(gaps) > 1 else math.nan
            lines = lines_of(caller)
            typed.append(f"{name}, {contender}:\n{textwrap.indent(lines, '    ')}")
            print(
                f"| {name} | {contender} | {statistics.mean(gaps):.3f} | {spread:.3f} | "
                f"{statistics.median(seconds):.1f} | {len(lines.splitlines())} |",
                flush=True,
            )
        theta, x = task.simulate(np.random.default_rng(0), FRESH)
        prior = np.mean(task.log_posterior(theta, x) - task.log_prior(theta))
        print(f"| {name} | the prior | {prior:.3f} | | | |", flush=True)
    print("", *typed, sep="\n\n")
    print(f"\n{options.simulations} simulations, {options.seeds} seeds, jax {jax.__version__}")


if __name__ == "__main__":
    command_line.run(main, compile_anew=True)

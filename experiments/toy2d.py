"""Train a flow of the plane and draw figure 1 of the paper for it.

Usage: python -m experiments.toy2d DENSITY [--model tarflow] [--steps 5000] [--seed 0] [--out FILE.png]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from rich.progress import track

from experiments import command_line
from experiments.data.densities import DENSITIES, DensityOfThePlane
from experiments.errors import UserError
from experiments.pictures.grids import save_picture
from experiments.pictures.plots import figure
from experiments.terminal import console
from nvpjax import Density, Flow, Likelihood, RealNVPVectors, TarFlow
from nvpjax.training import create_train_state, make_eval_step, make_measure_step, make_train_step

HELD_OUT = 20_000
"""Points that the flow is never trained on."""
EVALUATE_EVERY = 100
MEASURED = 30
"""Batches that the moments of batch normalisation are measured on anew before each evaluation."""
SETTLED = 500
"""Steps after which the held-out number must no longer be large; the final line gives the highest one after them."""
SHOWN = 4000
"""Points in the pictures."""

MODELS = {
    "real_nvp": lambda layers: RealNVPVectors(layers=layers),
    "tarflow": lambda layers: TarFlow(width=32, layers=max(1, layers // 3), depth=2, head_width=16, components=8),
}
TITLES = {"real_nvp": "Real NVP", "tarflow": "TarFlow"}


@dataclass(frozen=True)
class Arguments:
    density: tyro.conf.Positional[Literal[tuple(DENSITIES)]]
    """What to learn."""
    model: Literal[tuple(MODELS)] = "real_nvp"
    """Affine couplings, each with a batch normalisation; or mixtures told by transformers, one coordinate at a time."""
    steps: int = 5000
    """Training steps, each on fresh points."""
    batch_size: int = 512
    """Points a step."""
    layers: int = 12
    """Couplings of a real_nvp; a tarflow has a third as many layers."""
    learning_rate: float = 2e-3
    """Adam's, falling to 0 along a cosine."""
    seed: int = 0
    """Seed of the weights and of the points."""
    out: Path | None = None
    """Picture to write; toy2d_DENSITY.png by default."""


class Fit(NamedTuple):
    density: Density
    history: list[tuple[int, float]]
    """(step, nats on held-out points), every EVALUATE_EVERY steps."""


def fit(flow: Flow, density: DensityOfThePlane, options: Arguments, progress: Callable = lambda rounds: rounds) -> Fit:
    """Train by maximum likelihood on points drawn without end."""
    rng, key = np.random.default_rng(options.seed), jax.random.key(options.seed)
    held_out = {"x": jnp.asarray(density.sample(rng, HELD_OUT), jnp.float32)}
    objective = Likelihood(flow)
    optimizer = optax.adam(optax.cosine_decay_schedule(options.learning_rate, options.steps))
    step, measure_step = make_train_step(objective, optimizer), make_measure_step(objective)
    init = jax.jit(lambda key: create_train_state(objective, optimizer, key, {"x": held_out["x"][:2]}))
    train_state, evaluate = init(key), jax.jit(make_eval_step(objective))

    @jax.jit
    def train(train_state, points):
        return jax.lax.scan(lambda train_state, x: step(train_state, key, {"x": x}), train_state, points)[0]

    @jax.jit
    def measure(params, state, points):
        """Running averages belong to the parameters of past steps: go over some points with those of now."""
        return jax.lax.scan(lambda state, x: measure_step(params, state, key, {"x": x}), state, points)[0]

    history = []
    for done in progress(range(0, options.steps, EVALUATE_EVERY)):
        number = min(EVALUATE_EVERY, options.steps - done)
        points = density.sample(rng, number * options.batch_size)
        points = jnp.asarray(rng.permutation(points), jnp.float32).reshape(number, -1, 2)
        train_state = train(train_state, points)
        train_state = train_state._replace(state=measure(*train_state.evaluated, points[-MEASURED:]))
        history.append((done + number, float(evaluate(*train_state.evaluated, key, held_out).mean())))
    return Fit(flow.at(*train_state.evaluated), history)


def integral(density: Density, limits: np.ndarray, side: int = 1000) -> tuple[float, np.ndarray]:
    """Give ∫ p(x) dx by the midpoint rule over the box ``limits`` (2, 2), and the density there ``(side, side)``."""
    axes = [low + (high - low) * (np.arange(side) + 0.5) / side for low, high in limits]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float32)
    log_prob = jax.jit(density.log_prob)
    values = np.concatenate([np.exp(np.asarray(log_prob(part), np.float64)) for part in np.array_split(grid, 10)])
    cell = np.prod((limits[:, 1] - limits[:, 0]) / side)
    return float(values.sum() * cell), values.reshape(side, side)


def draw(
    path: Path, title: str, entropy: float | None, fit: Fit, x: np.ndarray, limits: np.ndarray, density: np.ndarray
) -> None:
    """Data, latents, samples, and both images of a grid: the paper's figure 1, with the density and the history."""
    flow, params, state = fit.density.flow, fit.density.params, fit.density.state
    forward, inverse = jax.jit(fit.density.latents), jax.jit(lambda z: flow.from_latents(params, state, z)[0])
    z = np.random.default_rng(0).standard_normal((SHOWN, 2), np.float32)
    page, axes = figure(2, 4, size=(16, 8.4))
    by_data, by_latent = (np.arctan2(points[:, 1], points[:, 0]) for points in (x, z))
    latent_limits = np.array([[-4.0, 4.0], [-4.0, 4.0]])

    _scatter(axes[0, 0], x, by_data, limits, "data $x$")
    _scatter(axes[0, 1], np.asarray(forward(x)), by_data, latent_limits, "latents $z = f(x)$")
    _lines(axes[0, 2], forward, limits, latent_limits, "$f$ of a grid over the data")
    axes[0, 3].imshow(density.T, origin="lower", extent=limits.ravel(), aspect="auto", cmap="magma")
    axes[0, 3].set(title="density of the model", **_box(limits))
    _scatter(axes[1, 0], np.asarray(inverse(z)), by_latent, limits, "samples $x = f^{-1}(z)$")
    _scatter(axes[1, 1], z, by_latent, latent_limits, "latents $z \\sim N(0, I)$")
    _lines(axes[1, 2], inverse, latent_limits, limits, "$f^{-1}$ of a grid over the latents")
    steps, nats = zip(*fit.history)
    axes[1, 3].plot(steps, nats)
    axes[1, 3].set(title="held-out nats", xlabel="step", ylim=(min(nats) - 0.05, min(nats) + 1))
    if entropy is not None:
        axes[1, 3].axhline(entropy, color="0.6", linestyle="--", label="entropy of the data")
        axes[1, 3].legend(frameon=False)
    page.suptitle(f"{title}, {nats[-1]:.3f} nats on held-out points")
    save_picture(path, page.savefig)


def _box(limits: np.ndarray) -> dict:
    return {"xlim": limits[0], "ylim": limits[1]}


def _scatter(axis, points, colours, limits, title) -> None:
    axis.scatter(*points.T, c=colours, cmap="twilight_shifted", s=3, linewidths=0)
    axis.set(title=title, **_box(limits))


def _lines(axis, function, source: np.ndarray, target: np.ndarray, title: str, lines: int = 25, points: int = 400):
    """The images of evenly spaced lines over ``source``, both ways."""
    fine, coarse = ([np.linspace(*side, number) for side in source] for number in (points, lines))
    for index in range(lines):
        across = np.stack([fine[0], np.full(points, coarse[1][index])], axis=1)
        along = np.stack([np.full(points, coarse[0][index]), fine[1]], axis=1)
        for line, colour in ((across, "C0"), (along, "C3")):
            axis.plot(*np.asarray(function(line.astype(np.float32))).T, color=colour, linewidth=0.7)
    axis.set(title=title, **_box(target))


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.toy2d", description=__doc__)
    )
    if min(options.steps, options.batch_size - 1, options.layers) < 1 or options.learning_rate <= 0:
        raise UserError(
            "expected --steps and --layers of at least 1, --batch-size of at least 2, --learning-rate above 0, got "
            f"{options.steps}, {options.layers}, {options.batch_size}, {options.learning_rate}"
        )
    density = DENSITIES[options.density]
    flow = MODELS[options.model](options.layers).build((2,))
    result = fit(
        flow, density, options, lambda rounds: track(rounds, f"training on {options.density}", console=console())
    )
    if not all(math.isfinite(nats) for _, nats in result.history):
        raise UserError("training diverged: held-out nats are not finite; use a lower --learning-rate")
    x = density.sample(np.random.default_rng(options.seed + 1), SHOWN).astype(np.float32)
    low, high = x.min(axis=0), x.max(axis=0)
    limits = np.stack([low - 0.15 * (high - low), high + 0.15 * (high - low)], axis=1)
    wide = np.stack([low - (high - low), high + (high - low)], axis=1)
    total, _ = integral(result.density, wide, side=2000)
    out = options.out or Path(f"toy2d_{options.density}.png")
    title = f"{options.density.replace('_', ' ')}: a {TITLES[options.model]} of the plane"
    draw(out, title, density.entropy, result, x, limits, integral(result.density, limits, side=400)[1])
    settled = [nats for step, nats in result.history if step > SETTLED]
    highest = f", highest after step {SETTLED} {max(settled):.4f}" if settled else ""
    entropy = f" (entropy of the data {density.entropy:.4f})" if density.entropy is not None else ""
    print(
        f"{options.density}: {result.history[-1][1]:.4f} nats on held-out points{entropy} after {options.steps} steps"
        f"{highest}; the density integrates to {total:.4f}; picture in {out}"
    )


if __name__ == "__main__":
    command_line.run(main)

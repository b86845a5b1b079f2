"""Draw images from a run's model and write them as a grid.

Usage: python -m experiments.sample RUN_DIR [--num 64] [--temperature 1.0] [--size N] [--out FILE.png]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import tyro

from experiments import command_line
from experiments.errors import UserError
from experiments.pictures.grids import save_grid, to_pixels
from experiments.runs.build import build_flow
from experiments.runs.config import Config
from experiments.runs.trained import restore_run


@dataclass(frozen=True)
class Arguments:
    run_dir: tyro.conf.Positional[Path]
    """Directory that train wrote."""
    num: int = 64
    """Images to draw."""
    temperature: float = 1.0
    """Standard deviation of the latents; below 1 the images are nearer to the most likely ones."""
    size: int | None = None
    """Height and width of the images; as in training by default. The model is convolutional and has no size."""
    seed: int = 0
    """Seed of the latents."""
    checkpoint: Literal["best", "latest"] = "best"
    """Lowest validation bits/dim, or the last step."""
    out: Path | None = None
    """Picture to write; RUN_DIR/samples.png by default."""


def make_sampler(config: Config, number: int, size: int | None = None) -> Callable:
    """Compile ``sampler(key, params, state, temperature) -> x``, ``(number, height, width, channels)``.

    Height and width are ``size``, or as in training where it is None.
    """
    flow = build_flow(config)
    height, width, channels = config.image_shape if size is None else (size, size, config.image_shape[-1])

    @jax.jit
    def sampler(key, params, state, temperature):
        like = flow.latents_like(params, state, (number, height, width, channels))
        z = flow.base.sample(key, params["base"], like)
        z = jax.tree.map(lambda latent: temperature * latent, z)
        return flow.bijector.inverse(params["bijector"], state, z)[0]

    return sampler


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.sample", description=__doc__)
    )
    if not (0 < options.num < 2**31 and 0 <= options.temperature < math.inf and 0 <= options.seed < 2**32):
        raise UserError(
            "expected --num >= 1, --temperature >= 0 and a --seed of at least 0, below 2³², got "
            f"{options.num}, {options.temperature} and {options.seed}"
        )
    config, step, train_state = restore_run(options.run_dir, options.checkpoint)
    divisor = 2 ** (config.scales - 1)
    if options.size is not None and (options.size < 2 * divisor or options.size % divisor):
        raise UserError(f"--size {options.size}: a model of {config.scales} scales draws multiples of {divisor}")
    print(f"drawing {options.num} images from step {step} ...", flush=True)
    sampler = make_sampler(config, options.num, options.size)
    x = np.asarray(sampler(jax.random.key(options.seed), train_state.params, train_state.state, options.temperature))
    pixels, outside = to_pixels(x, config.levels)
    out = options.out or options.run_dir / "samples.png"
    size = f", {options.size}x{options.size} pixels" if options.size else ""
    title = f"{config.name}: samples at temperature {options.temperature:g}, step {step}{size}"
    save_grid(out, pixels, config.levels, title=title)
    print(
        f"{config.name}: {options.num} images at temperature {options.temperature:g} written to {out} "
        f"({outside:.2%} of the pixel values lay outside the range and were set to its ends)"
    )


if __name__ == "__main__":
    command_line.run(main)

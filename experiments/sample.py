"""Draw samples from a run's model and show them: images as a grid, rows of a table as plots.

Usage: python -m experiments.sample RUN_DIR [--num 64] [--label 3] [--temperature 1.0] [--size N] [--out FILE.png]

A model that was trained with labels draws a row of images for each of them, or --num of one --label.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np
import tyro

from experiments import command_line
from experiments.config import Config
from experiments.errors import UserError
from experiments.runs.config_file import read_config
from experiments.runs.trained import density_of, images_only, restore_run, scaled
from nvpjax import Density

A_CLASS = 10
"""Images of each label, where none is asked for."""
NUMBER = 64
"""Samples otherwise."""


@dataclass(frozen=True)
class Arguments:
    run_dir: tyro.conf.Positional[Path]
    """Directory that train wrote."""
    num: int | None = None
    """Samples to draw; 64 by default. A model that is given labels draws equally many of each, ten by default, so this
    many or a few more."""
    label: int | None = None
    """Draw of this label alone; for models that were trained with labels."""
    temperature: float = 1.0
    """Standard deviation of the latents; below 1 the samples are nearer to the most likely ones."""
    size: int | None = None
    """Height and width of images; as in training by default. Where a model is convolutional, it has no size."""
    seed: int = 0
    """Seed of the latents."""
    checkpoint: Literal["best", "latest"] = "best"
    """Lowest score on validation examples, or the last step."""
    out: Path | None = None
    """Picture to write; RUN_DIR/samples.png by default."""


def make_sampler(number: int, size: int | None = None) -> Callable:
    """Compile ``sampler(key, density, labels, temperature) -> x``, ``(number, *event)``; images of ``size`` squared."""

    @jax.jit
    def sampler(key: jax.Array, density: Density, labels: jax.Array | None, temperature: float):
        flow, params, state = density.flow, density.params, density.state
        shape = None if size is None else (size, size, density.event_shape[-1])
        like = flow.latents_like(params, state, number, labels, event_shape=shape)
        z = scaled(flow.base.sample(key, params["base"], like, labels), temperature)
        return flow.from_latents(params, state, z, labels)[0]

    return sampler


class Draws(NamedTuple):
    """What is drawn."""

    number: int
    labels: np.ndarray | None
    """Of each sample, of a model that is given them."""
    row_titles: list[str]
    """Of a grid with a row a label."""


def draws_of(config: Config, number: int | None = None, label: int | None = None) -> Draws:
    """The samples that are asked for: so many, or as many as there are by default; of one label, or of each."""
    if not config.classes:
        return Draws(number or NUMBER, None, [])
    if label is not None:
        number = number or NUMBER
        return Draws(number, np.full(number, label, np.int32), [])
    a_class = A_CLASS if number is None else math.ceil(number / config.classes)
    labels = np.repeat(np.arange(config.classes, dtype=np.int32), a_class)
    return Draws(len(labels), labels, [str(label) for label in range(config.classes)])


def check(options: Arguments, config: Config) -> None:
    if not (
        0 < (NUMBER if options.num is None else options.num) < 2**31
        and 0 <= options.temperature < math.inf
        and 0 <= options.seed < 2**32
    ):
        raise UserError(
            "expected --num >= 1, --temperature >= 0 and a --seed of at least 0, below 2³², got "
            f"{options.num}, {options.temperature} and {options.seed}"
        )
    if options.label is not None and not config.classes:
        raise UserError(f"--label {options.label}: the model of {config.name} was trained without labels (--classes)")
    if options.label is not None and not 0 <= options.label < config.classes:
        raise UserError(f"--label {options.label}: expected 0 to {config.classes - 1}")
    if options.size is not None:
        shape = (options.size, options.size, images_only(config, "--size").event_shape[-1])
        try:
            if config.model.build(shape) != config.model.build(config.data.event_shape):
                raise ValueError("this model is made for one size of images")
        except ValueError as error:
            raise UserError(f"--size {options.size}: {error}") from None


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.sample", description=__doc__)
    )
    check(options, read_config(options.run_dir))
    config, step, train_state = restore_run(options.run_dir, options.checkpoint)
    number, labels, row_titles = draws_of(config, options.num, options.label)
    print(f"drawing {number} samples from step {step} ...", flush=True)
    sampler, density = make_sampler(number, options.size), density_of(config, train_state)
    x = sampler(jax.random.key(options.seed), density, labels, options.temperature)
    out = options.out or options.run_dir / "samples.png"
    size = f", {options.size}x{options.size} pixels" if options.size else ""
    of_label = f" of label {options.label}" if options.label is not None else ""
    title = f"{config.name}: samples{of_label} at temperature {options.temperature:g}, step {step}{size}"
    remark = config.data.draw(out, np.asarray(x), title, row_titles)
    print(
        f"{config.name}: {number} samples{of_label} at temperature {options.temperature:g} written to {out} ({remark})"
    )


if __name__ == "__main__":
    command_line.run(main)

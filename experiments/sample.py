"""Draw samples from a run's model: images as a grid, rows of a table as numbers in its own units and a corner plot.

Usage: python -m experiments.sample RUN_DIR [--num 64] [--label 3] [--temperature 1.0] [--size N] [--out FILE.png]
                                            [--guidance 1.0] [--denoise]
       python -m experiments.sample RUN_DIR [--num 1000] [--context VALUE ... | --context-from FILE] [--out FILE.npy]

A model that was trained with labels draws a row of images for each of them, or --num of one --label. One that was
trained with columns as its context draws rows given their values, or given those of validation rows, in turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import jax
import numpy as np
import tyro

from experiments import command_line
from experiments.config import Config, with_data_dir
from experiments.data import Table
from experiments.data.contexts import context_rows
from experiments.errors import UserError, printable
from experiments.runs.config_file import read_config
from experiments.runs.sampling import Sampling
from experiments.runs.trained import density_of, images_only, restore_run, scaled
from nvpjax import Density, denoised

A_CLASS = 10
"""Images of each label, where none is asked for."""
AT_ONCE = 2**16
"""Samples, at most: more are drawn in parts, by keys of their own."""
ROWS = (".npy", ".csv")
"""What --out may be for the rows of a table, beside a picture."""


@dataclass(frozen=True)
class Arguments:
    run_dir: tyro.conf.Positional[Path]
    """Directory that train wrote."""
    num: int | None = None
    """Samples to draw; 64 images by default, or 1000 rows. A model that is given labels draws equally many of each, ten
    by default, so this many or a few more; with --context-from one row of each by default."""
    label: int | None = None
    """Draw of this label alone; for models that were trained with labels."""
    context: Annotated[tuple[float, ...], tyro.conf.arg(metavar="[VALUE ...]")] = ()
    """Of the columns that the model was trained to be conditional on, in their order and own units."""
    context_from: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A .csv file whose columns have their names, or a .csv or .npy file of these columns alone, in their order; the
    rows are taken in turn."""
    temperature: float = 1.0
    """Standard deviation of the latents; below 1 the samples are nearer to the most likely ones."""
    sampling: tyro.conf.OmitArgPrefixes[Sampling] = Sampling()
    size: int | None = None
    """Height and width of images; as in training by default. Where a model is convolutional, it has no size."""
    seed: int = 0
    """Seed of the latents."""
    checkpoint: Literal["best", "latest"] = "best"
    """Lowest score on validation examples, or the last step."""
    data: Path | None = None
    """Where the run's own file or folder of data lies, if it was moved: for what is drawn beside samples."""
    out: Path | None = None
    """Picture to write, RUN_DIR/samples.png by default. Of rows: .npy, or .csv with names, and a picture beside it of
    the same name, RUN_DIR/samples.npy and .png by default; or .png for the picture alone."""


def make_sampler(number: int, size: int | None = None) -> Callable:
    """Compile ``sampler(key, density, context, temperature) -> x``, ``(number, *event)``; images ``size`` squared."""

    @jax.jit
    def sampler(key: jax.Array, density: Density, context: jax.Array | None, temperature: float):
        flow, params, state = density.flow, density.params, density.state
        shape = None if size is None else (size, size, density.event_shape[-1])
        like = flow.latents_like(params, state, number, context, event_shape=shape)
        z = scaled(flow.base.sample(key, params["base"], like, context), temperature)
        return flow.from_latents(params, state, z, context)[0]

    return sampler


class Draws(NamedTuple):
    """What is drawn."""

    number: int
    context: np.ndarray | None
    """Of each sample, of a model that is given one: labels, or rows in their own units."""
    row_titles: list[str]
    """Of a grid with a row a label."""


def draws_of(config: Config, number: int | None = None, label: int | None = None) -> Draws:
    """The samples that are asked for: so many, or as many as there are by default; of one label, or of each.

    Given columns, those of validation rows.
    """
    if not config.classes:
        number = number or config.data.drawn
        return Draws(number, config.data.contexts(number), [])
    if label is not None:
        number = number or config.data.drawn
        return Draws(number, np.full(number, label, np.int32), [])
    a_class = A_CLASS if number is None else math.ceil(number / config.classes)
    labels = np.repeat(np.arange(config.classes, dtype=np.int32), a_class)
    return Draws(len(labels), labels, list(config.data.label_names))


def check(options: Arguments, config: Config) -> None:
    if not (
        0 < (1 if options.num is None else options.num) < 2**31
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

    if options.context or options.context_from is not None:
        if not (isinstance(config.data, Table) and config.data.given):
            raise UserError(f"--context: the model of {config.name} was trained without columns that it is given")
        context_rows(config.data.given, options.context, options.context_from)
    options.sampling.check(config)
    for path in (options.data, options.context_from, getattr(config.data, "path", None)):
        if None not in (path, options.out) and options.out.exists() and path.exists() and path.samefile(options.out):
            raise UserError(f"--out {options.out}: data are read from there; name another file")


def asked_draws(options: Arguments, config: Config) -> Draws:
    """The samples that are asked for on the command line."""
    if options.context or options.context_from is not None:
        rows = context_rows(config.data.given, options.context, options.context_from)
        number = options.num or (len(rows) if options.context_from is not None else config.data.drawn)
        return Draws(number, np.resize(rows, (number, rows.shape[1])), [])
    try:
        return draws_of(config, options.num, options.label)
    except UserError as error:
        raise UserError(f"{error}; or say by --context what samples are to be given") from None


def draw(density: Density, number: int, context: np.ndarray | None, options: Arguments, deviation: float) -> np.ndarray:
    """So many samples, given what the model is given; more than ``AT_ONCE`` in parts. Noise of a ``deviation`` above 0
    is taken away."""
    key, at_once = jax.random.key(options.seed), min(number, AT_ONCE)
    sampler = make_sampler(at_once, options.size)
    drawn_from = options.sampling.flow(density.flow).at(density.params, density.state)

    def part(key, context):
        x = sampler(key, drawn_from, context, options.temperature)
        return np.asarray(without_noise(density, x, deviation, context) if deviation else x)

    if number == at_once:
        return part(key, context)
    parts = []
    for place, start in enumerate(range(0, number, at_once)):  # the last is filled up, and cut below
        of_part = None if context is None else np.resize(context[start:][:at_once], (at_once, *context.shape[1:]))
        parts.append(part(jax.random.fold_in(key, place), of_part))
    return np.concatenate(parts)[:number]


without_noise = jax.jit(denoised, static_argnums=2)


def places_of(options: Arguments, config: Config) -> tuple[Path | None, Path]:
    """Where rows of numbers are written, if they are, and where the picture."""
    if not isinstance(config.data, Table):
        return None, options.out or options.run_dir / "samples.png"
    out = options.out or options.run_dir / "samples.npy"
    return (out, out.with_suffix(".png")) if out.suffix.lower() in ROWS else (None, out)


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.sample", description=__doc__)
    )
    check(options, read_config(options.run_dir))
    config, step, train_state = restore_run(options.run_dir, options.checkpoint)
    config = with_data_dir(config, None, options.data)
    draws = asked_draws(options, config)
    print(f"drawing {draws.number} samples from step {step} ...", flush=True)
    try:
        given, deviation = config.data.as_given(draws.context), options.sampling.deviation(config)
        x = draw(density_of(config, train_state), draws.number, given, options, deviation)
    except ValueError:
        if options.size is None:
            raise
        raise UserError(f"--size {options.size}: this model has parameters for one size of images") from None
    rows, picture = places_of(options, config)
    size = f", {options.size}x{options.size} pixels" if options.size else ""
    of_what = f" of label {options.label}" if options.label is not None else ""
    if options.context:
        values = zip(config.data.given, options.context)
        of_what = f" given {', '.join(f'{column.name} = {value:g}' for column, value in values)}"
    of_what += options.sampling.said
    title = f"{config.name}: samples{of_what} at temperature {options.temperature:g}, step {step}{size}"
    if rows is not None:
        config.data.write(rows, x, draws.context)
    remark = config.data.draw(picture, x, title, draws.row_titles, draws.context)
    written = picture if rows is None else f"{rows}, rows of {config.data.said_columns()}, and {picture}"
    print(
        printable(
            f"{config.name}: {draws.number} samples{of_what} at temperature {options.temperature:g} written to "
            f"{written} ({remark})"
        )
    )


if __name__ == "__main__":
    command_line.run(main)

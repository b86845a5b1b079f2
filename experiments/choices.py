"""The classes that may stand in a config, by name; and --model and --noise, which put another one in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from experiments.config import Config
from experiments.data import Data, ImageData, ImageFiles, Images, TableData, TableFile
from experiments.data.noise import NOISES, Noise
from experiments.errors import UserError
from nvpjax.models import MODELS, Model

KINDS = {
    Data: {"images": ImageData, "table": TableData, "image_files": ImageFiles, "table_file": TableFile},
    Model: MODELS,
    Noise: NOISES,
}
"""Where a config may hold one of several classes, the classes and the names that config.json has for them."""

CHOICES = (
    f" --model puts another model in place of its own: {', '.join(MODELS)}; --noise another noise: "
    f"{', '.join(NOISES)}; with --help it shows their options."
)
"""For --help."""

Configs = dict[str, tuple[str, Config]]


def with_choices(configs: Configs, arguments: Sequence[str]) -> tuple[Configs, list[str]]:
    """The configs, the one that is named with the model and noise that are named; and the arguments that remain."""
    rest = list(arguments)
    model, noise = _taken(rest, "--model", MODELS), _taken(rest, "--noise", NOISES)
    if not rest or rest[0] not in configs or (model is noise is None):
        return configs, rest
    summary, config = configs[rest[0]]
    if noise is not None:
        if not isinstance(config.data, Images):
            raise UserError(f"--noise is for images, and {config.name} trains on the table {config.data.dataset}")
        config = replace(config, data=replace(config.data, noise=NOISES[noise]()))
    if model is not None and type(config.model) is not MODELS[model]:
        # What is published is of the config's own model.
        config = replace(config, model=MODELS[model](), published=None, published_by="")
    return {**configs, config.name: (summary, config)}, rest


def _taken(arguments: list[str], option: str, choices: dict[str, type]) -> str | None:
    """The value of an option, which leaves the arguments; the last one counts."""
    value = None
    for position in reversed(range(len(arguments))):
        name, is_one_word, given = arguments[position].partition("=")
        if name == option:
            words = [given] if is_one_word else arguments[position + 1 : position + 2]
            if not words or words[0] not in choices:
                raise UserError(
                    f"{option}: expected one of {', '.join(choices)}, got {words[0] if words else 'nothing'}"
                )
            value = value or words[0]
            del arguments[position : position + (1 if is_one_word else 2)]
    return value

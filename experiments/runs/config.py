"""What a run is made of, and how it is kept in its run directory."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import tyro

from experiments.errors import UserError
from experiments.runs.files import write_atomically

FREE_TO_CHANGE = {
    "steps",
    "data_dir",
    "eval_every",
    "log_every",
    "memory",
    "reconstruction_bound",
    "precision",
    "published",
    "published_by",
}
"""Fields that may differ when a run is taken up again: they name no other run."""
BEFORE_CONFIG = {"processes", "lock", "config.json.tmp"}
"""What a run directory may hold without a config.json: a pod's processes, what a killed program left before it."""

RANGES = {
    "above 0": (lambda value: 0 < value < math.inf, "learning_rate gradient_clip reconstruction_bound"),
    "above 0 and below 2³¹": (lambda value: 0 < value < 2**31, "batch_size eval_every log_every scales features"),
    "at least 0": (lambda value: 0 <= value < math.inf, "final_learning_rate scale_penalty weight_decay"),
    "at least 0 and below 2³¹": (lambda value: 0 <= value < 2**31, "steps warmup_steps measure_batches blocks shifts"),
    "at least 0 and below 2³²": (lambda value: 0 <= value < 2**32, "seed"),
    "above 0 and below 100": (lambda value: 0 < value < 100, "validation_percent"),
    "at least 0 and below 0.5": (lambda value: 0 <= value < 0.5, "alpha"),
    "at least 0 and below 1": (lambda value: 0 <= value < 1, "lag"),
}
PLAIN = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,), "int | None": (int, type(None))}
"""What the JSON of a config may hold, by a field's type. Not by isinstance: true is an int there."""


Memory = Literal["stored", "checkpointed", "reversible"]
"""What the backward pass goes back by."""
Precision = Literal["float32", "bfloat16"]
"""Of the networks' arithmetic in a training step."""


@dataclass(frozen=True)
class Config:
    """A data set, a model and how it is trained. The files under experiments/configs fill it in."""

    name: tyro.conf.Suppress[str]
    dataset: tyro.conf.Suppress[str]
    """The data set's name in tensorflow-datasets."""
    image_shape: tyro.conf.Suppress[tuple[int, int, int]]
    """Height, width, channels."""
    levels: tyro.conf.Suppress[int] = 256
    """Grey levels: pixels are whole numbers 0 … levels − 1."""
    test_split: tyro.conf.Suppress[str] = "test"
    """The data set's name for the images that results are published on."""
    crop: tyro.conf.Suppress[tuple[int, int, int, int] | None] = None
    """Rows from … to, columns from … to: the part of each image that is used, before resizing."""
    resize: tyro.conf.Suppress[int | None] = None
    """Length of the smaller side after resizing, before a crop to the image shape."""
    published: tyro.conf.Suppress[float | None] = None
    """Published test bits/dim of this model on this very data set."""
    published_by: tyro.conf.Suppress[str] = ""
    """Where that number stands."""

    data_dir: Path = Path("data")
    """Where prepared data sets lie (DIR/mnist/3.0.1/...)."""
    validation_percent: int = 5
    """The last so many percent of the training images choose the checkpoint and are not trained on."""
    horizontal_flips: bool = False
    """Mirror each training image with probability ½."""
    shifts: int = 0
    """Move half of the training images by up to so many pixels in each direction, filling with 0."""

    scales: int = 2
    """Scales of the model; height and width must divide by 2^(scales − 1)."""
    features: int = 64
    """Feature maps of the first scale's networks; doubled from scale to scale."""
    blocks: int = 8
    """Residual blocks of each coupling network."""
    alpha: float = 0.05
    """Constant of the logit that pixels go through first. It changes bits/dim."""
    learned_prior: bool = False
    """Learn the prior of factored-out halves from the half that goes on."""
    lag: float = 0.0
    """Weight of running averages in training's batch normalisation (the paper's eq. 20 and 21)."""

    memory: Memory = "stored"
    """What the backward pass goes back by: activations that are stored, layers' inputs alone (checkpointed), or the
    inverse of every layer (reversible). The latter two take less memory and about a third more arithmetic; gradients
    are the same up to rounding."""
    reconstruction_bound: float = 1e-3
    """With --memory reversible: the relative error of what is rebuilt above which a step is skipped."""

    precision: Precision = "float32"
    """Arithmetic of the networks in training steps; all else, and evaluation and sampling whole, is in float32.
    bfloat16 is fast on accelerators, and slow on CPUs, which have none."""

    batch_size: int = 64
    """Images a step, over all devices."""
    steps: int = 100_000
    """Training steps in all."""
    learning_rate: float = 1e-3
    """Adam's learning rate after the warm-up."""
    final_learning_rate: float = 1e-3
    """Learning rate at the last step, reached along a cosine."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises from 0."""
    gradient_clip: float = 100.0
    """Largest norm of the gradient (of nats per image)."""
    scale_penalty: float = 5e-5
    """Penalty on the squares of weight-norm magnitudes and coupling scales."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW)."""

    measure_batches: int = 30
    """Training batches that the moments of batch normalisation are measured on anew before each evaluation."""
    eval_every: int = 1000
    """Steps between evaluations on validation images, each with a checkpoint and a sample grid."""
    log_every: int = 10
    """Steps between the training numbers in metrics.jsonl."""
    seed: int = 0
    """Seed of the weights, the order of the images and the noise."""

    def __post_init__(self):
        wrong = [
            f"--{field.replace('_', '-')} {getattr(self, field)}: expected {expected}"
            for expected, (good, fields) in RANGES.items()
            for field in fields.split()
            if not good(getattr(self, field))
        ]
        for name, value, choices in (("memory", self.memory, Memory), ("precision", self.precision, Precision)):
            if value not in get_args(choices):
                wrong.append(f"--{name} {value}: expected one of {', '.join(get_args(choices))}")
        if wrong:
            raise UserError(f"{'; '.join(wrong)}; --help shows what each option means and its default")
        height, width, _ = self.image_shape
        divisor = 2 ** (self.scales - 1)
        if height % divisor or width % divisor:
            raise UserError(
                f"--scales {self.scales} needs a height and width that divide by {divisor}, images of {self.dataset} "
                f"are {height}x{width}: use fewer scales"
            )


def to_json(config: Config) -> dict[str, Any]:
    values = {**dataclasses.asdict(config), "data_dir": str(config.data_dir), "image_shape": list(config.image_shape)}
    return {**values, "crop": list(config.crop) if config.crop else None}


def from_json(values: Any) -> Config:
    """The config that ``to_json`` wrote. Raises KeyError, TypeError or ValueError for anything else."""
    fields = {field.name: field for field in dataclasses.fields(Config)}
    if not isinstance(values, dict):
        raise TypeError(f"expected the fields of a config, got {type(values).__name__}")
    if set(values) != set(fields):
        raise ValueError(f"fields {', '.join(sorted(set(fields) ^ set(values)))} are missing or not known")
    for name, field in fields.items():
        kind = field.type.removeprefix("tyro.conf.Suppress[").removesuffix("]")
        if kind in PLAIN and type(values[name]) not in PLAIN[kind]:
            raise TypeError(f"{name}: expected {kind}, got {values[name]!r}")
    for name, number in {"image_shape": 3, "crop": 4}.items():
        sides = values[name]
        if not (name == "crop" and sides is None) and not (
            type(sides) is list and len(sides) == number and all(type(side) is int and side >= 0 for side in sides)
        ):
            raise TypeError(f"{name}: expected {number} whole numbers, got {sides!r}")
    if min(values["image_shape"]) < 1 or "\0" in values["data_dir"]:
        raise ValueError(f"image_shape {values['image_shape']} or data_dir {values['data_dir']!r}")
    crop = tuple(values["crop"]) if values["crop"] else None
    shape = tuple(values["image_shape"])
    return Config(**{**values, "data_dir": Path(values["data_dir"]), "image_shape": shape, "crop": crop})


def write_config(config: Config, run_dir: Path) -> None:
    write_atomically(run_dir / "config.json", json.dumps(to_json(config), indent=2) + "\n")


def read_config(run_dir: Path) -> Config:
    path = run_dir / "config.json"
    if not path.is_file():
        raise UserError(f"{run_dir} is not a run directory (no config.json): give the directory that train wrote")
    try:
        return from_json(json.loads(path.read_text()))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): restore it, or train into a new run directory") from None


def check_run_directory(config: Config, run_dir: Path) -> None:
    """Refuse a directory that holds another run or other files. A new one, or this run's own, passes."""
    if (run_dir / "config.json").exists():
        old, new = to_json(read_config(run_dir)), to_json(config)
        # With lag, moments that an evaluation measured anew are part of what training goes on with.
        free = FREE_TO_CHANGE - {"eval_every"} if config.lag else FREE_TO_CHANGE
        changed = [field for field in new if field not in free and old[field] != new[field]]
        if changed:
            differences = ", ".join(f"{field} {old[field]} there, {new[field]} asked" for field in changed)
            advice = "choose another --run-dir, or the same options"
            raise UserError(f"{run_dir} holds another run ({differences}): {advice}")
    elif run_dir.exists() and (not run_dir.is_dir() or {path.name for path in run_dir.iterdir()} - BEFORE_CONFIG):
        raise UserError(f"{run_dir} exists and is not a run directory: choose another --run-dir")


def open_run_directory(config: Config, run_dir: Path) -> None:
    """Create ``run_dir`` where it is new, and write the config into it."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        write_config(config, run_dir)
    except OSError as error:
        raise UserError(f"{run_dir} cannot be written ({error.strerror}): choose another --run-dir") from None

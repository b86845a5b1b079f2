"""What a run is made of: data, a model and how it is trained, each a frozen value. experiments/configs fills it in."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

import tyro

from experiments.data import Data
from experiments.errors import UserError
from nvpjax.models import Model

Memory = Literal["stored", "checkpointed", "reversible"]
"""What the backward pass goes back by."""
SHARE_OF_THE_START = 0.1
"""In averages, above which a line says so."""
Precision = Literal["float32", "bfloat16"]
"""Of the networks' arithmetic in a training step."""

RANGES = {
    "above 0": (lambda value: 0 < value < math.inf, "learning_rate gradient_clip reconstruction_bound"),
    "above 0 and below 2³¹": (lambda value: 0 < value < 2**31, "eval_every log_every"),
    "above 0, at most 2²⁰": (lambda value: 0 < value <= 2**20, "batch_size"),
    "at least 0": (lambda value: 0 <= value < math.inf, "final_learning_rate scale_penalty weight_decay"),
    "at least 0 and below 2³¹": (lambda value: 0 <= value < 2**31, "steps warmup_steps measure_batches"),
    "at least 0 and below 2³²": (lambda value: 0 <= value < 2**32, "seed"),
    "at least 0 and below 1": (lambda value: 0 <= value < 1, "second_moment_decay average_decay unknown_labels"),
}


@dataclass(frozen=True)
class Training:
    """How a model is trained."""

    memory: Memory = "stored"
    """What the backward pass goes back by: activations that are stored, layers' inputs alone (checkpointed), or the
    inverse of every layer (reversible). The latter two take less memory and about a third more arithmetic; gradients
    are the same up to rounding."""
    reconstruction_bound: float = 1e-3
    """With --memory reversible: the relative error of what is rebuilt above which a step is skipped."""

    precision: Precision = "float32"
    """Arithmetic of the networks in training steps; all else, and evaluation and sampling whole, is in float32.
    bfloat16 is fast on accelerators, and on CPUs that have products of it (AMX) with JAX 0.12; slow elsewhere."""

    batch_size: int = 64
    """Examples a step, over all devices."""
    steps: int = 100_000
    """Training steps in all."""
    learning_rate: float = 1e-3
    """Adam's learning rate after the warm-up."""
    final_learning_rate: float = 1e-3
    """Learning rate at the last step, reached along a cosine."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises from 0."""
    gradient_clip: float = 100.0
    """Largest norm of the gradient (of nats per example)."""
    scale_penalty: float = 5e-5
    """Weight of the model's own penalty: of Real NVP, the squares of weight-norm magnitudes and of the scales of
    checkerboard couplings."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW)."""
    second_moment_decay: float = 0.999
    """Adam's β₂: how long squares of gradients are remembered; TarFlow's and Jet's programs have 0.95."""
    average_decay: float = 0.0
    """Decay of averages of the parameters (EMA), such as 0.999, which are evaluated and sampled from in their place;
    0 keeps none."""
    unknown_labels: float = 0.0
    """Share of the labels that training keeps from a TarFlow or Jet of --classes, so that samples can be guided; 0.1
    is usual."""

    measure_batches: int = 30
    """Training batches that the moments of batch normalisation are measured on anew before each evaluation."""
    eval_every: int = 1000
    """Steps between evaluations on validation examples, each with a checkpoint and a picture of samples."""
    log_every: int = 10
    """Steps between the training numbers in metrics.jsonl."""
    seed: int = 0
    """Seed of the weights, the order of the examples and the noise."""

    def __post_init__(self):
        wrong = [
            f"--{field.replace('_', '-')} {getattr(self, field)}: expected {expected}"
            for expected, (good, names) in RANGES.items()
            for field in names.split()
            if not good(getattr(self, field))
        ]
        for name, value, choices in (("memory", self.memory, Memory), ("precision", self.precision, Precision)):
            if value not in get_args(choices):
                wrong.append(f"--{name} {value}: expected one of {', '.join(get_args(choices))}")
        if wrong:
            raise UserError(f"{'; '.join(wrong)}; --help shows what each option means and its default")

    def remarks(self) -> list[str]:
        """What does not fit the number of steps, a line each: it is done as it was asked for."""
        remarks, steps = [], self.steps
        if 0 < steps <= self.warmup_steps:
            remarks.append(
                f"--warmup-steps {self.warmup_steps}: the learning rate still rises when the {steps} steps end; "
                f"--warmup-steps {steps // 10} would be usual"
            )
        held = self.average_decay**steps if steps else 0.0
        if held > SHARE_OF_THE_START:
            remarks.append(
                f"--average-decay {self.average_decay:g}: after {steps} steps the averages that are evaluated are "
                f"parameters of the start by {held:.0%}; --average-decay 0 keeps none"
            )
        return remarks


@dataclass(frozen=True)
class Config:
    """Data, a model and how it is trained."""

    name: tyro.conf.SuppressFixed[tyro.conf.Fixed[str]]
    data: tyro.conf.OmitArgPrefixes[Data]
    model: tyro.conf.OmitArgPrefixes[Model]
    training: tyro.conf.OmitArgPrefixes[Training] = Training()
    published: tyro.conf.SuppressFixed[tyro.conf.Fixed[float | None]] = None
    """Published test bits/dim of this model on this very data set."""
    published_by: tyro.conf.SuppressFixed[tyro.conf.Fixed[str]] = ""
    """Where that number stands."""

    def __post_init__(self):
        if not self.name.isidentifier():  # files are called by it
            raise UserError(f"name {self.name!r}: expected letters, digits and _")
        if not self.data.known:
            return
        try:
            self.model.build(self.data.event_shape)
        except ValueError as error:
            raise UserError(f"{self.name}: {error}") from None
        if self.classes not in (0, self.data.classes):
            raise UserError(
                f"--classes {self.classes}: {self.data.dataset} has {self.data.classes} classes; expected that, or 0 "
                "for a model without labels"
            )
        if self.training.unknown_labels and not (self.classes and self.model.takes_unknown_labels):
            raise UserError(
                f"--unknown-labels {self.training.unknown_labels:g}: expected a model that takes labels which are not "
                "known (--model tarflow or jet, with --classes)"
            )

    @property
    def classes(self) -> int:
        """Of the labels that the model is given; 0 for one without."""
        return getattr(self.model, "classes", 0)

    def opened(self) -> Config:
        """The same config with what is found in a file of one's own. Errors: UserError, as of its data and model."""
        return self if self.data.known else replace(self, data=self.data.opened())


def with_data_dir(config: Config, data_dir: Path | None, path: Path | None = None) -> Config:
    """The config with another place of its data, where one is given: of prepared sets, or of one's own file."""
    names = {field.name for field in fields(config.data)}
    if data_dir is not None and "path" in names:
        raise UserError(f"--data-dir: {config.data.dataset} is a place of one's own: --data says where it lies")
    if data_dir is not None and "data_dir" not in names:
        raise UserError(f"--data-dir: {config.data.dataset} ships inside scikit-learn and lies nowhere")
    if path is not None and "path" not in names:
        raise UserError(f"--data: {config.name} was not trained on a file of one's own, but on {config.data.dataset}")
    places = {name: place for name, place in (("data_dir", data_dir), ("path", path)) if place is not None}
    return replace(config, data=replace(config.data, **places)) if places else config

"""Images of one's own: a folder of pictures, or a file of an array."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from experiments.data.data import InMemory
from experiments.data.image_reader import FileImages, pictures_in, read_images
from experiments.data.images import MOST_PIXELS, Images, expect_image_shape
from experiments.data.noise import Noise, Uniform
from experiments.data.own_files import (
    LEAST_EXAMPLES,
    expect_path,
    expect_same_bytes,
    expect_split_seed,
    named,
    signature,
)
from experiments.data.splits import divided, expect_percents, expect_split
from experiments.errors import UserError, printable

LONGEST_NAME = 20
"""Letters of a folder's name, beside samples of its label."""


@dataclass(frozen=True)
class FoundImages:
    """What a run keeps of its images: samples then need them no more, and others are noticed."""

    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    number: int
    labels: tuple[str, ...]
    """By name, of those that images have; none where they have none."""
    sha256: str
    """Of the file, or of the names and contents of all pictures."""

    def __post_init__(self):
        expect_image_shape(self.image_shape)
        if self.image_shape[-1] not in (1, 3) or self.number < LEAST_EXAMPLES:
            raise UserError(f"{self.number} images of shape {self.image_shape}: nothing to train on")


@dataclass(frozen=True)
class ImageFiles(Images):
    """Images of a place of one's own."""

    path: Annotated[Path | None, tyro.conf.arg(name="images", metavar="PLACE")] = None
    """Your images: a folder with .png and .jpg files, in it or in folders of it, or a .npy or .npz file of a uint8
    array (number, height, width) or (number, height, width, channels)."""
    size: int | None = None
    """Height and width to which the square in the middle of each image is resized: of a folder 32 by default, of an
    array none, and images stay as they are."""
    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for colour; by default colour where any image has it."""
    validation_percent: int = 10
    """Of all images, those that choose the checkpoint and are not trained on."""
    test_percent: int = 10
    """Of all images, those that results are told on."""
    split_seed: int = 0
    """Of the order in which images are divided."""
    horizontal_flips: bool = False
    """Mirror each training image with probability ½."""
    shifts: int = 0
    """Move half of the training images by up to so many pixels in each direction, filling with 0."""
    noise: Noise = Uniform()
    """What spreads whole pixels: --noise uniform, learned, learned_affine or gaussian."""
    found: tyro.conf.SuppressFixed[tyro.conf.Fixed[FoundImages | None]] = None
    """What is there, once it was opened."""

    levels = 256
    resize = None

    def __post_init__(self):
        expect_percents(self.validation_percent, self.test_percent)
        expect_split_seed(self.split_seed)
        if self.size is not None and not 0 < self.size <= MOST_PIXELS:
            raise UserError(f"--size {self.size}: expected above 0, at most {MOST_PIXELS}")
        if self.known:
            self.expect_fitting()

    @property
    def known(self):
        return self.found is not None

    @property
    def dataset(self):
        return "images of one's own" if self.path is None else self.path.name

    @property
    def event_shape(self):
        return self.found.image_shape

    @property
    def classes(self):
        return len(self.found.labels) if self.known else 0

    @property
    def label_names(self):
        return tuple(printable(name)[:LONGEST_NAME] for name in self.found.labels)

    def opened(self):
        if self.known:
            return self
        there = self._open()
        found = FoundImages(there.images.shape[1:], len(there.images), there.label_names, there.sha256)
        return replace(self, found=found)

    def examples(self, split, *, for_training=False):
        expect_split(split)
        there = self._open()
        expect_same_bytes(self.path, there.sha256, self.found.sha256)
        if (there.images.shape[1:], len(there.images)) != (self.found.image_shape, self.found.number):
            raise UserError(f"{self.path} is read otherwise than when the run began: was its config.json edited?")
        chosen = divided(len(there.images), self.validation_percent, self.test_percent, self.split_seed)[split]
        labels = {} if there.labels is None else {"label": there.labels[chosen]}
        return InMemory({"image": there.images[chosen], **labels})

    def _open(self) -> FileImages:
        path = expect_path(self.path, "--images FOLDER or FILE; of a run --data")
        paths = pictures_in(path) if path.is_dir() else [path]
        return _open(path, self.size, self.channels, tuple((str(file), *signature(file)) for file in paths))

    def version(self):
        return f"{self.found.number} images", self.found.sha256

    def remarks(self):
        size = "x".join(map(str, self.event_shape))
        labels = f", labelled {named(self.found.labels)}: --classes {self.classes} gives the model the labels"
        number = len(divided(self.found.number, self.validation_percent, self.test_percent, self.split_seed)["train"])
        return [
            f"{self.dataset}: {self.found.number} images of {size}, {number} of them to train on"
            f"{labels if self.classes else ''}",
            *self._open().remarks,
        ]


@functools.lru_cache(maxsize=1)
def _open(path: Path, size: int | None, channels: int | None, written: tuple) -> FileImages:
    """Read once, as long as nothing is written there."""
    return read_images(path, size, channels)

"""Images, and those from tensorflow-datasets data sources. TensorFlow is not needed to read."""

from __future__ import annotations

import contextlib
import importlib
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grain
import numpy as np
import tensorflow_datasets as tfds
import tyro

from experiments.data.data import Data, Example, InMemory, stacked
from experiments.data.fingerprint import fingerprint
from experiments.data.noise import Gaussian, Noise, Uniform
from experiments.data.preprocessing import augmented, centre_crop, cut_and_resize
from experiments.errors import UserError, first_line
from experiments.pictures.grids import save_grid, to_pixels
from nvpjax import PixelLikelihood

IN_MEMORY_BYTES = 2**30
"""Sets up to this size are decoded once and kept in memory: decoding costs more than a training step's share."""

MOST_PIXELS = 2**13
"""A side of an image, at most: a larger one would be memory that a mistyped number asks for."""

EMBEDDED = {
    "digits": ("experiments.data.digits_builder", "Digits"),
    "patches": ("experiments.data.patches_builder", "Patches"),
}
"""Sets that need no download, and their builders."""


class Images(Data):
    """Images of whole pixels, ``(height, width, channels)``. The fields below are for its kinds to have."""

    unit = "bits_per_dim"
    said_unit = "bits/dim"
    levels: int
    """Grey levels: pixels are whole numbers 0 … levels − 1."""
    resize: int | None
    """Length of the smaller side of what is cropped at random in training; None where nothing is."""
    horizontal_flips: bool
    """Mirror each training image with probability ½."""
    shifts: int
    """Move half of the training images by up to so many pixels in each direction, filling with 0."""
    noise: Noise
    """What spreads whole pixels."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """What labels are called, for people."""
        return tuple(map(str, range(self.classes)))

    @property
    def nats_per_unit(self):
        return math.prod(self.event_shape) * math.log(2)

    @property
    def nothing_costs(self):
        return math.log2(self.levels)

    def augmented(self, example, rng):
        return {**example, "image": augmented(example["image"], self, rng)}

    def blank_batch(self, number):
        labels = {"label": np.zeros(number, np.int32)} if self.classes else {}
        return {"image": np.zeros((number, *self.event_shape), np.uint8), **labels}

    def objective(self, flow, *, labels, network_dtype=None):
        return PixelLikelihood(flow, self.levels, self.noise.build(self.event_shape, network_dtype), labels)

    @property
    def leaves_range(self):
        return isinstance(self.noise, Gaussian)

    def quality(self, result):
        return (
            ""
            if self.noise.build(self.event_shape).is_bound
            else " of noisy images (no bound for the images themselves)"
        )

    def draw(self, path, x, title, row_titles=(), context=None):
        pixels, outside = to_pixels(x, self.levels)
        columns = len(x) // len(row_titles) if row_titles else None
        save_grid(path, pixels, self.levels, title=title, columns=columns, row_titles=row_titles)
        lost = float(np.mean(np.isnan(x)))
        said = f"{outside:.2%} of the pixel values lay outside the range and were set to its ends"
        return f"{said}; {lost:.2%} are no numbers, and black" if lost else said

    def expect_fitting(self) -> None:
        """Raise UserError where moving or noise does not fit the images."""
        if not 0 <= self.shifts <= max(self.event_shape[:2]):
            raise UserError(f"--shifts {self.shifts}: expected at least 0, at most {max(self.event_shape[:2])}")
        try:
            self.noise.build(self.event_shape)
        except ValueError as error:
            raise UserError(f"--noise: {error}") from None


def expect_image_shape(shape: tuple[int, ...]) -> None:
    if len(shape) != 3 or not all(0 < size <= MOST_PIXELS for size in shape):
        raise UserError(f"images of shape {shape}: expected three sizes above 0, at most {MOST_PIXELS}")


@dataclass(frozen=True)
class ImageData(Images):
    """Images of a data set of tensorflow-datasets."""

    dataset: tyro.conf.SuppressFixed[tyro.conf.Fixed[str]]
    """The data set's name in tensorflow-datasets."""
    image_shape: tyro.conf.SuppressFixed[tyro.conf.Fixed[tuple[int, int, int]]]
    """Height, width, channels."""
    levels: tyro.conf.SuppressFixed[tyro.conf.Fixed[int]] = 256
    """Grey levels: pixels are whole numbers 0 … levels − 1."""
    classes: tyro.conf.SuppressFixed[tyro.conf.Fixed[int]] = 0
    """Of the labels; 0 where there are none, or they are not read."""
    test_split: tyro.conf.SuppressFixed[tyro.conf.Fixed[str]] = "test"
    """The data set's name for the images that results are published on."""
    crop: tyro.conf.SuppressFixed[tyro.conf.Fixed[tuple[int, int, int, int] | None]] = None
    """Rows from … to, columns from … to: the part of each image that is used, before resizing."""
    resize: tyro.conf.SuppressFixed[tyro.conf.Fixed[int | None]] = None
    """Length of the smaller side after resizing, before a crop to the image shape."""

    data_dir: Path = Path("data")
    """Where prepared data sets lie (DIR/mnist/3.0.1/...)."""
    validation_percent: int = 5
    """The last so many percent of the training images choose the checkpoint and are not trained on."""
    horizontal_flips: bool = False
    """Mirror each training image with probability ½."""
    shifts: int = 0
    """Move half of the training images by up to so many pixels in each direction, filling with 0."""
    noise: Noise = Uniform()
    """What spreads whole pixels: --noise uniform, learned, learned_affine or gaussian."""

    def __post_init__(self):
        if not 0 < self.validation_percent < 100:
            raise UserError(f"--validation-percent {self.validation_percent}: expected above 0 and below 100")
        expect_image_shape(self.image_shape)
        if not 2 <= self.levels <= 256:
            raise UserError(f"images with {self.levels} levels: expected 2 to 256")
        self.expect_fitting()
        if self.crop is not None:
            top, bottom, left, right = self.crop
            if not (0 <= top < bottom and 0 <= left < right):
                raise UserError(f"crop {self.crop}: expected rows from … to, columns from … to, none of them empty")
        if self.resize is not None and not max(self.image_shape[:2]) <= self.resize <= MOST_PIXELS:
            raise UserError(
                f"resize {self.resize}: expected at least {max(self.image_shape[:2])}, the image's side, at most "
                f"{MOST_PIXELS}"
            )

    @property
    def event_shape(self):
        return tuple(self.image_shape)

    def version(self):
        builder = open_dataset(self)
        return str(builder.version), fingerprint(Path(builder.data_dir))

    def examples(self, split: str, *, for_training: bool = False) -> Sequence[Example]:
        """Give the images of "train", "validation" or "test": uint8 ``(height, width, channels)``, and their labels.

        Validation images are the last ``validation_percent`` of the data set's train split. All are cropped to the
        config's shape, unless they are ``for_training``: then ``augmented`` crops, each time anew.
        """
        builder = open_dataset(self)
        edge = f"{100 - self.validation_percent}%"
        slices = {"train": f"train[:{edge}]", "validation": f"train[{edge}:]", "test": self.test_split}
        if split not in slices:
            raise UserError(f"unknown split {split}: expected one of {', '.join(slices)}")
        try:
            source = builder.as_data_source(slices[split])
        except (KeyError, ValueError, NotImplementedError) as error:
            raise UserError(
                f"{self.dataset} under {self.data_dir} cannot be read ({str(error).splitlines()[0]}): prepare it "
                "again, in the file format array_record"
            ) from None
        images = _Images(source, self, for_training)
        if len(images) == 0:
            raise UserError(f"no {split} images in {self.dataset}: choose another --validation-percent")
        one_shape = not (for_training and self.resize)
        if one_shape and len(images) * images[0]["image"].size <= IN_MEMORY_BYTES:
            return InMemory(stacked(list(grain.MapDataset.source(images))))
        return images


def open_dataset(data: ImageData) -> tfds.core.DatasetBuilder:
    """Open a prepared data set. Those made from what scikit-learn ships are prepared here where they are not yet."""
    if data.dataset in EMBEDDED:
        module, name = EMBEDDED[data.dataset]
        builder_class = getattr(importlib.import_module(module), name)  # scikit-learn is needed for these sets alone
        tfds.disable_progress_bar()
        # What tfds says of a download, which there is not, is dropped.
        with _damage_told(data.data_dir / data.dataset), contextlib.redirect_stdout(io.StringIO()):
            builder = builder_class(data_dir=data.data_dir, file_format="array_record")
            builder.download_and_prepare()
        return builder
    versions = sorted((data.data_dir / data.dataset).glob("*/dataset_info.json"))
    if not versions:
        # Asking tfds would try to download for minutes, and without TensorFlow it cannot prepare its own sets.
        raise UserError(
            f"data set {data.dataset} is not prepared under {data.data_dir}: expected "
            f"{data.data_dir / data.dataset}/VERSION/dataset_info.json; prepare it with tensorflow-datasets "
            "(file format array_record; docs/data.md has the lines) or point --data-dir to where it lies"
        )
    with _damage_told(versions[-1]):
        return tfds.builder_from_directory(versions[-1].parent)


@contextlib.contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError:  # a folder that cannot be written is no damage
        raise
    except Exception as error:  # protobuf, JSON, versions: many kinds
        raise UserError(f"{path} cannot be read ({first_line(error)}): restore it, or prepare the set again") from None


class _Images:
    """The images of a data source, cut and resized as the config says, and checked against it."""

    def __init__(self, source, data: ImageData, for_training: bool):
        self._source, self._data, self._for_training = source, data, for_training

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Example:
        data = self._data
        try:
            read = self._source[index]
            image = read["image"]
        except (RuntimeError, ValueError, IndexError, OSError) as error:  # cut short, flipped bits
            raise UserError(
                f"{data.dataset} under {data.data_dir}: image {index} cannot be read "
                f"({first_line(error)}): restore the files of the set, or prepare it again"
            ) from None
        if image.dtype == np.uint8:
            image = cut_and_resize(image, data)
            if data.resize and not self._for_training:
                image = centre_crop(image, data.image_shape)
        fits = all(side >= asked for side, asked in zip(image.shape, data.image_shape))
        exact = image.shape == data.image_shape or (data.resize and self._for_training and fits)
        if not exact or image.dtype != np.uint8 or image.max() >= data.levels:
            raise UserError(
                f"{data.dataset}: expected 8-bit images of {'x'.join(map(str, data.image_shape))} with "
                f"{data.levels} levels, got {'x'.join(map(str, image.shape))} {image.dtype} up to {image.max()} "
                f"(image {index}): choose the config of this data set"
            )
        return {"image": image, "label": np.int32(read["label"])} if data.classes else {"image": image}


def pick_images(data: Images, split: str, indices: Sequence[int]) -> Example:
    """Give the images of a split at ``indices``, stacked, and their labels."""
    examples = data.examples(split)
    wrong = [index for index in indices if not 0 <= index < len(examples)]
    if wrong:
        raise UserError(f"no {split} image {wrong[0]} in {data.dataset}: expected 0 to {len(examples) - 1}")
    return stacked([examples[index] for index in indices])

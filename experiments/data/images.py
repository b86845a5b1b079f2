"""Images from tensorflow-datasets data sources through grain. TensorFlow is not needed to read."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import grain
import numpy as np
import tensorflow_datasets as tfds

from experiments.data.preprocessing import centre_crop, cut_and_resize, random_crop
from experiments.errors import UserError, first_line
from experiments.machine import pod
from experiments.runs.config import Config

IN_MEMORY_BYTES = 2**30
"""Sets up to this size are decoded once and kept in memory: decoding costs more than a training step's share."""

EMBEDDED = {
    "digits": ("experiments.data.digits_builder", "Digits"),
    "patches": ("experiments.data.patches_builder", "Patches"),
}
"""Sets that need no download, and their builders."""


def open_dataset(config: Config) -> tfds.core.DatasetBuilder:
    """Open a prepared data set. Those made from what scikit-learn ships are prepared here where they are not yet."""
    if config.dataset in EMBEDDED:
        module, name = EMBEDDED[config.dataset]
        builder_class = getattr(importlib.import_module(module), name)  # scikit-learn is needed for these sets alone
        tfds.disable_progress_bar()
        # What tfds says of a download, which there is not, is dropped.
        with _damage_told(config.data_dir / config.dataset), contextlib.redirect_stdout(io.StringIO()):
            builder = builder_class(data_dir=config.data_dir, file_format="array_record")
            builder.download_and_prepare()
        return builder
    versions = sorted((config.data_dir / config.dataset).glob("*/dataset_info.json"))
    if not versions:
        # Asking tfds would try to download for minutes, and without TensorFlow it cannot prepare its own sets.
        raise UserError(
            f"data set {config.dataset} is not prepared under {config.data_dir}: expected "
            f"{config.data_dir / config.dataset}/VERSION/dataset_info.json; prepare it with tensorflow-datasets "
            "(file format array_record) or point --data-dir to where it lies"
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


def load_images(config: Config, split: str, *, for_training: bool = False) -> Sequence[np.ndarray]:
    """Give the images of "train", "validation" or "test": uint8 ``(height, width, channels)`` each, by index.

    Validation images are the last ``validation_percent`` of the data set's train split. All are cropped to the
    config's shape, unless they are ``for_training``: then ``training_batches`` crops, each time anew.
    """
    builder = open_dataset(config)
    edge = f"{100 - config.validation_percent}%"
    slices = {"train": f"train[:{edge}]", "validation": f"train[{edge}:]", "test": config.test_split}
    if split not in slices:
        raise UserError(f"unknown split {split}: expected one of {', '.join(slices)}")
    try:
        source = builder.as_data_source(slices[split])
    except (KeyError, ValueError, NotImplementedError) as error:
        raise UserError(
            f"{config.dataset} under {config.data_dir} cannot be read ({str(error).splitlines()[0]}): prepare it "
            "again, in the file format array_record"
        ) from None
    images = _Images(source, config, for_training)
    if len(images) == 0:
        raise UserError(f"no {split} images in {config.dataset}: choose another --validation-percent")
    one_shape = not (for_training and config.resize)
    if one_shape and len(images) * images[0].size <= IN_MEMORY_BYTES:
        return np.stack(list(grain.MapDataset.source(images)))
    return images


def pick_images(config: Config, split: str, indices: Sequence[int]) -> np.ndarray:
    """Give the images of a split at ``indices``, stacked."""
    images = load_images(config, split)
    wrong = [index for index in indices if not 0 <= index < len(images)]
    if wrong:
        raise UserError(f"no {split} image {wrong[0]} in {config.dataset}: expected 0 to {len(images) - 1}")
    return np.stack([images[index] for index in indices])


def with_data_dir(config: Config, data_dir: Path | None) -> Config:
    """The config with another place of its data, where one is given."""
    return config if data_dir is None else dataclasses.replace(config, data_dir=data_dir)


class _Images:
    """The images of a data source, cut and resized as the config says, and checked against it."""

    def __init__(self, source, config: Config, for_training: bool):
        self._source, self._config, self._for_training = source, config, for_training

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> np.ndarray:
        config = self._config
        try:
            image = self._source[index]["image"]
        except (RuntimeError, ValueError, IndexError, OSError) as error:  # cut short, flipped bits
            raise UserError(
                f"{config.dataset} under {config.data_dir}: image {index} cannot be read "
                f"({first_line(error)}): restore the files of the set, or prepare it again"
            ) from None
        if image.dtype == np.uint8:
            image = cut_and_resize(image, config)
            if config.resize and not self._for_training:
                image = centre_crop(image, config.image_shape)
        fits = all(side >= asked for side, asked in zip(image.shape, config.image_shape))
        exact = image.shape == config.image_shape or (config.resize and self._for_training and fits)
        if not exact or image.dtype != np.uint8 or image.max() >= config.levels:
            raise UserError(
                f"{config.dataset}: expected 8-bit images of {'x'.join(map(str, config.image_shape))} with "
                f"{config.levels} levels, got {'x'.join(map(str, image.shape))} {image.dtype} up to {image.max()} "
                f"(image {index}): choose the config of this data set"
            )
        return image


def training_batches(images: Sequence[np.ndarray], config: Config, first_step: int = 0) -> Iterator[np.ndarray]:
    """Give batches without end, uint8 ``(batch_size, height, width, channels)``, each epoch in a new order.

    The batch of a step depends on the seed and the step alone, so a resumed run goes on with ``first_step``, on however
    many processes. In a pod each process gets its rows of it, ``(batch_size / processes, ...)``, and reads no others.
    """
    stream = (
        grain.MapDataset.source(images)
        .seed(config.seed)
        .shuffle()
        .repeat()
        .random_map(lambda image, rng: _augment(image, config, rng))
    )
    mine = pod.rows(config.batch_size)
    rows = grain.MapDataset.source(_RowsOfBatches(stream, config.batch_size, mine))
    batches = rows.batch(mine.stop - mine.start, drop_remainder=True)
    in_memory = isinstance(images, np.ndarray)
    options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0) if in_memory else grain.ReadOptions()
    iterator = iter(batches.to_iter_dataset(options))
    iterator.set_state({"next_index": first_step})
    return iterator


class _RowsOfBatches:
    """Of a stream that is cut into batches, the same rows of each."""

    def __init__(self, stream, batch_size: int, rows: slice):
        self._stream, self._batch_size, self._rows = stream, batch_size, rows
        self._number = rows.stop - rows.start

    def __len__(self) -> int:
        return len(self._stream) // self._batch_size * self._number

    def __getitem__(self, index: int) -> np.ndarray:
        batch, row = divmod(index, self._number)
        return self._stream[batch * self._batch_size + self._rows.start + row]


def _augment(image: np.ndarray, config: Config, rng: np.random.Generator) -> np.ndarray:
    if config.resize:
        image = random_crop(image, config.image_shape, rng)
    if config.horizontal_flips and rng.random() < 0.5:
        image = image[:, ::-1]
    if config.shifts and rng.random() < 0.5:
        down, right = rng.integers(-config.shifts, config.shifts + 1, size=2)
        border = config.shifts
        height, width, _ = image.shape
        padded = np.pad(image, ((border, border), (border, border), (0, 0)))
        image = padded[border - down : border - down + height, border - right : border - right + width]
    return image

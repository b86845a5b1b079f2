"""Images from tensorflow-datasets data sources through grain. TensorFlow is not needed to read."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence

import grain
import numpy as np

logging.getLogger("absl").setLevel(logging.ERROR)  # tfds recommends OpenCV at the first image, and more
import tensorflow_datasets as tfds  # noqa: E402

from experiments.command_line import UserError  # noqa: E402
from experiments.config import Config  # noqa: E402

IN_MEMORY_BYTES = 2**30
"""Sets up to this size are decoded once and kept in memory: decoding costs more than a training step's share."""


def open_dataset(config: Config) -> tfds.core.DatasetBuilder:
    """Open a prepared data set. The embedded digits are prepared here where they are not yet."""
    if config.dataset == "digits":
        from experiments.digits_builder import Digits  # scikit-learn is needed for this set alone

        builder = Digits(data_dir=config.data_dir, file_format="array_record")
        tfds.disable_progress_bar()
        with contextlib.redirect_stdout(sys.stderr):  # tfds speaks of a download that there is not
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
    return tfds.builder_from_directory(versions[-1].parent)


def load_images(config: Config, split: str) -> Sequence[np.ndarray]:
    """Give the images of "train", "validation" or "test": uint8 ``(height, width, channels)`` each, by index.

    Validation images are the last ``validation_percent`` of the data set's train split.
    """
    builder = open_dataset(config)
    edge = f"{100 - config.validation_percent}%"
    slices = {"train": f"train[:{edge}]", "validation": f"train[{edge}:]", "test": "test"}
    if split not in slices:
        raise UserError(f"unknown split {split}: expected one of {', '.join(slices)}")
    images = _Images(builder.as_data_source(slices[split]), config)
    if len(images) == 0:
        raise UserError(f"no {split} images in {config.dataset}: choose another --validation-percent")
    if len(images) * images[0].size <= IN_MEMORY_BYTES:
        return np.stack(list(grain.MapDataset.source(images)))
    return images


class _Images:
    """The images of a data source, each checked against what the config says."""

    def __init__(self, source, config: Config):
        self._source, self._config = source, config

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> np.ndarray:
        image = self._source[index]["image"]
        config = self._config
        if image.shape != config.image_shape or image.dtype != np.uint8 or image.max() >= config.levels:
            raise UserError(
                f"{config.dataset}: expected 8-bit images of {'x'.join(map(str, config.image_shape))} with "
                f"{config.levels} levels, got {'x'.join(map(str, image.shape))} {image.dtype} up to {image.max()} "
                f"(image {index}): choose the config of this data set"
            )
        return image


def training_batches(images: Sequence[np.ndarray], config: Config, first_step: int = 0) -> Iterator[np.ndarray]:
    """Give batches without end, uint8 ``(batch_size, height, width, channels)``, each epoch in a new order.

    The batch of a step depends on the seed and the step alone, so a resumed run goes on with ``first_step``.
    """
    batches = (
        grain.MapDataset.source(images)
        .seed(config.seed)
        .shuffle()
        .repeat()
        .random_map(lambda image, rng: _augment(image, config, rng))
        .batch(config.batch_size, drop_remainder=True)
    )
    in_memory = isinstance(images, np.ndarray)
    options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0) if in_memory else grain.ReadOptions()
    iterator = iter(batches.to_iter_dataset(options))
    iterator.set_state({"next_index": first_step})
    return iterator


def _augment(image: np.ndarray, config: Config, rng: np.random.Generator) -> np.ndarray:
    if config.horizontal_flips and rng.random() < 0.5:
        image = image[:, ::-1]
    if config.shifts and rng.random() < 0.5:
        down, right = rng.integers(-config.shifts, config.shifts + 1, size=2)
        border = config.shifts
        height, width, _ = image.shape
        padded = np.pad(image, ((border, border), (border, border), (0, 0)))
        image = padded[border - down : border - down + height, border - right : border - right + width]
    return image

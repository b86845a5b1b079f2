"""What is done to an image before it is one of the config's shape: cut, resize, crop."""

from __future__ import annotations

import numpy as np
from PIL import Image

from experiments.runs.config import Config


def cut_and_resize(image: np.ndarray, config: Config) -> np.ndarray:
    """Cut out ``config.crop``, then shrink or enlarge so that the smaller side is ``config.resize``."""
    if config.crop:
        top, bottom, left, right = config.crop
        image = image[top:bottom, left:right]
    if config.resize:
        height, width = image.shape[:2]
        scale = config.resize / min(height, width)
        size = (max(config.resize, round(width * scale)), max(config.resize, round(height * scale)))
        # Pillow's filter grows with the reduction, so that what is shrunk is not aliased.
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    return image


def centre_crop(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    top, left = ((have - want) // 2 for have, want in zip(image.shape, shape[:2]))
    return image[top : top + shape[0], left : left + shape[1]]


def random_crop(image: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    top, left = (int(rng.integers(have - want + 1)) for have, want in zip(image.shape, shape[:2]))
    return image[top : top + shape[0], left : left + shape[1]]

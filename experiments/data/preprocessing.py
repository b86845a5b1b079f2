"""What is done to an image: cut, resize and crop, until it has the config's shape; mirror and move, for training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from experiments.data.images import ImageData, Images


def cut_and_resize(image: np.ndarray, data: ImageData) -> np.ndarray:
    """Cut out ``data.crop``, then shrink or enlarge so that the smaller side is ``data.resize``."""
    if data.crop:
        top, bottom, left, right = data.crop
        image = image[top:bottom, left:right]
    if data.resize:
        height, width = image.shape[:2]
        scale = data.resize / min(height, width)
        size = (max(data.resize, round(width * scale)), max(data.resize, round(height * scale)))
        # Pillow's filter grows with the reduction, so that what is shrunk is not aliased.
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    return image


def centre_crop(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    top, left = ((have - want) // 2 for have, want in zip(image.shape, shape[:2]))
    return image[top : top + shape[0], left : left + shape[1]]


def random_crop(image: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    top, left = (int(rng.integers(have - want + 1)) for have, want in zip(image.shape, shape[:2]))
    return image[top : top + shape[0], left : left + shape[1]]


def augmented(image: np.ndarray, data: Images, rng: np.random.Generator) -> np.ndarray:
    """As training sees it: cropped at random, mirrored, moved."""
    if data.resize:
        image = random_crop(image, data.image_shape, rng)
    if data.horizontal_flips and rng.random() < 0.5:
        image = image[:, ::-1]
    if data.shifts and rng.random() < 0.5:
        down, right = rng.integers(-data.shifts, data.shifts + 1, size=2)
        border = data.shifts
        height, width, _ = image.shape
        padded = np.pad(image, ((border, border), (border, border), (0, 0)))
        image = padded[border - down : border - down + height, border - right : border - right + width]
    return image

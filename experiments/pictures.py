"""From images as numbers to PNG files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

GAP = 1
"""Pixels of the original size between the images of a grid."""


def to_pixels(x: np.ndarray, levels: int) -> tuple[np.ndarray, float]:
    """Turn values in [0, 1] into whole pixels 0 … levels − 1.

    A flow gives some values outside [0, 1]; they are set to the nearest pixel, and their share is the second result.
    """
    pixels = np.floor(np.asarray(x) * levels)
    outside = float(np.mean((pixels < 0) | (pixels > levels - 1)))
    return np.clip(pixels, 0, levels - 1).astype(np.uint8), outside


def save_grid(path: Path, pixels: np.ndarray, levels: int, columns: int | None = None) -> None:
    """Write ``(number, height, width, channels)`` whole pixels as a grid, each pixel enlarged to a square."""
    number, height, width, channels = pixels.shape
    columns = columns or math.ceil(math.sqrt(number))
    rows = math.ceil(number / columns)
    grey = (pixels.astype(np.float64) * 255 / (levels - 1)).round().astype(np.uint8)
    canvas = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, channels), 96, np.uint8)
    for index, image in enumerate(grey):
        top = GAP + (index // columns) * (height + GAP)
        left = GAP + (index % columns) * (width + GAP)
        canvas[top : top + height, left : left + width] = image
    enlarge = max(1, math.ceil(48 / height))
    canvas = canvas.repeat(enlarge, axis=0).repeat(enlarge, axis=1)
    Image.fromarray(canvas[..., 0] if channels == 1 else canvas).save(path)

"""From images as numbers to PNG files: every pixel is a square of whole screen pixels, in its true grey or colour."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from experiments.errors import UserError
from experiments.runs.files import write_atomically

GAP = 1
"""Pixels of the original size between the images of a grid."""
PAPER, INK = 255, 32
TITLE_SIZE, LABEL_SIZE, MARGIN = 18, 14, 10
"""Of letters and of the white around them, in screen pixels."""


def to_pixels(x: np.ndarray, levels: int) -> tuple[np.ndarray, float]:
    """Turn values in [0, 1] into whole pixels 0 … levels − 1.

    A flow gives some values outside [0, 1]; they are set to the nearest pixel, and their share is the second result.
    What is no number is outside too, and black: say so where there may be some.
    """
    pixels = np.nan_to_num(np.floor(np.asarray(x) * levels), nan=-1.0)
    outside = float(np.mean((pixels < 0) | (pixels > levels - 1)))
    return np.clip(pixels, 0, levels - 1).astype(np.uint8), outside


def save_grid(
    path: Path,
    pixels: np.ndarray,
    levels: int,
    *,
    columns: int | None = None,
    gap: int = GAP,
    title: str = "",
    column_titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
) -> None:
    """Write ``(number, height, width, channels)`` whole pixels as a grid, row by row, with titles where they are given.

    Errors: UserError where ``path`` cannot be written.
    """
    number, height, width, channels = pixels.shape
    columns = columns or math.ceil(math.sqrt(number))
    rows = math.ceil(number / columns)
    grey = (pixels.astype(np.float64) * 255 / (levels - 1)).round().astype(np.uint8)
    canvas = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 96, np.uint8)
    for index, image in enumerate(grey):
        top = gap + (index // columns) * (height + gap)
        left = gap + (index % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = image
    enlarge = max(1, math.ceil(48 / height))
    canvas = canvas.repeat(enlarge, axis=0).repeat(enlarge, axis=1)
    picture = Image.fromarray(canvas[..., 0] if channels == 1 else canvas)
    if title or column_titles or row_titles:
        picture = _with_titles(picture, title, column_titles, row_titles)
    save_picture(path, picture.save)


def save_picture(path: Path, save: Callable[..., None]) -> None:
    """Write what ``save(file, format=…)`` writes; what keeps it from writing becomes one clear line."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = io.BytesIO()
        save(picture, format={"": "png", "jpg": "jpeg"}.get(path.suffix[1:].lower(), path.suffix[1:].lower()))
        write_atomically(path, picture.getvalue())
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be written ({error}): make room, or name another .png") from None


def _with_titles(picture: Image.Image, title: str, column_titles: Sequence[str], row_titles: Sequence[str]):
    """Put a picture on white paper, with a title above, a title over each column and one before each row."""
    title_font, font = ImageFont.load_default(TITLE_SIZE), ImageFont.load_default(LABEL_SIZE)
    left = MARGIN + max((math.ceil(font.getlength(text)) + MARGIN for text in row_titles), default=0)
    top = MARGIN + (TITLE_SIZE + MARGIN if title else 0) + (LABEL_SIZE + MARGIN if column_titles else 0)
    width = max(left + picture.width, MARGIN + math.ceil(title_font.getlength(title))) + MARGIN
    page = Image.new(
        picture.mode, (width, top + picture.height + MARGIN), PAPER if picture.mode == "L" else (PAPER,) * 3
    )
    page.paste(picture, (left, top))
    draw, ink = ImageDraw.Draw(page), INK if picture.mode == "L" else (INK,) * 3
    draw.text((MARGIN, MARGIN), title, font=title_font, fill=ink)
    for index, text in enumerate(column_titles):
        x = left + picture.width * (index + 0.5) / len(column_titles)
        draw.text((x, top - 6), text, font=font, fill=ink, anchor="ms")
    for index, text in enumerate(row_titles):
        y = top + picture.height * (index + 0.5) / len(row_titles)
        draw.text((left - MARGIN, y), text, font=font, fill=ink, anchor="rm")
    return page

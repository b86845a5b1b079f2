"""From a folder of pictures, or a file of an array, to images of one shape. Nothing in it is unpickled or run."""

from __future__ import annotations

import hashlib
import io
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from experiments.data.array_file import ArrayHeader, headers_of, open_array, read_array
from experiments.data.fingerprint import fingerprint_of, fingerprint_of_file
from experiments.data.images import MOST_PIXELS
from experiments.data.own_files import LEAST_EXAMPLES
from experiments.errors import UserError, first_line
from experiments.machine.memory import memory

SUFFIXES = (".png", ".jpg", ".jpeg")
GREY = {"1", "L", "LA", "La"}
SEE_THROUGH = {"LA", "La", "PA", "RGBA", "RGBa"}
EIGHT_BITS = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
FOLDER_SIZE = 32
"""Of the images of a folder, where nobody says another."""


class FileImages(NamedTuple):
    """What is at a path."""

    images: np.ndarray
    """uint8 ``(number, height, width, channels)``."""
    labels: np.ndarray | None
    """int32 ``(number,)``."""
    label_names: tuple[str, ...]
    sha256: str
    remarks: list[str]


def read_images(path: Path, size: int | None, channels: int | None) -> FileImages:
    """Read all images, cut to a square and resized where a size is given, grey or in colour. Errors: UserError."""
    try:
        if path.is_dir():
            return _read_folder(path, size or FOLDER_SIZE, channels)
        match path.suffix.lower():
            case ".npy":
                array = open_array(path)
                return _read_array(path, ArrayHeader(array.shape, array.dtype), lambda: array, size, channels)
            case ".npz":
                return _read_archive(path, size, channels)
    except OSError as error:
        raise UserError(f"{error.filename or path} cannot be read ({error.strerror or first_line(error)})") from None
    raise UserError(f"{path}: expected a folder of {', '.join(SUFFIXES)} files, or a .npy or .npz file of an array")


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder and its folders, in the order of their names. Hidden ones are left alone."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    visible = (path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    return sorted((path for path in visible if path.is_file()), key=lambda path: path.relative_to(folder).as_posix())


def _read_folder(folder: Path, size: int, channels: int | None) -> FileImages:
    paths = pictures_in(folder)
    if not paths:
        raise UserError(f"{folder} holds no picture: expected {', '.join(SUFFIXES)} files there, or in folders of it")
    channels = channels or (3 if any(not _is_grey(path) for path in paths) else 1)
    _expect_number(folder, (len(paths), size, size, channels))
    images, contents, smaller = np.empty((len(paths), size, size, channels), np.uint8), {}, 0
    for place, path in enumerate(paths):
        content = path.read_bytes()
        contents[path.relative_to(folder).as_posix()] = hashlib.sha256(content).hexdigest()
        picture = _decoded(path, content)
        smaller += min(picture.size) < size
        images[place] = _cut(picture, size, channels)
    parents = [path.relative_to(folder).parts[:-1] for path in paths]
    classes = sorted({parts[0] for parts in parents if parts})
    remarks = [f"{smaller} of them are smaller than {size} pixels and were enlarged"] if smaller else []
    sha256 = fingerprint_of(contents)
    if all(parents) and len(classes) > 1:
        labels = np.array([classes.index(parts[0]) for parts in parents], np.int32)
        return FileImages(images, labels, tuple(classes), sha256, remarks)
    return FileImages(images, None, (), sha256, remarks)


def _opened(path: Path, content: io.BytesIO | Path) -> Image.Image:
    """A picture before its pixels are read, of so many that they can be."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(content, formats=("PNG", "JPEG"))
    except Exception as error:  # Pillow has many kinds for files that are none, and for more pixels than it takes
        raise _unreadable(path, error) from None
    if picture.mode not in EIGHT_BITS:
        picture.close()
        raise UserError(f"{path}: expected a picture of 8 bits a colour, got mode {picture.mode}: save it so")
    return picture


def _is_grey(path: Path) -> bool:
    with _opened(path, path) as picture:
        return picture.mode in GREY


def _decoded(path: Path, content: bytes) -> Image.Image:
    """A picture upright, its transparent parts on white."""
    with _opened(path, io.BytesIO(content)) as picture:
        try:
            picture.load()
            picture = ImageOps.exif_transpose(picture)
            if picture.mode in SEE_THROUGH or "transparency" in picture.info:
                layers = picture.convert("RGBA")
                white = Image.new("RGBA", layers.size, "white")
                return Image.alpha_composite(white, layers).convert("L" if picture.mode in GREY else "RGB")
            return picture.convert("L" if picture.mode in GREY else "RGB")
        except Exception as error:  # of files that are cut short, or damaged
            raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} cannot be read as a picture ({first_line(error)}): mend it, or move it away")


def _cut(picture: Image.Image, size: int | None, channels: int) -> np.ndarray:
    """The square in the middle of a picture, resized by a filter that does not alias; uint8 (size, size, channels)."""
    picture = picture.convert("L" if channels == 1 else "RGB")
    if size is not None:
        side = min(picture.size)
        left, top = ((have - side) // 2 for have in picture.size)
        picture = picture.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(picture).reshape(*picture.size[::-1], channels)


def _read_archive(path: Path, size: int | None, channels: int | None) -> FileImages:
    headers = headers_of(path)
    name = "images" if "images" in headers else next(iter(headers), None)
    if name is None or (name != "images" and len(headers) > 1):
        there = ", ".join(headers) or "none"
        raise UserError(f"{path}: expected an array images, and one of labels if there are any, got {there}")
    there = _read_array(path, headers[name], lambda: read_array(path, name), size, channels)
    if name != "images" or "labels" not in headers:
        return there
    number, header = len(there.images), headers["labels"]
    if header.shape != (number,) or header.dtype.kind not in "iu":
        raise UserError(
            f"{path}: expected labels as whole numbers of shape ({number},), got {header.dtype} {header.shape}"
        )
    labels = read_array(path, "labels")
    least, most = int(labels.min()), int(labels.max())
    if least < 0 or most >= number:
        raise UserError(f"{path}: expected labels 0, 1, … of fewer classes than images, got {least} to {most}")
    return there._replace(labels=labels.astype(np.int32), label_names=tuple(map(str, range(most + 1))))


def _read_array(
    path: Path, header: ArrayHeader, read: Callable[[], np.ndarray], size: int | None, channels: int | None
) -> FileImages:
    shape = (*header.shape, 1) if len(header.shape) == 3 else header.shape
    sides = shape[1:3] if len(shape) == 4 and shape[3] in (1, 3) else (0,)
    if header.dtype != np.uint8 or not 0 < min(sides) <= max(sides) <= MOST_PIXELS:
        raise UserError(
            f"{path}: expected a uint8 array (number, height, width), or (number, height, width, 1 or 3), got "
            f"{header.dtype} {header.shape}"
        )
    channels = channels or shape[3]
    wanted = (size, size, channels) if size else (*sides, channels)
    _expect_number(path, shape)
    _expect_number(path, (shape[0], *wanted))
    images = np.array(read()).reshape(shape)  # no map of a file that may change
    if wanted != shape[1:]:
        pictures = (Image.fromarray(image[..., 0] if shape[3] == 1 else image) for image in images)
        images = np.stack([_cut(picture, size, channels) for picture in pictures])
    remarks = [f"all are smaller than {size} pixels and were enlarged"] if size and min(sides) < size else []
    return FileImages(images, None, (), fingerprint_of_file(path), remarks)


def _expect_number(path: Path, shape: Sequence[int]) -> None:
    """Raise UserError where images are too few, or would take more than half of this machine's memory."""
    if shape[0] < LEAST_EXAMPLES:
        raise UserError(f"{path}: expected at least {LEAST_EXAMPLES} images, got {shape[0]}")
    needed = math.prod(shape)
    if needed > memory() / 2:
        raise UserError(
            f"{path}: {shape[0]:,} images of {'x'.join(map(str, shape[1:]))} take {needed / 2**30:.1f} GiB, more than "
            f"half of this machine's {memory() / 2**30:.1f}: choose a smaller --size, or make a data set of "
            "tensorflow-datasets (docs/data.md)"
        )

"""Arrays in .npy and .npz files: their shapes before memory is asked for, and no pickles."""

from __future__ import annotations

import contextlib
import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from experiments.errors import UserError, first_line


class ArrayHeader(NamedTuple):
    """What an array in a file is said to be."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def open_array(path: Path) -> np.ndarray:
    """Map the array of a .npy file into memory, to be read. Errors: UserError for what is none, or holds objects."""
    with _told(path):
        return np.lib.format.open_memmap(path, mode="r")


def headers_of(path: Path) -> dict[str, ArrayHeader]:
    """The arrays of a .npz file by name, without their numbers."""
    with _told(path), zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        headers = {}
        for name in names:
            with archive.open(f"{name}.npy") as file:
                headers[name] = _header(file)
        return headers


def read_array(path: Path, name: str) -> np.ndarray:
    """One array of a .npz file, whole."""
    with _told(path), zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _header(file: BinaryIO) -> ArrayHeader:
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"format {version} of arrays")
    shape, _, dtype = readers[version](file)
    return ArrayHeader(shape, dtype)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, OverflowError, EOFError, SyntaxError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path} holds no array that can be read ({first_line(error)}): write plain numbers with numpy.save or "
            "numpy.savez"
        ) from None
    except (NotImplementedError, RuntimeError) as error:  # of zip files: other compressions, passwords
        raise UserError(f"{path} cannot be unpacked ({first_line(error)}): write it with numpy.savez") from None

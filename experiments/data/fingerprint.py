"""A number that tells data apart, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from experiments.errors import UserError


def fingerprint(folder: Path) -> str:
    """SHA-256 over the names and contents of the files of a prepared data set."""
    return fingerprint_of_files(folder, sorted(path for path in folder.rglob("*") if path.is_file()))


def fingerprint_of_files(folder: Path, paths: Iterable[Path]) -> str:
    """SHA-256 over the names in a folder, and the contents, of some of its files."""
    total = hashlib.sha256()
    for path in paths:
        total.update(f"{path.relative_to(folder).as_posix()} {fingerprint_of_file(path)}\n".encode())
    return total.hexdigest()


def fingerprint_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes. Errors: UserError where it cannot be read, as by somebody who may not."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None

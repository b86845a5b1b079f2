"""A number that tells data apart, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from experiments.errors import UserError


def fingerprint(folder: Path) -> str:
    """SHA-256 over the names and contents of the files of a prepared data set."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return fingerprint_of({path.relative_to(folder).as_posix(): fingerprint_of_file(path) for path in paths})


def fingerprint_of(contents: Mapping[str, str]) -> str:
    """SHA-256 over names and the SHA-256 of what each holds, in the order given."""
    lines = (f"{name} {sha256}\n" for name, sha256 in contents.items())
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def fingerprint_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes. Errors: UserError where it cannot be read, as by somebody who may not."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None

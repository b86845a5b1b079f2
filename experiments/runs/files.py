"""Small files of a run: written whole or not at all, and read although a killed run left a line unfinished."""

from __future__ import annotations

import json
import os
from pathlib import Path

from experiments.errors import UserError


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a killed program or a full disk leaves the old one or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(text)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    os.replace(temporary, path)


def read_json_lines(path: Path) -> list[dict]:
    """Give the objects of a file of one JSON object a line; [] where there is none.

    A last line that a killed program left without its end is passed over. Any other line that is no object is refused:
    what came after it would be lost when the file is written again.
    """
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    objects = []
    for number, line in enumerate(lines, 1):
        try:
            objects.append(_object(json.loads(line)))
        except (ValueError, RecursionError):
            if line.endswith(b"\n"):
                raise UserError(
                    f"{path}, line {number}, is no JSON object: restore the file, or move it away"
                ) from None
    return objects


def _object(value) -> dict:
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value

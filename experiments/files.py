"""Small files of a run: written whole or not at all, and read although a killed run left a line unfinished."""

from __future__ import annotations

import json
import os
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a killed program leaves the old one or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def read_json_lines(path: Path) -> list[dict]:
    """Give the objects of a file of one JSON object a line, up to an unfinished one; [] where there is none."""
    objects = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            objects.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return objects

"""Small files of a run: written whole or not at all, and read although a killed run left a line unfinished."""

from __future__ import annotations

import json
import os
from pathlib import Path

from experiments.errors import UserError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a killed program or a full disk leaves the old one or the new one. No link is followed."""
    temporary = path.with_name(path.name + ".tmp")
    content = content.encode() if isinstance(content, str) else content
    temporary.unlink(missing_ok=True)
    try:
        with open(temporary, "xb", opener=_no_link) as file:
            file.write(content)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    os.replace(temporary, path)


def open_own(path: Path, mode: str, **how):
    """Open a file of a run to add to it. OSError where it is a link: what it leads to may not be the run's."""
    return open(path, mode, opener=_no_link, **how)


def _no_link(path, flags):
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def expect_own_files(run_dir: Path) -> None:
    """Raise UserError where something in a run directory is no file or folder of its own.

    Written to, a link would change what it leads to, and a pipe is waited for without an end.
    """
    for folder, folders, files in os.walk(run_dir):
        for path in (Path(folder, name) for name in (*folders, *files)):
            if path.is_symlink():
                raise UserError(f"{path} is a link to {os.readlink(path)}: put the file itself there, or remove it")
            if not (path.is_file() or path.is_dir()):
                raise UserError(f"{path} is neither a file nor a folder: remove it")


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

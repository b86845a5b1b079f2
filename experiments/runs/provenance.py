"""What a number needs to be believed: code, packages, data, machine, command and time."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import jax

from experiments.runs.files import read_json_lines, write_atomically

PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "orbax-checkpoint", "tensorflow-datasets", "numpy")


def write_start(run_dir: Path, first_step: int) -> None:
    """Add this start of a run to RUN_DIR/starts.jsonl."""
    starts = [*read_starts(run_dir), {"first_step": first_step, **surroundings()}]
    write_atomically(run_dir / "starts.jsonl", "".join(json.dumps(start) + "\n" for start in starts))


def read_starts(run_dir: Path) -> list[dict]:
    return read_json_lines(run_dir / "starts.jsonl")


def surroundings() -> dict:
    """The code, the packages and the machine of this process, and the command that started it."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command(),
        "git_revision": git_revision(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "hardware": hardware(),
    }


def command() -> str:
    """As it was typed, but for folders of this machine: a path outside the current folder keeps its last name only."""
    path, root = Path(sys.argv[0]).with_suffix(""), Path(__file__).parents[2]
    program = ".".join(path.relative_to(root).parts) if path.is_relative_to(root) else path.name
    words = (word.replace(f"{Path.cwd()}/", "") for word in sys.argv[1:])
    return shlex.join(["python", "-m", program, *(re.sub(r"(^|=)/(?:.*/)?", r"\1.../", word) for word in words)])


def git_revision() -> str:
    """The commit, with "+changes" where tracked files differ from it; "unknown" outside a clone."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def hardware() -> str:
    devices = jax.local_devices()
    kind = devices[0].device_kind if devices[0].platform != "cpu" else "virtual CPU device"
    return f"{len(devices)} x {kind}; {os.cpu_count()} CPU cores, {platform.machine()}"

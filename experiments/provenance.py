"""What a number needs to be believed: code, packages, data, machine, command and time."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "orbax-checkpoint", "tensorflow-datasets", "numpy")


def write_start(run_dir: Path, first_step: int) -> None:
    """Add this start of a run to RUN_DIR/starts.jsonl."""
    with (run_dir / "starts.jsonl").open("a") as file:
        file.write(json.dumps({"first_step": first_step, **surroundings()}) + "\n")


def read_starts(run_dir: Path) -> list[dict]:
    path = run_dir / "starts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


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
    """As it was typed, with paths inside the current folder relative to it."""
    module = Path(sys.argv[0]).stem
    here = f"{Path.cwd()}{os.sep}"
    return shlex.join(["python", "-m", f"experiments.{module}", *(word.removeprefix(here) for word in sys.argv[1:])])


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


def fingerprint(folder: Path) -> str:
    """SHA-256 over the names and contents of the files of a prepared data set, the same on every machine."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            total.update(
                f"{path.relative_to(folder).as_posix()} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode()
            )
    return total.hexdigest()

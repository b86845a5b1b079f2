"""The programs as a user starts them, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

from experiments.errors import UserError


def command(name: str, *arguments: object) -> list[str]:
    """``python -m experiments.NAME ARGUMENTS``."""
    return [sys.executable, "-m", f"experiments.{name}", *map(str, arguments)]


def output_of(words: list[str]) -> str:
    """Run a command to its end, and give what it printed. Errors: UserError where it fails, with its last line."""
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise UserError(f"{' '.join(words[2:])} ended with {done.returncode}: {last}")
    return done.stdout.strip()

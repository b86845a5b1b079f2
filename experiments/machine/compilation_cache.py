"""What the programs compile is kept, so that the next start of the same run does not compile again."""

from __future__ import annotations

import os
from pathlib import Path

import jax

VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def use_compilation_cache() -> None:
    """Keep compiled programs under ``~/.cache/nvpjax``, or where the variable says; set but empty it means nowhere.

    Entries are keyed by program, versions and device, so a wrong one is never found, and the directory may be removed
    at any time. In a pod jax lets the first process alone write.
    """
    if VARIABLE in os.environ:
        return
    try:
        directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nvpjax"
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # a home that is not there or cannot be written: compile each time
        return
    jax.config.update("jax_compilation_cache_dir", str(directory))


def use_no_compilation_cache() -> None:
    """For programs that tell how long compilation takes."""
    jax.config.update("jax_enable_compilation_cache", False)

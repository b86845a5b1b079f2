"""Times that can be compared: what is compared takes turns, and medians count."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from rich.progress import track


def medians_in_turns(runs: Mapping[str, Callable[[], object]], repeats: int, title: str = "turns") -> dict[str, float]:
    """Seconds of each, the median of ``repeats`` turns.

    Before each that is timed the same runs untimed, which compiles the first time. Later it takes what the one before
    left: caches of other arrays, threads that still spin (PyTorch's do, for a fifth of a second).
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in track(range(repeats), title, transient=True):
        for name, run in runs.items():
            jax.block_until_ready(run())
            begin = time.perf_counter()
            jax.block_until_ready(run())
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def compiled_anew(
    function: Callable, *arguments: Any, times: int = 1, **options: Any
) -> tuple[jax.stages.Compiled, float]:
    """Trace and compile for these arguments, nothing left of what was traced before; and the median of its seconds."""
    seconds = []
    for _ in range(times):
        jax.clear_caches()
        begin = time.perf_counter()
        compiled = jax.jit(function, **options).lower(*arguments).compile()
        seconds.append(time.perf_counter() - begin)
    return compiled, statistics.median(seconds)

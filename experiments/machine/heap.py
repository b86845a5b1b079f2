"""The heap of a program on CPUs: memory that a step has given back is there for the next, and does not pile up."""

from __future__ import annotations

import contextlib
import ctypes

OPTIONS = {
    "M_ARENA_MAX": (-8, 2),
    "M_MMAP_MAX": (-4, 0),
    "M_TRIM_THRESHOLD": (-1, 2**31 - 1),
}
"""Of glibc's mallopt: number, value."""


def keep_what_is_freed() -> None:
    """Let all threads share two heaps, which keep what is freed; to be called before there are threads.

    By default glibc maps each large array anew and gives it back after the step: 75,000 page faults a step of the
    image model of ``experiments.bench.image``, a fifth of its time. And each thread gets a heap of its own, up to eight
    a core: what is kept in them grew for as long as checkpoints were written. With one in all, the threads that compile
    would wait for each other.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        for option, value in OPTIONS.values():
            ctypes.CDLL(None).mallopt(option, value)


def give_back() -> None:
    """Give the system what is free now, as after a checkpoint: most of what writing one takes is never used again."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)

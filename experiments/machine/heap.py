"""The heap of a program on CPUs: memory that a step has given back is there for the next, and does not pile up."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

OPTIONS = {
    "M_ARENA_MAX": (-8, 8),
    "M_MMAP_MAX": (-4, 0),
    "M_TRIM_THRESHOLD": (-1, 2**31 - 1),
}
"""Of glibc's mallopt: number, value."""

HUGE_PAGES = "glibc.malloc.hugetlb"


def keep_what_is_freed() -> None:
    """Let all threads share eight heaps, which keep what is freed; to be called before there are threads.

    By default glibc maps each large array anew and gives it back after the step: 75,000 page faults a step of the
    image model of ``experiments.bench.image``, a fifth of its time. And each thread gets a heap of its own, up to eight
    a core: what is kept in them grew for as long as checkpoints were written. With two in all, the threads of a step
    with small arrays wait for each other: one of ``digits`` takes 125 ms in place of 71.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        for option, value in OPTIONS.values():
            ctypes.CDLL(None).mallopt(option, value)


def begin_again_with_huge_pages() -> None:
    """Start this program once more, with its heap on pages of 2 MB, where Linux gives them to those who ask.

    What a step maps anew then costs few faults: ``search``'s Glow takes 199 ms a step in place of 237, with 530 faults
    in place of 62,000. glibc reads this setting of its own when a process begins and at no other time. One that the
    user has made stands.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled") as file:
            on_request = "[madvise]" in file.read()
    except OSError:
        return
    if on_request and HUGE_PAGES not in tunables:
        os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, (tunables, f"{HUGE_PAGES}=1")))
        sys.stdout.flush(), sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def give_back() -> None:
    """Give the system what is free now, as after a checkpoint: most of what writing one takes is never used again."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)

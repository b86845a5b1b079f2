"""From the command line to a dataclass, and from a user's mistake to one line and exit code 2."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from experiments.errors import Interrupted, UserError, in_one_line, printable
from experiments.machine.compilation_cache import use_compilation_cache, use_no_compilation_cache
from experiments.machine.convolutions import compile_convolutions_fast
from experiments.machine.heap import begin_again_with_huge_pages, keep_what_is_freed

PATIENCE = 5.0
"""Seconds that threads have to end, after an error."""


def run(
    program: Callable[[Sequence[str]], None],
    arguments: Sequence[str] | None = None,
    *,
    compile_anew: bool = False,
    training: bool = False,
) -> None:
    """Run a program's main function, and end as a shell expects it.

    A ``UserError``, or a file that cannot be read or written: its line on stderr, exit code 2. SIGINT and SIGTERM: 130
    and 143. Compiled programs are kept for the next start, unless all is to ``compile_anew``. What is for long
    ``training`` is compiled with more flags (``compile_convolutions_fast``), and begins again for the sake of its heap
    where it was started by a shell (``begin_again_with_huge_pages``).
    """
    if training and arguments is None:
        begin_again_with_huge_pages()
    keep_what_is_freed()
    compile_convolutions_fast(training=training)
    use_no_compilation_cache() if compile_anew else use_compilation_cache()
    for stream in (sys.stdout, sys.stderr):  # a terminal that has no ± shall not end a run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        program(sys.argv[1:] if arguments is None else arguments)
    except (UserError, OSError) as error:
        print(f"error: {printable(in_one_line(error))}", file=sys.stderr)
        _leave(2, arguments)
    except Interrupted as interrupted:
        print(interrupted, file=sys.stderr)
        sys.exit(128 + interrupted.number)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _leave(code: int, arguments: Sequence[str] | None) -> None:
    """End the program; where it was started by a shell, also when a thread still waits to write what cannot be."""
    if arguments is None:
        deadline = time.monotonic() + PATIENCE
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join(max(0.0, deadline - time.monotonic()))
        if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.current_thread()):
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    sys.exit(code)


def parse(read: Callable[[], Any]) -> Any:
    """Call a tyro parser; what it has to complain of, a box of several lines, becomes one ``UserError``."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return read()
    except ValueError as error:  # of a value that a model refuses
        raise UserError(f"{error} --help shows what each option means and its default") from None
    except SystemExit as ending:
        if ending.code in (0, None):  # --help
            raise
        raise UserError(_one_line(complaint.getvalue())) from None


def _one_line(box: str) -> str:
    """Keep the first section of tyro's box, choices or the first guess from the second, and where help is to be had."""
    lines = [line.strip("│╭╮╰╯─ ") for line in box.splitlines()[1:-1]]
    sections, section = [], []
    for line in [*lines, ""]:
        if line:
            section.append(line)
        elif section:
            sections.append(section)
            section = []
    if len(sections) > 1:
        choices = sections[1][0].startswith("Available")  # all of them; of guesses at an option the first one will do
        sections = [sections[0], sections[1] if choices else sections[1][:2], sections[-1]]
    line = ". ".join(dict.fromkeys(" ".join(section).rstrip(".") for section in sections))
    return re.sub(r"^Error parsing \S*__tyro\S*: ", "", line)  # tyro's own name of where a model refused its values

"""Bars are for terminals: notebooks set FORCE_COLOR for the programs of their cells, and rich takes that for one."""

import os
import pty
import subprocess
import sys

PROGRAM = """
from rich.progress import track
from experiments.terminal import console

for _ in track(range(3), "counting", transient=True, console=console()):
    pass
console().print("done")
"""
NOTEBOOK = {**os.environ, "FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "TERM": "xterm-color"}


def test_a_pipe_gets_no_bars_even_from_a_notebook():
    said = subprocess.run([sys.executable, "-c", PROGRAM], env=NOTEBOOK, capture_output=True, check=True, timeout=300)
    assert said.stdout.split() == [b"done"]


def test_a_terminal_gets_them():
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", PROGRAM], env=NOTEBOOK, stdout=theirs) as program:
        os.close(theirs)
        said = b""
        try:
            while part := os.read(ours, 2**16):
                said += part
        except OSError:  # Linux's end of a terminal
            pass
        assert program.wait(300) == 0
    os.close(ours)
    assert b"counting" in said and b"done" in said

"""Bars are for terminals: notebooks set FORCE_COLOR for the programs of their cells, and rich takes that for one."""

import os
import pty
import subprocess
import sys

import pytest

PROGRAM = """
from rich.progress import track
from experiments.terminal import console

for _ in track(range(3), "counting", transient=True, console=console()):
    pass
console().print("done")
"""
FIT = """
import jax
from nvpjax import Flow, Scale, fit

fit(jax.random.key(0), Flow(Scale()), jax.random.normal(jax.random.key(1), (64, 2)), steps=10)
print("done")
"""
NOTEBOOK = {**os.environ, "FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "TERM": "xterm-color"}


@pytest.mark.parametrize("program", [PROGRAM, FIT], ids=["programs", "fit"])
def test_a_pipe_gets_no_bars_even_from_a_notebook(program):
    said = subprocess.run([sys.executable, "-c", program], env=NOTEBOOK, capture_output=True, check=True, timeout=300)
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

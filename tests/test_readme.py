"""Every block of the README runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)


def test_python_blocks_run_one_after_the_other(capsys):
    names = {}
    for language, block in BLOCKS:
        if language == "python":
            exec(compile(block, "README.md", "exec"), names)  # our own text, to be run as a reader would
    output = capsys.readouterr().out
    nats = float(re.match(r"([\d.]+) nats", output).group(1))
    assert 3.3 < nats < 3.9 and "(5, 2)" in output and "Report(round_trip=" in output


def commands():
    for language, block in BLOCKS:
        if not language:
            yield from block.strip().splitlines()


@pytest.mark.parametrize("command", list(commands()))
def test_commands_exist_as_written(command):
    words = shlex.split(command)
    if words[0] == "make":
        result = subprocess.run(["make", "--dry-run", words[1]], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
    else:
        program = [sys.executable, *words[1:3], *(["digits"] if words[2].endswith("train") else []), "--help"]
        result = subprocess.run(program, cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        for option in re.findall(r"--[a-z-]+", command):
            assert option in result.stdout

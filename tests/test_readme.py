"""Every block of the README and of the guide to testing runs, and every command of the pages exists as written."""

import importlib
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from experiments.configs import configs_to_train

ROOT = Path(__file__).parent.parent


def blocks(page):
    return re.findall(r"```(\w*)\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


def output_of_python_blocks(page, capsys):
    names = {}
    for language, block in blocks(page):
        if language == "python":
            exec(compile(block, page, "exec"), names)  # our own text, to be run as a reader would
    return capsys.readouterr().out


def test_python_blocks_of_the_readme_run_one_after_the_other(capsys):
    output = output_of_python_blocks("README.md", capsys)
    nats = float(re.search(r"([\d.]+) nats", output)[1])
    assert 3.4 < nats < 3.7 and "(5, 2)" in output and "7 checks failed" in output


def test_python_blocks_of_the_guide_to_testing_run(capsys):
    assert "passed   round trip" in output_of_python_blocks("docs/testing.md", capsys)


def commands():
    """Of the README, and those of the page of programs that it has not."""
    pages = [blocks(page) for page in ("README.md", "docs/programs.md")]
    lines = [line for page in pages for language, block in page if not language for line in block.strip().splitlines()]
    return dict.fromkeys(lines)


@pytest.mark.parametrize("command", commands())
def test_commands_exist_as_written(command, capsys):
    words = shlex.split(command)
    if words[0] == "make":
        result = subprocess.run(["make", "--dry-run", words[1]], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
    else:
        assert words[:2] == ["python", "-m"]
        program = importlib.import_module(words[2])
        with pytest.raises(SystemExit) as ending:
            config = words[3] if words[3] in configs_to_train() else "digits"
            program.main([*([config] if words[2].endswith("train") else []), "--help"])
        said = capsys.readouterr().out
        assert ending.value.code in (0, None)
        for option in re.findall(r"--[a-z-]+", command):
            assert option in said

"""What the programs ask of glibc's heap."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.machine import heap

PROGRAM = """
import os
from experiments import command_line
print("begins")
command_line.run(lambda arguments: print(os.environ.get("GLIBC_TUNABLES"), arguments), training={training})
"""
OFFERED = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.parametrize(
    "training, tunables, lines",
    [
        (True, None, ["begins", "begins", "glibc.malloc.hugetlb=1 ['--steps', 'a b']"]),
        (True, "glibc.malloc.hugetlb=0", ["begins", "glibc.malloc.hugetlb=0 ['--steps', 'a b']"]),
        (
            True,
            "glibc.malloc.tcache_count=5",
            ["begins", "begins", "glibc.malloc.tcache_count=5:glibc.malloc.hugetlb=1 ['--steps', 'a b']"],
        ),
        (False, None, ["begins", "None ['--steps', 'a b']"]),
    ],
)
@pytest.mark.skipif(
    not (OFFERED.exists() and "[madvise]" in OFFERED.read_text()), reason="pages of 2 MB are not to be asked for here"
)
def test_programs_that_train_begin_again_once_with_their_arguments(training, tunables, lines):
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    if tunables is not None:
        environment["GLIBC_TUNABLES"] = tunables
    command = [sys.executable, "-c", PROGRAM.format(training=training), "--steps", "a b"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == lines


@pytest.mark.parametrize("offered", ["always [never]", "[always] madvise never", None])
def test_nothing_begins_again_where_it_gains_nothing(monkeypatch, tmp_path, offered):
    def read(path):
        if offered is None:
            raise FileNotFoundError
        (tmp_path / "enabled").write_text(offered)
        return open(tmp_path / "enabled")

    monkeypatch.setattr(heap, "open", read, raising=False)
    monkeypatch.setattr(heap.os, "execv", None)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    heap.begin_again_with_huge_pages()
    assert "GLIBC_TUNABLES" not in os.environ

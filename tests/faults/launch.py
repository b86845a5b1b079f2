"""Starting training programs as other processes, with a watchdog outside of them against those that hang."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SMALL = [
    *("digits", "--noise", "uniform", "--scales", "1", "--features", "2", "--blocks", "0", "--batch-size", "16"),
    *("--measure-batches", "2", "--eval-every", "10", "--log-every", "5"),
]
LIMIT = 3600.0
"""Seconds after which a process hangs beyond doubt, however busy the machine: it is killed, and the test fails."""


class Program:
    """A training program in a process of its own, on virtual CPU devices; what it says goes to a file."""

    def __init__(self, arguments: Sequence, said: Path, *, devices: int = 1, environment: dict[str, str] | None = None):
        self.said = said
        variables = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices), **(environment or {})}
        command = [sys.executable, "-m", "experiments.train", *map(str, arguments)]
        with said.open("w") as file:
            self.process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=file, stderr=subprocess.STDOUT)
        self._deadline = time.monotonic() + LIMIT

    def text(self) -> str:
        return self.said.read_text()

    def running(self) -> bool:
        """Whether it runs still; a program that is out of its time is killed."""
        if time.monotonic() > self._deadline:
            self.process.kill()  # not terminate: a process of a pod does not end by SIGTERM
            raise AssertionError(f"still running after {LIMIT:.0f} s:\n{self.text()}")
        return self.process.poll() is None

    def wait_for(self, words: str) -> None:
        """Until it has said ``words``."""
        while words not in self.text():
            assert self.running(), f"ended without saying {words!r}:\n{self.text()}"
            time.sleep(0.05)

    def end(self) -> int:
        """Wait for the end; give the exit code."""
        while self.running():
            time.sleep(0.05)
        return self.process.returncode


def start_pod(
    arguments: Sequence,
    folder: Path,
    *,
    processes: int = 2,
    devices: int = 2,
    timeout: float = 60.0,
    of_process: dict[int, Sequence] | None = None,
):
    """Start one program on several processes; the folder gets what each of them says.

    ``of_process`` has arguments that one process gets beside the common ones.
    """
    port = free_port()
    common = ["--multihost", "--coordinator", f"127.0.0.1:{port}", "--num-processes", processes, "--timeout", timeout]
    return [
        Program(
            [*arguments, *common, "--process-id", number, *(of_process or {}).get(number, [])],
            folder / f"process_{number}_{port}.txt",
            devices=devices,
        )
        for number in range(processes)
    ]


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]

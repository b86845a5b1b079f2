"""A process of a pod that is gone or hangs: the others end by themselves and name it (fault-test)."""

import os
import signal

import pytest

from experiments.runs.build import train_state_like
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.config_file import read_config
from tests.faults.launch import SMALL, start_pod

pytestmark = [pytest.mark.fault, pytest.mark.xdist_group("pod")]

TIMEOUT = 20.0
ENDLESS = ["--steps", "100000"]


@pytest.fixture
def arguments(tmp_path):
    return [*SMALL, *ENDLESS, "--data-dir", tmp_path / "data", "--run-dir", tmp_path / "run"]


def latest_whole_checkpoint(run_dir):
    with Checkpoints(run_dir) as saved:
        found = saved.restore_latest(train_state_like(read_config(run_dir)))
    return found and found[0]


def names_process_1(program) -> bool:
    return "process 1 on" in program.text() and "start all with the same command" in program.text()


def test_a_killed_process(arguments, tmp_path):
    pod = start_pod(arguments, tmp_path, timeout=TIMEOUT)
    pod[0].wait_for("step 20: validation")
    pod[1].process.kill()
    assert pod[0].end() == 1 and names_process_1(pod[0]), pod[0].text()
    assert latest_whole_checkpoint(tmp_path / "run") >= 10
    assert not (tmp_path / "run" / "damaged").exists()


def test_a_process_killed_while_a_checkpoint_is_being_written(arguments, tmp_path):
    pod = start_pod(arguments, tmp_path, timeout=TIMEOUT)
    pod[0].wait_for("step 20: validation")
    while not list((tmp_path / "run" / "checkpoints").glob("*tmp*")):
        assert pod[1].running(), pod[1].text()
    pod[1].process.kill()
    assert pod[0].end() == 1 and names_process_1(pod[0]), pod[0].text()
    assert latest_whole_checkpoint(tmp_path / "run") >= 10
    assert not (tmp_path / "run" / "damaged").exists()


def test_a_process_that_hangs(arguments, tmp_path):
    pod = start_pod(arguments, tmp_path, timeout=TIMEOUT)
    pod[0].wait_for("step 10: validation")
    os.kill(pod[1].process.pid, signal.SIGSTOP)
    try:
        assert pod[0].end() == 1 and names_process_1(pod[0]), pod[0].text()
    finally:
        pod[1].process.kill()


def test_a_process_that_never_starts(arguments, tmp_path):
    pod = start_pod(arguments, tmp_path, timeout=TIMEOUT / 2)
    pod[1].process.kill()
    assert pod[0].end() == 1 and "waited" in pod[0].text() and "process 1" in pod[0].text(), pod[0].text()
    assert "Check failure" not in pod[0].text()


def test_a_process_that_ends_by_a_mistake_of_its_own(arguments, tmp_path):
    pod = start_pod(arguments, tmp_path, timeout=TIMEOUT, of_process={1: ["--data-dir", "/proc/nowhere"]})
    assert pod[1].end() == 2 and "error:" in pod[1].text(), pod[1].text()
    assert pod[0].end() != 0 and "process 1" in pod[0].text(), pod[0].text()

"""Two processes with two devices each stand in for a pod: make pod-test."""

import os
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from experiments.build import train_state_like
from experiments.checkpoints import Checkpoints
from experiments.config import read_config
from experiments.configs import all_configs
from experiments.metrics import read_metrics
from tests.faults.launch import SMALL, Program, start_pod

pytestmark = [pytest.mark.pod, pytest.mark.xdist_group("pod")]

STEPS = 20
LEARNING_RATE = all_configs()["digits"][1].learning_rate
ROUNDING = 1e-4
"""Of 99 % of the parameters after 20 steps. The others have a gradient that is zero but for rounding (a bias in front
of a batch normalisation), and Adam divides it by its own size: they go either way, a learning rate a step at most."""


def final_params(run_dir):
    with Checkpoints(run_dir) as saved:
        assert saved.latest_step() == STEPS
        return saved.restore(STEPS, train_state_like(read_config(run_dir))).params


def nearly_the_same(what, first, second):
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second))
    differences = np.concatenate([np.ravel(np.abs(a - b)) for a, b in pairs])
    print(
        f"{what}: parameters differ by {np.max(differences):.1e} at most, 99 % by {np.quantile(differences, 0.99):.1e}"
    )
    return np.quantile(differences, 0.99) < ROUNDING and np.max(differences) < STEPS * LEARNING_RATE


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    return [*SMALL, "--steps", STEPS, "--data-dir", tmp_path_factory.mktemp("data"), "--run-dir"]


@pytest.fixture(scope="module")
def whole(arguments, tmp_path_factory):
    """One process on four devices."""
    folder = tmp_path_factory.mktemp("whole")
    program = Program([*arguments, folder / "run"], folder / "said.txt", devices=4)
    assert program.end() == 0, program.text()
    return folder / "run"


def test_two_processes_train_what_one_trains_and_write_once(arguments, whole, tmp_path):
    pod = start_pod([*arguments, tmp_path / "run"], tmp_path)
    assert [program.end() for program in pod] == [0, 0], pod[0].text() + pod[1].text()
    assert nearly_the_same("1 process x 4 devices, 2 x 2", final_params(whole), final_params(tmp_path / "run"))
    of_pod, of_one = read_metrics(tmp_path / "run"), read_metrics(whole)
    assert [(line["step"], line["split"]) for line in of_pod] == [(line["step"], line["split"]) for line in of_one]
    for ours, theirs in zip(of_pod, of_one):
        np.testing.assert_allclose(ours["bits_per_dim"], theirs["bits_per_dim"], rtol=1e-4)
        assert ours.get("images") == theirs.get("images")
    assert "bits/dim on 299 images" in pod[0].text() and "bits/dim" not in pod[1].text()
    assert len(list((tmp_path / "run").glob("events.*"))) == 1


def test_signal_to_one_stops_both_at_one_step_and_other_numbers_of_processes_go_on(arguments, whole, tmp_path):
    run_dir = tmp_path / "run"
    pod = start_pod([*arguments, run_dir], tmp_path)
    pod[0].wait_for("step 10: validation")
    os.kill(pod[1].process.pid, signal.SIGTERM)
    assert [program.end() for program in pod] == [143, 143], pod[0].text() + pod[1].text()
    assert all("the same command goes on" in program.text() for program in pod)
    shutil.copytree(run_dir, tmp_path / "again")
    one = Program([*arguments, run_dir], tmp_path / "one.txt", devices=4)
    assert one.end() == 0 and "going on from step" in one.text(), one.text()
    two = start_pod([*arguments, tmp_path / "again"], tmp_path)
    assert [program.end() for program in two] == [0, 0], two[0].text() + two[1].text()
    assert nearly_the_same("1 x 4, stopped at 2 x 2 and gone on at 1 x 4", final_params(whole), final_params(run_dir))
    assert nearly_the_same("1 x 4, stopped and gone on at 2 x 2", final_params(whole), final_params(tmp_path / "again"))


def test_a_killed_process_ends_the_other_which_names_it(arguments, tmp_path):
    pod = start_pod([*arguments[:-1], "--steps", "100000", "--run-dir", tmp_path / "run"], tmp_path, timeout=20)
    pod[0].wait_for("step 10: validation")
    pod[1].process.kill()
    begin = time.monotonic()
    assert pod[0].end() == 1, pod[0].text()
    assert time.monotonic() - begin < 40
    assert "process 1 on" in pod[0].text() and "start all with the same command" in pod[0].text(), pod[0].text()
    with Checkpoints(tmp_path / "run") as saved:
        assert saved.latest_step() is None or saved.latest_step() >= 10  # None where it was still being written


def test_a_stopped_process_is_named_too(arguments, tmp_path):
    pod = start_pod([*arguments[:-1], "--steps", "100000", "--run-dir", tmp_path / "run"], tmp_path, timeout=20)
    pod[0].wait_for("step 10: validation")
    os.kill(pod[1].process.pid, signal.SIGSTOP)
    try:
        assert pod[0].end() == 1 and "process 1 on" in pod[0].text(), pod[0].text()
    finally:
        pod[1].process.kill()


def test_a_process_that_never_starts_is_named(arguments, tmp_path):
    pod = start_pod([*arguments, tmp_path / "run"], tmp_path, timeout=10)
    pod[1].process.kill()
    assert pod[0].end() == 1 and "waited" in pod[0].text() and "process 1" in pod[0].text(), pod[0].text()
    assert "Check failure" not in pod[0].text()


def test_slurm_is_recognised(arguments, tmp_path):
    place = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    place |= {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1"}
    pod = [
        Program(
            [*arguments, tmp_path / "run", "--multihost", "--steps", "0", "--timeout", "60"],
            tmp_path / f"{number}.txt",
            environment={**place, "SLURM_PROCID": str(number), "SLURM_LOCALID": str(number)},
        )
        for number in range(2)
    ]
    assert [program.end() for program in pod] == [2, 2]
    assert all(f"process {number} of 2" in pod[number].text() for number in range(2)), pod[0].text()
    assert all("nothing trained" in program.text() for program in pod), pod[0].text()

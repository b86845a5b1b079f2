"""Two processes with two devices each stand in for a pod: make pod-test."""

import os
import shutil
import signal
import time

import chex
import jax
import numpy as np
import pytest

from experiments.runs.metrics import MetricsLog, read_metrics
from tests.faults.launch import SMALL, Program, free_port, start_pod
from tests.runs import final_state

pytestmark = [pytest.mark.pod, pytest.mark.xdist_group("pod")]

BEGIN = 60
"""The step from which numbers of devices are compared. At the first steps the masked half of what the conditioners
normalise is zero but for rounding, which is where a rectifier has its kink: gradients there are a matter of rounding in
float64 as well (docs/pods.md)."""
STEPS = 90
ROUNDING = (STEPS - BEGIN) * 2**-23 * 8
"""Steps × float32 rounding × a factor for sums over a batch."""


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    small = [*SMALL, "--eval-every", "15", "--keep", "10"]
    return [*small, "--steps", STEPS, "--data-dir", tmp_path_factory.mktemp("data"), "--run-dir"]


@pytest.fixture(scope="module")
def whole(arguments, tmp_path_factory):
    """One process on four devices."""
    folder = tmp_path_factory.mktemp("whole")
    program = Program([*arguments, folder / "run"], folder / "said.txt", devices=4)
    assert program.end() == 0, program.text()
    return folder / "run"


@pytest.fixture(scope="module")
def of_pod(arguments, whole, tmp_path_factory):
    """The same from step BEGIN on, on two processes with two devices each; and what they said."""
    folder = tmp_path_factory.mktemp("pod")
    begun(whole, folder / "run")
    pod = start_pod([*arguments, folder / "run"], folder)
    assert [program.end() for program in pod] == [0, 0], pod[0].text() + pod[1].text()
    return folder / "run", [program.text() for program in pod]


def begun(whole, run_dir):
    """The run as it was after step BEGIN."""
    shutil.copytree(whole, run_dir)
    for checkpoint in (run_dir / "checkpoints").iterdir():
        if int(checkpoint.name) > BEGIN:
            shutil.rmtree(checkpoint)
    with MetricsLog(run_dir, BEGIN):
        pass  # it drops the lines after that step


def shows_in_what_the_flow_computes(path) -> bool:
    """Not the biases in front of a batch normalisation, which subtracts them.

    Their gradient is zero but for rounding, and Adam divides it by its own size.
    """
    return not jax.tree_util.keystr(path).endswith(("['input']['bias']", "['input_skip']['bias']"))


def differences(first_run, second_run):
    """The largest difference of parameters that show in what the flow computes, and of the others."""
    states = (final_state(run, STEPS) for run in (first_run, second_run))
    first, second = (jax.tree_util.tree_leaves_with_path(state.params) for state in states)
    largest = {True: 0.0, False: 0.0}
    for (path, one), (_, other) in zip(first, second):
        kind = shows_in_what_the_flow_computes(path)
        largest[kind] = max(largest[kind], float(np.max(np.abs(one - other))))
    print(f"after {STEPS - BEGIN} steps: parameters differ by {largest[True]:.1e}, unseen biases {largest[False]:.1e}")
    return largest[True]


def test_two_processes_train_what_one_trains(whole, of_pod):
    run_dir, _ = of_pod
    assert differences(whole, run_dir) < ROUNDING
    lines = {(line["step"], line["split"]): line for line in read_metrics(run_dir)}
    assert lines.pop((BEGIN + 1, "train"))  # a process writes its first step
    for line in read_metrics(whole):
        ours = lines.pop((line["step"], line["split"]))
        # Held-out bits/dim use running averages, which lag behind the unseen biases.
        rounding = 1e-5 if line["split"] == "train" else 3e-4
        np.testing.assert_allclose(ours["bits_per_dim"], line["bits_per_dim"], rtol=rounding)
        assert ours.get("examples") == line.get("examples")
    assert not lines


def test_one_process_writes(of_pod):
    run_dir, said = of_pod
    assert "bits/dim on 299 examples" in said[0] and "bits/dim" not in said[1]
    assert len(list(run_dir.glob("events.*"))) == 3  # of the process that began, of ``begun``, of the pod
    assert not list((run_dir / "processes").glob("*"))


def test_signal_to_one_stops_both_at_one_step_and_any_number_of_processes_goes_on(arguments, whole, of_pod, tmp_path):
    run_dir = tmp_path / "run"
    begun(whole, run_dir)
    pod = start_pod([*arguments, run_dir], tmp_path)
    while not any(line["step"] == BEGIN + 5 for line in read_metrics(run_dir)):
        # Early: the runtime of a pod takes some seconds to agree on the step at which all stop.
        assert pod[0].running(), pod[0].text()
        time.sleep(0.05)
    os.kill(pod[1].process.pid, signal.SIGTERM)
    assert [program.end() for program in pod] == [143, 143], pod[0].text() + pod[1].text()
    assert all("the same command goes on" in program.text() for program in pod)
    shutil.copytree(run_dir, tmp_path / "again")

    two = start_pod([*arguments, tmp_path / "again"], tmp_path)
    assert [program.end() for program in two] == [0, 0], two[0].text() + two[1].text()
    to_the_last_bit = final_state(tmp_path / "again", STEPS), final_state(of_pod[0], STEPS)
    chex.assert_trees_all_equal(*to_the_last_bit)

    one = Program([*arguments, run_dir], tmp_path / "one.txt", devices=4)
    assert one.end() == 0 and "going on from step" in one.text(), one.text()
    assert differences(whole, run_dir) < ROUNDING


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


@pytest.mark.parametrize(
    "of_second, said",
    [
        (["--seed", "1"], "differ in config's training.seed: 0 in process 0, 1 in process 1"),
        (
            ["--learning-rate", "0.5"],
            r"differ in config's training.learning_rate: 0.002 in process 0, 0.5 in process 1",
        ),
    ],
)
def test_processes_that_would_train_different_runs_all_end(arguments, tmp_path, of_second, said):
    pod = start_pod([*arguments, tmp_path / "run"], tmp_path, of_process={1: of_second})
    assert [program.end() for program in pod] == [2, 2]
    assert all(said in program.text() for program in pod), pod[0].text() + pod[1].text()
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_wrong_coordinator_is_named(arguments, tmp_path):
    wrong = f"localhost:{free_port()}"
    place = ["--multihost", "--num-processes", "2", "--timeout", "20"]
    pod = [
        Program(
            [*arguments, tmp_path / "run", *place, "--process-id", str(number), "--coordinator", address],
            tmp_path / f"{number}.txt",
        )
        for number, address in enumerate([f"localhost:{free_port()}", wrong])
    ]
    assert all(program.end() in (1, 2) for program in pod)
    assert wrong in pod[1].text(), pod[1].text()

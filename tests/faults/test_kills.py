"""kill -9 at any moment, also within a write of a checkpoint: the run ends with the same parameters (fault-test)."""

import random
import time

import chex
import pytest

from experiments.runs.checkpoints import Checkpoints
from experiments.runs.metrics import read_metrics
from tests.faults.launch import SMALL, Program
from tests.runs import final_state

pytestmark = [pytest.mark.fault, pytest.mark.xdist_group("kills")]

KILLS = 20
STEPS = 1000


def test_twenty_kills(tmp_path):
    arguments = [*SMALL, "--steps", STEPS, "--data-dir", tmp_path / "data", "--run-dir"]
    calm = Program([*arguments, tmp_path / "calm"], tmp_path / "calm.txt")
    assert calm.end() == 0, calm.text()

    run_dir, rng = tmp_path / "run", random.Random(0)
    within_a_write, progress = 0, []
    for kill in range(KILLS):
        program = Program([*arguments, run_dir], tmp_path / f"{kill}.txt")
        program.wait_for("the first step compiles")
        time.sleep(rng.uniform(0, 4))
        if kill % 2:  # as soon as the next checkpoint is being written
            while not list((run_dir / "checkpoints").glob("*tmp*")):
                assert program.running(), program.text()
            within_a_write += 1
        assert program.running(), program.text()
        program.process.kill()
        program.process.wait()
        with Checkpoints(run_dir) as saved:
            progress.append(saved.latest_step())
    last = Program([*arguments, run_dir], tmp_path / "last.txt")
    assert last.end() == 0, last.text()
    print(f"{KILLS} kills, {within_a_write} of them within a write; latest checkpoint after each: {progress}")
    chex.assert_trees_all_equal(final_state(run_dir, STEPS), final_state(tmp_path / "calm", STEPS))
    steps = [line["step"] for line in read_metrics(run_dir) if line["split"] == "validation"]
    assert steps == list(range(10, STEPS + 1, 10))

"""A disk that is full indeed: a small file system in memory, filled while a run writes to it (fault-test)."""

import contextlib
import shutil
import subprocess

import chex
import pytest

from tests.faults.launch import ROOT, SMALL, Program
from tests.runs import final_state

pytestmark = [pytest.mark.fault, pytest.mark.xdist_group("disk")]

STEPS = 60
SIZE = 16 * 2**20


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "nvpjax", folder], capture_output=True)
    if mounting.returncode:
        pytest.skip("no right to mount a file system here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk, room):
    """Leave ``room`` bytes, or less: the run writes at the same time."""
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        for _ in range((shutil.disk_usage(disk).free - room) // 1024):
            file.write(bytes(1024))


# The more room, the later: metrics, pictures, checkpoints.
@pytest.mark.parametrize("when, room", [("start", 0), ("step 10", 0), ("step 10", 50_000), ("step 10", 200_000)])
def test_full_disk_ends_in_one_line_and_the_same_command_goes_on(disk, tmp_path, when, room):
    arguments = [*SMALL, "--steps", STEPS, "--data-dir", tmp_path / "data", "--run-dir"]
    calm = Program([*arguments, tmp_path / "calm"], tmp_path / "calm.txt")
    assert calm.end() == 0, calm.text()

    if when == "start":
        fill(disk, room)
    full = Program([*arguments, disk / "run"], tmp_path / "full.txt")
    if when != "start":
        full.wait_for(f"{when}: validation")
        fill(disk, room)
    assert full.end() == 2, full.text()
    last = full.text().splitlines()[-1]
    # The library that writes checkpoints has threads that print errors of their own; none of ours may.
    assert last.startswith("error: ") and str(disk / "run") in last, full.text()
    assert str(ROOT / "experiments") not in full.text(), full.text()
    print(f"{when}, {room} bytes left: {last}")

    (disk / "filler").unlink()
    again = Program([*arguments, disk / "run"], tmp_path / "again.txt")
    assert again.end() == 0, again.text()
    chex.assert_trees_all_equal(final_state(disk / "run", STEPS), final_state(tmp_path / "calm", STEPS))

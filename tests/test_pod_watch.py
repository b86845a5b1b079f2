"""Who is said to be missing from a pod, from the files that its processes keep fresh. No processes are started."""

import json
import os
import time

import pytest

from experiments.errors import UserError
from experiments.machine import pod
from experiments.machine.pod import Watch

TIMEOUT = 20.0


@pytest.fixture
def watch(tmp_path):
    return Watch(tmp_path, 0, 2, TIMEOUT)


def other(watch, *, age=0.0, step=7, error=""):
    """Process 1 as it was ``age`` seconds ago."""
    path = watch._folder / "1.json"
    path.write_text(json.dumps({"host": "there", "pid": 1, "step": step, "error": error}))
    now = (watch._folder / "0.json").stat().st_mtime
    os.utime(path, (now - age, now - age))


def ending(watch, monkeypatch, capsys):
    """What the watch says when it ends the process; None where it does not within its first looks."""

    class Ended(BaseException):
        pass

    def end(code):
        assert code == 1
        raise Ended

    looks = iter([False, False, True])
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(watch._ending, "wait", lambda seconds: next(looks))
    try:
        watch.run()
    except Ended:
        return capsys.readouterr().err
    return None


def test_fresh_process_is_not_missing(watch):
    other(watch, age=TIMEOUT / 4)
    assert watch.missing() == []


def test_process_without_a_file_has_not_started(watch):
    assert watch.missing() == [f"process 1 has not started, or sees another {watch._folder.parent}"]


def test_process_that_gives_no_sign_is_named_with_its_host_and_step(watch):
    other(watch, age=TIMEOUT)
    assert watch.missing() == ["process 1 on there gave its last sign 20 s ago, at step 7"]


def test_process_that_ended_by_an_error_is_named_with_it_after_a_moment(watch):
    other(watch, age=TIMEOUT / 4, error="no such data")
    assert watch.missing() == ["process 1 on there ended at step 7: no such data"]
    other(watch, age=0.0, error="no such data")  # perhaps this process is about to end by the same one
    assert watch.missing() == []


def test_file_that_is_being_written_counts_as_no_sign_only(watch):
    (watch._folder / "1.json").write_text("{")
    assert "has not started" in watch.missing()[0]


def test_before_all_are_connected_it_waits_for_the_timeout(watch, monkeypatch, capsys):
    assert ending(watch, monkeypatch, capsys) is None
    watch._moved = time.monotonic() - 2 * TIMEOUT
    said = ending(watch, monkeypatch, capsys)
    assert "waited 40 s for 2 processes" in said and "process 1 has not started" in said


def test_connected_it_ends_when_another_is_missing_and_not_otherwise(watch, monkeypatch, capsys):
    watch._connected = True
    other(watch, age=TIMEOUT / 4)
    assert ending(watch, monkeypatch, capsys) is None
    other(watch, age=TIMEOUT)
    said = ending(watch, monkeypatch, capsys)
    assert "the pod is not whole: process 1 on there" in said and "start all with the same command" in said


def test_no_step_for_longer_than_the_timeout_names_the_one_behind_and_evaluations_take_as_long_as_they_take(
    watch, monkeypatch, capsys
):
    watch._connected = True
    watch.step(9)
    other(watch, step=8)
    (watch._folder / "2.json").write_text('{"host": "gone", "pid": 1, "step": 1, "error": ""}')  # of a larger pod
    watch._moved = time.monotonic() - 2 * TIMEOUT
    watch.busy()
    assert ending(watch, monkeypatch, capsys) is None
    watch._busy = False
    assert "no step for 40 s after step 9: process 1 is at step 8" in ending(watch, monkeypatch, capsys)


def test_clock_of_this_machine_does_not_matter(watch, monkeypatch):
    other(watch)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert watch.missing() == []


def test_second_pod_is_refused_and_one_that_starts_after_a_kill_is_not(watch, tmp_path, monkeypatch):
    path, clock = watch._folder / "0.json", [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def signs():  # of a process that is alive
        clock[0] += 0.1
        os.utime(path, (time.time() + 60 + clock[0],) * 2)  # never old, however slow this test is

    signs()
    monkeypatch.setattr(time, "sleep", lambda seconds: signs())
    with pytest.raises(UserError, match="process 0 of another pod is alive"):
        Watch(tmp_path, 0, 2, 1.0)
    looks = []

    def wait(seconds):
        looks.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(time, "sleep", wait)
    Watch(tmp_path, 0, 2, 1.0)
    assert 0 < sum(looks) <= 3.5 * 0.1  # three looks, a tenth of the timeout apart


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        Watch(tmp_path / "file", 0, 2, TIMEOUT)


def test_number_and_total_come_from_a_launcher(monkeypatch):
    for names in pod.LAUNCHERS.values():
        for name in filter(None, names):
            monkeypatch.delenv(name, raising=False)
    assert pod._place(pod.Multihost()) == (None, None)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "3")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "8")
    assert pod._place(pod.Multihost()) == (3, 8)
    by_hand = pod.Multihost(multihost=True, coordinator="a:1", num_processes=4, process_id=1)
    assert pod._place(by_hand) == (1, 4)

"""What befalls a run: signals, damaged checkpoints, full disks, numbers that are not finite, a second run, a clock.

Each ends in one line that says what to do, nothing is lost, and what goes on is the same run bit for bit. What takes
many processes or minutes is under tests/faults (make fault-test, make pod-test).
"""

import contextlib
import errno
import json
import os
import pickle
import re
import shutil
import signal
import threading
import time
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import command_line, train
from experiments.errors import Interrupted, UserError
from experiments.runs import checkpoints, interruption
from experiments.runs.build import train_state_like
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.config_file import read_config
from experiments.runs.health import Health
from experiments.runs.metrics import MetricsLog, read_metrics
from experiments.runs.run_lock import locked
from experiments.runs.trained import restore_run
from nvpjax.places import ERROR
from tests.runs import changed, cut, final_state, flip_bits, largest_file

# One process runs them all: they share a fixture and compiled programs.
pytestmark = pytest.mark.xdist_group("faults")

STEPS = 6


@pytest.fixture
def copy(calm, tmp_path):
    return Path(shutil.copytree(calm, tmp_path / "run"))


def go_back(run_dir, step=4):
    """Leave only the checkpoints up to ``step``."""
    for path in (run_dir / "checkpoints").iterdir():
        if path.name.isdigit() and int(path.name) > step:
            shutil.rmtree(path)


@pytest.mark.parametrize("number, when", [(signal.SIGTERM, 2), (signal.SIGINT, 11)])
def test_signal_leaves_a_checkpoint_and_the_run_goes_on_the_same(calm, config, tmp_path, monkeypatch, number, when):
    # Checks are counted: 2 is in the evaluation of step 2 if the first is after step 1; 11 after some later step.
    calls = 0
    check = interruption.Interruption.check

    def counting(self):
        nonlocal calls
        calls += 1
        if calls == when:
            os.kill(os.getpid(), number)
        check(self)

    monkeypatch.setattr(interruption.Interruption, "check", counting)
    run_dir = tmp_path / "run"
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="checkpoint") as interrupted:
        train.train(config, run_dir)
    assert interrupted.value.number == number and signal.getsignal(number) is before
    with Checkpoints(run_dir) as saved:
        stopped_at = saved.latest_step()
    assert 1 <= stopped_at < STEPS
    train.train(config, run_dir)
    chex.assert_trees_all_equal(final_state(run_dir, STEPS), final_state(calm, STEPS))
    evaluations = [[line for line in read_metrics(path) if line["split"] == "validation"] for path in (run_dir, calm)]
    assert [line["bits_per_dim"] for line in evaluations[0]] == [line["bits_per_dim"] for line in evaluations[1]]
    assert all(line.get("examples_per_second", 1) > 0 for line in read_metrics(run_dir))
    seconds = [line["training_seconds"] for line in read_metrics(run_dir)]
    assert seconds == sorted(seconds), "those before the signal were forgotten"


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_exit_codes_of_signals(capsys, number, code):
    def program(arguments):
        raise Interrupted(number, "stopped after step 3; the same command goes on")

    with pytest.raises(SystemExit) as ending:
        command_line.run(program, [])
    assert ending.value.code == code and capsys.readouterr().err.count("\n") == 1


def test_program_ends_after_an_error_although_a_thread_still_waits(capsys, monkeypatch):
    """As orbax's does that cannot write."""
    for_ever, codes = threading.Event(), []

    def program(arguments):
        threading.Thread(target=for_ever.wait).start()
        raise UserError("nothing can be written")

    def end(code):
        for_ever.set()
        codes.append(code)

    monkeypatch.setattr(command_line, "PATIENCE", 0.01)
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr("sys.argv", ["train"])
    with pytest.raises(SystemExit):
        command_line.run(program)
    for_ever.set()
    assert codes == [2] and capsys.readouterr().err == "error: nothing can be written\n"


@pytest.mark.parametrize(
    "name, damage",
    [
        ("train_state/_METADATA", cut),
        ("train_state/d/*", cut),
        ("train_state/d/*", flip_bits),
        ("contents/metadata", flip_bits),
        ("metrics/metrics", cut),
    ],
)
def test_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(copy, calm, config, capsys, name, damage):
    for damaged in (copy / "checkpoints" / str(STEPS)).glob(name):
        damaged.write_bytes(damage(damaged.read_bytes()))
        content = damaged.read_bytes()
    train.train(config, copy)
    said = capsys.readouterr()
    assert f"checkpoints/{STEPS} is damaged" in said.err and "going on from step 4" in said.err
    chex.assert_trees_all_equal(final_state(copy, STEPS), final_state(calm, STEPS))
    there = damaged.relative_to(copy / "checkpoints")
    assert (copy / "damaged" / there).read_bytes() == content


def test_contents_that_were_changed_are_damage(copy, calm, config, capsys):
    path = copy / "checkpoints" / str(STEPS) / "contents" / "metadata"
    contents = json.loads(path.read_text())
    path.write_text(json.dumps({**contents, "score": 0.1}))  # it would be the best
    train.train(config, copy)
    assert "the checksum of its contents is another" in capsys.readouterr().err
    chex.assert_trees_all_equal(final_state(copy, STEPS), final_state(calm, STEPS))


def test_damaged_best_checkpoint_is_set_aside_for_the_next(copy, config, capsys):
    with Checkpoints(copy) as saved:
        best, *others = saved._ranked()
    latest = Checkpoints(copy).latest_step()
    assert others
    for path in (copy / "checkpoints" / str(best) / "train_state").glob("d/*"):
        path.write_bytes(cut(path.read_bytes()))
    said = train.train(config, copy)
    assert f"checkpoints/{best} is damaged" in capsys.readouterr().err
    assert f"from step {best if best == latest else others[0]}" in said


def test_reading_a_run_that_goes_on_changes_nothing_in_it(copy):
    under_way = copy / "checkpoints" / "8.orbax-checkpoint-tmp"
    under_way.mkdir()
    before = sorted(copy.rglob("*"))
    restore_run(copy, "latest")
    assert sorted(copy.rglob("*")) == before


def test_checkpoint_is_replaced_without_a_moment_in_which_there_is_none(copy, config, monkeypatch):
    with Checkpoints(copy, going_on=True) as saved:
        step, train_state, position = saved.restore_latest(train_state_like(config))

        def full(*_, **__):
            assert list((copy / checkpoints.REPLACED).iterdir())
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as context:
            context.setattr(saved._manager, "save", full)
            with pytest.raises(UserError, match="could not be written"):
                saved.save(step, train_state, position, 1.0)
    assert (copy / "checkpoints" / str(step) / "train_state").exists()
    (copy / checkpoints.REPLACED).mkdir()  # as a kill in that moment leaves it
    (copy / "checkpoints" / str(step)).rename(copy / checkpoints.REPLACED / str(step))
    with Checkpoints(copy, going_on=True) as saved:
        chex.assert_trees_all_equal(saved.restore_latest(train_state_like(config))[1], train_state)


def test_damaged_checkpoints_are_not_called_those_that_nothing_evaluated(copy, config):
    for path in (copy / "checkpoints").glob("*/contents/metadata"):
        path.write_bytes(flip_bits(path.read_bytes()))
    with Checkpoints(copy) as saved, pytest.raises(UserError, match="is damaged"):
        saved.restore_best(train_state_like(config))


def test_where_all_checkpoints_are_damaged_nothing_is_moved(copy, config):
    for path in (copy / "checkpoints").glob("[0-9]*"):
        largest_file(path / "train_state").unlink()
    before = sorted(copy.rglob("*"))
    with pytest.raises(UserError, match="no other can be read"):
        train.train(config, copy)
    assert sorted(copy.rglob("*")) == before


@pytest.mark.parametrize("score, older", [("score", 6), ("bits_per_dim", 4)])
def test_checkpoint_of_an_older_format_changes_nothing(copy, config, score, older):
    for path in (copy / "checkpoints").glob("[0-9]*"):
        contents, metrics = path / "contents" / "metadata", path / "metrics" / "metrics"
        contents.write_text(json.dumps(checkpoints._sealed({**json.loads(contents.read_text()), "format": older})))
        metrics.write_text(json.dumps({score: 2.5}))
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    for read in (lambda: train.train(config, copy), lambda: restore_run(copy, "latest")):
        with pytest.raises(
            UserError, match=f"has format {older}, this program reads {checkpoints.FORMAT}: use the vers"
        ):
            read()
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_checkpoint_of_another_model_changes_nothing(copy, config):
    before = sorted(copy.rglob("*"))
    with Checkpoints(copy) as saved, pytest.raises(UserError, match="of another model"):
        saved.restore_latest(train_state_like(changed(config, model={"features": 3})))
    assert sorted(copy.rglob("*")) == before


def test_full_disk_at_a_checkpoint_ends_in_one_line_and_keeps_what_was_there(copy, calm, config, monkeypatch):
    go_back(copy)
    with monkeypatch.context() as context:

        def full(*arguments, **options):
            raise OSError(errno.ENOSPC, "No space left on device")

        context.setattr("orbax.checkpoint.CheckpointManager.save", full)
        with pytest.raises(UserError, match=r"No space left.*step 4 is the last that is whole.*same command"):
            train.train(config, copy)
    train.train(config, copy)
    chex.assert_trees_all_equal(final_state(copy, STEPS), final_state(calm, STEPS))


def test_full_disk_at_a_metrics_write(tmp_path):
    with MetricsLog(tmp_path) as log:
        os.dup2(os.open("/dev/full", os.O_WRONLY), log._file.fileno())
        with pytest.raises(UserError, match=r"step 3 \(No space left.*same command"):
            log.write(3, "train", loss=1.0)
        os.dup2(os.open(tmp_path / "metrics.jsonl", os.O_WRONLY | os.O_APPEND), log._file.fileno())  # room was made


def test_run_directory_that_cannot_be_written(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        train.train(config, tmp_path / "file" / "run")


def test_truncated_data_is_one_line(config, tmp_path, capsys):
    shutil.copytree(config.data.data_dir, tmp_path / "data")
    shard = largest_file(tmp_path / "data")
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(UserError, match=r"image \d+ cannot be read .* prepare it again"):
        changed(config, data={"data_dir": tmp_path / "data"}).data.examples("train")


def test_second_run_in_a_run_directory_is_refused(copy, config):
    with locked(copy), pytest.raises(UserError, match=f"in use by process {os.getpid()}"):
        train.train(config, copy)
    with locked(copy):  # let go of again
        pass


def test_refused_second_run_changes_nothing(copy, config):
    before = (copy / "config.json").read_text()
    with locked(copy), pytest.raises(UserError, match="is in use by process"):
        train.train(changed(config, training={"steps": 99}), copy)
    assert (copy / "config.json").read_text() == before
    with pytest.raises(UserError, match="has trained 6 steps already"):
        train.train(changed(config, training={"steps": 5}), copy)
    assert (copy / "config.json").read_text() == before


def test_last_step_is_looked_at_too_and_what_was_not_evaluated_is_not_the_best(copy, config, monkeypatch, capsys):
    go_back(copy)
    build = train.build_train_step

    def stopped_after_one(config):
        step = build(config)

        def stopping(train_state, key, batch):
            jax.debug.callback(lambda: os.kill(os.getpid(), signal.SIGTERM))
            after, metrics = step(train_state, key, batch)
            return after, {**metrics, "skipped_in_a_row": jnp.int32(1)}

        return stopping

    with monkeypatch.context() as context:
        context.setattr(train, "build_train_step", stopped_after_one)
        with pytest.raises(Interrupted):
            train.train(config, copy)
    assert "step 5: loss or gradients not finite" in capsys.readouterr().out
    with Checkpoints(copy) as saved:
        assert saved.latest_step() == 5 and not saved.was_evaluated(5)
    line = train.train(changed(config, training={"steps": 5}), copy)
    evaluated = [line["step"] for line in read_metrics(copy) if line["split"] == "validation"]
    assert evaluated == [2, 4, 5] and "nothing left to train" in line


def test_steps_that_are_not_finite_are_skipped_and_too_many_end_the_run(copy, config, monkeypatch, capsys):
    go_back(copy)
    build = train.build_train_step

    def poisoned(config):
        step = build(config)

        def with_nan(train_state, key, batch):
            bad = train_state.step >= 4
            params = jax.tree.map(lambda leaf: jnp.where(bad, jnp.nan, leaf), train_state.params)
            after, metrics = step(train_state._replace(params=params), key, batch)
            return after._replace(params=train_state.params), metrics

        return with_nan

    monkeypatch.setattr(train, "build_train_step", poisoned)
    with pytest.raises(UserError, match="2 steps in a row up to step 6"):
        train.train(changed(config, training={"steps": 8}), copy, max_skipped=1)
    said = capsys.readouterr().out
    assert "step 5: loss or gradients not finite; step skipped, 1 in a row" in said
    faults = [line for line in read_metrics(copy) if line["split"] == "fault"]
    assert [(line["step"], line["skipped_in_a_row"]) for line in faults] == [(5, 1), (6, 2)]
    with Checkpoints(copy) as saved:
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(saved.restore(4, train_state_like(config))))


def test_run_whose_layers_do_not_invert_ends_and_goes_on_with_their_inputs_stored(copy, config, capsys):
    go_back(copy)
    reversible = changed(config, training={"steps": 8, "memory": "reversible", "reconstruction_bound": 1e-12})
    with pytest.raises(UserError, match=r"2 steps in a row up to step 6 could not .*Go on .* --memory checkpointed"):
        train.train(reversible, copy, max_skipped=1)
    assert "step 5: activations were rebuilt with a relative error of" in capsys.readouterr().out
    faults = [line for line in read_metrics(copy) if line["split"] == "fault"]
    assert [line["step"] for line in faults] == [5, 6] and all(1e-12 < line[ERROR] < 1e-3 for line in faults)
    train.train(changed(config, training={"steps": 5, "memory": "checkpointed"}), copy)
    train.train(changed(reversible, training={"steps": 6, "reconstruction_bound": 1e-3}), copy)
    trained = {line["step"]: line for line in read_metrics(copy) if line["split"] == "train"}
    assert ERROR not in trained[5] and trained[6][ERROR] < 1e-3


def test_loss_that_explodes_is_noticed_once(config, tmp_path):
    said = []
    with MetricsLog(tmp_path) as log:
        health = Health(changed(config, data={"levels": 256}), 10, said.append, log)
        for step, bits in enumerate([9.5, 4.0, 10.0, 11.0, 12.0, 4.0, 900.0]):
            health.loss(step, bits)
    assert [re.match(r"step (\d): the loss explodes", line)[1] for line in said] == ["3", "6"]
    assert [line["exploded"] for line in read_metrics(tmp_path)] == [11.0, 900.0]


def test_line_that_is_no_json_is_refused_unless_it_is_an_unfinished_last_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    good = b'{"step": 1, "split": "train"}\n'
    path.write_bytes(good + b'{"st')
    assert read_metrics(tmp_path) == [{"step": 1, "split": "train"}]
    no_metrics = b'{"step": 1, "split": "validation"}\n'
    for wrong in (b'{"st\n', b"\x80\x04\n", b"[1]\n", b"[]\n", b"[" * 5000 + b"\n", b'{"step": 1}\n', no_metrics):
        path.write_bytes(good + wrong + good)
        with pytest.raises(UserError, match=r"line 2, is no (JSON object|line of metrics)"):
            MetricsLog(tmp_path)
        assert path.read_bytes() == good + wrong + good


def test_clock_that_goes_backwards(copy, calm, config, monkeypatch):
    go_back(copy)
    begin = iter(range(2_000_000_000, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(begin)))
    assert "examples/s" in train.train(config, copy)
    chex.assert_trees_all_equal(final_state(copy, STEPS), final_state(calm, STEPS))
    assert all(line.get("examples_per_second", 1) > 0 for line in read_metrics(copy))


def test_log_that_is_no_terminal_has_plain_lines(calm, config, capsys):
    train.train(config, calm)  # nothing left to train
    said = capsys.readouterr().out
    assert "\r" not in said and "\x1b" not in said and said.count("\n") <= 3


class Hostile:
    """What unpickles to a file that is written."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_nothing_is_unpickled_or_evaluated(copy, config, tmp_path):
    marker = tmp_path / "was_here"
    content = pickle.dumps(Hostile(marker))
    pickle.loads(pickle.dumps(Hostile(tmp_path / "works")))
    assert (tmp_path / "works").exists()
    originals = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    names = {path.name for path in originals if path.parent == copy or f"checkpoints/{STEPS}/" in str(path)}
    assert {"config.json", "metrics.jsonl", "_METADATA", "manifest.ocdbt"} <= names
    for name in names:
        for path in originals:
            path.write_bytes(content if path.name == name else originals[path])
        with contextlib.suppress(UserError), Checkpoints(copy) as saved:
            read_config(copy)
            read_metrics(copy)
            saved.restore(STEPS, train_state_like(config))
    (copy / "config.json").write_text(json.dumps(f"__import__('os').system('touch {marker}')"))
    with pytest.raises(UserError, match="cannot be read"):
        read_config(copy)
    shutil.copytree(config.data.data_dir, tmp_path / "data")
    for path in (tmp_path / "data").rglob("*array_record*"):
        path.write_bytes(content)
    with pytest.raises(UserError):
        changed(config, data={"data_dir": tmp_path / "data"}).data.examples("train")
    assert not marker.exists()


def test_no_code_of_ours_unpickles_or_evaluates():
    root = Path(train.__file__).parent.parent
    files = [*(root / "experiments").rglob("*.py"), *(root / "nvpjax").rglob("*.py")]
    words = r"\bpickle\b|\bmarshal\b|\bshelve\b|allow_pickle(?!=False)|(?<![\w.])(eval|exec|compile)\(|__import__"
    pattern = re.compile(words)
    assert [path.name for path in files if pattern.search(path.read_text())] == []

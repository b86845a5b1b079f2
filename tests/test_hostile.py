"""What was damaged or comes from elsewhere: nothing beside a run directory changes, no number comes out different."""

import contextlib
import io
import os
import random
import shutil
from pathlib import Path

import chex
import numpy as np
import pytest

from experiments import curves, evaluate, sample, train
from experiments.errors import UserError
from experiments.runs.build import train_state_like
from experiments.runs.checkpoints import Checkpoints, digest
from experiments.runs.config_file import to_json, write_config
from experiments.runs.directory import expect_unedited
from tests.hostile import checksum, make_beside, make_hostile
from tests.runs import changed

pytestmark = pytest.mark.xdist_group("hostile")

FLIPS = int(os.environ.get("BIT_FLIPS", "100"))
"""``make test-long`` makes 1,000."""
DIRECTORIES = int(os.environ.get("HOSTILE_DIRECTORIES", "24"))
"""``make test-long`` makes 200."""


def test_no_flipped_bit_comes_back_as_another_number(calm, config, tmp_path):
    run_dir = Path(shutil.copytree(calm, tmp_path / "run"))
    like, choose, outcomes = train_state_like(config), random.Random(0), {"refused": 0, "harmless": 0}
    files = sorted(path for path in (run_dir / "checkpoints" / "6").rglob("*") if path.is_file())
    with Checkpoints(run_dir) as saved:
        whole = saved._restore(6, like)
    for _ in range(FLIPS):
        # Half of them in files as they come, so that small ones have their turn, half where the bytes are.
        weights = choose.choice([None, [path.stat().st_size for path in files]])
        (path,) = choose.choices(files, weights)
        content = path.read_bytes()
        place = choose.randrange(8 * len(content))
        path.write_bytes(
            content[: place // 8] + bytes([content[place // 8] ^ 1 << place % 8]) + content[place // 8 + 1 :]
        )
        try:
            with Checkpoints(run_dir) as saved:
                found = saved._restore(6, like)
        except UserError:
            outcomes["refused"] += 1
        else:
            chex.assert_trees_all_equal(found, whole)
            outcomes["harmless"] += 1
        path.write_bytes(content)
    print(f"{FLIPS} flipped bits: {outcomes}, different 0")
    assert outcomes["refused"] > FLIPS / 4


def test_a_digest_sees_every_bit_and_which_array_it_is_of():
    rng = np.random.default_rng(0)
    shapes = {"a": (), "b": (13,), "c": (130,), "d": (2048,), "e": (3, 2051), "f": (2, 70_001)}
    tree = {name: rng.integers(0, 256, shape, dtype=np.uint8) for name, shape in shapes.items()}
    whole = digest(tree)
    for name in 50 * list(shapes):
        place, bit = rng.integers(0, tree[name].size), np.uint8(1 << rng.integers(0, 8))
        tree[name].reshape(-1)[place] ^= bit
        assert digest(tree) != whole
        tree[name].reshape(-1)[place] ^= bit
    assert digest(tree) == whole
    one, other = (rng.normal(size=(3000,)).astype(np.float32) for _ in range(2))
    of_two = [{"a": one, "b": other}, {"a": other, "b": one}, {"a": one.reshape(2, 1500), "b": other}]
    assert len(set(map(digest, of_two))) == 3


def test_a_checkpoint_of_another_step_is_damage(calm, config, tmp_path, capsys):
    run_dir = Path(shutil.copytree(calm, tmp_path / "run"))
    for what, said in (("train_state", "the digest of its arrays is another"), (".", "it holds step 4")):
        shutil.rmtree(run_dir / "checkpoints" / "6" / what)
        shutil.copytree(run_dir / "checkpoints" / "4" / what, run_dir / "checkpoints" / "6" / what)
        with Checkpoints(run_dir) as saved, pytest.raises(UserError, match=said):
            saved.restore(6, train_state_like(config))


def test_a_field_that_an_older_checkpoint_lacks_is_no_edit(config):
    asked, there = to_json(changed(config, training={"weight_decay": 0.1})), to_json(config)
    del there["training"]["weight_decay"], there["data"]["horizontal_flips"]
    expect_unedited(there, to_json(config), "checkpoints/6")
    with pytest.raises(UserError, match=r"training.weight_decay 0.0 in checkpoints/6, 0.1 in config.json"):
        expect_unedited(there, asked, "checkpoints/6")


def test_a_config_that_was_edited_after_the_run_began_is_noticed(calm, config, tmp_path):
    run_dir = Path(shutil.copytree(calm, tmp_path / "run"))
    for edited, said in (
        (changed(config, model={"alpha": 0.1}), r"model.alpha 0.01 in checkpoints/\d, 0.1 in config.json"),
        (
            changed(config, data={"test_split": "train"}),
            r"data.test_split test in checkpoints/\d, train in config.json",
        ),
    ):
        write_config(edited, run_dir)
        for program in (evaluate, sample):
            with pytest.raises(UserError, match=said):
                program.main([str(run_dir)])
    write_config(changed(config, training={"log_every": 1}), run_dir)
    evaluate.main([str(run_dir)])


def test_a_run_that_may_only_be_read_is_evaluated(calm, tmp_path, capsys, monkeypatch):
    run_dir = Path(shutil.copytree(calm, tmp_path / "run"))

    def read_only(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("experiments.runs.records.write_atomically", read_only)
    evaluate.main([str(run_dir)])
    said = capsys.readouterr().out
    assert "bits/dim" in said and "no record, since" in said and "Read-only file system" in said


PROGRAMS = {
    "evaluate": lambda run_dir, config: evaluate.main([str(run_dir)]),
    "sample": lambda run_dir, config: sample.main([str(run_dir), "--num", "4"]),
    "curves": lambda run_dir, config: curves.main([str(run_dir)]),
    "train": lambda run_dir, config: train.train(changed(config, training={"steps": 8}), run_dir),
}


def test_hostile_run_directories_change_nothing_beside_them(calm, config, tmp_path):
    beside = make_beside(tmp_path / "beside")
    before, outcomes = checksum(beside), {"refused": 0, "through": 0}
    for number in range(DIRECTORIES):
        name, program = random.Random(number).choice(sorted(PROGRAMS.items()))
        run_dir = Path(shutil.copytree(calm, tmp_path / "run"))
        done = f"{number}: {name}, {make_hostile(run_dir, beside, number)}"
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                program(run_dir, config)
            outcomes["through"] += 1
        except (UserError, OSError):  # one line, exit code 2
            outcomes["refused"] += 1
        except BaseException as error:
            raise AssertionError(f"{done}: {type(error).__name__}: {error}") from error
        assert checksum(beside) == before, done
        assert {path.name for path in tmp_path.iterdir()} == {"beside", "run"}, done
        shutil.rmtree(run_dir)
    print(f"{DIRECTORIES} hostile directories: {outcomes}, nothing beside them changed")

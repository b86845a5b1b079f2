"""The programs as a user runs them: train, kill, go on, evaluate, sample; and what they say to mistakes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from experiments import command_line, compress, curves, evaluate, manifold, reconstruct, sample, train
from experiments.data.batches import training_batches
from experiments.runs.build import train_state_like
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.config_file import read_config
from experiments.runs.metrics import read_metrics
from experiments.runs.records import FIELDS
from tests.runs import cut, final_state, flip_bits, largest_file, picture

# One process runs them all: they share a fixture that takes long.
pytestmark = pytest.mark.xdist_group("programs")

ROOT = Path(__file__).parent.parent
STEPS = 60
SMALL = [
    "digits",
    "--noise",
    "uniform",
    "--scales",
    "1",
    "--features",
    "2",
    "--blocks",
    "0",
    "--batch-size",
    "16",
    "--eval-every",
    "20",
    "--measure-batches",
    "5",
    "--steps",
    str(STEPS),
]


def start(arguments):
    command = [sys.executable, "-m", "experiments.train", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def run_dir(data_dir, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    process = start([*SMALL, "--data-dir", data_dir, "--run-dir", run_dir])
    output, _ = process.communicate()
    assert process.returncode == 0, output
    last = output.strip().splitlines()[-1]
    assert "test" in last and "bits/dim on 299 examples" in last and "examples/s" in last and str(run_dir) in last
    return run_dir


def test_run_directory_holds_what_is_promised(run_dir):
    names = {path.name for path in run_dir.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "samples_000020.png", f"samples_{STEPS:06d}.png"} <= names
    assert any(name.startswith("events.") for name in names)
    held_out = [line for line in read_metrics(run_dir) if line["split"] == "validation"]
    assert [line["step"] for line in held_out] == [20, 40, 60]
    assert {"bits_per_dim", "round_trip_error", "train_eval_gap", "training_bits_per_dim"} <= set(held_out[0])
    assert held_out[-1]["bits_per_dim"] < held_out[0]["bits_per_dim"]


def test_killed_run_goes_on_to_the_same_parameters_bit_for_bit(run_dir, data_dir, tmp_path):
    killed = tmp_path / "killed"
    arguments = [*SMALL, "--data-dir", data_dir, "--run-dir", killed]
    process = start(arguments)
    while not (killed / "checkpoints" / "20").exists():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (killed / "checkpoints" / str(STEPS)).exists()

    output, _ = start(arguments).communicate()
    assert "going on from step" in output, output
    chex.assert_trees_all_equal(final_state(run_dir, STEPS), final_state(killed, STEPS))
    steps = [line["step"] for line in read_metrics(killed) if line["split"] == "validation"]
    assert steps == [20, 40, 60]


def test_training_moved_the_parameters(run_dir):
    with Checkpoints(run_dir) as checkpoints:
        earlier = checkpoints.restore(40, train_state_like(read_config(run_dir)))
    pairs = list(zip(jax.tree.leaves(earlier.params), jax.tree.leaves(final_state(run_dir, STEPS).params)))
    assert all(np.any(a != b) for a, b in pairs if a.size > 2)


def test_evaluation_counts_every_image_once_whatever_the_batch_size(run_dir, capsys):
    results = []
    for batch_size in ("64", "100"):  # neither divides 299
        command_line.run(evaluate.main, [str(run_dir), "--json", "--batch-size", batch_size])
        results.append(json.loads(capsys.readouterr().out))
    first, second = (result["result"] for result in results)
    assert first["examples"] == second["examples"] == 299
    np.testing.assert_allclose(first["bits_per_dim"], second["bits_per_dim"], rtol=1e-6)


def test_several_draws_give_a_bound_and_a_tighter_number_and_a_record(run_dir, capsys):
    command_line.run(evaluate.main, [str(run_dir), "--draws", "3"])
    assert "evaluation_test.json" in capsys.readouterr().out
    record = json.loads((run_dir / "evaluation_test.json").read_text())
    result = record["result"]
    assert result["draws"] == 3 and result["importance_weighted"] < result["bits_per_dim"]
    assert result["round_trip_error_median"] <= result["round_trip_error_99.9"] <= result["round_trip_error"]
    assert set(record) == set(FIELDS) and record["training"]["seconds"] > 0
    assert [start["first_step"] for start in record["training"]["starts"]] == [0]
    assert "experiments.train" in record["training"]["starts"][0]["command"]


def test_sample_writes_a_grid(run_dir, tmp_path, capsys):
    out = tmp_path / "grid.png"
    command_line.run(sample.main, [str(run_dir), "--num", "6", "--temperature", "0.7", "--out", str(out)])
    assert str(out) in capsys.readouterr().out
    grid = picture(out)
    assert grid.width >= (3 * 9 + 1) * 6 and grid.height > (2 * 9 + 1) * 6 and len(grid.getcolors()) > 2
    command_line.run(sample.main, [str(run_dir), "--num", "1", "--size", "16", "--out", str(out)])
    assert picture(out).height > 16 * 3 and "16x16" not in capsys.readouterr().err


def test_pictures_of_a_run(run_dir, tmp_path, capsys):
    for program, options in ((manifold, ["--steps", "2"]), (compress, []), (reconstruct, []), (curves, [])):
        out = tmp_path / f"{program.__name__}.png"
        command_line.run(program.main, [str(run_dir), "--out", str(out), *options])
        assert str(out) in capsys.readouterr().out.splitlines()[-1]
        assert min(picture(out).size) > 100


def complaint(capsys, program, *arguments) -> str:
    """Run a program that must end with one line and exit code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ending:
        command_line.run(program.main, [str(argument) for argument in arguments])
    lines = capsys.readouterr().err.strip().splitlines()
    assert ending.value.code == 2 and len(lines) == 1, lines
    return lines[0]


def test_mistakes_on_the_command_line(run_dir, data_dir, tmp_path, capsys):
    new = ["--run-dir", tmp_path / "new", "--data-dir", data_dir]
    said = complaint(capsys, train, "digitz")
    assert "digitz" in said and "digits, imagenet32" in said and "patches" in said and "--help" in said
    assert "--steps INT" in complaint(capsys, train, "digits", "--stepz", "3")
    assert "invalid literal" in complaint(capsys, train, "digits", "--steps", "many")
    assert "--steps -1" in complaint(capsys, train, "digits", "--steps", "-1", *new)
    assert "4 devices" in complaint(capsys, train, "digits", "--batch-size", "6", *new)
    assert "use fewer scales" in complaint(capsys, train, "digits", "--scales", "5", *new)
    assert "mnist is not prepared" in complaint(capsys, train, "mnist", *new)
    assert "not a run directory" in complaint(capsys, evaluate, tmp_path / "missing")
    assert "not a run directory" in complaint(capsys, sample, tmp_path / "missing")
    assert "test" in complaint(capsys, evaluate, run_dir, "--split", "tset")
    assert "--batch-size 0" in complaint(capsys, evaluate, run_dir, "--batch-size", "0")
    assert "--draws" in complaint(capsys, evaluate, run_dir, "--draws", "0")
    assert "no test image 299" in complaint(capsys, manifold, run_dir, "--images", "0", "1", "2", "299")
    assert "--steps" in complaint(capsys, manifold, run_dir, "--steps", "0")
    assert "not a run directory" in complaint(capsys, curves, tmp_path / "missing")
    assert "name another .png" in complaint(capsys, sample, run_dir, "--out", run_dir / "config.json" / "a.png")
    assert not (tmp_path / "new").exists()


def test_run_directory_of_another_config_is_refused_and_left_alone(run_dir, data_dir, tmp_path, capsys):
    before = (run_dir / "config.json").read_bytes()
    arguments = [*SMALL, "--data-dir", data_dir, "--run-dir", run_dir]
    said = complaint(capsys, train, *arguments, "--features", "3")
    assert "holds another run (features 2 there, 3 asked)" in said
    assert "not a run directory" in complaint(capsys, train, *arguments[:-1], ROOT)
    assert (run_dir / "config.json").read_bytes() == before
    (tmp_path / "config.json").write_text('{"name": "digits"}')
    assert "cannot be read" in complaint(capsys, evaluate, tmp_path)


@pytest.mark.parametrize("damage", [cut, flip_bits, None])
def test_damaged_checkpoint_is_refused(run_dir, tmp_path, capsys, damage):
    copy = tmp_path / "copy"
    shutil.copytree(run_dir, copy)
    path = largest_file(copy / "checkpoints" / str(STEPS) / "train_state")
    path.write_bytes(damage(path.read_bytes())) if damage else path.unlink()
    said = complaint(capsys, evaluate, copy, "--checkpoint", "latest")
    assert f"checkpoints/{STEPS} is damaged" in said and "move it away to go on from step 40" in said
    shutil.move(copy / "checkpoints" / str(STEPS), tmp_path / "away")
    command_line.run(evaluate.main, [str(copy), "--checkpoint", "latest"])


def test_another_models_checkpoint_is_refused(run_dir, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run_dir, copy)
    config = json.loads((copy / "config.json").read_text())
    config["model"]["features"] = 3
    (copy / "config.json").write_text(json.dumps(config))
    assert "model.features 2 in checkpoints/60, 3 in config.json" in complaint(capsys, evaluate, copy)


def test_splits_are_disjoint_and_batches_depend_on_seed_and_step_alone(run_dir):
    config = read_config(run_dir)
    splits = {name: config.data.examples(name) for name in ("train", "validation", "test")}
    assert [len(examples) for examples in splits.values()] == [1348, 150, 299]
    assert all(
        split.arrays["image"].dtype == np.uint8 and split.arrays["image"].max() == 16 for split in splits.values()
    )
    assert all(set(split.arrays["label"]) == set(range(10)) for split in splits.values())
    from_start, from_five = training_batches(splits["train"], config), training_batches(splits["train"], config, 5)
    batches = [next(from_start) for _ in range(7)]
    chex.assert_trees_all_equal(batches[5:], [next(from_five), next(from_five)])
    assert not np.array_equal(batches[0]["image"], batches[1]["image"])

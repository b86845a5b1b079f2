"""Training within minutes and packing; families compared in equal time."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest

from experiments import evaluate, search, within
from experiments.configs.families import FAMILIES, Family
from experiments.data.noise import Uniform
from experiments.errors import Diverged, UserError
from experiments.runs.trained import restore_run
from nvpjax.models import NICE
from tests.runs import changed, config_of

# One process runs them all: they share a fixture that takes long.
pytestmark = pytest.mark.xdist_group("within")


@pytest.fixture(scope="module")
def packed(tmp_path_factory, data_dir):
    """A folder that holds a packed run, with averages of the parameters."""
    out = tmp_path_factory.mktemp("within")
    small = changed(
        config_of("digits", data={"noise": Uniform()}), training={"average_decay": 0.5, "measure_batches": 1}
    )
    small = dataclasses.replace(small, model=NICE(2, (4,)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(within, "all_configs", lambda: {"digits": ("", small)})
        options = ["--configs", "digits", "--minutes", "0.05", "--data-dir", str(data_dir), "--draws", "1"]
        within.main([str(out), *options, "--part", "0.001"])
    return out


def test_what_is_packed_is_small_and_all_that_the_run_came_to(packed):
    files = {path.name for path in (packed / "digits").iterdir()}
    assert {
        "record.json",
        "metrics.jsonl",
        "samples.png",
        "run.json",
        "parameters_00.npz",
        "parameters_01.npz",
    } <= files
    steps = json.loads((packed / "digits" / "run.json").read_text())["config"]["training"]["steps"]
    validations = (packed / "digits" / "metrics.jsonl").read_text().count('"validation"')
    assert validations == math.ceil(steps / math.ceil(steps / 4))


def test_a_run_that_was_interrupted_keeps_the_steps_that_it_was_given(packed, data_dir, monkeypatch, capsys):
    def never(*_):
        raise AssertionError("timed again")

    monkeypatch.setattr(within, "fitted", never)
    options = ["--configs", "digits", "--minutes", "9", "--data-dir", str(data_dir), "--draws", "1"]
    within.main([str(packed), *options, "--part", "0.001"])
    assert "nothing left to train" in capsys.readouterr().out


def test_what_is_unpacked_is_what_was_evaluated(packed, tmp_path):
    within.main([str(packed), "--unpack", "digits", "--run-dir", str(tmp_path / "run")])
    _, step, there = restore_run(packed / "runs" / "digits", "best")
    _, step_here, here = restore_run(tmp_path / "run", "best")
    assert step == step_here and here.averages is not None
    jax.tree.map(np.testing.assert_array_equal, here.evaluated, there.evaluated)
    evaluate.main([str(tmp_path / "run"), "--draws", "1"])
    results = [json.loads(path.read_text())["result"] for path in (packed / "digits").glob("record.json")]
    results.append(json.loads((tmp_path / "run" / "evaluation_test.json").read_text())["result"])
    assert results[0] == results[1]
    with pytest.raises(UserError, match="exists"):
        within.main([str(packed), "--unpack", "digits", "--run-dir", str(tmp_path / "run")])


def test_a_part_that_is_missing_is_noticed(packed, tmp_path):
    (packed / "digits" / "parameters_00.npz").rename(tmp_path / "away.npz")
    try:
        with pytest.raises(UserError, match="a file of parameters is missing"):
            within.main([str(packed), "--unpack", "digits", "--run-dir", str(tmp_path / "run")])
        assert not (tmp_path / "run").exists()
    finally:
        (tmp_path / "away.npz").rename(packed / "digits" / "parameters_00.npz")


@pytest.mark.parametrize(
    "options", [["--configs", "moons", "--minutes", "1"], ["--configs", "digits"] + 2 * ["--minutes", "0"]]
)
def test_configs_and_minutes_that_do_not_fit_are_refused(options, tmp_path):
    with pytest.raises(UserError, match="--configs among"):
        within.main([str(tmp_path), *options])


@pytest.fixture
def families(monkeypatch, data_dir):
    """Two families of seconds, on digits."""
    of_digits = config_of("digits", data={"data_dir": data_dir, "noise": Uniform()}, training={"measure_batches": 1})
    nice = Family(NICE(2, (4,)), milliseconds=100, learning_rates=(1e-3, 3e-3))
    wide = Family(NICE(2, (8,)), milliseconds=200, learning_rates=(1e-3,), average_decay=0.9)
    monkeypatch.setattr(search, "all_configs", lambda: {"cifar10": ("", of_digits)})
    monkeypatch.setattr(search, "FAMILIES", {"nice": nice, "wide": wide})


def test_families_are_trained_for_equal_time_and_not_twice(families, tmp_path, capsys, monkeypatch):
    out = tmp_path / "numbers" / "search.json"
    search.main([str(tmp_path / "runs"), "--minutes", "0.01", "--out", str(out)])
    said = capsys.readouterr().out
    runs = json.loads(out.read_text())["runs"]
    assert [run["family"] for run in runs] == [
        "nice",
        "wide",
        "nice",
    ]  # the first learning rate of each, then the second
    steps = {run["family"]: run["curve"][-1][0] for run in runs}
    assert steps == {"nice": 6, "wide": 3} and "3 runs, 0 of them from before" in said
    assert all(run["operations_a_step"] > 0 for run in runs)
    assert not list((tmp_path / "runs").rglob("evaluation_test.json"))
    assert out.with_suffix(".png").stat().st_size > 10_000
    monkeypatch.setattr(search, "train", None)  # nothing is trained again
    search.main([str(tmp_path / "lost"), "--minutes", "0.01", "--out", str(out)])
    assert json.loads(out.read_text())["runs"] == runs


@pytest.mark.parametrize("content", ["{", "[]", '{"runs": [{"config": {}}]}'])
def test_a_record_that_is_none_is_refused_and_stays(content, tmp_path):
    (tmp_path / "search.json").write_text(content)
    with pytest.raises(UserError, match=r"search\.json cannot be read"):
        search.main([str(tmp_path / "runs"), "--out", str(tmp_path / "search.json")])
    assert (tmp_path / "search.json").read_text() == content


def test_a_run_that_diverges_is_a_row_and_not_repeated(families, tmp_path, capsys, monkeypatch):
    learns = search.train

    def train(config, run_dir, **options):
        learns(config, run_dir, **options)
        if config.training.learning_rate == 3e-3:
            raise Diverged("training diverged: it said why")

    arguments = [str(tmp_path / "runs"), "--minutes", "0.01", "--out", str(tmp_path / "search.json")]
    monkeypatch.setattr(search, "train", train)
    search.main(arguments)
    assert "| nice | 0.003 | | | | diverged |" in capsys.readouterr().out
    monkeypatch.setattr(search, "train", None)
    search.main(arguments)
    said = capsys.readouterr().out
    assert "| nice | 0.003 | | | | diverged |" in said and "3 runs, 3 of them from before" in said


def test_unknown_families_are_refused(tmp_path):
    with pytest.raises(UserError, match="expected names among glow"):
        search.main([str(tmp_path), "--only", "glowing"])


def test_every_family_fits_the_images():
    for name, family in FAMILIES.items():
        config = search.config_of(family, 1e-3, 20)
        assert config.training.steps * family.milliseconds == pytest.approx(20 * 60_000, rel=1e-3), name

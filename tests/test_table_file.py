"""Somebody's own table through the programs: read, trained on, gone on with, evaluated and sampled in its own units."""

import csv
import dataclasses
import io
import json
import math
import os
import random
import shutil
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from experiments import command_line, curves, evaluate, sample, train
from experiments.configs import all_configs, configs_to_train
from experiments.data import TableFile
from experiments.data.batches import training_batches
from experiments.data.columns import Column, in_own_units, standardised
from experiments.data.contexts import context_rows
from experiments.data.table_reader import read_table
from experiments.errors import UserError
from experiments.pictures.corner import save_corner
from experiments.runs.config_file import from_json, read_config, to_json
from experiments.runs.directory import check_run_directory
from experiments.runs.metrics import read_metrics
from experiments.runs.trained import density_of, restore_run
from nvpjax.models import MODELS
from tests.hostile import checksum, make_beside, make_hostile
from tests.runs import changed, final_state, picture
from tests.zoo import ONLY_OF_IMAGES

# One process runs them all: they share runs.
pytestmark = pytest.mark.xdist_group("table file")


def options(text: str) -> list[str]:
    return text.split()


STEPS = 6
SMALL = options("--layers 1 --hidden 4 --bins 2 --batch-size 16 --steps 6 --eval-every 3 --measure-batches 1")
ROWS = 60


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def made_up() -> np.ndarray:
    """Rows of a whole number, two numbers of very different sizes, and one that follows the first two."""
    rng = np.random.default_rng(0)
    age, income, small = rng.integers(20, 70, ROWS), np.exp(rng.normal(8, 0.5, ROWS)), 1e-6 * rng.normal(size=ROWS)
    return np.stack([age, income, small, 3 * age + rng.normal(size=ROWS)], axis=1)


def as_csv(rows: np.ndarray, names=("age", "income", "small", "score")) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["who", *names])
    writer.writerows([f"person {number}", *row] for number, row in enumerate(rows.tolist()))
    return text.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    written(folder / "people.csv", as_csv(made_up()))
    np.save(folder / "people.npy", made_up())
    return folder


def trained(folder: Path, name: str, *given: str) -> Path:
    run_dir = folder / name
    command_line.run(train.main, ["table", *SMALL, "--run-dir", str(run_dir), *given])
    return run_dir


@pytest.fixture(scope="module")
def run_dir(folder):
    """A run on all columns, the whole numbers filled with noise."""
    return trained(folder, "run", "--data", str(folder / "people.csv"), "--dequantize", "age")


@pytest.fixture(scope="module")
def given_dir(folder):
    """A run on the last column given the first two, by their numbers, that has learned what there is to learn."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(10, 2, 2000), rng.normal(-3, 1, 2000)
    np.save(folder / "given.npy", np.stack([a, b, 5 * a + 0.5 * b + 0.1 * rng.normal(size=2000)], axis=1))
    longer = options(
        "--layers 2 --hidden 16 --bins 4 --batch-size 64 --steps 300 --eval-every 300 --learning-rate 1e-2"
    )
    return trained(folder, "given", "--data", str(folder / "given.npy"), "--context", "0", "1", *longer)


def complaint(capsys, program, *arguments) -> str:
    """What a program says that ends with one line and exit code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ending:
        command_line.run(program.main, list(map(str, arguments)))
    said = capsys.readouterr().err.strip()
    assert ending.value.code == 2 and "\n" not in said, said
    return said


def evaluated(capsys, run_dir, *given) -> dict:
    capsys.readouterr()
    evaluate.main([str(run_dir), "--json", *map(str, given)])
    return json.loads(capsys.readouterr().out)["result"]


# Reading


@pytest.mark.parametrize(
    "text, names, first",
    [
        ("a,b\n1,2\n3,4\n", ["a", "b"], [1, 2]),
        ("1,2\n3,4\n", ["0", "1"], [1, 2]),
        ("\ufeffa;b\n1.5;-2e3\n3;4\n", ["a", "b"], [1.5, -2000]),
        ("a\tb c\n1\t2\n3\t4\n", ["a", "b c"], [1, 2]),
        ('"a, b",c\n\n1,"2"\n3,4', ["a, b", "c"], [1, 2]),
        (",a\n0,1\n1,2\n", ["0", "a"], [0, 1]),  # as pandas writes its index
        ("where,2019,2020\n7,1,2\n8,3,4\n", ["where", "2019", "2020"], [7, 1, 2]),  # a word above numbers
        ("5.1,setosa\n4.9,setosa\n", ["0", "1"], [5.1]),  # a word above words
        ("a,b\n +1 ,2.0\n3,4\n", ["a", "b"], [1, 2]),
    ],
)
def test_delimiters_and_lines_of_names(tmp_path, text, names, first):
    table = read_table(written(tmp_path / "a.csv", text))
    assert [column.name for column in table.columns] == names and table.rows == 2
    np.testing.assert_array_equal([c.values[0] for c in table.columns if not c.words], first)


def test_the_line_of_names_is_what_somebody_says_it_is(tmp_path):
    path = written(tmp_path / "a.csv", "2019,2020\n1,2\n3,4\n")
    assert read_table(path).rows == 3
    table = read_table(path, "yes")
    assert table.rows == 2 and [column.name for column in table.columns] == ["2019", "2020"]
    assert read_table(written(tmp_path / "b.csv", "a,b\n1,2\n"), "no").columns[0].words == 1


def test_what_is_left_out_may_hold_anything(tmp_path):
    lines = "".join(f"{2**60 + row},{'x' if row else 1},,1,{row}\n" for row in range(20))
    data = opened(written(tmp_path / "a.csv", lines), leave_out=("0", "1", "2", "3"))
    assert [column.name for column in data.columns_used] == ["4"]


def test_what_numpy_reads_is_read_and_in_blocks(tmp_path, monkeypatch):
    rows = np.random.default_rng(0).normal(size=(50, 3)) * [1, 1e9, 1e-9]
    np.savetxt(tmp_path / "a.csv", rows, delimiter=",", fmt="%.17g")
    monkeypatch.setattr("experiments.data.table_reader.BLOCK", 7)
    table = read_table(tmp_path / "a.csv")
    np.testing.assert_array_equal(np.stack([column.values for column in table.columns], axis=1), rows)
    assert table.place(49) == "line 50"


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "i1", "u2", "i8", "?"])
def test_arrays_of_every_kind_of_number(tmp_path, dtype):
    rows = np.asfortranarray(np.arange(60).reshape(20, 3) % 7).astype(dtype)
    np.save(tmp_path / "a.npy", rows)
    table = read_table(tmp_path / "a.npy")
    np.testing.assert_array_equal(np.stack([column.values for column in table.columns], axis=1), rows.astype(float))


class Trap:
    def __reduce__(self):
        return os.system, ("touch sprung",)


def array_of_objects(path: Path) -> None:
    np.save(path, np.array([[Trap()] * 2] * 20, object), allow_pickle=True)


def header_of(shape: str, path: Path) -> None:
    """An array that is said to be of another shape than its bytes."""
    np.save(path, np.zeros((2, 2)))
    path.write_bytes(path.read_bytes().replace(b"(2, 2), ", shape.encode()))


def zip_file(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, np.zeros((20, 2)))


NUMBERS = "".join(f"{row},{row**2 % 7}\n" for row in range(20))
HOSTILE = {
    "nothing": ("", [], "is empty"),
    "names alone": ("a,b\n", [], "at least 10 rows with all values, got 0"),
    "one row": ("a,b\n1,2\n", [], "at least 10 rows with all values, got 1"),
    "too few rows": (NUMBERS[:28], [], "at least 10 rows with all values, got 7"),
    "a ragged row": (NUMBERS + "1,2,3\n", [], "line 21: expected 2 cells, as in the first line, got 3"),
    "a missing value": ("a,b\n" + NUMBERS + "3,\n", [], "line 22, column b: a value is missing, as in 1 of 21 rows"),
    "nan": ("a,b\n" + NUMBERS + "3,NaN\n", [], "line 22, column b: a value is missing"),
    "an infinity": (NUMBERS + "inf,2\n", [], "line 21, column 0: expected a finite number, got inf"),
    "a number that no float64 holds": (NUMBERS + "1e999,2\n", [], "column 0: expected a finite number, got inf"),
    "a word among numbers": (NUMBERS + "3,many\n", [], "line 21, column 1: expected a number, got 'many' (1 of 21"),
    "underscores": (NUMBERS + "3,1_000\n", [], "line 21, column 1: expected a number, got '1_000'"),
    "words alone": ("a,b\n" + 20 * "x,y\n", [], "column of numbers to model, found none, column a begins with 'x'"),
    "decimal commas": (20 * "1,5;2,5\n", [], "begins with '1,5' in line 2: numbers are written 1.5"),
    "a column of nothing": ("a,b\n" + 20 * "1,\n", [], "column b: holds no value at all: --leave-out b"),
    "one value": (20 * "1,2\n", [], "column 0: all 16 training rows hold 1: there is nothing to learn"),
    "one value that rounds": (20 * "0.1\n", [], "column 0: all 16 training rows hold 0.1: there is nothing to learn"),
    "names twice": ("a,b,a\n" + 20 * "1,2,3\n", [], "columns 0 and 2 are both called 'a'"),
    "whole numbers that become one": (
        "a\n" + "".join(f"{2**60 + row}\n" for row in range(20)),
        [],
        "column a: holds whole numbers beyond 2⁵³",
    ),
    "numbers beyond what can be squared": (
        "".join(f"{row}e200,{row}\n" for row in range(20)),
        [],
        "column 0: numbers of this size cannot be standardised",
    ),
    "an open quote": ('a,b\n"' + 20_000 * "1,2,3,4\n", [], "no line of a table"),
    "no column of that name": ("a,b\n" + NUMBERS, ["--context", "c"], "--context c: "),
    "no column of that number": (NUMBERS, ["--context", "2"], "has no such column; expected 0, 1; or a number"),
    "everything given": (NUMBERS, ["--context", "0", "1"], "expected a column of numbers to model, found none"),
    "a column in two places": (NUMBERS, ["--context", "0", "--leave-out", "0"], "0: expected a column in one of"),
    "words given": ("a,b\n" + 20 * "x,1\n", ["--context", "a"], "column a: expected a number, got 'x' (20 of 20"),
    "noise in what is given": (NUMBERS, ["--context", "0", "--dequantize", "0"], "expected a column in one of"),
    "noise off the grid": (
        "".join(f"{row / 7},{row}\n" for row in (0, 1, 2.5, 3.1, *range(4, 20))),
        ["--dequantize", "0"],
        "--dequantize 0: ",
    ),
    "percents that leave nothing": (NUMBERS, ["--test-percent", "60", "--validation-percent", "40"], "at most 90"),
    "a seed that is none": (NUMBERS, ["--split-seed", "-1"], "--split-seed -1"),
}
ARRAYS = {
    "objects": (array_of_objects, "holds no array that can be read"),
    "one axis": (lambda path: np.save(path, np.zeros(20)), "two axes, (rows, columns), got shape (20,)"),
    "complex numbers": (lambda path: np.save(path, np.zeros((20, 2), complex)), "expected numbers, floats or whole"),
    "words": (lambda path: np.save(path, np.zeros((20, 2), "U3")), "expected numbers, floats or whole"),
    "named fields": (lambda path: np.save(path, np.zeros((20, 2), [("a", float)])), "expected numbers"),
    "no columns": (lambda path: np.save(path, np.zeros((20, 0))), "table of 1 to 4096 columns, got 0"),
    "too many columns": (lambda path: np.save(path, np.zeros((1, 5000))), "table of 1 to 4096 columns, got 5000"),
    "missing numbers": (lambda path: np.save(path, np.full((20, 2), np.nan)), "column 0: holds no value at all"),
    "more rows than there are": (lambda path: header_of("(9, 9), ", path), "holds no array that can be read"),
    "rows below 0": (lambda path: header_of("(-2,2), ", path), "holds no array that can be read"),
    "a zip file": (zip_file, "holds no array that can be read"),
    "noise": (lambda path: path.write_bytes(np.random.default_rng(0).bytes(500)), "holds no array that can be read"),
    "whole numbers that become one": (
        lambda path: np.save(path, 2**60 + np.arange(40).reshape(20, 2)),
        "column 0: holds whole numbers beyond 2⁵³",
    ),
    "the largest of whole numbers": (
        lambda path: np.save(path, np.full((20, 2), 2**64 - 1, np.uint64)),
        "column 0: holds whole numbers beyond 2⁵³",
    ),
}


def refusal(path: Path, given=()) -> str:
    """What train says of a table, at once: nothing is written."""
    run_dir = path.parent / "never"
    with pytest.raises(UserError) as error:
        train.main(["table", "--data", str(path), *given, "--run-dir", str(run_dir)])
    assert not run_dir.exists() and "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("wrong", HOSTILE)
def test_texts_that_cannot_be_trained_on_are_refused_in_one_line(wrong, tmp_path):
    text, given, said = HOSTILE[wrong]
    assert said in refusal(written(tmp_path / "a.csv", text), given)


@pytest.mark.parametrize("wrong", ARRAYS)
def test_arrays_that_cannot_be_trained_on_are_refused_in_one_line(wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, said = ARRAYS[wrong]
    make(tmp_path / "a.npy")
    assert said in refusal(tmp_path / "a.npy")
    assert not (tmp_path / "sprung").exists()


def test_files_that_are_none_are_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.csv")  # it would be waited for without an end
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\xe4,1\n")
    written(tmp_path / "a.xlsx", NUMBERS)
    assert "is not there: name the place" in refusal(tmp_path / "none.csv")
    for name in ("pipe.csv", "folder.csv", "a.xlsx"):
        assert "expected a table, a file that ends in .csv, .tsv, .txt, .npy" in refusal(tmp_path / name)
    assert "is no text in UTF-8" in refusal(tmp_path / "a.csv")
    with pytest.raises(UserError, match=r"no data are named: expected where they lie \(--data FILE\)"):
        train.main(["table"])


def test_a_table_that_memory_does_not_hold_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096}.get(name, 1))
    monkeypatch.setattr("experiments.data.table_reader.BLOCK", 10)
    np.save(tmp_path / "a.npy", np.zeros((1000, 2)))
    written(tmp_path / "a.csv", 20 * NUMBERS)
    assert "2,000 numbers or more take" in refusal(tmp_path / "a.npy")
    assert "220 numbers or more take" in refusal(tmp_path / "a.csv")  # as soon as it shows


# Columns


def opened(path: Path, **asked) -> TableFile:
    return TableFile(path, **asked).opened()


def test_rows_are_divided_without_overlap_and_standardised_by_those_to_train_on(folder):
    rows = made_up()
    data = opened(folder / "people.npy")
    order = np.random.default_rng(0).permutation(ROWS)
    expected = {"test": rows[order[:6]], "validation": rows[order[6:12]], "train": rows[order[12:]]}
    training = expected["train"]
    for split, part in expected.items():
        np.testing.assert_array_equal(data.parts()[split], part)
        x = data.examples(split).arrays["x"]
        assert x.dtype == np.float32
        np.testing.assert_allclose(x, (part - training.mean(axis=0)) / training.std(axis=0), atol=2e-6)
        np.testing.assert_allclose(data.rows_of(x), part, rtol=1e-6, atol=1e-12)
    assert sum(map(len, data.parts().values())) == ROWS
    other = opened(folder / "people.npy", split_seed=1).parts()
    assert not np.array_equal(other["test"], data.parts()["test"])
    whole = opened(folder / "people.csv")
    assert whole.event_shape == (4,) and whole.columns_used[0].name == "age"  # who holds words
    np.testing.assert_allclose(whole.examples("test").arrays["x"], data.examples("test").arrays["x"], atol=1e-6)


def test_large_numbers_that_differ_little_stay_apart(tmp_path):
    moments = 1.7e9 + np.random.default_rng(0).permutation(200) / 10  # seconds since 1970: float32 knows 128 of them
    np.save(tmp_path / "a.npy", np.stack([moments, np.arange(200.0)], axis=1))
    data = opened(tmp_path / "a.npy")
    x = data.examples("train").arrays["x"][:, 0]
    assert len(np.unique(x)) == len(x) and not any("float32" in line for line in data.remarks())
    restored = data.rows_of(data.examples("test").arrays["x"])
    np.testing.assert_allclose(restored[:, 0], data.parts()["test"][:, 0], rtol=0, atol=1e-5)


def test_values_that_float32_makes_one_are_told(tmp_path):
    values = np.random.default_rng(0).normal(size=200)
    values[::20] = 1e12
    np.save(tmp_path / "a.npy", np.stack([values, np.arange(200.0)], axis=1))
    (line,) = [line for line in opened(tmp_path / "a.npy").remarks() if "float32" in line]
    assert line.startswith("float32 keeps few values apart in 0 (")


def test_values_that_many_rows_share_are_told_and_words_and_missing_rows(tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"{'yes' if i % 2 else 'no'},{i % 3},{rng.normal()},{'' if i == 5 else rng.normal()}" for i in range(100)]
    path = written(tmp_path / "a.csv", "answer,kind,x,y\n" + "\n".join(lines))
    data = opened(path, drop_missing=True)
    said = data.remarks()
    assert said[0] == "a.csv: 99 rows, 81 of them to train on; the density is of kind, x, y"
    assert said[1] == "1 rows in which a value is missing are left out"
    assert said[2] == "left out, since they hold words: answer ('no' in line 2)"
    assert "many rows share a value in kind (3" in said[3] and "x (" not in said[3] and len(said) == 4
    for asked in ({"dequantize": ("kind",)}, {"context": ("1",)}, {"leave_out": ("kind",)}):
        assert not any("share" in line for line in opened(path, drop_missing=True, **asked).remarks())
    given = opened(path, drop_missing=True, context=("kind", "y"))
    assert given.event_shape == (1,) and [column.name for column in given.given] == ["kind", "y"]
    assert given.remarks()[0].endswith("the density is of x, given kind, y")


def test_a_step_is_filled_with_noise_and_samples_are_back_on_the_grid(tmp_path):
    rng = np.random.default_rng(0)
    rows = np.stack([rng.integers(0, 4, 500), rng.integers(-9, 9, 500) / 10 + 0.05, rng.normal(size=500)], axis=1)
    np.savetxt(tmp_path / "a.csv", rows, delimiter=",", fmt="%.6g")
    data = opened(tmp_path / "a.csv", dequantize=("0", "1"))
    columns = data.columns_used
    assert [column.step for column in columns] == [1, 0.1, 0] and columns[1].origin == pytest.approx(-0.85)
    plain, noisy = (data.examples("train", for_training=flag).arrays["x"] for flag in (True, False))
    deviation = np.array([column.deviation for column in columns])
    u = (noisy - plain).astype(float) * deviation / [1, 0.1, 1]
    assert np.all(u[:, 2] == 0) and u[:, :2].min() > -1e-5 and u[:, :2].max() < 1 + 1e-5
    assert np.all(np.abs(np.mean(u[:, :2], axis=0) - 0.5) < 0.06)
    np.testing.assert_array_equal(data.examples("train").arrays["x"], noisy)  # the same noise in every evaluation
    again = opened(tmp_path / "a.csv", dequantize=("0", "1"))
    np.testing.assert_array_equal(again.examples("test").arrays["x"], data.examples("test").arrays["x"])
    example = data.examples("train", for_training=True)[0]
    first, second = (data.augmented(example, np.random.default_rng(seed))["x"] for seed in (0, 1))
    assert np.all(first[:2] != second[:2]) and first[2] == second[2] == example["x"][2] and first.dtype == np.float32
    assert np.all((first - example["x"])[:2] * deviation[:2] < [1, 0.1])
    restored = data.rows_of(noisy)
    np.testing.assert_array_equal(restored[:, 0], data.parts()["train"][:, 0])
    np.testing.assert_allclose(restored[:, 1], data.parts()["train"][:, 1], atol=1e-12)
    assert set(np.round(restored[:, 1], 12)) == set(np.round(rows[:, 1], 12)) and "0.05" in map(str, restored[:, 1])


def test_standardising_is_what_it_says():
    columns = (Column("a", 2.0, 4.0), Column("b", -1.0, 0.5, step=1.0, origin=0.25))
    rows = np.array([[6.0, 0.25], [2.0, 3.25]])
    x = standardised(rows, columns, 0.5)
    np.testing.assert_allclose(x, [[1.0, 3.5], [0.0, 9.5]])
    np.testing.assert_allclose(in_own_units(x, columns), rows)
    for wrong in ({"deviation": 0.0}, {"deviation": math.nan}, {"mean": math.inf}, {"mean": 10**400}, {"step": -1.0}):
        with pytest.raises(UserError, match="column a: numbers of this size"):
            Column(**{"name": "a", "mean": 0.0, "deviation": 1.0, **wrong})


# Runs


def test_table_and_images_are_offered_beside_the_configs_and_shown_with_their_options(capsys):
    assert set(configs_to_train()) - set(all_configs()) == {"images", "table"}
    with pytest.raises(SystemExit):
        train.main(["table", "--help"])
    said = capsys.readouterr().out
    assert all(f"--{name}" in said for name in ("data FILE", "context", "leave-out", "dequantize", "drop-missing"))
    assert "found" not in said.split("--found")[0][-1:] and "--found" not in said
    with pytest.raises(UserError, match="--noise is for images"):
        train.main(["table", "--noise", "gaussian"])


def test_a_config_that_names_no_file_yet_is_no_run(tmp_path):
    values = to_json(configs_to_train()["table"][1])
    with pytest.raises(ValueError, match="expected what was found in the data"):
        from_json(values)


def test_a_run_holds_what_it_needs_and_is_read_back(run_dir, folder, capsys):
    config = read_config(run_dir)
    assert config.data.path == folder / "people.csv" and config.data.found.rows == ROWS
    assert from_json(json.loads(json.dumps(to_json(config)))) == config
    names = {path.name for path in run_dir.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "samples_000003.png", "samples_000006.png"} <= names
    held_out = [line for line in read_metrics(run_dir) if line["split"] == "validation"]
    assert [line["step"] for line in held_out] == [3, 6] and all("nats_of_raw_rows" in line for line in held_out)
    curves.main([str(run_dir)])
    assert min(picture(run_dir / "curves.png").size) > 100


def test_a_stopped_run_goes_on_bit_for_bit(run_dir, folder, tmp_path, capsys):
    stopped = Path(shutil.copytree(run_dir, tmp_path / "stopped"))  # as it was after step 3
    shutil.rmtree(stopped / "checkpoints" / str(STEPS))
    moved = Path(shutil.copy(folder / "people.csv", tmp_path / "moved.csv"))  # where it lies is no other run
    trained(tmp_path, "stopped", "--data", str(moved), "--dequantize", "1")  # by its number
    said = capsys.readouterr().out
    assert "going on from step 3" in said and "rows in their own units" in said
    chex.assert_trees_all_equal(final_state(stopped, STEPS), final_state(run_dir, STEPS))
    lines = [read_metrics(run) for run in (stopped, run_dir)]
    scores = [[line["nats"] for line in run if line["split"] == "validation"] for run in lines]
    assert scores[0] == scores[1]


def test_evaluation_is_that_of_numpy_in_both_units(folder, tmp_path, capsys):
    run_dir = trained(tmp_path, "run", "--data", str(folder / "people.npy"), "--leave-out", "1", "0")
    result = evaluated(capsys, run_dir, "--checkpoint", "latest")
    # The rows, their division and their scale, by numpy alone.
    rows = made_up()[:, 2:]
    order = np.random.default_rng(0).permutation(ROWS)
    training, test = rows[order[12:]], rows[order[:6]]
    mean, deviation = training.mean(axis=0), training.std(axis=0)
    config, _, train_state = restore_run(run_dir, "latest")
    log_prob = jax.jit(density_of(config, train_state).log_prob)

    def log_prob_of_raw(rows):
        return np.asarray(log_prob(((rows - mean) / deviation).astype(np.float32)), float) - np.sum(np.log(deviation))

    nats = -log_prob_of_raw(test)
    assert result["examples"] == len(test)
    np.testing.assert_allclose(result["nats_of_raw_rows"], nats.mean(), rtol=1e-5)
    np.testing.assert_allclose(result["nats"], nats.mean() - np.sum(np.log(deviation)), rtol=1e-4)
    np.testing.assert_allclose(result["standard_error"], nats.std(ddof=1) / np.sqrt(len(nats)), rtol=1e-4)
    # In the columns' own units it is a density: it integrates to 1 there.
    axes = [np.linspace(m - 12 * d, m + 12 * d, 400) for m, d in zip(mean, deviation)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    assert np.exp(log_prob_of_raw(grid)).sum() * cell == pytest.approx(1, abs=0.01)
    evaluate.main([str(run_dir)])
    said = capsys.readouterr().out
    assert "nats of standardised rows (" in said and "of rows in their own units) on 6 examples" in said


def test_noise_in_the_steps_bounds_what_a_discrete_value_costs(tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = np.stack([10 * rng.integers(0, 4, 4000), rng.random(4000)], axis=1)
    np.save(tmp_path / "a.npy", rows)
    fast = options("--steps 60 --eval-every 60 --learning-rate 3e-2 --batch-size 64 --hidden 16 --bins 8")
    run_dir = trained(tmp_path, "run", "--data", str(tmp_path / "a.npy"), "--dequantize", "0", *fast)
    # Four values in steps of 10, evenly: log 4 for which, log 10 for the step; and 0 for the other column.
    assert math.log(40) - 0.02 < evaluated(capsys, run_dir)["nats_of_raw_rows"] < math.log(40) + 0.5


def test_samples_are_rows_of_the_table_in_its_own_units(run_dir, tmp_path, capsys):
    out = tmp_path / "samples.npy"
    sample.main([str(run_dir), "--num", "500", "--out", str(out)])
    said = capsys.readouterr().out.splitlines()[-1]
    assert "500 samples" in said and "rows of age, income, small, score, and" in said and str(out) in said
    rows, there = np.load(out, allow_pickle=False), made_up()
    assert rows.shape == (500, 4) and rows.dtype == np.float64
    assert np.all(rows[:, 0] == np.round(rows[:, 0]))  # on the grid of whole numbers
    near, ratio = (
        np.abs(rows.mean(axis=0) - there.mean(axis=0)) / there.std(axis=0),
        rows.std(axis=0) / there.std(axis=0),
    )
    assert np.all(near < 0.5) and np.all((ratio > 0.5) & (ratio < 2))
    assert min(picture(tmp_path / "samples.png").size) > 300

    sample.main([str(run_dir), "--num", "500", "--out", str(tmp_path / "samples.csv")])
    with (tmp_path / "samples.csv").open(newline="") as file:
        names, *cells = csv.reader(file)
    assert names == ["age", "income", "small", "score"]
    np.testing.assert_array_equal(np.array(cells, float), rows)
    sample.main([str(run_dir), "--out", str(tmp_path / "alone.png")])
    assert not (tmp_path / "alone.npy").exists() and "1000 samples" in capsys.readouterr().out
    sample.main([str(run_dir)])
    assert np.load(run_dir / "samples.npy").shape == (1000, 4) and (run_dir / "samples.png").exists()


def test_many_samples_are_drawn_in_parts(run_dir, given_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "AT_ONCE", 64)
    for directory in (run_dir, given_dir):
        sample.main([str(directory), "--num", "150", "--out", str(tmp_path / "a.npy")])
        rows = np.load(tmp_path / "a.npy")
        assert rows.shape[0] == 150 and len(np.unique(rows[:, -1])) == 150
    assert np.all(np.abs(rows[:, 2] - rows[:, :2] @ [5, 0.5]) < 3)  # each part is given its own rows


def test_samples_follow_the_context(given_dir, folder, tmp_path, capsys):
    def drawn(*given) -> np.ndarray:
        sample.main([str(given_dir), "--out", str(tmp_path / "a.npy"), *map(str, given)])
        return np.load(tmp_path / "a.npy")

    for a, b in ((8, -4), (12, -2.5)):
        rows = drawn("--context", a, b, "--num", 400)
        assert rows.shape == (400, 3) and np.all(rows[:, :2] == (a, b))
        assert rows[:, 2].mean() == pytest.approx(5 * a + 0.5 * b, abs=0.5) and rows[:, 2].std() < 1
    assert "given 0 = 12, 1 = -2.5" in capsys.readouterr().out

    asked = np.array([[7.0, -3.0], [10.0, -2.0], [13.0, -4.0]])
    np.save(tmp_path / "asked.npy", asked)
    written(tmp_path / "asked.csv", "7,-3\n10,-2\n13,-4\n")
    one_each = drawn("--context-from", tmp_path / "asked.npy")
    np.testing.assert_array_equal(one_each[:, :2], asked)
    assert np.all(np.abs(one_each[:, 2] - asked @ [5, 0.5]) < 2)
    np.testing.assert_array_equal(drawn("--context-from", tmp_path / "asked.csv"), one_each)
    in_turn = drawn("--context-from", tmp_path / "asked.npy", "--num", 7)
    np.testing.assert_array_equal(in_turn[:, :2], asked[[0, 1, 2, 0, 1, 2, 0]])
    whole = drawn("--context-from", folder / "given.npy", "--num", 5)  # by the numbers of the columns
    np.testing.assert_array_equal(whole[:, :2], np.load(folder / "given.npy")[:5, :2])

    held_out = read_config(given_dir).data.parts()["validation"]
    rows = drawn("--num", 250)
    np.testing.assert_array_equal(rows[:, :2], np.resize(held_out[:, :2], (250, 2)))


def test_contexts_that_do_not_fit_are_refused(given_dir, run_dir, tmp_path, capsys):
    (tmp_path / "words.csv").write_text("0,1\n1,x\n2,3\n")
    (tmp_path / "named.csv").write_text("a,b\n1,2\n2,3\n")
    (tmp_path / "none.csv").write_text("a,b\n")
    np.save(tmp_path / "three.npy", np.zeros((2, 1)))
    for given, said in (
        (("--context", "1"), "expected 2 finite numbers, of 0, 1, got 1"),
        (("--context", "1", "nan"), "expected 2 finite numbers"),
        (("--context", "1", "2", "--context-from", tmp_path / "named.csv"), "expected one of them"),
        (("--context-from", tmp_path / "words.csv"), "line 2, column 1: expected a finite number, got none"),
        (("--context-from", tmp_path / "named.csv"), "expected the columns 0, 1 by name, or a file of these alone"),
        (("--context-from", tmp_path / "three.npy"), "expected the columns 0, 1 by name"),
        (("--context-from", tmp_path / "gone.csv"), "is not there"),
    ):
        assert said in complaint(capsys, sample, given_dir, *given)
    assert "was trained without columns" in complaint(capsys, sample, run_dir, "--context", "1")
    columns = (Column("a", 0.0, 1.0, True), Column("b", 0.0, 1.0, True))
    np.testing.assert_array_equal(context_rows(columns, (), tmp_path / "named.csv"), [[1, 2], [2, 3]])
    with pytest.raises(UserError, match="holds no row"):
        context_rows(columns, (), tmp_path / "none.csv")


def test_a_file_that_changed_is_never_gone_on_with(run_dir, folder, tmp_path, capsys):
    copy, there = Path(shutil.copytree(run_dir, tmp_path / "run")), tmp_path / "people.csv"
    shutil.copy(folder / "people.csv", there)
    there.write_text(there.read_text().replace("person 0,", "person 0 ,"))  # nothing that is trained on
    arguments = ["table", *SMALL, "--data", there, "--dequantize", "age", "--run-dir", copy]
    before = checksum(copy)
    assert "began with other data than" in complaint(capsys, train, *arguments)
    assert "has changed since the run began, or is another" in complaint(capsys, evaluate, copy, "--data", there)
    assert checksum(copy) == before
    config = changed(read_config(copy), data={"path": there})
    with pytest.raises(UserError, match="has changed since the run began"):
        train.train(config, copy)
    # Samples need no data: they are drawn without.
    sample.main([str(copy), "--data", str(there), "--out", str(tmp_path / "a.npy")])
    assert "without data beside it, since" in capsys.readouterr().out and len(np.load(tmp_path / "a.npy")) == 1000


def test_a_file_that_changes_while_a_program_runs_is_noticed(tmp_path):
    path = written(tmp_path / "a.csv", NUMBERS)
    data = opened(path)
    assert len(data.examples("train")) == 16
    written(path, NUMBERS.replace("3,", "4,"))
    os.utime(path, (0, 0))
    with pytest.raises(UserError, match="has changed since the run began"):
        data.examples("train")


def test_a_file_that_is_gone_leaves_the_samples(run_dir, given_dir, folder, tmp_path, capsys):
    for directory, name, context in ((run_dir, "people.csv", ()), (given_dir, "given.npy", ("--context", "9", "-3"))):
        copy, gone = Path(shutil.copytree(directory, tmp_path / name)), tmp_path / "gone" / name
        values = json.loads((copy / "config.json").read_text())
        values["data"]["path"] = str(gone)
        (copy / "config.json").write_text(json.dumps(values))
        said = complaint(capsys, evaluate, copy)
        assert f"{gone} is not there: name the place where the data lie now (--data FILE)" in said
        sample.main([str(copy), "--out", str(tmp_path / "a.npy"), *context])
        assert "without data beside it, since" in capsys.readouterr().out
        assert np.isfinite(np.load(tmp_path / "a.npy")).all()
        result = evaluated(capsys, copy, "--data", folder / name)  # as where it was
        assert result == evaluated(capsys, directory)
        record = json.loads((copy / "evaluation_test.json").read_text())
        assert record["config"]["data"]["path"] is None and record["data_set"]["name"] == name
        assert record["data_set"]["sha256"] == values["data"]["found"]["sha256"]
    assert "say by --context what samples" in complaint(capsys, sample, tmp_path / "given.npy")


def test_other_options_are_another_run(run_dir, folder, capsys):
    arguments = ["table", *SMALL, "--data", folder / "people.csv", "--run-dir", run_dir]
    said = complaint(capsys, train, *arguments)
    assert "holds another run (dequantize ['age'] there, [] asked" in said and len(said) < 500
    said = complaint(capsys, train, *arguments, "--dequantize", "age", "--split-seed", "1")
    assert "split_seed 0 there, 1 asked" in said
    with pytest.raises(UserError, match=r"holds another run \(columns"):  # as by another numpy that shuffles otherwise
        config = read_config(run_dir)
        columns = (*config.data.found.columns[:-1], Column("score", 0.0, 1.0))
        found = dataclasses.replace(config.data.found, columns=columns)
        check_run_directory(changed(config, data={"found": found}), run_dir)


def test_what_belongs_to_other_data_is_refused(run_dir, calm, capsys):
    assert "--data says where it lies" in complaint(capsys, evaluate, run_dir, "--data-dir", "elsewhere")
    assert "was not trained on a file of one's own" in complaint(capsys, evaluate, calm, "--data", "a.csv")
    assert "--ledger is for the configs" in complaint(capsys, evaluate, run_dir, "--ledger")
    assert "--size is for runs on images" in complaint(capsys, sample, run_dir, "--size", "8")


def test_samples_are_not_written_over_the_data(run_dir, folder, capsys):
    before = (folder / "people.csv").read_bytes()
    said = complaint(capsys, sample, run_dir, "--out", folder / "people.csv")
    assert "data are read from there" in said and (folder / "people.csv").read_bytes() == before


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ONLY_OF_IMAGES])
def test_every_model_of_vectors_takes_a_context(name, folder):
    data = opened(folder / "people.csv", context=("age",))
    config = dataclasses.replace(configs_to_train()["table"][1], data=data, model=MODELS[name]())
    batch = next(training_batches(data.examples("train", for_training=True), config))
    assert batch["x"].shape == (64, 3) and batch["context"].shape == (64, 1)
    objective = data.objective(config.model.build(data.event_shape), labels=False)
    params, _ = jax.eval_shape(objective.init, jax.random.key(0), batch)
    assert jax.tree.leaves(params)
    blank = data.blank_batch(64)
    assert {n: (a.shape, a.dtype) for n, a in blank.items()} == {n: (a.shape, a.dtype) for n, a in batch.items()}


def test_a_config_file_may_name_a_table(folder, tmp_path):
    config = configs_to_train()["table"][1]
    config = dataclasses.replace(config, name="people", data=TableFile(path=folder / "people.csv"))
    small = changed(config, training={"steps": 2, "eval_every": 2, "batch_size": 16})
    assert not small.data.known
    small = dataclasses.replace(small, model=dataclasses.replace(small.model, layers=1, hidden=(4,)))
    assert "people: test" in train.train(small, tmp_path / "run") and read_config(tmp_path / "run").data.known


HOSTILE_VALUES = [
    (("columns",), []),
    (("columns",), [{"name": "a"}]),
    (("columns", 0, "deviation"), 0),
    (("columns", 0, "deviation"), -1.0),
    (("columns", 0, "mean"), float("nan")),
    (("columns", 0, "mean"), 10**400),
    (("columns", 0, "name"), 3),
    (("columns", 0, "in_context"), 1),
    (("columns", 0, "step"), float("inf")),
    (("rows",), 0),
    (("rows",), True),
    (("sha256",), None),
]


@pytest.mark.parametrize("place, value", HOSTILE_VALUES)
def test_what_a_config_says_was_found_is_checked(place, value, run_dir, tmp_path):
    values = json.loads((run_dir / "config.json").read_text())
    inner = values["data"]["found"]
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="cannot be read") as error:
        read_config(tmp_path)
    assert "\n" not in str(error.value)


PROGRAMS = {
    "evaluate": lambda run_dir, config: evaluate.main([str(run_dir)]),
    "sample": lambda run_dir, config: sample.main([str(run_dir), "--num", "4"]),
    "curves": lambda run_dir, config: curves.main([str(run_dir)]),
    "train": lambda run_dir, config: train.train(changed(config, training={"steps": 7}), run_dir),
}
"""Of a run directory, and the config it was made with."""


def test_hostile_run_directories_change_nothing_beside_them(run_dir, tmp_path, capsys):
    beside, config = make_beside(tmp_path / "beside"), read_config(run_dir)
    before, outcomes = checksum(beside), {"refused": 0, "through": 0}
    for number in range(int(os.environ.get("HOSTILE_DIRECTORIES", "10"))):
        name, program = random.Random(number).choice(sorted(PROGRAMS.items()))
        copy = Path(shutil.copytree(run_dir, tmp_path / "run"))
        for path in copy.rglob("*"):  # a table's run holds no step 8
            assert path.name != "8"
        done = f"{number}: {name}, {make_hostile(copy, beside, number)}"
        try:
            program(copy, config)
            outcomes["through"] += 1
        except (UserError, OSError):
            outcomes["refused"] += 1
        except BaseException as error:
            raise AssertionError(f"{done}: {type(error).__name__}: {error}") from error
        assert checksum(beside) == before and {path.name for path in tmp_path.iterdir()} == {"beside", "run"}, done
        shutil.rmtree(copy)
    assert outcomes["refused"] and outcomes["through"], outcomes


# Pictures


@pytest.mark.parametrize("columns", [1, 2, 9])
def test_a_corner_plot_shows_both_in_their_colours(columns, tmp_path):
    rng = np.random.default_rng(0)
    data, samples = rng.normal(size=(50, columns)), rng.normal(size=(80, columns))
    samples[0] = np.inf
    names = ["a $x_", "名", "a\nb", *map(str, range(6))][:columns]  # nothing that a formula or a font would stumble on
    save_corner(tmp_path / "a.png", samples, data, names, "x $\\frac$")
    pixels = np.asarray(picture(tmp_path / "a.png").convert("RGB")).astype(int)
    red, blue = pixels[..., 0], pixels[..., 2]
    assert np.sum((red > 200) & (blue < 120)) > 50 and np.sum((blue > 150) & (red < 190) & (blue > red + 20)) > 50
    save_corner(tmp_path / "b.png", samples[:1], None, names, "none that is finite")
    assert pixels.shape[0] == pixels.shape[1]

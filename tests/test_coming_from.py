"""Every block, every row and every program of docs/coming_from.md is run: ours always, another library's side where
that library is installed (``make kit``)."""

import functools
import re
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest

PAGE = (Path(__file__).parent.parent / "docs/coming_from.md").read_text()
MODULES = {
    "distrax": "distrax",
    "flowjax": "flowjax",
    "zuko": "zuko",
    "nflows": "nflows",
    "TFP": "tensorflow_probability.substrates.jax",
}
HELD = ("equal", "near", "same shape", "runs")
LEAST_ROWS = 12
OF_JOBS = ("nvpjax", "flowjax", "zuko")


class Row(NamedTuple):
    library: str
    what: str
    theirs: str
    ours: str
    held: str


def sections(level, text):
    """What stands under each heading of a level, by its title."""
    _, *parts = re.split(rf"^{'#' * level} ", text, flags=re.MULTILINE)
    return dict(part.split("\n", 1) for part in parts)


def blocks(text):
    """The blocks of Python, each with the words of its first line, a comment that says whose it is."""
    return [
        (block[2:].split("\n", 1)[0], block) for block in re.findall(r"```python\n(# .*?)```", text, flags=re.DOTALL)
    ]


SECTIONS = sections(2, PAGE)
JOBS = sections(3, SECTIONS["The same four jobs"])


def rows():
    for library in MODULES:
        for line in SECTIONS[f"Coming from {library}"].splitlines():
            if line.startswith("| ") and not line.startswith("| what |"):
                what, theirs, ours, held = (cell.strip() for cell in line.strip("|").split(" | "))
                yield Row(library, what, theirs, ours, held.strip())


ROWS = [pytest.param(row, id=f"{row.library}: {row.what}") for row in rows()]
INSTALLED = [library for library, module in MODULES.items() if find_spec(module.split(".")[0])]
BESIDE = [param for param in ROWS if param.values[0].library in INSTALLED]


def run(block, names):
    exec(compile(block, "docs/coming_from.md", "exec"), names)  # our own text, to be run as a reader would
    return names


def value(cell, names):
    """What a cell's expression gives: trees of numpy arrays."""
    found = re.fullmatch("`([^`]+)`", cell)
    assert found, f"expected one expression in backticks, or none: {cell}"
    return jax.tree.map(array, eval(found[1], dict(names)))


def array(leaf):
    """A leaf in numpy, of torch and of jax alike; what is no array as it is."""
    leaf = leaf.detach() if hasattr(leaf, "detach") else leaf
    return np.asarray(leaf) if isinstance(leaf, bool | int | float) or hasattr(leaf, "__array__") else leaf


@functools.cache
def our_names(library):
    (shared,) = blocks(SECTIONS["Our side"])
    names = run(shared[1], {"__name__": "page"})
    for head, block in blocks(SECTIONS.get(f"Coming from {library}", "")):
        if head.startswith("nvpjax"):
            run(block, names)
    return names


@functools.cache
def their_names(library):
    (block,) = (block for head, block in blocks(SECTIONS[f"Coming from {library}"]) if head.split(",")[0] == library)
    return run(block, {"__name__": "page"})


@functools.cache
def our_value(row):
    return value(row.ours, our_names(row.library))


@pytest.mark.parametrize("row", ROWS)
def test_ours_runs(row):
    if row.ours == "none":
        assert row.held == "runs"
        return
    leaves = [leaf for leaf in jax.tree.leaves(our_value(row)) if isinstance(leaf, np.ndarray)]
    assert row.held == "runs" or leaves, "nothing that could be compared"
    assert all(np.isfinite(leaf).all() for leaf in leaves if leaf.dtype != bool)


@pytest.mark.filterwarnings("ignore")  # theirs are theirs
@pytest.mark.parametrize("row", BESIDE)
def test_theirs_is_what_the_row_says(row):
    if row.theirs == "none":
        assert row.held == "runs"
        return
    theirs = value(row.theirs, their_names(row.library))
    if row.held == "runs":
        return
    theirs, ours = jax.tree.leaves(theirs), jax.tree.leaves(our_value(row))
    assert [leaf.shape for leaf in theirs] == [leaf.shape for leaf in ours]
    if row.held in ("equal", "near"):
        assert all(leaf.any() for leaf in ours[:1]), "zeros are equal to zeros"
        for their_leaf, our_leaf in zip(theirs, ours):
            np.testing.assert_allclose(our_leaf, their_leaf, rtol=2e-5, atol=2e-5 if row.held == "equal" else 1e-2)


@pytest.mark.parametrize("library", MODULES)
def test_no_row_is_passed_over(library):
    of_library = [row for row in rows() if row.library == library]
    text = SECTIONS[f"Coming from {library}"]
    assert len(of_library) >= LEAST_ROWS
    assert len(re.findall(r"^\|", text, flags=re.MULTILINE)) == len(of_library) + 2  # and the head's two lines
    assert len({row.what for row in of_library}) == len(of_library)
    assert {row.held for row in of_library} <= set(HELD)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", MODULES)
def test_blocks_of_both_run(library):
    pytest.importorskip(MODULES[library])
    for head, block in blocks(SECTIONS[f"Coming from {library}"]):
        if head.startswith("both"):
            run(block, {"__name__": "page"})


def program(job, library):
    (block,) = (block for head, block in blocks(JOBS[job]) if head == library)
    return block


def lines(block):
    return [line for line in block.splitlines() if line.strip() and not line.strip().startswith("#")]


def outcome(job, library):
    """What a program makes of the page's data."""
    (data,) = (block for head, block in blocks(SECTIONS["The same four jobs"]) if head == "data")
    names = run(program(job, library), run(data, {"__name__": "page"}))
    return {
        name: array(names[name]) for name in ("nats", "samples", "before", "after", "context_of_test") if name in names
    }


def check_outcome(job, library):
    found = outcome(job, library)
    if job == "save and load":
        assert found["before"].shape == (500,) and (found["before"] == found["after"]).all()
        return
    low, high = (-2.6, -2.3) if job == "variational inference" else (3.4, 3.8)  # −log 4π and the banana's entropy
    assert low < found["nats"] < high
    samples = found["samples"].reshape(-1, 2) - (3 * found["context_of_test"] if job == "conditional density" else 0)
    np.testing.assert_allclose(samples.mean(axis=0), [1, 0], atol=0.5)
    assert 1.5 < samples[:, 1].std() < 2.5


@pytest.mark.parametrize("job", JOBS)
def test_our_program_does_its_job(job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_outcome(job, "nvpjax")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("library", OF_JOBS[1:])
def test_their_program_does_the_same_job(job, library, tmp_path, monkeypatch):
    pytest.importorskip(MODULES[library])
    if library == "zuko":
        pytest.importorskip("torch").manual_seed(0)
    monkeypatch.chdir(tmp_path)
    check_outcome(job, library)


def test_numbers_of_lines_are_those_of_the_programs():
    counted = [f"| {job} | {' | '.join(str(len(lines(program(job, of)))) for of in OF_JOBS)} |" for job in JOBS]
    table = "\n".join(["| job | nvpjax | flowjax | zuko |", "|---|---|---|---|", *counted])
    assert table in PAGE, f"docs/coming_from.md wants this table:\n{table}"


def test_programs_are_not_short_for_their_width():
    assert max(len(line) for job in JOBS for of in OF_JOBS for line in lines(program(job, of))) <= 120


def test_every_block_says_whose_it_is():
    assert len(re.findall("^```python", PAGE, flags=re.MULTILINE)) == len(blocks(PAGE))
    assert {re.split("[,:]", head)[0] for head, _ in blocks(PAGE)} == {"nvpjax", "both", "data", *MODULES}

"""Eight tables that ship with scikit-learn by five families of flows, beside flowjax: test nats and seconds.

Usage: python -m experiments.bench.tables [--seeds 5] [--tables iris ...] [--families maf ...] [--out FILE.json]

For each seed 60 % of the rows to train on, 20 % to stop by, 20 % to test on, the same for all. Columns are standardised
by the first 80 %, after noise as wide as their rounding, since a column of few values has no density. Every flow is
fitted by its library's own ``fit`` with its defaults, so each decides by itself when it stops; compilation is in the
seconds.
flowjax is of the extra "peers"; where it is not installed it is left out.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.progress import track
from sklearn import datasets
from sklearn.feature_extraction.image import extract_patches_2d

from experiments import command_line
from experiments.bench.fit import VALIDATION, flowjax_maf, flowjax_spline_coupling
from experiments.runs.files import write_atomically
from nvpjax import MAF, Model, RealNVPVectors, SplineCoupling, TarFlow, fit

PATCHES = 2_000
COMPONENTS = 10


def _columns(load: Callable) -> np.ndarray:
    return load().data.astype(float)


def _patches(number: int) -> np.ndarray:
    """3x3 colour patches of a photograph."""
    photograph = datasets.load_sample_images().images[number]
    return extract_patches_2d(photograph, (3, 3), max_patches=PATCHES, random_state=0).reshape(PATCHES, -1) / 1.0


def _diabetes_and_target() -> np.ndarray:
    table = datasets.load_diabetes()
    return np.column_stack([table.data, table.target])


def _digits_in_components() -> np.ndarray:
    x = _columns(datasets.load_digits)
    x = x - x.mean(axis=0)
    return x @ np.linalg.svd(x, full_matrices=False)[2][:COMPONENTS].T


TABLES: dict[str, Callable[[], np.ndarray]] = {
    "iris": lambda: _columns(datasets.load_iris),
    "wine": lambda: _columns(datasets.load_wine),
    "breast_cancer": lambda: _columns(datasets.load_breast_cancer),
    "diabetes": _diabetes_and_target,
    "digits": lambda: _columns(datasets.load_digits),
    "digits, 10 components": _digits_in_components,
    "china, 3x3 patches": lambda: _patches(0),
    "flower, 3x3 patches": lambda: _patches(1),
}
"""linnerud, the ninth, has 20 rows."""

FAMILIES: dict[str, Model] = {
    "real_nvp_vectors": RealNVPVectors(),
    "maf": MAF(),
    "maf of splines": MAF(transform="spline"),
    "spline_coupling": SplineCoupling(),
    "tarflow": TarFlow(width=32, layers=3, depth=2, head_width=16, components=8),
}
RIVALS = {"flowjax maf": flowjax_maf, "flowjax spline_coupling": flowjax_spline_coupling}


@dataclass(frozen=True)
class Arguments:
    seeds: int = 5
    """Divisions of the rows, with weights of their own."""
    tables: tuple[str, ...] = tuple(TABLES)
    """Which tables."""
    families: tuple[str, ...] = (*FAMILIES, *RIVALS)
    """Which flows."""
    out: Path | None = None
    """File for the numbers."""


def divided(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows to fit, and those to test on."""
    rng = np.random.default_rng(seed)
    x = rng.permutation(TABLES[name]())
    for column in x.T:
        values = np.unique(column)
        if len(values) < len(column):
            column += np.median(np.diff(values)) * rng.random(len(column))
    cut = round(0.8 * len(x))
    standard = (x - x[:cut].mean(axis=0)) / np.maximum(x[:cut].std(axis=0), 1e-6)
    return standard[:cut].astype(np.float32), standard[cut:].astype(np.float32)


def fitted(family: str, key: jax.Array, x: np.ndarray):
    if family in RIVALS:
        return RIVALS[family](key, jnp.asarray(x), VALIDATION)
    return fit(key, FAMILIES[family].build(x.shape[1:]), x, validation=VALIDATION, progress=False).density


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.bench.tables", description=__doc__)
    )
    families = [
        family for family in options.families if family in FAMILIES or importlib.util.find_spec("flowjax") is not None
    ]
    rows, won = [], 0
    print("| table | rows x columns | " + " | ".join(families) + " |\n" + "|---" * (2 + len(families)) + "|")
    for table in options.tables:
        cells, means = [], {}
        for family in families:
            nats, seconds = [], []
            for seed in track(range(options.seeds), f"{table}, {family}", transient=True):
                x, test = divided(table, seed)
                begin = time.perf_counter()
                density = jax.block_until_ready(fitted(family, jax.random.key(seed), x))
                seconds.append(time.perf_counter() - begin)
                nats.append(-float(np.mean(density.log_prob(jnp.asarray(test)))))
            rows.append({"table": table, "family": family, "nats": nats, "seconds": seconds})
            means[family] = statistics.mean(nats)
            spread = f" ± {statistics.stdev(nats):.2f}" if len(nats) > 1 else ""
            cells.append(f"{means[family]:.2f}{spread}, {statistics.median(seconds):.0f} s")
        number, columns = TABLES[table]().shape
        print(f"| {table} | {number:,} x {columns} | " + " | ".join(cells) + " |", flush=True)
        won += min(means, key=means.get) in FAMILIES
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.out, json.dumps({"rows": rows}, indent=1) + "\n")
    where = f"; numbers in {options.out}" if options.out else ""
    print(f"tables: {len(options.tables)} of {options.seeds} seeds; the best is of nvpjax in {won}{where}")


if __name__ == "__main__":
    command_line.run(main)

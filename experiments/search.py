"""What families of flows reach on CIFAR-10 in equal time: each trained at several learning rates, compared and drawn.

Usage: python -m experiments.search RUNS_DIR --data-dir DIR [--minutes 20] [--only NAME ...] [--out FILE]

Of each family the runs of the first learning rate come before those of the second. Runs are kept in RUNS_DIR; those
that were interrupted go on. Those that are through, or diverged, are in FILE and are not repeated, also where RUNS_DIR
is lost. Test images are not looked at: numbers are of the validation images, the last 5 % of the training images.

What MINUTES are, in steps of a family, follows from the milliseconds that one took on one core of two that both train
(JAX 0.12): another machine, or other work beside, takes another time and comes out the same.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import tyro

from experiments import command_line
from experiments.bench.programs import operations
from experiments.config import Config, Training, with_data_dir
from experiments.configs import all_configs
from experiments.configs.families import FAMILIES, Family
from experiments.errors import Diverged, UserError
from experiments.pictures.grids import save_picture
from experiments.pictures.plots import figure
from experiments.runs.config_file import from_json, to_json
from experiments.runs.files import write_atomically
from experiments.runs.metrics import read_metrics
from experiments.runs.provenance import read_starts
from experiments.runs.records import RESULTS
from experiments.train import train

DIVERGED = "diverged.txt"
"""In the directory of a run that did."""


@dataclass(frozen=True)
class Arguments:
    runs_dir: tyro.conf.Positional[Path]
    """Directory of the runs."""
    data_dir: Path | None = None
    """Where CIFAR-10 is prepared; as in training by default."""
    minutes: float = 20.0
    """Of training, each run, on one core."""
    only: tuple[str, ...] = ()
    """Families to train; all by default. The table has all that were trained."""
    out: Path = RESULTS / "search" / "cifar10.json"
    """File of the numbers; a picture of the same name goes beside it."""


def config_of(family: Family, learning_rate: float, minutes: float) -> Config:
    config = all_configs()["cifar10"][1]
    steps = max(1, round(60_000 * minutes / family.milliseconds))
    training = Training(
        batch_size=family.batch_size,
        steps=steps,
        precision=family.precision,
        learning_rate=learning_rate,
        final_learning_rate=learning_rate / 100,
        warmup_steps=min(200, steps // 10),
        eval_every=math.ceil(steps / 4),
        average_decay=family.average_decay,
    )
    data = replace(config.data, noise=family.noise)
    return replace(config, data=data, model=family.model, training=training, published=None, published_by="")


def in_turns() -> list[tuple[str, float]]:
    """Families and learning rates: the first rate of each family, then the second of each."""
    turns = itertools.zip_longest(*([(name, rate) for rate in FAMILIES[name].learning_rates] for name in FAMILIES))
    return [run for turn in turns for run in turn if run is not None]


def kept(path: Path) -> list[dict]:
    """The results that a file holds. Errors: UserError where it holds something else."""
    if not path.exists():
        return []
    try:
        results = json.loads(path.read_text())["runs"]
        for result in results:
            from_json(result["config"])
        return results
    except (KeyError, TypeError, ValueError, UserError) as error:
        raise UserError(f"{path} cannot be read ({error}): restore it, or name another file (--out)") from None


def result_of(name: str, milliseconds: float, config: Config, run_dir: Path) -> dict:
    """The curve of a run that is through: steps, minutes and bits/dim. One that diverged has none."""
    lines = [] if _diverged(run_dir) else [line for line in read_metrics(run_dir) if line["split"] == "validation"]
    return {
        "family": name,
        "config": to_json(config),
        "operations_a_step": operations(config),
        "curve": [[line["step"], line["step"] * milliseconds / 60_000, line["bits_per_dim"]] for line in lines],
        "machine": read_starts(run_dir)[-1],
    }


def _diverged(run_dir: Path) -> bool:
    return (run_dir / DIVERGED).exists()


def _is_through(config: Config, run_dir: Path) -> bool:
    if not run_dir.exists():
        return False
    last = any(
        line["split"] == "validation" and line["step"] == config.training.steps for line in read_metrics(run_dir)
    )
    return last or _diverged(run_dir)


def train_to_the_end(config: Config, run_dir: Path) -> None:
    """Or until it diverges, which is a result too: a file in the run directory holds what was said."""
    try:
        train(config, run_dir, keep=1, test=False)
    except Diverged as error:
        print(error)
        write_atomically(run_dir / DIVERGED, f"{error}\n")
    finally:
        jax.clear_caches()  # of four families a process would come to the limit of its memory mappings, and end


def write(results: list[dict], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"runs": results}, indent=1) + "\n")
    if _best_first(results):
        draw(results, path.with_suffix(".png"))


def table(results: list[dict]) -> str:
    rows = "| family | learning rate | steps | minutes | 10¹⁵ operations | bits/dim, validation |\n"
    rows += 6 * "|---" + "|\n"
    for result in _best_first(results):
        step, minutes, score = result["curve"][-1]
        rate, done = _rate(result), result["operations_a_step"] * step / 1e15
        rows += f"| {result['family']} | {rate:g} | {step:,} | {minutes:.0f} | {done:.3g} | {score:.4f} |\n"
    for result in results:
        rows += "" if result["curve"] else f"| {result['family']} | {_rate(result):g} | | | | diverged |\n"
    return rows


def _best_first(results: list[dict]) -> list[dict]:
    """Those that are through."""
    return sorted((result for result in results if result["curve"]), key=lambda result: result["curve"][-1][2])


def _rate(result: dict) -> float:
    return result["config"]["training"]["learning_rate"]


def draw(results: list[dict], path: Path) -> None:
    """Bits/dim against minutes and against operations, a colour a family."""
    page, (by_time, by_work) = figure(1, 2, size=(10, 5), sharey=True)
    results = _best_first(results)
    families = list(dict.fromkeys(result["family"] for result in results))
    for result in results:
        steps, minutes, scores = map(list, zip(*result["curve"], strict=True))
        best = min(other["curve"][-1][2] for other in results if other["family"] == result["family"])
        is_best = scores[-1] == best
        style = {
            "color": f"C{families.index(result['family'])}",
            "alpha": 1.0 if is_best else 0.25,
            "label": f"{result['family']}: {scores[-1]:.3f}" if is_best else None,
            "marker": "o",
            "markersize": 3,
        }
        by_time.plot(minutes, scores, **style)
        by_work.semilogx([step * result["operations_a_step"] for step in steps], scores, **style)
    lowest = min(min(point[2] for point in result["curve"]) for result in results)
    top = max(lowest + 0.8, results[-1]["curve"][-1][2] + 0.3)  # the last one's end, too
    by_time.set(xlabel="minutes on one core", ylabel="bits/dim, validation", ylim=(lowest - 0.1, top))
    by_work.set(xlabel="operations (the compiler's count)")
    by_time.legend(frameon=False)
    save_picture(path, page.savefig)


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.search", description=__doc__)
    )
    unknown = sorted(set(options.only) - set(FAMILIES))
    if unknown:
        raise UserError(f"--only {' '.join(unknown)}: expected names among {', '.join(FAMILIES)}")
    results = kept(options.out)
    held = len(results)
    for name, rate in in_turns():
        family = FAMILIES[name]
        config = config_of(family, rate, options.minutes)
        run_dir = options.runs_dir / f"{name}_{rate:g}_{options.minutes:g}_minutes"  # other minutes: another cosine
        if any(from_json(result["config"]) == config for result in results):
            continue
        if not _is_through(config, run_dir) and (not options.only or name in options.only):
            train_to_the_end(with_data_dir(config, options.data_dir), run_dir)
        if _is_through(config, run_dir):
            results.append(result_of(name, family.milliseconds, config, run_dir))
            write(results, options.out)
    if not _best_first(results):
        raise UserError(f"{options.runs_dir} holds no run that is through, and --only names none")
    best = _best_first(results)[0]
    print(table(results), end="")
    print(
        f"search: {len(results)} runs, {held} of them from before and not trained again (--out names another file); "
        f"the lowest is {best['family']} with {best['curve'][-1][2]:.4f} bits/dim on validation images; numbers in "
        f"{options.out}, picture in {options.out.with_suffix('.png')}"
    )


if __name__ == "__main__":
    command_line.run(main, training=True)

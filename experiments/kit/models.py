"""Train every model by the trainer: whole, and killed and resumed; compare the two bit for bit; sample; evaluate.

Usage: python -m experiments.kit.models [--steps 300] [--models maf glow] [--out DIR]

Image models train on digits, models of vectors on breast_cancer. The second run of each is killed (SIGKILL) once it has
written its first checkpoint, and started again with the same command. Ends with an error where a number differs.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import tyro

from experiments import command_line
from experiments.errors import UserError
from experiments.kit.programs import command, output_of
from experiments.runs.build import train_state_like
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.config_file import read_config

COMMANDS = {
    "real_nvp": "digits --features 8 --blocks 1",
    "nice": "digits --hidden 200 200",
    "glow": "digits --levels 2 --depth 4 --features 32",
    "flow_plus_plus": "digits --couplings 2 1 1 --features 16 --blocks 1 --components 4 --heads 2",
    "real_nvp_vectors": "breast_cancer",
    "maf": "breast_cancer --hidden 64 64",
    "iaf": "breast_cancer --layers 2 --hidden 32",
    "spline_coupling": "breast_cancer --layers 4 --hidden 64 64",
}
"""A config and sizes that two cores train in a minute or two; averages of parameters are kept too."""


@dataclass(frozen=True)
class Arguments:
    steps: int = 300
    """Training steps."""
    models: tuple[str, ...] = tuple(COMMANDS)
    """Which."""
    data_dir: Path = Path("data")
    """Where prepared data sets lie."""
    out: Path | None = None
    """Directory of the runs; a temporary one by default."""


def kill_after_first_checkpoint(words: list[str], run_dir: Path) -> None:
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not any((run_dir / "checkpoints").glob("[0-9]*")):
        time.sleep(0.01)
    if process.poll() is not None:
        raise UserError(f"{' '.join(words[2:])} ended before it could be killed")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def final_leaves(run_dir: Path) -> list[np.ndarray]:
    with Checkpoints(run_dir) as checkpoints:
        state = checkpoints.restore(checkpoints.latest_step(), train_state_like(read_config(run_dir)))
    return jax.tree.leaves(state)


def examine(model: str, options: Arguments, out: Path) -> str:
    """The row of a model."""
    config, *sizes = COMMANDS[model].split()
    begin, finals = time.monotonic(), []
    for name in ("whole", "killed"):
        run_dir = out / f"{model}_{name}"
        common = ["--steps", options.steps, "--eval-every", max(1, options.steps // 3), "--average-decay", 0.99]
        where = ["--run-dir", run_dir, *(["--data-dir", options.data_dir] if config == "digits" else [])]
        words = command("train", config, "--model", model, *sizes, *common, *where)
        if name == "killed":
            kill_after_first_checkpoint(words, run_dir)
        line = output_of(words).splitlines()[-1]
        finals.append(final_leaves(run_dir))
    same = len(finals[0]) == len(finals[1]) and all(map(np.array_equal, *finals))
    if not same:
        raise UserError(f"{model}: the run that was killed and resumed ended with other numbers than the whole one")
    output_of(command("sample", out / f"{model}_killed"))
    again = output_of(command("evaluate", out / f"{model}_killed"))
    score, evaluated = (re.search(r"test (\S+ ± \S+ (?:bits/dim|nats))", text)[1] for text in (line, again))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(train_state_like(read_config(run_dir)).params))
    cells = (model, config, f"{parameters:,}", score, evaluated, "yes", "yes", f"{time.monotonic() - begin:.0f}")
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.kit.models", description=__doc__)
    )
    unknown = set(options.models) - set(COMMANDS)
    if unknown or options.steps < 3:
        raise UserError(f"expected --models among {', '.join(COMMANDS)} and --steps of at least 3, got {options}")
    print(
        "| model | config | parameters | test, by train | by evaluate | killed and resumed: same bits | sampled | s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or Path(temporary)
        for model in options.models:
            print(examine(model, options, out), flush=True)
    print(f"{len(options.models)} models trained for {options.steps} steps, killed, resumed, sampled and evaluated")


if __name__ == "__main__":
    command_line.run(main)

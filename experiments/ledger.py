"""Print the tables of results: what was run, published beside measured, for the README; what was not, for docs/.

Usage: python -m experiments.ledger  (or: make ledger)

Every measured number has its record under experiments/results, made by
``python -m experiments.evaluate RUN_DIR --ledger``, those of speed under experiments/results/speed by
``python -m experiments.bench.accelerator``, those of what a config would take under experiments/results/cost by
``python -m experiments.cost CONFIG --count``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments import command_line
from experiments.configs import all_configs
from experiments.data import Data
from experiments.errors import UserError
from experiments.runs.config_file import to_json
from experiments.runs.directory import FREE_TO_CHANGE, flattened
from experiments.runs.records import COST, SPEED, read_records

README = Path(__file__).parent.parent / "README.md"
PERFORMANCE = README.parent / "docs" / "performance.md"
EXPERIMENTS = README.parent / "docs" / "experiments.md"
ACCELERATOR = SPEED / "cifar10_64_NVIDIA_H200.json"
"""At whose rate, in the published model's step, hours are reckoned."""
CPU_RATE = 1.1e11
"""Operations/s of that step on two CPU cores in float32 (docs/experiments.md)."""
BEGIN, END = "<!-- ledger: made by make ledger -->\n", "<!-- end of ledger -->\n"
HEAD = (
    "| config | data set | α | published | measured: bits/dim, nats for tables | draws: importance-weighted | "
    "round trip: median, worst | how |\n|---|---|---|---|---|---|---|---|\n"
)
SPEED_COLUMNS = (
    "product, TFLOP/s",
    "step, ms",
    "of the product's rate",
    "temporary, MB",
    "ms a sample",
    "trace + compile, s",
)


@dataclass(frozen=True)
class Arguments:
    print_only: bool = False
    """Print the tables and leave the files as they are."""


def table() -> str:
    """One row a record."""
    records = [(path, record) for path, record in read_records() if record["split"] == "test"]
    rows = []
    for name, (_, config) in sorted(all_configs().items()):
        published = f"{config.published:.2f} ({config.published_by})" if config.published else "none"
        own = [(path, record) for path, record in records if record["config"]["name"] == name]
        for path, record in own:
            there, dataset = record["data_set"]["name"], config.data.dataset
            if there != dataset:  # as of the two ImageNets: no row stands beside the wrong one
                raise UserError(f"{path} is of {there}, config {name} reads {dataset}: move it")
            rows.append(_row(published, path, record, config.data))
    return HEAD + "".join(rows)


def waiting_table() -> str:
    """One row for each config without a record: what a run of it takes."""
    run = {record["config"]["name"] for _, record in read_records() if record["split"] == "test"}
    accelerator = json.loads(ACCELERATOR.read_text())
    step = accelerator["measured"]["TensorFloat-32"]["step_seconds"]
    rates = {f"{accelerator['device']}, TF32": accelerator["operations"] / step, "two CPU cores": CPU_RATE}
    head = ["config", "data set", "published", "parameters", "GFLOP an example", "steps"]
    head += [f"hours on {machine}" for machine in rates]
    lines = [f"| {' | '.join(head)} |\n", "|---" * len(head) + "|\n"]
    for name, (_, config) in sorted(all_configs().items()):
        if name not in run:
            counted = json.loads((COST / f"{name}.json").read_text())
            operations, steps = counted["operations"], config.training.steps
            cells = [name, config.data.dataset, f"{config.published:.2f}" if config.published else "none"]
            cells += [f"{counted['parameters']:,}", f"{operations / counted['batch_size'] / 1e9:.3g}", f"{steps:,}"]
            cells += [_rounded(operations * steps / rate / 3600) for rate in rates.values()]
            lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)


def _rounded(hours: float) -> str:
    if hours < 0.01:
        return "below 0.01"
    return f"{hours:.2g}" if hours < 10 else f"{hours:.0f}"


def _row(published: str, path: Path, record: dict, data: Data) -> str:
    config, result, training = record["config"], record["result"], record["training"]
    data_set = f"{record['data_set']['name']} {record['data_set']['version']}"
    number = result["examples"] if "examples" in result else result["images"]  # as records were before version 0.2
    unit = "" if data.unit == "bits_per_dim" else f" {data.said_unit}"
    measured = f"**{result[data.unit]:.4f}**{unit} ± {result['standard_error']:.4f} on {number} test examples"
    weighted = f"{result['draws']}: {result['importance_weighted']:.4f}"
    errors = f"{result['round_trip_error_median']:.1e}, {result['round_trip_error']:.1e}"
    hardware = training["starts"][-1]["hardware"] if training["starts"] else "unknown machine"
    link = f"[record](experiments/results/{path.name})"
    how = f"step {record['step']}, {training['seconds'] / 60:.0f} minutes on {hardware}; {link}"
    name = config["name"] + _differences(config)
    cells = (name, data_set, _alpha(config), published, measured, weighted, errors, how)
    return f"| {' | '.join(cells)} |\n"


def _differences(config: dict) -> str:
    """The options in which a run differs from the config of its name."""
    today, there = comparable(to_json(all_configs()[config["name"]][1]), config)
    free = {name.split(".")[-1] for name in FREE_TO_CHANGE} - {"steps"}
    options = [
        f"--{key.removesuffix('.kind').split('.')[-1].replace('_', '-')} {there[key]}"  # --model and --noise name kinds
        for key in sorted(there.keys() & today.keys())
        if key.split(".")[-1] not in free and there[key] != today[key]
    ]
    return f" ({' '.join(options)})" if options else ""


def comparable(today: dict, there: dict) -> tuple[dict, dict]:
    """Two configs as JSON with their fields side by side, named alike. Before version 0.2 fields had no groups."""
    old = "dataset" in there
    return tuple(
        {
            name.split(".")[-1] if old else name.partition(".")[2] or name: value
            for name, value in flattened(values).items()
        }
        for values in (today, there)
    )


def _alpha(config: dict) -> str:
    """Of the logit, where the model may have one."""
    alphas = [value for name, value in flattened(config).items() if name.split(".")[-1] == "alpha"]
    if not alphas:
        return ""
    return "none" if alphas[0] is None else f"{alphas[0]:g}"


def speed_table() -> str:
    """One row a precision and accelerator, or one that says that none was there."""
    head = ("config, images a step", "accelerator", "precision", *SPEED_COLUMNS)
    lines = [f"| {' | '.join(head)} |\n", "|---" * len(head) + "|\n"]
    for path in sorted(SPEED.glob("*.json")):
        record = json.loads(path.read_text())
        for precision, measured in record["measured"].items():
            name = f"{record['config']}, {record['batch_size']}"
            device = f"[{record['device']}](../experiments/results/speed/{path.name})"
            cells = (name, device, precision, *speed_cells(measured, record["operations"], record["batch_size"]))
            lines.append(f"| {' | '.join(cells)} |\n")
    if len(lines) == 2:
        lines.append(f"| cifar10, 64 | not run: none was there {'| ' * (len(head) - 1)}|\n")
    return "".join(lines)


def speed_cells(measured: dict[str, float], operations: float, batch_size: int) -> tuple[str, ...]:
    rate = operations / measured["step_seconds"]
    return (
        f"{measured['product_operations_per_second'] / 1e12:.3g}",
        f"{1000 * measured['step_seconds']:.1f}",
        f"{rate / measured['product_operations_per_second']:.2f}",
        f"{measured['temporary_bytes'] / 1e6:.0f}",
        f"{1000 * measured['sampling_seconds'] / batch_size:.3g}",
        f"{measured['compilation_seconds']:.0f}",
    )


def between_marks(path: Path) -> str:
    """The part of a file between the two marks of the ledger."""
    text = path.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise UserError(f"{path} has no place for the table: expected the lines {BEGIN.strip()} and {END.strip()}")
    return text.split(BEGIN)[1].split(END)[0]


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.ledger", description=__doc__)
    )
    made, waiting = table(), waiting_table()
    for path, text in {README: made, PERFORMANCE: speed_table(), EXPERIMENTS: waiting}.items():
        print(text)
        old = BEGIN + between_marks(path) + END
        if not options.print_only:
            path.write_text(path.read_text().replace(old, BEGIN + text + END))
    where = "printed only" if options.print_only else f"written to {README.name} and docs/"
    print(f"{made.count('[record]')} runs with a record, {waiting.count(chr(10)) - 2} configs not run; {where}")


if __name__ == "__main__":
    command_line.run(main)

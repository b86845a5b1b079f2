"""Records of evaluations: one JSON file each, machine-made, with what is needed to believe the number and repeat it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from experiments.config import Config
from experiments.errors import UserError
from experiments.runs.build import number_of_parameters
from experiments.runs.config_file import to_json
from experiments.runs.files import write_atomically
from experiments.runs.metrics import training_seconds
from experiments.runs.provenance import read_starts, surroundings

RESULTS = Path(__file__).parent.parent / "results"
"""The ledger: the records that the README's table is made from."""
SPEED = RESULTS / "speed"
"""Records of accelerators, for docs/performance.md."""
COST = RESULTS / "cost"
"""What a train step of a config takes, counted, for the table of docs/experiments.md."""

FIELDS = ("config", "split", "step", "result", "parameters", "data_set", "training", "evaluation")


def make_record(config: Config, run_dir: Path, split: str, step: int, result: dict) -> dict:
    """Put an evaluation together with how the run was trained, on what data, and where it was evaluated."""
    version, fingerprint = config.data.version()
    values = to_json(config)
    places = {"data_dir": None, **{name: None for name in ("path",) if name in values["data"]}}
    return {
        "config": {**values, "data": {**values["data"], **places}},  # a path of somebody's machine says nothing
        "split": split,
        "step": step,
        "result": result,
        "parameters": number_of_parameters(config),
        "data_set": {
            "name": config.data.dataset,
            "version": version,
            "sha256": fingerprint,
        },
        "training": {"seconds": training_seconds(run_dir, step), "starts": read_starts(run_dir)},
        "evaluation": surroundings(),
    }


def ledger_name(record: dict) -> str:
    """A name that tells runs apart: by config, split, step and all options."""
    what = json.dumps([record["config"], record["split"], record["step"]], sort_keys=True)
    digest = hashlib.sha256(what.encode()).hexdigest()[:8]
    return f"{record['config']['name']}_{record['split']}_{digest}.json"


def write_record(record: dict, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(record, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror})") from None


def read_records() -> list[tuple[Path, dict]]:
    """Give the records of the ledger, by name of their files."""
    records = []
    for path in sorted(RESULTS.glob("*.json")):
        record = json.loads(path.read_text())
        if set(record) != set(FIELDS):
            raise UserError(
                f"{path} is not a record (fields {sorted(set(record) ^ set(FIELDS))}): make it with evaluate"
            )
        records.append((path, record))
    return records

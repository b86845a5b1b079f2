"""The README's table of results says what the records say, and every number in it has its record."""

import importlib
import json
import re
from pathlib import Path

import pytest

from experiments import cost, ledger
from experiments.bench import accelerator
from experiments.configs import all_configs
from experiments.errors import UserError
from experiments.runs import records
from experiments.runs.build import number_of_parameters
from experiments.runs.config_file import to_json
from experiments.runs.directory import flattened
from experiments.runs.provenance import command
from tests.runs import config_of

ROOT = Path(__file__).parent.parent


def test_files_hold_the_tables_that_make_ledger_prints():
    assert ledger.between_marks(ledger.README) == ledger.table(), "run make ledger"
    assert ledger.between_marks(ledger.PERFORMANCE) == ledger.speed_table(), "run make ledger"
    assert ledger.between_marks(ledger.EXPERIMENTS) == ledger.waiting_table(), "run make ledger"


def names_in(table):
    return {row.split("|")[1].split()[0] for row in table.splitlines()[2:]}


def test_every_config_has_a_row_among_what_was_run_or_what_was_not():
    run, waiting = names_in(ledger.table()), names_in(ledger.waiting_table())
    assert run | waiting == set(all_configs()) and not run & waiting


def test_what_a_config_takes_was_counted_for_what_it_is_today():
    for name in names_in(ledger.waiting_table()):
        config, counted = all_configs()[name][1], json.loads((records.COST / f"{name}.json").read_text())
        there = number_of_parameters(config), config.training.batch_size
        assert (counted["parameters"], counted["batch_size"]) == there, name


def test_what_is_counted_becomes_a_record(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cost, "COST", tmp_path)
    cost.main(["breast_cancer", "--count"])
    there, here = (json.loads((folder / "breast_cancer.json").read_text()) for folder in (records.COST, tmp_path))
    assert "57,080 parameters" in capsys.readouterr().out
    assert {**here, "jax": "", "operations": 0} == {**there, "jax": "", "operations": 0}
    assert here["operations"] == pytest.approx(there["operations"], rel=0.05)  # versions of jax count otherwise


def test_hours_are_of_the_operations_at_the_rate_that_the_record_has():
    (row,) = [row for row in ledger.waiting_table().splitlines() if row.startswith("| cifar10 |")]
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[3:5] == ["3.49", "19,609,545"]
    assert float(cells[7]) == pytest.approx(100_000 * 0.0804 / 3600, rel=0.03)  # by the record, 80.4 ms a step


def test_every_row_has_its_record():
    rows = ledger.between_marks(ledger.README).splitlines()[2:]
    for row in rows:
        path = ROOT / re.search(r"\[record\]\((.*)\)", row).group(1)
        record = json.loads(path.read_text())
        result = record["result"]
        unit = all_configs()[record["config"]["name"]][1].data.unit
        assert f"**{result[unit]:.4f}**" in row and f"± {result['standard_error']:.4f}" in row
        assert path.name == records.ledger_name(record)
        assert record["evaluation"]["git_revision"] != "unknown" and len(record["data_set"]["sha256"]) == 64
        for start in record["training"]["starts"]:
            assert {"command", "git_revision", "packages", "hardware", "time"} <= set(start)
        places = [value for name, value in flattened(record["config"]).items() if name.endswith("data_dir")]
        assert places == [None] and "/" not in record["evaluation"]["hardware"]


def test_published_numbers_stand_beside_the_data_set_that_they_belong_to():
    configs = {name: config for name, (_, config) in all_configs().items()}
    assert configs["imagenet32"].published == 4.28 and configs["imagenet32"].data.dataset.startswith("downsampled")
    assert configs["imagenet32_resized"].published is None and configs["imagenet64_resized"].published is None
    for name, (_, config) in all_configs().items():
        summary = importlib.import_module(f"experiments.configs.{name}").__doc__
        assert f"experiments.train {name}" in summary
        assert config.published is None or f"{config.published:.2f}" in summary


def test_what_is_no_record_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    (tmp_path / "a.json").write_text('{"config": 1}')
    with pytest.raises(UserError, match="is not a record"):
        ledger.table()


def made_up_record(dataset):
    config = to_json(config_of("imagenet32", data={"dataset": dataset}, model={"features": 8}))
    config["data"]["data_dir"] = None
    result = {"bits_per_dim": 4.2, "standard_error": 0.01, "examples": 50, "draws": 2, "importance_weighted": 4.1}
    return {
        "config": config,
        "split": "test",
        "step": 7,
        "result": {**result, "round_trip_error_median": 1e-6, "round_trip_error": 1e-5},
        "parameters": 1,
        "data_set": {"name": dataset, "version": "2.0.0", "sha256": 64 * "0"},
        "training": {"seconds": 120.0, "starts": [{"hardware": "one machine"}]},
        "evaluation": {},
    }


def test_a_record_gives_a_row_with_the_options_that_differ(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    record = made_up_record("downsampled_imagenet/32x32")
    records.write_record(record, tmp_path / records.ledger_name(record))
    (row,) = [row for row in ledger.table().splitlines() if row.startswith("| imagenet32 ")]
    assert "imagenet32 (--features 8)" in row and "| 4.28 (Real NVP, table 1) |" in row and "**4.2000** ± 0.0100" in row
    assert "step 7, 2 minutes on one machine" in row and "not run" not in row


def test_a_record_of_the_other_imagenet_stands_beside_no_published_number(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    record = made_up_record("imagenet_resized/32x32")
    records.write_record(record, tmp_path / records.ledger_name(record))
    with pytest.raises(UserError, match="config imagenet32 reads downsampled_imagenet/32x32"):
        ledger.table()


def test_commands_in_records_name_no_folder_of_a_machine(monkeypatch):
    program = ROOT / "experiments" / "kit" / "stability.py"
    words = [str(program), "--data-dir", "/home/someone/sets/tfds", "--out=/home/a/b", f"{Path.cwd()}/runs/x", "3"]
    monkeypatch.setattr("sys.argv", words)
    assert command() == "python -m experiments.kit.stability --data-dir .../tfds --out=.../b runs/x 3"


def test_a_file_without_a_place_for_the_table_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("nothing here")
    with pytest.raises(UserError, match=r"README\.md has no place for the table"):
        ledger.between_marks(tmp_path / "README.md")


def test_what_an_accelerator_made_becomes_a_row(tmp_path, monkeypatch):
    """The real program on this machine's CPU, with a small model, for as little time as it can be given."""
    small = config_of("digits", model={"features": 2, "blocks": 0, "scales": 1})
    monkeypatch.setattr(accelerator, "all_configs", lambda: {"cifar10": ("", small), "digits": ("", small)})
    monkeypatch.setattr(ledger, "SPEED", tmp_path)
    assert "not run" in ledger.speed_table()
    arguments = "--config digits --batch-size 2 --matrix 64 --steps 1 --minutes 0.001"
    with pytest.raises(UserError, match="no accelerator was found"):
        accelerator.main([*arguments.split(), "--out", str(tmp_path)])
    accelerator.main([*arguments.split(), "--out", str(tmp_path), "--cpu"])
    (record,) = tmp_path.glob("*.json")
    (row,) = ledger.speed_table().splitlines()[2:]
    assert row.startswith(f"| digits, 2 | [cpu](../experiments/results/speed/{record.name}) | float32 | ")
    measured = json.loads(record.read_text())["measured"]["float32"]
    assert f"| {1000 * measured['step_seconds']:.1f} |" in row and measured["product_operations_per_second"] > 0

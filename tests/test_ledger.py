"""The README's table of results says what the records say, and every number in it has its record."""

import json
import re
from pathlib import Path

import pytest

from experiments import ledger, records
from experiments.command_line import UserError
from experiments.configs import all_configs

ROOT = Path(__file__).parent.parent


def test_the_readme_holds_the_table_that_make_ledger_prints():
    assert ledger.in_readme((ROOT / "README.md").read_text()) == ledger.table(), "run make ledger"


def test_every_row_has_its_record_or_says_that_nothing_was_run():
    rows = ledger.in_readme((ROOT / "README.md").read_text()).splitlines()[2:]
    assert {row.split("|")[1].split()[0] for row in rows} == set(all_configs())
    for row in rows:
        if "not run" in row:
            assert "[record]" not in row and "±" not in row
            continue
        path = ROOT / re.search(r"\[record\]\((.*)\)", row).group(1)
        record = json.loads(path.read_text())
        result = record["result"]
        assert f"**{result['bits_per_dim']:.4f}** ± {result['standard_error']:.4f}" in row
        assert path.name == records.ledger_name(record)
        assert record["evaluation"]["git_revision"] != "unknown" and len(record["data_set"]["sha256"]) == 64
        for start in record["training"]["starts"]:
            assert {"command", "git_revision", "packages", "hardware", "time"} <= set(start)
        assert record["config"]["data_dir"] is None and "/" not in record["evaluation"]["hardware"]


def test_published_numbers_stand_beside_the_data_set_that_they_belong_to():
    configs = {name: config for name, (_, config) in all_configs().items()}
    assert configs["imagenet32"].published == 4.28 and configs["imagenet32"].dataset.startswith("downsampled")
    assert configs["imagenet32_resized"].published is None and configs["imagenet64_resized"].published is None
    for name, (_, config) in all_configs().items():
        summary = __import__(f"experiments.configs.{name}", fromlist=["x"]).__doc__
        assert f"experiments.train {name}" in summary
        assert config.published is None or f"{config.published:.2f}" in summary


def test_what_is_no_record_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    (tmp_path / "a.json").write_text('{"config": 1}')
    with pytest.raises(UserError, match="is not a record"):
        ledger.table()


def test_a_readme_without_a_place_for_the_table_is_refused():
    with pytest.raises(UserError, match="no place for the table"):
        ledger.in_readme("nothing here")

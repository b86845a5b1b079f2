"""Run directories that somebody else made: links out of them, numbers out of range, files that are none."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from pathlib import Path

from experiments.runs import checkpoints

NAMES = (
    "lock",
    "config.json",
    "config.json.tmp",
    "metrics.jsonl",
    "metrics.jsonl.tmp",
    "starts.jsonl",
    "starts.jsonl.tmp",
    "samples.png",
    "samples.png.tmp",
    "samples_000002.png",
    "evaluation_test.json",
    "evaluation_test.json.tmp",
    "curves.png",
    "curves.png.tmp",
    "manifold.png",
    "compress.png",
    "reconstruct.png",
    "checkpoints",
    "checkpoints/4",
    "checkpoints/6",
    "checkpoints/8",
    "replaced",
    "replaced/4",
    "replaced/9",
    "processes",
    "processes/0.json",
    "damaged",
    "damaged/6",
    "events.out.tfevents.1",
)
"""What programs write, move or replace in a run directory."""
NUMBERS = (0, -1, 1, 2**31 - 1, 2**31, 2**63, 10**40, -(10**40), 1e308, -0.0, 0.5, float("nan"), float("inf"))
WORDS = ("", "../../beside/folder", "/etc/passwd", "\x1b[31mred\x1b]0;title\x07", "\0", "a" * 100_000, "‮", "nan")
OTHERS = (None, True, [], {}, [[]], {"kind": "real_nvp"}, [0, 0, 0, 0], "[" * 5000)


def checksum(folder: Path) -> str:
    """Over names, kinds and contents of all that is in a folder."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        total.update(f"{path.relative_to(folder)} {path.is_dir()} ".encode() + content)
    return total.hexdigest()


def make_beside(folder: Path) -> Path:
    """What is not the run's, and shall stay as it is."""
    (folder / "folder" / "4").mkdir(parents=True)
    for name in ("file", "folder/file", "folder/4/file"):
        (folder / name).write_text("of somebody else")
    return folder


def make_hostile(run_dir: Path, beside: Path, number: int) -> str:
    """Change a whole run directory into a hostile one, by its number; gives what was done."""
    choose = random.Random(number)
    done = [choose.choice([_link, _link, _odd_file, _json_value, _json_value, _metrics, _contents, _missing])]
    done += [choose.choice([_link, _json_value])] * choose.choice([0, 0, 1])
    return "; ".join(change(run_dir, beside, choose) for change in done)


def _link(run_dir, beside, choose):
    path = run_dir / choose.choice(NAMES)
    target = choose.choice([beside / "file", beside / "folder", beside / "new", Path("../beside/folder/file")])
    _remove(path)
    path.parent.mkdir(exist_ok=True, parents=True)
    path.symlink_to(target)
    return f"{path.relative_to(run_dir)} is a link to {target.name}"


def _odd_file(run_dir, beside, choose):
    path = run_dir / choose.choice(NAMES)
    _remove(path)
    path.parent.mkdir(exist_ok=True, parents=True)
    kind = choose.choice(["pipe", "folder", "empty", "noise"])
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "empty":
            path.write_bytes(b"")
        case "noise":
            path.write_bytes(choose.randbytes(200))
    return f"{path.relative_to(run_dir)} is {kind}"


def _json_value(run_dir, beside, choose):
    path = run_dir / "config.json"
    if not path.is_file() or path.is_symlink():
        return "no config.json to change"
    try:
        values = json.loads(path.read_text())
    except ValueError:
        return "no config.json that can be read"
    place, key = choose.choice(_places(values))
    place[key] = wrong = choose.choice([*NUMBERS, *NUMBERS, *WORDS, *OTHERS])
    path.write_text(json.dumps(values))
    return f"{key} is {str(wrong)[:30]!r}"


def _metrics(run_dir, beside, choose):
    wrong = choose.choice([*NUMBERS, *WORDS, *OTHERS])
    name = choose.choice(["step", "split", "training_seconds", "round_trip_error", "bits_per_dim", "train_eval_gap"])
    path = run_dir / choose.choice(["metrics.jsonl", "starts.jsonl"])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    choose.choice(lines)[name] = wrong
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"{name} in {path.name} is {str(wrong)[:30]!r}"


def _contents(run_dir, beside, choose):
    """What is in a checkpoint beside its arrays, with a checksum that is right."""
    path = run_dir / "checkpoints" / "6" / "contents" / "metadata"
    contents = json.loads(path.read_text())
    name = choose.choice(sorted(set(contents) - {"checksum"}))
    contents[name] = wrong = choose.choice([*NUMBERS, *WORDS, *OTHERS])
    path.write_text(json.dumps(checkpoints._sealed(contents)))
    return f"{name} in the checkpoint is {str(wrong)[:30]!r}"


def _missing(run_dir, beside, choose):
    path = choose.choice(sorted(run_dir.rglob("*")))
    _remove(path)
    return f"{path.relative_to(run_dir)} is missing"


def _places(values):
    """Every container of a JSON value with its keys."""
    found = []
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        found.append((values, key))
        if isinstance(value, dict | list):
            found += _places(value)
    return found


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

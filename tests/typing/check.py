"""What a type checker says of the library and of users' programs: nothing, but to each line that is marked as wrong.

python -m tests.typing.check
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PROGRAMS, WRONG = ROOT / "tests/typing/programs.py", ROOT / "tests/typing/wrong_programs.py"
MARK = "  # wrong: "


def complaints(*paths: Path) -> list[tuple[Path, int, str]]:
    """What it has to say of the files: ``(path, line, message)``."""
    # Ours by name: a pyrightconfig.json in a folder above would come before it.
    options = ["--project", "pyproject.toml", "--pythonpath", sys.executable, "--outputjson"]
    command = [sys.executable, "-m", "basedpyright", *options, *map(str, paths)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if ran.returncode not in (0, 1):  # 1: there are complaints
        raise RuntimeError(f"basedpyright ended with {ran.returncode}: {ran.stderr or ran.stdout}")
    found = json.loads(ran.stdout)["generalDiagnostics"]
    return [(Path(one["file"]), one["range"]["start"]["line"] + 1, one["message"]) for one in found]


def marked(path: Path) -> set[int]:
    """The lines that are wrong."""
    return {number for number, line in enumerate(path.read_text().splitlines(), 1) if MARK in line}


def main() -> int:
    found = complaints(ROOT / "nvpjax", PROGRAMS, WRONG)
    expected = marked(WRONG)
    unexpected = [one for one in found if one[0] != WRONG or one[1] not in expected]
    unnoticed = sorted(expected - {line for path, line, _ in found if path == WRONG})
    for path, line, message in unexpected:
        print(f"{path.relative_to(ROOT)}:{line}: {message}")
    for line in unnoticed:
        print(f"{WRONG.relative_to(ROOT)}:{line}: marked as wrong, and the type checker has nothing to say")
    if not unexpected and not unnoticed:
        print(f"Types: nothing in nvpjax and users' programs, and all of {len(expected)} wrong lines noticed")
    return bool(unexpected or unnoticed)


if __name__ == "__main__":
    sys.exit(main())

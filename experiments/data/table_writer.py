"""From rows of numbers to a file of one's own: .npy, or .csv with names."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.errors import UserError, first_line
from experiments.runs.files import write_atomically


def save_rows(path: Path, rows: np.ndarray, names: Sequence[str]) -> None:
    """Write rows, float64, with the names of their columns where the file is .csv. Errors: UserError."""
    content = io.BytesIO()
    if path.suffix.lower() == ".csv":
        text = io.TextIOWrapper(content, "utf-8", newline="", write_through=True)
        writer = csv.writer(text)
        writer.writerow(names)
        writer.writerows(rows.tolist())
    else:
        np.save(content, rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise UserError(f"{path} cannot be written ({first_line(error)}): make room, or name another --out") from None

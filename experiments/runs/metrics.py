"""The numbers of a run: one JSON object a line in metrics.jsonl, and the same as TensorBoard events."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from experiments.errors import UserError
from experiments.runs.files import open_own, read_json_lines, write_atomically

WRITTEN = {"round_trip_error", "train_eval_gap", "training_seconds"}
"""Of an evaluation, what other programs read, beside the number itself in the unit of the data."""


class MetricsLog:
    """Writes ``{"step": …, "split": …, …}`` lines to RUN_DIR/metrics.jsonl, and TensorBoard events; use with ``with``.

    A run that was killed and goes on from ``first_step`` drops the lines after that step: it writes them again. With
    ``again`` the evaluation of that step is made again too.
    """

    def __init__(self, run_dir: Path, first_step: int = 0, *, again: bool = False):
        path = run_dir / "metrics.jsonl"

        def stays(line):
            return line["step"] < first_step + (not again or line["split"] != "validation")

        kept = [json.dumps(line) + "\n" for line in read_metrics(run_dir) if stays(line)]
        write_atomically(path, "".join(kept))
        self._file = open_own(path, "a", buffering=1)
        self._events = TensorBoardEvents(run_dir, first_step)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *error) -> None:
        for file in (self._file, self._events):
            with contextlib.suppress(OSError):  # of a disk whose being full ends the run already
                file.close()

    def write(self, step: int, split: str, **values: float) -> None:
        try:
            self._file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
            self._events.write(step, split, values)
        except OSError as error:
            raise UserError(
                f"{self._file.name} cannot be written at step {step} ({error.strerror}): make room and start with the "
                "same command, which goes on from the last checkpoint"
            ) from None


class TensorBoardEvents:
    """RUN_DIR/events.*: written at once, by no thread of its own, so that a full disk is noticed by who writes."""

    def __init__(self, run_dir: Path, first_step: int):
        self._writer = EventsWriter(str(run_dir / "events"), f".{os.getpid()}")
        if first_step:  # TensorBoard forgets what was written after it
            start = SessionLog(status=SessionLog.START)
            self._writer.write_event(Event(wall_time=time.time(), step=first_step + 1, session_log=start))

    def write(self, step: int, split: str, values: dict[str, float]) -> None:
        for name, value in values.items():
            summary = scalar(f"{split}/{name}", value)
            self._writer.write_event(Event(wall_time=time.time(), step=step, summary=summary))
        if split != "train":  # to the disk itself, which takes milliseconds
            self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class NoLog:
    """Of a process of a pod that writes nothing."""

    def __enter__(self) -> NoLog:
        return self

    def __exit__(self, *error) -> None:
        pass

    def write(self, step: int, split: str, **values: float) -> None:
        pass


def read_metrics(run_dir: Path) -> list[dict]:
    """Give the lines of RUN_DIR/metrics.jsonl. A last line that a killed run left unfinished is passed over."""
    path = run_dir / "metrics.jsonl"
    lines = read_json_lines(path)
    for number, line in enumerate(lines, 1):
        named = type(line.get("step")) is int and isinstance(line.get("split"), str)
        evaluated = all(type(line.get(name)) in (int, float) for name in WRITTEN)
        timed = type(line.get("training_seconds", 0.0)) in (int, float)
        if not named or not timed or (line["split"] == "validation" and not evaluated):
            raise UserError(f"{path}, line {number}, is no line of metrics ({line}): restore the file, or move it away")
    return lines


def training_seconds(run_dir: Path, step: int) -> float:
    """The seconds of training up to ``step`` over all starts, by the last line up to there that tells; 0 without."""
    lines = [line for line in read_metrics(run_dir) if line["step"] <= step]
    told = [line["training_seconds"] for line in lines if "training_seconds" in line]
    return told[-1] if told else 0.0

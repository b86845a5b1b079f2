"""Checkpoints of a run: the last few and the best, written by orbax in the background."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from experiments import pod
from experiments.command_line import UserError

FORMAT = 2
"""Of what is inside a checkpoint. Raise it with every change that an older program could not read."""


class Damaged(UserError):
    """A checkpoint that is there and cannot be read."""

    def __init__(self, step: int, cause: str):
        super().__init__(f"checkpoints/{step} is damaged ({cause})")
        self.step = step


class Position(NamedTuple):
    """Where a run stands beside its train state: with that it is all that the next step depends on."""

    next_image: int
    """Number in the stream of training images, which goes on over epochs."""
    key: list[int]
    """The data of the run's random key."""
    evaluated: bool
    """Whether the evaluation that is due at this step was made. Not so where a signal came in between."""


class Checkpoints:
    """The checkpoints under RUN_DIR/checkpoints, one directory a step; use it in a ``with`` statement.

    Each holds the train state as arrays, and beside it the format and the position. Orbax writes atomically, and its
    storage carries checksums: a file that is missing, cut short or has a flipped bit is noticed when it is read. It is
    arrays and JSON, nothing that could run. In a pod all processes do all calls together.

    With ``going_on`` what is damaged is moved to RUN_DIR/damaged where another checkpoint can be read: nothing is lost,
    and nothing in the way.
    """

    def __init__(self, run_dir: Path, keep: int = 2, *, going_on: bool = False):
        self._run_dir, self._directory = run_dir, (run_dir / "checkpoints").resolve()
        self._check_scores(going_on)

        def score(metrics):
            return metrics["bits_per_dim"]

        # Not best_fn with max_to_keep: that deletes the newest checkpoint, and a resumed run would start further back.
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(n=keep),
                checkpoint_managers.BestN(get_metric_fn=score, reverse=True, n=1),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy, best_fn=score, best_mode="min", cleanup_tmp_directories=True
        )
        # Named, so that what a checkpoint holds can be asked for before it is read.
        handlers = {"train_state": ocp.StandardCheckpointHandler(), "contents": ocp.JsonCheckpointHandler()}
        try:
            self._manager = ocp.CheckpointManager(self._directory, options=options, item_handlers=handlers)
        except (OSError, ValueError) as error:
            raise UserError(f"checkpoints under {self._directory} cannot be read ({_first_line(error)})") from None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if error is None:
            self.wait()
            self._manager.close()
        else:
            with contextlib.suppress(Exception):  # what could not be written: the run ends by an error already
                self._manager.close()

    def wait(self) -> None:
        """Wait until all that was saved is on disk."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:  # of the thread that writes: orbax and tensorstore raise many kinds
            raise self._not_written(error) from None

    def steps(self) -> list[int]:
        return sorted(self._manager.all_steps())

    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """The step with the lowest validation bits/dim."""
        return self._manager.best_step()

    def save(self, step: int, tree: Any, position: Position, bits_per_dim: float) -> None:
        """Write ``tree``, arrays in host memory, in the background. ``bits_per_dim`` on validation images ranks it."""
        contents = ocp.args.JsonSave({"format": FORMAT, **position._asdict()})
        items = ocp.args.Composite(train_state=ocp.args.StandardSave(tree), contents=contents)
        # A NaN would rank as best, and a checkpoint must be kept all the same.
        score = bits_per_dim if np.isfinite(bits_per_dim) else float("inf")
        try:
            if step in self._manager.all_steps():  # written by a signal, before the evaluation of this step
                self._manager.delete(step)
            self._manager.save(step, args=items, metrics={"bits_per_dim": score})
        except Exception as error:
            raise self._not_written(error) from None

    def restore(self, step: int, like: Any) -> Any:
        """Read the train state of ``step`` as numpy arrays in the structure of ``like`` (shapes and dtypes)."""
        try:
            return self._restore(step, like)[0]
        except Damaged as error:
            others = [other for other in self.steps() if other != step]
            advice = f"move it away to go on from step {others[-1]}" if others else "restore it from a copy"
            raise UserError(f"{error}: {advice}") from None

    def restore_latest(self, like: Any) -> tuple[int, Any, Position] | None:
        """Read the latest checkpoint, or the one before where it is damaged; None where there are none."""
        damaged: list[Damaged] = []
        for step in reversed(self.steps()):
            try:
                found = self._restore(step, like)
            except Damaged as error:
                found, trouble = None, error
            if pod.all_agree(found is not None):
                for error in damaged:
                    self._move_aside(error, step)
                self._manager.reload()
                return step, *found
            damaged.append(trouble if found is None else Damaged(step, "another process of the pod cannot read it"))
        if damaged:
            raise UserError(f"{damaged[0]}, and none before it can be read: restore one from a copy, or start anew")
        return None

    def _move_aside(self, error: Damaged, going_on_from: int) -> None:
        if pod.is_first():
            aside = _free(self._run_dir / "damaged" / str(error.step))
            aside.parent.mkdir(exist_ok=True)
            (self._directory / str(error.step)).rename(aside)
            print(f"{error}: moved to {aside}; going on from step {going_on_from}", file=sys.stderr, flush=True)
        pod.barrier(f"damaged {error.step}")

    def _check_scores(self, going_on: bool) -> None:
        """Orbax reads the scores of all checkpoints at once, and fails for all where it cannot read one."""
        damaged, good = [], []
        for path in sorted(self._directory.glob("[0-9]*"), key=lambda path: path.name):
            if path.name.isdigit() and (score := path / "metrics" / "metrics").exists():
                try:
                    float(json.loads(score.read_bytes())["bits_per_dim"])
                    good.append(int(path.name))
                except (ValueError, TypeError, KeyError) as error:
                    damaged.append(Damaged(int(path.name), f"its score: {_first_line(error)}"))
        if damaged and not (going_on and good):
            raise UserError(f"{damaged[0]} under {self._run_dir}: move it away")
        for error in damaged:
            self._move_aside(error, max(good))

    def _restore(self, step: int, like: Any) -> tuple[Any, Position]:
        path = self._directory / str(step)
        like = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
        try:
            contents = self._restore_item(step, "contents", ocp.args.JsonRestore())
            format_there = contents.pop("format")
            there = self._manager.item_metadata(step)["train_state"]
            if there is None:
                raise FileNotFoundError("the list of what is in it is missing")
            shapes = sorted(_shapes(there))
        except Exception as error:  # orbax and tensorstore raise many kinds for files that are missing or cut short
            raise Damaged(step, _first_line(error)) from None
        if format_there != FORMAT:
            raise UserError(
                f"checkpoint {path} has format {format_there}, this program reads {FORMAT}: use the version that wrote "
                "it, or start anew with another --run-dir"
            )
        if shapes != sorted(_shapes(like)):
            raise UserError(f"checkpoint {path} is of another model than its config.json says: restore that file")
        try:
            return self._restore_item(step, "train_state", ocp.args.StandardRestore(like)), Position(**contents)
        except Exception as error:
            raise Damaged(step, _first_line(error)) from None

    def _restore_item(self, step: int, name: str, arguments: Any) -> Any:
        return self._manager.restore(step, args=ocp.args.Composite(**{name: arguments}))[name]

    def _not_written(self, error: Exception) -> UserError:
        steps = [step for step in self.steps() if (self._directory / str(step)).exists()]
        kept = f"step {steps[-1]} is the last that is whole" if steps else "none was written before"
        return UserError(
            f"checkpoint under {self._directory} could not be written ({_first_line(error)}); {kept}: make room there "
            "and start with the same command"
        )


def _free(path: Path) -> Path:
    """The path, or the first of path.1, path.2 … that is not taken."""
    number = 0
    candidate = path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}.{number}")
    return candidate


def _shapes(tree: Any) -> list[tuple]:
    """Names as they are in a file, where a named tuple has become a dict."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = ((jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves)
    return [(name, tuple(leaf.shape), str(leaf.dtype)) for name, leaf in named]


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]

"""Checkpoints of a run: the latest two and the best, written by orbax."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from experiments.command_line import UserError

FORMAT = 1
"""Of what is inside a checkpoint. Raise it with every change that an older program could not read."""

logging.getLogger("absl").setLevel(logging.ERROR)  # orbax tells of every file


class Checkpoints:
    """The checkpoints under RUN_DIR/checkpoints, one directory a step; use it in a ``with`` statement.

    Each holds the train state as arrays, and beside it the format. Orbax writes atomically, and its storage carries
    checksums: a file that is missing, cut short or has a flipped bit is noticed when it is read.
    """

    def __init__(self, run_dir: Path):
        self._directory = (run_dir / "checkpoints").resolve()

        def score(metrics):
            return metrics["bits_per_dim"]

        # Not best_fn with max_to_keep: that deletes the newest checkpoint, and a resumed run would start further back.
        keep = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(n=2),
                checkpoint_managers.BestN(get_metric_fn=score, reverse=True, n=1),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keep, best_fn=score, best_mode="min", cleanup_tmp_directories=True
        )
        try:
            self._manager = ocp.CheckpointManager(self._directory, options=options)
        except (OSError, ValueError) as error:
            raise UserError(f"checkpoints under {self._directory} cannot be read ({_first_line(error)})") from None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *error) -> None:
        self._manager.wait_until_finished()
        self._manager.close()

    def wait(self) -> None:
        """Wait until all that was saved is on disk."""
        self._manager.wait_until_finished()

    def steps(self) -> list[int]:
        return sorted(self._manager.all_steps())

    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """The step with the lowest validation bits/dim."""
        return self._manager.best_step()

    def save(self, step: int, tree: Any, bits_per_dim: float) -> None:
        """Write ``tree``, arrays in host memory, in the background. ``bits_per_dim`` on validation images ranks it."""
        contents = ocp.args.JsonSave({"format": FORMAT})
        items = ocp.args.Composite(train_state=ocp.args.StandardSave(tree), contents=contents)
        # A NaN would rank as best, and a checkpoint must be kept all the same.
        score = bits_per_dim if np.isfinite(bits_per_dim) else float("inf")
        self._manager.save(step, args=items, metrics={"bits_per_dim": score})

    def restore(self, step: int, like: Any) -> Any:
        """Read the checkpoint of ``step`` as numpy arrays in the structure of ``like`` (shapes and dtypes)."""
        path = self._directory / str(step)
        others = [other for other in self.steps() if other != step]
        advice = f"move it away to go on from step {others[-1]}" if others else "restore it from a copy, or start anew"
        like = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
        try:
            contents = self._restore_item(step, "contents", ocp.args.JsonRestore())
            if contents["format"] != FORMAT:
                raise UserError(
                    f"checkpoint {path} has format {contents['format']}, this program reads {FORMAT}: "
                    "use the version that wrote it"
                )
            restored = self._restore_item(step, "train_state", ocp.args.StandardRestore(like))
        except UserError:
            raise
        except Exception as error:  # orbax and tensorstore raise many kinds for files that are missing or cut short
            cause = _first_line(error)
            raise UserError(f"checkpoint {path} is damaged or of another model ({cause}): {advice}") from None
        if _shapes(restored) != _shapes(like):  # orbax gives what is stored, whatever shapes were asked for
            raise UserError(f"checkpoint {path} is of another model than its config.json says: restore that file")
        return restored

    def _restore_item(self, step: int, name: str, arguments: Any) -> Any:
        return self._manager.restore(step, args=ocp.args.Composite(**{name: arguments}))[name]


def _shapes(tree: Any) -> list[tuple]:
    return [(path, leaf.shape, leaf.dtype) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]

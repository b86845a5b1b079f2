"""Checkpoints of a run: the last few and the best, written by orbax in the background."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from experiments.errors import UserError, first_line
from experiments.machine import heap, pod
from experiments.runs.directory import expect_unedited

FORMAT = 7
"""Of what is inside a checkpoint. Raise it with every change that an older program could not read."""
REPLACED = "replaced"
"""Under a run directory: a checkpoint while another one of the same step is being written."""


class Damaged(UserError):
    """A checkpoint that is there and cannot be read."""

    def __init__(self, step: int, cause: str):
        super().__init__(f"checkpoints/{step} is damaged ({cause})")
        self.step = step


class Position(NamedTuple):
    """Where a run stands beside its train state: with that it is all that the next step depends on."""

    next_example: int
    """Number in the stream of training examples, which goes on over epochs."""
    key: list[int]
    """The data of the run's random key."""
    evaluated: bool
    """Whether the evaluation that is due at this step was made. Not so where a signal came in between."""


class Checkpoints:
    """The checkpoints under RUN_DIR/checkpoints, one directory a step; use it in a ``with`` statement.

    Each holds the train state as arrays, and beside it the format, the step, the position, the score and a digest of
    the arrays, with a checksum. Orbax writes atomically; the digest is what proves the arrays, since its storage does
    not: what is missing, cut short, of another step or has a flipped bit is noticed when it is read. It is arrays and
    JSON, nothing that could run. In a pod all processes do all calls together.

    With ``config``, the run's as JSON, it is kept in every checkpoint, and one that was made with another is refused.

    With ``going_on``, for the one program that trains there, what an earlier one left unfinished is cleared, and what
    is damaged is moved to RUN_DIR/damaged where another checkpoint can be read: nothing is lost, and nothing in the
    way. Without it nothing is changed, so that reading is safe while a run goes on.
    """

    def __init__(self, run_dir: Path, keep: int = 2, *, going_on: bool = False, config: dict | None = None):
        self._config = config
        self._run_dir, self._directory = run_dir, (run_dir / "checkpoints").resolve()
        if going_on:
            self._bring_back()
        self._check_scores(going_on)

        def score(metrics):
            return metrics["score"]

        # Not best_fn with max_to_keep: that deletes the newest checkpoint, and a resumed run would start further back.
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(n=keep),
                checkpoint_managers.BestN(get_metric_fn=score, reverse=True, n=1),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy, best_fn=score, best_mode="min", cleanup_tmp_directories=going_on
        )
        # Named, so that what a checkpoint holds can be asked for before it is read.
        handlers = {"train_state": ocp.StandardCheckpointHandler(), "contents": ocp.JsonCheckpointHandler()}
        try:
            self._manager = ocp.CheckpointManager(self._directory, options=options, item_handlers=handlers)
        except (OSError, ValueError) as error:
            raise UserError(f"checkpoints under {self._directory} cannot be read ({first_line(error)})") from None

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
        """The step with the lowest score; None where none was evaluated."""
        ranked = self._ranked()
        return ranked[0] if ranked else None

    def was_evaluated(self, step: int) -> bool:
        return step in self._ranked()

    def save(self, step: int, tree: Any, position: Position, score: float | None) -> None:
        """Write ``tree``, arrays in host memory, in the background.

        ``score``, the lower the better, on validation examples ranks it; None, or a number that is not finite, never
        is the best.
        """
        score = score if score is not None and np.isfinite(score) else None
        contents = {"format": FORMAT, "step": step, "arrays": digest(tree), "config": self._config}
        contents = _sealed(contents | position._asdict() | {"score": score})
        items = ocp.args.Composite(train_state=ocp.args.StandardSave(tree), contents=ocp.args.JsonSave(contents))
        metrics = {"score": float("inf") if score is None else score}
        again = step in self._manager.all_steps()  # written by a signal, before the evaluation of this step
        try:
            if again:
                self._put_aside(step)
            self._manager.save(step, args=items, metrics=metrics)
            if again:
                self._manager.wait_until_finished()
        except Exception as error:
            raise self._not_written(error) from None
        finally:
            if again:
                self._bring_back()
        heap.give_back()

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
        return self._first_that_can_be_read(self.steps()[::-1], like)

    def restore_best(self, like: Any) -> tuple[int, Any] | None:
        """Read the checkpoint with the best score, or the next where it is damaged; None where none was evaluated."""
        found = self._first_that_can_be_read(self._ranked(), like)
        if found is None:
            for step in self.steps():
                self._contents(step)  # where none tells a score, since they are damaged, that is said
        return found and found[:2]

    def _first_that_can_be_read(self, steps: list[int], like: Any) -> tuple[int, Any, Position] | None:
        damaged: list[Damaged] = []
        for step in steps:
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
            raise UserError(f"{damaged[0]}, and no other can be read: restore one from a copy, or start anew")
        return None

    def _ranked(self) -> list[int]:
        """Steps that were evaluated, the best first."""
        scores = {}
        for step in self.steps():
            with contextlib.suppress(UserError):
                scores[step] = self._contents(step)["score"]
        return sorted((step for step, score in scores.items() if score is not None), key=scores.get)

    def _move_aside(self, error: Damaged, instead: int) -> None:
        if pod.is_first():
            aside = _free(self._run_dir / "damaged" / str(error.step))
            aside.parent.mkdir(exist_ok=True)
            (self._directory / str(error.step)).rename(aside)
            print(f"{error}: moved to {aside}; going on from step {instead}", file=sys.stderr, flush=True)
        pod.barrier(f"damaged {error.step}")

    def _put_aside(self, step: int) -> None:
        """Make room for another checkpoint of this step, without a moment in which there is none."""
        if pod.is_first():
            aside = self._run_dir / REPLACED / str(step)
            aside.parent.mkdir(exist_ok=True)
            (self._directory / str(step)).rename(aside)
        pod.barrier(f"replaced {step}")
        self._manager.reload()

    def _bring_back(self) -> None:
        """Undo ``_put_aside`` where the other checkpoint was not written, and clear what it left where it was."""
        if pod.is_first():
            for aside in (self._run_dir / REPLACED).glob("*"):
                if (self._directory / aside.name).exists():
                    shutil.rmtree(aside)
                else:
                    aside.rename(self._directory / aside.name)
            with contextlib.suppress(OSError):
                (self._run_dir / REPLACED).rmdir()
        pod.barrier("brought back")

    def _check_scores(self, going_on: bool) -> None:
        """Orbax reads the scores of all checkpoints at once, and fails for all where it cannot read one."""
        damaged, good = [], []
        for path in self._directory.glob("*"):
            if path.name.isascii() and path.name.isdecimal() and (path / "train_state").exists():
                try:
                    float(json.loads((path / "metrics" / "metrics").read_bytes())["score"])
                    good.append(int(path.name))
                except (OSError, ValueError, TypeError, KeyError) as error:
                    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # older ones had another name
                        _expect_format(path, json.loads((path / "contents" / "metadata").read_bytes())["format"])
                    damaged.append(Damaged(int(path.name), f"its score: {first_line(error)}"))
        if damaged and not (going_on and good):
            raise UserError(f"{damaged[0]} under {self._run_dir}: move it away")
        for error in damaged:
            self._move_aside(error, max(good))

    def _contents(self, step: int) -> dict[str, Any]:
        try:
            contents = self._restore_item(step, "contents", ocp.args.JsonRestore())
            format_there, sealed = contents["format"], contents == _sealed(contents)
        except Exception as error:  # orbax and tensorstore raise many kinds for files that are missing or cut short
            raise Damaged(step, first_line(error)) from None
        if not sealed and ("checksum" in contents or format_there == FORMAT):
            raise Damaged(step, "the checksum of its contents is another")
        _expect_format(self._directory / str(step), format_there)
        if contents["step"] != step:
            raise Damaged(step, f"it holds step {contents['step']}")
        return contents

    def _restore(self, step: int, like: Any) -> tuple[Any, Position]:
        like = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
        contents = self._contents(step)
        if self._config is not None and contents["config"] is not None:
            expect_unedited(contents["config"], self._config, f"checkpoints/{step}")
        try:
            there = self._manager.item_metadata(step)["train_state"]
            if there is None:
                raise FileNotFoundError("the list of what is in it is missing")
            shapes = sorted(_shapes(there))
        except Exception as error:
            raise Damaged(step, first_line(error)) from None
        if shapes != sorted(_shapes(like)):
            raise UserError(
                f"checkpoint {self._directory / str(step)} is of another model than its config.json says: restore that "
                "file"
            )
        try:
            tree = self._restore_item(step, "train_state", ocp.args.StandardRestore(like))
        except Exception as error:
            raise Damaged(step, first_line(error)) from None
        if digest(tree) != contents["arrays"]:
            raise Damaged(step, "the digest of its arrays is another")
        return tree, Position(*(contents[name] for name in Position._fields))

    def _restore_item(self, step: int, name: str, arguments: Any) -> Any:
        return self._manager.restore(step, args=ocp.args.Composite(**{name: arguments}))[name]

    def _not_written(self, error: Exception) -> UserError:
        steps = [step for step in self.steps() if (self._directory / str(step)).exists()]
        kept = f"step {steps[-1]} is the last that is whole" if steps else "none was written before"
        return UserError(
            f"checkpoint under {self._directory} could not be written ({first_line(error)}); {kept}: make room there "
            "and start with the same command"
        )


def _expect_format(path: Path, format_there: Any) -> None:
    if format_there != FORMAT:
        raise UserError(
            f"checkpoint {path} has format {format_there}, this program reads {FORMAT}: use the version that wrote it, "
            "or start anew with another --run-dir"
        )


def _sealed(contents: dict[str, Any]) -> dict[str, Any]:
    """The contents with their checksum."""
    contents = {name: value for name, value in contents.items() if name != "checksum"}
    return {**contents, "checksum": zlib.crc32(json.dumps(contents, sort_keys=True).encode())}


SUMS = 64
"""Of each array, that the digest hashes."""
ROW = 1024
"""Words of 64 bits that are added at once: rows half as long take half as long again."""


def digest(tree: Any) -> str:
    """A digest of names, shapes, dtypes and bytes of a tree of arrays in host memory.

    Of an array's words it hashes 64 sums mod 2⁶⁴, of every 64th word each: a word that changes always changes its sum.
    A hash of all bytes would take a fifth of the time of a save; this one takes 3 to 5 hundredths, half of it reading.
    """
    result = hashlib.blake2b(digest_size=16)
    leaves = dict(_named(tree))
    for name in sorted(leaves):
        array = np.ascontiguousarray(leaves[name])
        result.update(f"{name} {array.shape} {array.dtype} ".encode())
        content = array.reshape(-1).view(np.uint8)
        words = content[: len(content) // (8 * SUMS) * 8 * SUMS].view(np.uint64)
        rows = len(words) // ROW * ROW
        sums = words[:rows].reshape(-1, ROW).sum(axis=0).reshape(-1, SUMS).sum(axis=0)
        result.update(sums + words[rows:].reshape(-1, SUMS).sum(axis=0))
        result.update(content[words.nbytes :])
    return result.hexdigest()


def _free(path: Path) -> Path:
    """The path, or the first of path.1, path.2 … that is not taken."""
    number = 0
    candidate = path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}.{number}")
    return candidate


def _shapes(tree: Any) -> list[tuple]:
    return [(name, tuple(leaf.shape), str(leaf.dtype)) for name, leaf in _named(tree)]


def _named(tree: Any) -> list[tuple[str, Any]]:
    """Leaves by their names as they are in a file, where a named tuple has become a dict."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]

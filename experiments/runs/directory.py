"""A run directory: whether it may be written to, and what it is opened with."""

from __future__ import annotations

from pathlib import Path

from experiments.config import Config
from experiments.errors import UserError
from experiments.runs.config_file import from_json, read_config, to_json, write_config
from experiments.runs.files import expect_own_files

FREE_TO_CHANGE = {
    "training.steps",
    "training.eval_every",
    "training.log_every",
    "training.memory",
    "training.reconstruction_bound",
    "training.precision",
    "data.data_dir",
    "data.path",
    "published",
    "published_by",
}
"""Fields that may differ when a run is taken up again: they name no other run."""
OTHER_BYTES = "data.found.sha256"
"""Of a file of one's own: where it differs, the file was changed."""
BEFORE_CONFIG = {"processes", "lock", "config.json.tmp"}
"""What a run directory may hold without a config.json: a pod's processes, what a killed program left before it."""


def flattened(values: dict, prefix: str = "") -> dict:
    """The JSON of a config with its fields side by side: ``{"model.features": 16, …}``."""
    flat = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= flattened(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def differences(old: dict, new: dict) -> list[tuple[str, object, object]]:
    """Of two configs as JSON, the fields that differ, and both values; None for a field that one has not."""
    old, new = flattened(old), flattened(new)
    names = [*old, *(name for name in new if name not in old)]
    return [(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)]


def expect_unedited(there: dict, config: dict, where: str) -> None:
    """Raise UserError where the config that a checkpoint was made with is not the one in config.json, both as JSON."""
    edited = [
        f"{name} {_short(old)} in {where}, {_short(new)} in config.json"
        for name, old, new in differences(_with_defaults(there), config)
        if name not in FREE_TO_CHANGE
    ]
    if edited:
        raise UserError(f"config.json was edited after the run began ({', '.join(edited)}): restore that file")


def _short(value: object) -> str:
    """A value for a line: columns of a table are many."""
    said = str(value)
    return said if len(said) <= 80 else f"{said[:80]}…"


def _with_defaults(values: dict) -> dict:
    """The JSON of a config that an older version wrote, with the fields that have come since."""
    try:
        return to_json(from_json(values))
    except (KeyError, TypeError, ValueError, UserError):  # then it differs, and how is said
        return values


def check_run_directory(config: Config, run_dir: Path) -> None:
    """Refuse a directory that holds another run, other files or links. A new one, or this run's own, passes."""
    if (run_dir / "config.json").exists():
        # With lag, moments that an evaluation measured anew are part of what training goes on with.
        lag = getattr(config.model, "lag", 0)
        free = FREE_TO_CHANGE - {"training.eval_every"} if lag else FREE_TO_CHANGE
        found = {name: (old, new) for name, old, new in differences(to_json(read_config(run_dir)), to_json(config))}
        if OTHER_BYTES in found and None not in found[OTHER_BYTES]:
            then, now = (f"{sha256[:8]}…" for sha256 in found[OTHER_BYTES])
            raise UserError(
                f"{run_dir} began with other data than {config.data.path} holds now (sha256 {then} there, {now} now): "
                "restore the file, or choose another --run-dir"
            )
        changed = [
            f"{name.split('.')[-1]} {_short(old)} there, {_short(new)} asked"
            for name, (old, new) in sorted(found.items(), key=lambda entry: entry[0].startswith("data.found."))
            if name not in free
        ]
        if changed:
            advice = "choose another --run-dir, or the same options"
            raise UserError(f"{run_dir} holds another run ({', '.join(changed)}): {advice}")
    elif run_dir.exists() and (not run_dir.is_dir() or {path.name for path in run_dir.iterdir()} - BEFORE_CONFIG):
        raise UserError(f"{run_dir} exists and is not a run directory: choose another --run-dir")
    expect_own_files(run_dir)


def open_run_directory(config: Config, run_dir: Path) -> None:
    """Create ``run_dir`` where it is new, and write the config into it."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        write_config(config, run_dir)
    except OSError as error:
        raise UserError(f"{run_dir} cannot be written ({error.strerror}): choose another --run-dir") from None

"""config.json: a config as a file, read back with types checked; what an older file lacks takes its default."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, Literal

from experiments.choices import KINDS
from experiments.config import Config
from experiments.errors import UserError
from experiments.runs.files import expect_own_files, write_atomically


def to_json(value: Any) -> Any:
    """A config, or a value inside one, as what json writes. Where several classes may stand, ``"kind"`` names one."""
    if dataclasses.is_dataclass(value):
        fields = {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
        kind = {"kind": NAMES[type(value)]} if type(value) in NAMES else {}
        return kind | fields
    if isinstance(value, tuple):
        return [to_json(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def from_json(values: Any) -> Config:
    """The config that ``to_json`` wrote. Raises KeyError, TypeError or ValueError for anything else."""
    if isinstance(values, dict) and "dataset" in values:
        raise ValueError("it was written before version 0.2: use the version that wrote it, or train anew")
    config = _dataclass(Config, values, "config")
    if not config.data.known:
        raise ValueError("config.data.found: expected what was found in the data, got nothing")
    return config


NAMES = {kind: name for kinds in KINDS.values() for name, kind in kinds.items()}


def _dataclass(kind: type, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise TypeError(f"{where}: expected the fields of {kind.__name__}, got {type(values).__name__}")
    values = dict(values)
    if kind in KINDS:
        name = values.pop("kind", None)
        if not isinstance(name, str) or name not in KINDS[kind]:
            raise ValueError(f"{where}: expected a kind among {', '.join(KINDS[kind])}, got {name!r}")
        kind = KINDS[kind][name]
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := sorted(set(values) - set(fields)):
        raise ValueError(f"{where}: fields {', '.join(unknown)} are not known")
    hints = typing.get_type_hints(kind)
    needed = {
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    if missing := sorted(needed - set(values)):
        raise ValueError(f"{where}: fields {', '.join(missing)} are missing")
    return kind(**{name: _value(hints[name], value, f"{where}.{name}") for name, value in values.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    """The value where it is of the type that is hinted at; TypeError or ValueError where it is not."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) or hint in KINDS:
        return _dataclass(hint, value, where)
    if origin is Literal:
        if value not in inner:
            raise ValueError(f"{where}: expected one of {', '.join(map(str, inner))}, got {value!r}")
        return value
    if origin in (typing.Union, types.UnionType):  # X | None
        return None if value is None else _value(next(kind for kind in inner if kind is not type(None)), value, where)
    if origin is tuple:
        if type(value) is not list or (inner[-1] is not ... and len(value) != len(inner)):
            raise TypeError(f"{where}: expected a list{'' if inner[-1] is ... else f' of {len(inner)}'}, got {value!r}")
        kinds = [inner[0]] * len(value) if inner[-1] is ... else inner
        return tuple(_value(kind, entry, where) for kind, entry in zip(kinds, value))
    if hint is Path and type(value) is str and "\0" not in value:
        return Path(value)
    plain = {int: (int,), float: (int, float), bool: (bool,), str: (str,)}  # not isinstance: true is an int there
    if type(value) not in plain.get(hint, ()):
        raise TypeError(f"{where}: expected {getattr(hint, '__name__', hint)}, got {value!r}")
    return value


def write_config(config: Config, run_dir: Path) -> None:
    write_atomically(run_dir / "config.json", json.dumps(to_json(config), indent=2) + "\n")


def read_config(run_dir: Path) -> Config:
    path = run_dir / "config.json"
    expect_own_files(run_dir)
    if not path.is_file():
        raise UserError(f"{run_dir} is not a run directory (no config.json): give the directory that train wrote")
    try:
        return from_json(json.loads(path.read_text()))
    except (KeyError, TypeError, ValueError, RecursionError, UserError) as error:
        raise UserError(f"{path} cannot be read ({error}): restore it, or train into a new run directory") from None

"""What tests of runs share: small configs, the state of a checkpoint, files that are damaged."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from PIL import Image

from experiments.config import Config
from experiments.configs import all_configs
from experiments.runs.build import train_state_like
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.config_file import read_config
from nvpjax.training import TrainState


def changed(config: Config, **parts: dict[str, Any]) -> Config:
    """The config with some fields of its parts replaced: ``changed(config, training={"steps": 3})``."""
    new = {name: dataclasses.replace(getattr(config, name), **fields) for name, fields in parts.items()}
    return dataclasses.replace(config, **new)


def config_of(name: str, **parts: dict[str, Any]) -> Config:
    """A config of ``experiments/configs`` with some fields of its parts replaced."""
    return changed(all_configs()[name][1], **parts)


def final_state(run_dir: Path, steps: int) -> TrainState:
    """The train state of the last step, which must be there."""
    with Checkpoints(run_dir) as saved:
        assert saved.latest_step() == steps
        return saved.restore(steps, train_state_like(read_config(run_dir)))


def picture(path: Path) -> Image.Image:
    """A picture, with its file closed."""
    with Image.open(path) as opened:
        return opened.copy()


def largest_file(directory: Path, name: str = "*") -> Path:
    return max((path for path in directory.rglob(name) if path.is_file()), key=lambda path: path.stat().st_size)


def cut(content: bytes) -> bytes:
    """A file that was not written to its end."""
    return content[: len(content) // 2]


def flip_bits(content: bytes) -> bytes:
    """One of every eighth byte: a single one may lie where nothing is read."""
    return bytes(byte ^ 8 if place % 8 == 0 else byte for place, byte in enumerate(content))

"""A trained model: restored from its run directory, and its two directions compiled for pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from experiments.errors import UserError
from experiments.runs.build import build_flow, train_state_like
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.config import Config, read_config
from nvpjax.training import TrainState


def restore_run(run_dir: Path, checkpoint: str) -> tuple[Config, int, TrainState]:
    """Read a run directory: its config, the step of its "best" or "latest" checkpoint, and the train state there."""
    config = read_config(run_dir)
    with Checkpoints(run_dir) as checkpoints:
        step = checkpoints.best_step() if checkpoint == "best" else checkpoints.latest_step()
        if step is None:
            raise UserError(
                f"{run_dir} holds no checkpoint that was evaluated yet: train for at least {config.eval_every} steps"
                if checkpoint == "best"
                else f"{run_dir} holds no checkpoint yet: train for at least {config.eval_every} steps"
            )
        return config, step, checkpoints.restore(step, train_state_like(config))


def make_coder(config: Config) -> tuple[Callable, Callable]:
    """Compile ``encode(params, state, images) -> z`` and ``decode(params, state, z) -> x``, x in [0, 1].

    Images are whole pixels; each stands for the middle of what it covers, x = (pixel + ½) / levels: no noise, so that
    the same image gives the same picture.
    """
    bijector = build_flow(config).bijector

    @jax.jit
    def encode(params, state, images):
        return bijector.forward(params["bijector"], state, (images.astype(jnp.float32) + 0.5) / config.levels)[0]

    @jax.jit
    def decode(params, state, z):
        return bijector.inverse(params["bijector"], state, z)[0]

    return encode, decode

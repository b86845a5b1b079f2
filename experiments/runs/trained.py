"""A trained model: restored from its run directory, and put together for use."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.config import Config
from experiments.data import Images
from experiments.errors import UserError
from experiments.runs.build import build_objective, train_state_like
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.config_file import read_config, to_json
from nvpjax import Density
from nvpjax.training import TrainState


def restore_run(run_dir: Path, checkpoint: str) -> tuple[Config, int, TrainState]:
    """Read a run directory: its config, the step of its "best" or "latest" checkpoint, and the train state there."""
    config = read_config(run_dir)
    with Checkpoints(run_dir, config=to_json(config)) as checkpoints:
        step = checkpoints.best_step() if checkpoint == "best" else checkpoints.latest_step()
        if step is None:
            evaluated = " that was evaluated" if checkpoint == "best" else ""
            raise UserError(
                f"{run_dir} holds no checkpoint{evaluated} yet: train for at least {config.training.eval_every} steps"
            )
        return config, step, checkpoints.restore(step, train_state_like(config))


def density_of(config: Config, train_state: TrainState) -> Density:
    """The flow with the numbers of a run: averages of parameters, where they are kept."""
    objective = build_objective(config)
    params, state = train_state.evaluated
    return objective.flow.at(objective.flow_params(params), objective.flow_state(state))


def images_only(config: Config, program: str) -> Images:
    """The data of a run on images. Errors: UserError for others."""
    if not isinstance(config.data, Images):
        raise UserError(f"{program} is for runs on images, and {config.name} trains on the table {config.data.dataset}")
    return config.data


class Coder:
    """Both directions of a density of images, compiled: x in [0, 1], and latents.

    Images are whole pixels; each stands for the middle of what it covers, x = (pixel + ½) / levels: no noise, so that
    the same image gives the same picture. ``labels`` are those of the images, of a model that is given them.
    """

    def __init__(self, config: Config, train_state: TrainState, labels: np.ndarray | None = None):
        self._density, self._levels = density_of(config, train_state), config.data.levels
        self._labels = labels if config.classes else None

    def encode(self, images: np.ndarray):
        return _encode(self._density, (images.astype(np.float32) + np.float32(0.5)) / self._levels, self._labels)

    def draw_latents(self, key: jax.Array, number: int):
        flow, params, state = self._density.flow, self._density.params, self._density.state
        like = flow.latents_like(params, state, number, self._labels)
        return flow.base.sample(key, params["base"], like, self._labels)

    def decode(self, z) -> np.ndarray:
        return np.asarray(_decode(self._density, z, self._labels))


@jax.jit
def _encode(density, x, labels):
    return density.latents(x, labels)


@jax.jit
def _decode(density, z, labels):
    return density.from_latents(z, labels)[0]


def scaled(z, temperature: float):
    """Latents of another standard deviation."""
    return jax.tree.map(lambda latent: jnp.asarray(temperature, latent.dtype) * latent, z)

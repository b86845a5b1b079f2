"""Bits/dim, round-trip error and train/eval gap of a flow on images, each image once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from experiments.errors import UserError
from experiments.machine import pod
from experiments.runs.build import build_flow
from experiments.runs.config import Config
from nvpjax.objectives import importance_weighted
from nvpjax.parallel import parallel_eval_step, shard, unreplicate
from nvpjax.training import TrainState, make_eval_step, make_round_trip, make_train_mode_bits

NOISE_SEED = 2_718
"""Of the dequantisation noise in evaluation: the same for every run, so that numbers compare."""


class Evaluators(NamedTuple):
    """Functions ``(params, state, key, images, indices) -> (devices, images per device)`` on all local devices."""

    bits: Callable
    round_trip: Callable
    train_mode: Callable


def make_evaluators(config: Config) -> Evaluators:
    flow = build_flow(config)
    made = (make(flow, levels=config.levels) for make in (make_eval_step, make_round_trip, make_train_mode_bits))
    return Evaluators(*map(parallel_eval_step, made))


def measure_anew(
    measure_step: Callable, train_state: TrainState, key: jax.Array, batches: Iterable[np.ndarray]
) -> tuple[TrainState, float]:
    """The train state with averages that belong to its parameters, and bits/dim of ``batches`` in training mode.

    See ``make_measure_step``. Without batches nothing changes, and bits/dim are NaN.
    """
    state, bits = train_state.state, []
    for number, batch in enumerate(batches):
        shards = shard(batch, jax.local_device_count())
        state, measured = measure_step(train_state.params, state, jax.random.fold_in(key, number), shards)
        bits.append(float(unreplicate(measured)))
    return train_state._replace(state=state), math.fsum(bits) / len(bits) if bits else math.nan


def evaluate_images(
    evaluators: Evaluators,
    train_state: TrainState,
    images: Sequence[np.ndarray],
    batch_size: int,
    draws: int = 1,
    progress: Callable = lambda batches: batches,
) -> dict[str, float]:
    """Evaluate replicated parameters on ``images``, each counted exactly once.

    The noise of an image depends on its index and the number of the draw alone, and means are taken in float64 in the
    order of the images: neither batch size nor devices change more than the rounding of an image's own number.

    Gives, over images: ``bits_per_dim``, the mean over draws, a bound; ``importance_weighted``, the draws put together
    (``objectives.importance_weighted``); the standard errors of both; of max |x − f⁻¹(f(x))| over an image the median,
    the 99.9th percentile and the worst (first draw); ``train_eval_gap``: bits/dim with the batch's own statistics minus
    bits/dim with running averages, both on the first full batch (as many images as the devices divide evenly, where the
    set is smaller).
    """
    local_devices = jax.local_device_count()
    variables = (train_state.params, train_state.state)
    keys = [jax.random.fold_in(jax.random.key(NOISE_SEED), draw) for draw in range(draws)]
    bits, errors = [], []

    def placed(indices):  # of a global batch, this process's rows, on its devices
        mine = indices[pod.rows(len(indices))]
        return shard(np.stack([images[index] for index in mine]), local_devices), shard(mine, local_devices)

    def together(rows):  # of all batches and processes, in the order of the images
        rows = pod.gather(np.array(rows, np.float32))  # (processes, batches, ..., devices, images a device)
        rows = np.moveaxis(rows.reshape(*rows.shape[:-2], -1), 0, -2)
        return np.array(rows.reshape(*rows.shape[:-2], -1), np.float64)  # (batches, ..., batch)

    for start in progress(range(0, len(images), batch_size)):
        batch = placed(np.arange(start, start + batch_size) % len(images))  # the last is filled up; dropped below
        bits.append([evaluators.bits(*variables, key, *batch) for key in keys])
        errors.append(evaluators.round_trip(*variables, keys[0], *batch))
    bits = np.moveaxis(together(bits), 1, 0).reshape(draws, -1)[:, : len(images)]
    errors = together(errors).reshape(-1)[: len(images)]

    devices = jax.device_count()
    number = min(batch_size, len(images)) // devices * devices
    gap = math.nan
    if number >= 2 * devices:
        with_batch = together(evaluators.train_mode(*variables, keys[0], *placed(np.arange(number))))
        gap = float(np.mean(with_batch) - np.mean(bits[0, :number]))
    mean, weighted = bits.mean(axis=0), importance_weighted(bits, dimensions=images[0].size)
    return {
        "bits_per_dim": float(np.mean(mean)),
        "standard_error": _standard_error(mean),
        "importance_weighted": float(np.mean(weighted)),
        "importance_weighted_standard_error": _standard_error(weighted),
        "draws": draws,
        "round_trip_error_median": float(np.median(errors)),
        "round_trip_error_99.9": float(np.percentile(errors, 99.9)),
        "round_trip_error": float(np.max(errors)),
        "train_eval_gap": gap,
        "images": len(errors),
    }


def _standard_error(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def check_devices(batch_size: int) -> None:
    devices = jax.device_count()
    if batch_size < 1 or batch_size % devices:
        raise UserError(f"--batch-size {batch_size} is not a positive multiple of the {devices} devices")

"""What a run scores on examples, each once: in the unit of its data, with round-trip error and train/eval gap."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from experiments.config import Config
from experiments.data.data import Data, Example, batch_of
from experiments.errors import UserError
from experiments.machine import pod
from experiments.runs.build import build_objective
from nvpjax.objectives import importance_weighted
from nvpjax.parallel import parallel_eval_step, shard, unreplicate
from nvpjax.training import TrainState, make_eval_step, make_round_trip

NOISE_SEED = 2_718
"""Of the noise in evaluation: the same for every run, so that numbers compare."""


class Evaluators(NamedTuple):
    """Functions ``(params, state, key, batch) -> (devices, examples per device)`` on all local devices."""

    nats: Callable
    round_trip: Callable
    train_mode: Callable


def make_evaluators(config: Config) -> Evaluators:
    objective = build_objective(config)
    made = (make_eval_step(objective), make_round_trip(objective), make_eval_step(objective, train=True))
    return Evaluators(*map(parallel_eval_step, made))


def measure_anew(
    measure_step: Callable, params, state, key: jax.Array, batches: Iterable[Example]
) -> tuple[object, float]:
    """A state with averages that belong to ``params``, and the mean nats of ``batches`` in training mode.

    See ``make_measure_step``. Without batches nothing changes, and the nats are NaN.
    """
    nats = []
    for number, batch in enumerate(batches):
        shards = shard(batch, jax.local_device_count())
        state, measured = measure_step(params, state, jax.random.fold_in(key, number), shards)
        nats.append(float(unreplicate(measured)))
    return state, math.fsum(nats) / len(nats) if nats else math.nan


def evaluate_examples(
    evaluators: Evaluators,
    train_state: TrainState,
    examples: Sequence[Example],
    data: Data,
    batch_size: int,
    draws: int = 1,
    progress: Callable = lambda batches: batches,
) -> dict[str, float]:
    """Evaluate replicated parameters (their averages, where they are kept) on examples, each counted exactly once.

    The noise of an example depends on its index and the number of the draw alone, and means are taken in float64 in the
    order of the examples: neither batch size nor devices change more than the rounding of an example's own number.

    Gives, over examples, in ``data``'s unit: under the unit's name the mean over draws, a bound;
    what ``data.beside`` says of it;
    ``importance_weighted``, the draws put together (``objectives.importance_weighted``); the standard errors of both;
    ``train_eval_gap``: with the batch's own statistics minus with running averages, both on the first full batch (as
    many examples as the devices divide evenly, where the set is smaller). And of max |x − f⁻¹(f(x))| over an example
    the median, the 99.9th percentile and the worst (first draw).
    """
    local_devices, devices = jax.local_device_count(), jax.device_count()
    batch_size = min(batch_size, math.ceil(len(examples) / devices) * devices)
    variables = train_state.evaluated
    keys = [jax.random.fold_in(jax.random.key(NOISE_SEED), draw) for draw in range(draws)]
    nats, errors = [], []

    def placed(indices):  # of a global batch, this process's rows, on its devices
        mine = indices[pod.rows(len(indices))]
        return shard({**batch_of(examples, mine), "index": mine}, local_devices)

    def together(rows):  # of all batches and processes, in the order of the examples
        rows = pod.gather(np.array(rows, np.float32))  # (processes, batches, ..., devices, examples a device)
        rows = np.moveaxis(rows.reshape(*rows.shape[:-2], -1), 0, -2)
        return np.array(rows.reshape(*rows.shape[:-2], -1), np.float64)  # (batches, ..., batch)

    for start in progress(range(0, len(examples), batch_size)):
        batch = placed(np.arange(start, start + batch_size) % len(examples))  # the last is filled up; dropped below
        nats.append([evaluators.nats(*variables, key, batch) for key in keys])
        errors.append(evaluators.round_trip(*variables, keys[0], batch))
    nats = np.moveaxis(together(nats), 1, 0).reshape(draws, -1)[:, : len(examples)]
    errors = together(errors).reshape(-1)[: len(examples)]

    number = min(batch_size, len(examples)) // devices * devices
    gap = math.nan
    if number >= 2 * devices:
        with_batch = together(evaluators.train_mode(*variables, keys[0], placed(np.arange(number))))
        gap = float(np.mean(with_batch) - np.mean(nats[0, :number])) / data.nats_per_unit
    mean, weighted = nats.mean(axis=0) / data.nats_per_unit, importance_weighted(nats) / data.nats_per_unit
    return {
        data.unit: float(np.mean(mean)),
        **data.beside(float(np.mean(mean))),
        "standard_error": _standard_error(mean),
        "importance_weighted": float(np.mean(weighted)),
        "importance_weighted_standard_error": _standard_error(weighted),
        "draws": draws,
        "round_trip_error_median": float(np.median(errors)),
        "round_trip_error_99.9": float(np.percentile(errors, 99.9)),
        "round_trip_error": float(np.max(errors)),
        "train_eval_gap": gap,
        "examples": len(errors),
    }


def _standard_error(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def check_devices(batch_size: int) -> None:
    devices = jax.device_count()
    if batch_size < 1 or batch_size % devices:
        raise UserError(f"--batch-size {batch_size} is not a positive multiple of the {devices} devices")

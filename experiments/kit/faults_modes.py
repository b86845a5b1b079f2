"""Faults of training mode, context, batches, init_inverse and state: right in the one call that is usually tried."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp

from experiments.kit.faults_parts import COUPLING, Altered, Mutant, Told, times
from nvpjax.bijector import Bijector, StatelessBijector, zero_log_det
from nvpjax.bijectors import ActNorm, BatchNorm, Scale

# ---------------------------------------------------------------------------------------------------------------------
# Training mode
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StaleStatistics(Bijector):
    """Batch normalisation that gives back the state it was given: inverse undoes the batch before."""

    norm: BatchNorm = BatchNorm()

    def init(self, key, x, context=None):
        return self.norm.init(key, x, context)

    def forward(self, params, state, x, context=None, *, train=False):
        y, log_det, _ = self.norm.forward(params, state, x, context, train=train)
        return y, log_det, state

    def inverse(self, params, state, y, context=None, *, train=False):
        return self.norm.inverse(params, state, y, context, train=train)


@dataclass(frozen=True)
class ForgottenAverages(Bijector):
    """Batch normalisation whose running averages are never written back, only the batch's own moments."""

    norm: BatchNorm = BatchNorm()

    def init(self, key, x, context=None):
        return self.norm.init(key, x, context)

    def forward(self, params, state, x, context=None, *, train=False):
        y, log_det, after = self.norm.forward(params, state, x, context, train=train)
        return y, log_det, {**after, "mean": state["mean"], "variance": state["variance"]}

    def inverse(self, params, state, y, context=None, *, train=False):
        return self.norm.inverse(params, state, y, context, train=train)


@dataclass(frozen=True)
class RunningInInverse(Bijector):
    """Batch normalisation whose inverse in training mode undoes the running averages, not the batch."""

    norm: BatchNorm = BatchNorm()

    def init(self, key, x, context=None):
        return self.norm.init(key, x, context)

    def forward(self, params, state, x, context=None, *, train=False):
        return self.norm.forward(params, state, x, context, train=train)

    def inverse(self, params, state, y, context=None, *, train=False):
        return self.norm.inverse(params, state, y, context)


@dataclass(frozen=True)
class StepsCounted(Bijector):
    """Shifts by a count of steps, a state of whole numbers: in training mode inverse takes the next step's."""

    def init(self, key, x, context=None):
        return (), {"steps": jnp.int32(1)}

    def forward(self, params, state, x, context=None, *, train=False):
        after = {"steps": state["steps"] + 1} if train else state
        return x + state["steps"].astype(x.dtype), zero_log_det(x), after

    def inverse(self, params, state, y, context=None, *, train=False):
        return y - state["steps"].astype(y.dtype), zero_log_det(y)


@dataclass(frozen=True)
class StateLostInTraining(Bijector):
    """Keeps a count in evaluation, and gives back no state from training."""

    def init(self, key, x, context=None):
        return (), {"steps": jnp.int32(0)}

    def forward(self, params, state, x, context=None, *, train=False):
        return x, zero_log_det(x), () if train else state

    def inverse(self, params, state, y, context=None, *, train=False):
        return y, zero_log_det(y)


TRAINING = (
    Mutant("stale batch statistics: forward returns the state it was given", "training mode", StaleStatistics()),
    Mutant("running averages never written back", "training mode", ForgottenAverages()),
    Mutant("running averages undone in training mode", "training mode", RunningInInverse()),
    Mutant(
        "log-det wrong with train=True only, without a state",
        "training mode",
        Altered(COUPLING, times(0.9), times(0.9), in_training=True),
        slipped=True,
    ),
    Mutant(
        "another map with train=True, without a state",
        "training mode",
        Altered(COUPLING, lambda x, y, d: (y * 2, d + y.shape[1] * math.log(2)), in_training=True),
    ),
    Mutant(
        "inverse(train=True) that drops the context",
        "training mode",
        Told(inverse_in_training_sees=jnp.zeros_like),
        context=True,
        slipped=True,
    ),
    Mutant(
        "a state of whole numbers alone whose training mode does not invert",
        "training mode",
        StepsCounted(),
        slipped=True,
    ),
    Mutant(
        "training mode that drops the context in both directions",
        "training mode",
        Told(forward_in_training_sees=jnp.zeros_like, inverse_in_training_sees=jnp.zeros_like),
        context=True,
    ),
    Mutant("no state given back from training", "training mode", StateLostInTraining()),
)


# ---------------------------------------------------------------------------------------------------------------------
# Context
# ---------------------------------------------------------------------------------------------------------------------


def _of_the_first(context):
    return context[:1]


CONTEXTS = (
    Mutant("inverse that drops the context", "round trip", Told(inverse_sees=jnp.zeros_like), context=True),
    Mutant(
        "log-det for no context",
        "log-det against the Jacobian",
        Told(log_det_sees=jnp.zeros_like, log_det_method_sees=jnp.zeros_like),
        context=True,
    ),
    Mutant(
        "log_det() that drops the context", "log-det by itself", Told(log_det_method_sees=jnp.zeros_like), context=True
    ),
    Mutant(
        "the first row's context for all rows",
        "order of the batch",
        Told(*[_of_the_first] * 6),
        context=True,
    ),
)


# ---------------------------------------------------------------------------------------------------------------------
# Rows and batches
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BatchInEvaluation(Bijector):
    """Shifts by the mean of the batch at hand, in evaluation mode too."""

    def init(self, key, x, context=None):
        return (), ()

    def forward(self, params, state, x, context=None, *, train=False):
        return x - jnp.mean(x, axis=0), jnp.zeros(len(x), jnp.promote_types(x.dtype, jnp.float32)), state

    def inverse(self, params, state, y, context=None, *, train=False):
        return y, jnp.zeros(len(y), jnp.promote_types(y.dtype, jnp.float32))


def _summed_over_batch(x, y, log_det):
    return y, jnp.full_like(log_det, jnp.sum(log_det))


def _by_position(x, y, log_det):
    return y + jnp.arange(len(y), dtype=y.dtype)[:, None], log_det


def _by_position_back(y, x, log_det):
    return x - jnp.arange(len(y), dtype=y.dtype)[:, None], log_det


def _wrong_from(rows):
    return lambda x, y, log_det: (y, log_det + 0.1 * (len(x) >= rows))


def _in_whole_thousands(x, y, log_det):
    """Computed in pieces of 1,000 rows, the rest of a large batch left as it was."""
    done = len(x) // 1000 * 1000 or len(x)
    return jnp.concatenate([y[:done], x[done:]]), log_det


BATCHES = (
    Mutant("log-det summed over the batch", "batch of one", Altered(COUPLING, _summed_over_batch, _summed_over_batch)),
    Mutant("the batch's mean in evaluation mode", "batch of one", BatchInEvaluation()),
    Mutant(
        "one row taken for an event without a batch",
        "batch of one",
        Altered(COUPLING, lambda x, y, d: (y[:, ::-1] if len(x) == 1 else y, d)),
    ),
    Mutant(
        "depends on the position in the batch", "order of the batch", Altered(COUPLING, _by_position, _by_position_back)
    ),
    Mutant("wrong from 65 rows on", "large batch", Altered(COUPLING, _wrong_from(65), _wrong_from(65)), slipped=True),
    Mutant(
        "inverse wrong from 129 rows on",
        "large batch",
        Altered(COUPLING, after_inverse=lambda y, x, d: (x + 0.01 * (len(y) >= 129), d)),
    ),
    Mutant("rows beyond whole thousands not computed", "large batch", Altered(COUPLING, _in_whole_thousands)),
)


# ---------------------------------------------------------------------------------------------------------------------
# init_inverse
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured(Bijector):
    """``ActNorm`` with an init_inverse of your choice: ``init_inverse(mean, log_deviation) -> params``."""

    made_from: Callable
    norm: ActNorm = ActNorm()

    def init(self, key, x, context=None):
        return self.norm.init(key, x, context)

    def init_inverse(self, key, y, context=None):
        params, _ = self.norm.init(key, y, context)
        return self.made_from(-params["shift"], -params["log_scale"]), ()

    def forward(self, params, state, x, context=None, *, train=False):
        return self.norm.forward(params, state, x, context)

    def inverse(self, params, state, y, context=None, *, train=False):
        return self.norm.inverse(params, state, y, context)


@dataclass(frozen=True)
class ScaledColumn(StatelessBijector):
    """Scales a vector and stands it up as a column; init_inverse, left as it is, makes a column of scales."""

    scale: Scale = Scale()

    def init_params(self, key, x, context=None):
        return self.scale.init_params(key, x, context)

    def forward_and_log_det(self, params, x, context):
        y, log_det = self.scale.forward_and_log_det(params, x, context)
        return y[..., None], log_det

    def inverse_and_log_det(self, params, y, context):
        return self.scale.inverse_and_log_det(params, y[..., 0], context)


@dataclass(frozen=True)
class NotFromLatents(StatelessBijector):
    """Cannot begin from the latent side."""

    def init_inverse(self, key, y, context=None):
        raise NotImplementedError("to be done")

    def forward_and_log_det(self, params, x, context):
        return 2 * x, jnp.full_like(zero_log_det(x), x.shape[1] * math.log(2))

    def inverse_and_log_det(self, params, y, context):
        return y / 2, jnp.full_like(zero_log_det(y), -y.shape[1] * math.log(2))


INIT_INVERSE = (
    Mutant(
        "init_inverse of the wrong side",
        "init_inverse",
        Measured(lambda mean, log_deviation: {"shift": -mean, "log_scale": -log_deviation}),
        slipped=True,
    ),
    Mutant(
        "init_inverse whose shift is not scaled",
        "init_inverse",
        Measured(lambda mean, log_deviation: {"shift": mean, "log_scale": log_deviation}),
    ),
    Mutant(
        "init_inverse that measures the mean alone",
        "init_inverse",
        Measured(lambda mean, log_deviation: {"shift": mean, "log_scale": jnp.zeros_like(mean)}),
    ),
    Mutant("init_inverse for an event of x's shape, where y has another", "init_inverse", ScaledColumn()),
    Mutant("init_inverse that is not there", "init_inverse", NotFromLatents()),
)


# ---------------------------------------------------------------------------------------------------------------------
# State
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StateMovesInEvaluation(Bijector):
    """Counts its calls in evaluation mode, in its state, and shifts by the count."""

    def init(self, key, x, context=None):
        return (), {"calls": jnp.zeros((), jnp.float32)}

    def forward(self, params, state, x, context=None, *, train=False):
        log_det = jnp.zeros(len(x), jnp.promote_types(x.dtype, jnp.float32))
        return x + state["calls"].astype(x.dtype), log_det, {"calls": state["calls"] + 1}

    def inverse(self, params, state, y, context=None, *, train=False):
        return y - state["calls"].astype(y.dtype), jnp.zeros(len(y), jnp.promote_types(y.dtype, jnp.float32))


@dataclass(frozen=True)
class StateAltered(Bijector):
    """Batch normalisation, and what becomes of the state that it gives back in evaluation: ``after(state, x)``."""

    after: Callable
    norm: BatchNorm = BatchNorm()

    def init(self, key, x, context=None):
        return self.norm.init(key, x, context)

    def forward(self, params, state, x, context=None, *, train=False):
        y, log_det, state = self.norm.forward(params, state, x, context, train=train)
        return y, log_det, state if train else self.after(state, x)

    def inverse(self, params, state, y, context=None, *, train=False):
        return self.norm.inverse(params, state, y, context, train=train)


STATES = (
    Mutant("state that moves in evaluation mode", "scan", StateMovesInEvaluation()),
    Mutant(
        "an array of the state lost in evaluation",
        "shapes",
        StateAltered(lambda state, x: {name: array for name, array in state.items() if name != "steps"}),
    ),
    Mutant(
        "state in x's dtype",
        "shapes",
        StateAltered(lambda state, x: {name: array.astype(x.dtype) for name, array in state.items()}),
    ),
)

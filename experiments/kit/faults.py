"""Bijectors with one fault each, and what each fault is: the kit must catch every one.

Each is a small correct bijector with one thing wrong, of the kinds that are found in real flows. ``MUTANTS`` is the
table; ``python -m experiments.kit.mutants`` runs the kit over it and writes which check caught which.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from nvpjax.bijector import Bijector, StatelessBijector, sum_over_event
from nvpjax.bijectors import (
    BatchNorm,
    ChannelMask,
    Coupling,
    Linear,
    PaperAffine,
    Reverse,
    Scale,
    Shift,
    Softplus,
    Tanh,
    Triangular,
)
from nvpjax.chain import Chain


@dataclass(frozen=True)
class Halves:
    """A conditioner for two entries: (t, r) as linear functions of the entry that passes."""

    def init(self, key, x, context=None, *, outputs):
        return {"weight": jax.random.normal(key, (x.shape[-1], outputs))}, ()

    def apply(self, params, state, x, context=None, *, outputs, train=False):
        return jnp.tanh(x @ params["weight"].astype(x.dtype)), state


COUPLING = Coupling(ChannelMask(), PaperAffine(), Halves())


@dataclass(frozen=True)
class Altered(Bijector):
    """A bijector whose results pass through functions of your choice: ``forward(x, y, log_det) -> (y, log_det)``."""

    bijector: Bijector
    after_forward: Callable = lambda x, y, log_det: (y, log_det)
    after_inverse: Callable = lambda y, x, log_det: (x, log_det)

    def init(self, key, x, context=None):
        return self.bijector.init(key, x, context)

    def forward(self, params, state, x, context=None, *, train=False):
        y, log_det, state = self.bijector.forward(params, state, x, context, train=train)
        return *self.after_forward(x, y, log_det), state

    def inverse(self, params, state, y, context=None, *, train=False):
        x, log_det = self.bijector.inverse(params, state, y, context, train=train)
        return self.after_inverse(y, x, log_det)


@dataclass(frozen=True)
class SwappedInverse:
    """An affine transform whose inverse takes the log-scale for the shift and the shift for the log-scale."""

    parameters_per_element = 2

    def init(self, key):
        return ()

    def forward(self, params, theta, x):
        t, s = jnp.split(theta, 2, axis=-1)
        return x * jnp.exp(s) + t, s

    def inverse(self, params, theta, y):
        s, t = jnp.split(theta, 2, axis=-1)
        return (y - t) * jnp.exp(-s), -s


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
class BatchInEvaluation(Bijector):
    """Shifts by the mean of the batch at hand, in evaluation mode too."""

    def init(self, key, x, context=None):
        return (), ()

    def forward(self, params, state, x, context=None, *, train=False):
        return x - jnp.mean(x, axis=0), jnp.zeros(len(x), jnp.promote_types(x.dtype, jnp.float32)), state

    def inverse(self, params, state, y, context=None, *, train=False):
        return y, jnp.zeros(len(y), jnp.promote_types(y.dtype, jnp.float32))


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
class WrongLogDetMethod(StatelessBijector):
    """A scale whose ``log_det`` method forgets a term that ``forward`` has."""

    scale: Scale = Scale()

    def init_params(self, key, x, context=None):
        return self.scale.init_params(key, x, context)

    def forward_and_log_det(self, params, x, context):
        return self.scale.forward_and_log_det(params, x, context)

    def inverse_and_log_det(self, params, y, context):
        return self.scale.inverse_and_log_det(params, y, context)

    def log_det(self, params, state, x, context=None):
        return jnp.full(len(x), params["log_scale"][0])


@dataclass(frozen=True)
class NoPositions(StatelessBijector):
    """A 1x1 convolution whose log-det counts one position of the image."""

    linear: Linear = Linear()

    def init_params(self, key, x, context=None):
        return self.linear.init_params(key, x, context)

    def forward_and_log_det(self, params, x, context):
        y, log_det = self.linear.forward_and_log_det(params, x, context)
        return y, log_det / (x.shape[1] * x.shape[2])

    def inverse_and_log_det(self, params, y, context):
        x, log_det = self.linear.inverse_and_log_det(params, y, context)
        return x, log_det / (y.shape[1] * y.shape[2])


@dataclass(frozen=True)
class WrongOrder(StatelessBijector):
    """A chain whose inverse runs in reading order."""

    first: StatelessBijector = Triangular()
    second: StatelessBijector = Triangular(lower=False)

    def init_params(self, key, x, context=None):
        return self.first.init_params(key, x, context), self.second.init_params(key, x, context)

    def forward_and_log_det(self, params, x, context):
        x, first = self.first.forward_and_log_det(params[0], x, context)
        y, second = self.second.forward_and_log_det(params[1], x, context)
        return y, first + second

    def inverse_and_log_det(self, params, y, context):
        y, first = self.first.inverse_and_log_det(params[0], y, context)
        x, second = self.second.inverse_and_log_det(params[1], y, context)
        return x, first + second


@dataclass(frozen=True)
class NaiveTanh(StatelessBijector):
    """log|∂ tanh/∂x| as log(1 − tanh² x), which is −inf where tanh has rounded to 1."""

    def forward_and_log_det(self, params, x, context):
        y = jnp.tanh(x)
        return y, sum_over_event(jnp.log1p(-jnp.square(y)))

    def inverse_and_log_det(self, params, y, context):
        return jnp.arctanh(y), -sum_over_event(jnp.log1p(-jnp.square(y)))


@dataclass(frozen=True)
class HiddenFloat32(StatelessBijector):
    """A shift that is computed in float32, whatever x is in."""

    def init_params(self, key, x, context=None):
        return {"shift": jnp.zeros(x.shape[1:])}

    def forward_and_log_det(self, params, x, context):
        y = jnp.exp(x.astype(jnp.float32)).astype(x.dtype) * 3 + params["shift"].astype(x.dtype)
        return y, sum_over_event(x + jnp.log(3.0).astype(x.dtype))

    def inverse_and_log_det(self, params, y, context):
        x = jnp.log((y - params["shift"].astype(y.dtype)) / 3)
        return x, -sum_over_event(x + jnp.log(3.0).astype(y.dtype))


@dataclass(frozen=True)
class BranchOnValue(StatelessBijector):
    """Chooses its shift by a Python ``if`` on the data."""

    def forward_and_log_det(self, params, x, context):
        return (x + 1 if x[0, 0] > 0 else x - 1), jnp.zeros(len(x))

    def inverse_and_log_det(self, params, y, context):
        return (y - 1 if y[0, 0] > 1 else y + 1), jnp.zeros(len(y))


@dataclass(frozen=True)
class StoppedGradient(StatelessBijector):
    """A scale that the gradient does not reach."""

    scale: Scale = Scale()

    def init_params(self, key, x, context=None):
        return self.scale.init_params(key, x, context)

    def forward_and_log_det(self, params, x, context):
        return self.scale.forward_and_log_det(jax.lax.stop_gradient(params), x, context)

    def inverse_and_log_det(self, params, y, context):
        return self.scale.inverse_and_log_det(params, y, context)


@dataclass(frozen=True)
class NormWithoutGradient(StatelessBijector):
    """Divides by 1 + ‖c‖ for a learned c that starts at zero, where √ has no gradient."""

    def init_params(self, key, x, context=None):
        return {"log_scale": jnp.zeros(())}

    def _log_scale(self, params, x):
        # ‖x − x‖ is zero everywhere, and its gradient NaN.
        zero = jnp.sqrt(jnp.sum(jnp.square(x - x), axis=1))
        return params["log_scale"].astype(x.dtype) + zero

    def forward_and_log_det(self, params, x, context):
        log_scale = self._log_scale(params, x)
        return x * jnp.exp(log_scale)[:, None], x.shape[1] * log_scale.astype(jnp.promote_types(x.dtype, jnp.float32))

    def inverse_and_log_det(self, params, y, context):
        log_scale = self._log_scale(params, y)
        return y * jnp.exp(-log_scale)[:, None], -y.shape[1] * log_scale.astype(jnp.promote_types(y.dtype, jnp.float32))


@dataclass(frozen=True, eq=False)
class NotAValue(StatelessBijector):
    """Equal only to itself."""

    amount: float = 1.0

    def forward_and_log_det(self, params, x, context):
        return Shift().forward_and_log_det({"shift": jnp.full(x.shape[1:], self.amount)}, x, context)

    def inverse_and_log_det(self, params, y, context):
        return Shift().inverse_and_log_det({"shift": jnp.full(y.shape[1:], self.amount)}, y, context)


@dataclass(unsafe_hash=True)
class NotFrozen(StatelessBijector):
    """Its fields can be set after it was hashed."""

    amount: float = 1.0

    def forward_and_log_det(self, params, x, context):
        return Shift().forward_and_log_det({"shift": jnp.full(x.shape[1:], self.amount)}, x, context)

    def inverse_and_log_det(self, params, y, context):
        return Shift().inverse_and_log_det({"shift": jnp.full(y.shape[1:], self.amount)}, y, context)


@dataclass(frozen=True)
class CoarseSearch(StatelessBijector):
    """The inverse by a bisection that stops after ten halvings."""

    def forward_and_log_det(self, params, x, context):
        return x + jnp.tanh(x), sum_over_event(jnp.log1p(1 - jnp.square(jnp.tanh(x))))

    def inverse_and_log_det(self, params, y, context):
        low, high = y - 1, y + 1
        for _ in range(10):
            middle = (low + high) / 2
            below = middle + jnp.tanh(middle) < y
            low, high = jnp.where(below, middle, low), jnp.where(below, high, middle)
        return low, -sum_over_event(jnp.log1p(1 - jnp.square(jnp.tanh(low))))


@dataclass(frozen=True)
class NotAutoregressive(StatelessBijector):
    """Each entry is shifted by a function of the other: no triangular Jacobian, though the log-det says so."""

    def forward_and_log_det(self, params, x, context):
        return x + 0.5 * jnp.sin(x[:, ::-1]), sum_over_event(jnp.zeros_like(x))

    def inverse_and_log_det(self, params, y, context):
        def solve(x, _):
            return y - 0.5 * jnp.sin(x[:, ::-1]), None

        x, _ = jax.lax.scan(solve, y, length=80)
        return x, sum_over_event(jnp.zeros_like(y))


class Mutant(NamedTuple):
    """A fault, in words and as a bijector; the example's event, and further arguments of ``examine_bijector``."""

    fault: str
    check: str
    """The check that is made for it; others may catch it too."""
    bijector: Bijector
    event: tuple[int, ...] = (2,)
    options: dict[str, Any] = {}


def _negated(x, y, log_det):
    return y, -log_det


def _summed_over_batch(x, y, log_det):
    return y, jnp.full_like(log_det, jnp.sum(log_det))


def _nan_at_zero(x, y, log_det):
    return jnp.where(x == 0, jnp.nan, y), log_det


def _infinite_far_out(x, y, log_det):
    return y, jnp.where(jnp.max(jnp.abs(x), axis=1) > 5e3, jnp.inf, log_det)


def _clipped(x, y, log_det):
    return jnp.clip(y, -1.5, 1.5), log_det


def _by_position(x, y, log_det):
    return y + jnp.arange(len(y), dtype=y.dtype)[:, None], log_det


def _by_position_back(y, x, log_det):
    return x - jnp.arange(len(y), dtype=y.dtype)[:, None], log_det


def _one_dropped(x, y, log_det):
    return y, log_det - 0.7  # one element's log-derivative


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "log-det with its sign flipped, in both directions",
        "log-det against the Jacobian",
        Altered(COUPLING, _negated, _negated),
    ),
    Mutant(
        "log-det of one element dropped",
        "log-det against the Jacobian",
        Altered(
            Scale(),
            lambda x, y, log_det: (y, log_det - jnp.log(jnp.abs(y[:, 0] / x[:, 0])).astype(log_det.dtype)),
            lambda y, x, log_det: (x, log_det + jnp.log(jnp.abs(y[:, 0] / x[:, 0])).astype(log_det.dtype)),
        ),
    ),
    Mutant("inverse with s and t swapped", "round trip", Coupling(ChannelMask(), SwappedInverse(), Halves())),
    Mutant("stale batch statistics: forward returns the state it was given", "training mode", StaleStatistics()),
    Mutant("running averages never written back", "training mode", ForgottenAverages()),
    Mutant("NaN at one input", "round trip", Altered(COUPLING, _nan_at_zero)),
    Mutant(
        "scale applied twice",
        "round trip",
        Altered(Triangular(), lambda x, y, log_det: (y * jnp.asarray(1.5, y.dtype), log_det)),
    ),
    Mutant("log-det summed over the batch", "batch of one", Altered(COUPLING, _summed_over_batch, _summed_over_batch)),
    Mutant(
        "log-det averaged over the event, not summed",
        "log-det against the Jacobian",
        Altered(COUPLING, lambda x, y, log_det: (y, log_det / 2), lambda y, x, log_det: (x, log_det / 2)),
    ),
    Mutant(
        "inverse's log-det with forward's sign", "log-det of the inverse", Altered(COUPLING, after_inverse=_negated)
    ),
    Mutant("log_det() without a term that forward has", "log-det by itself", WrongLogDetMethod()),
    Mutant(
        "log-det off by a constant, in both directions",
        "density",
        Altered(Tanh(), _one_dropped, lambda y, x, d: (x, d + 0.7)),
    ),
    Mutant(
        "1x1 convolution whose log-det counts one position", "log-det against the Jacobian", NoPositions(), (2, 2, 3)
    ),
    Mutant("chain inverted in reading order", "round trip", WrongOrder()),
    Mutant("log(1 − tanh²): infinite far out", "far ends", NaiveTanh()),
    Mutant("infinite log-det beyond 5,000", "far ends", Altered(Softplus(), _infinite_far_out)),
    Mutant("values clipped in silence", "round trip", Altered(Shift(), _clipped)),
    Mutant("the batch's mean in evaluation mode", "batch of one", BatchInEvaluation()),
    Mutant(
        "depends on the position in the batch", "order of the batch", Altered(COUPLING, _by_position, _by_position_back)
    ),
    Mutant("state that moves in evaluation mode", "scan", StateMovesInEvaluation()),
    Mutant(
        "statistics of one device, not of the global batch", "devices", BatchNorm(), options={"parallel": BatchNorm()}
    ),
    Mutant("computed in float32 where x is float64", "round trip", HiddenFloat32()),
    Mutant(
        "y in float32 where x is bfloat16",
        "shapes",
        Altered(Shift(), lambda x, y, log_det: (y.astype(jnp.promote_types(y.dtype, jnp.float32)), log_det)),
    ),
    Mutant(
        "log-det of shape (batch, 1)",
        "shapes",
        Altered(COUPLING, lambda x, y, d: (y, d[:, None]), lambda y, x, d: (x, d[:, None])),
    ),
    Mutant(
        "log-det narrower than float32",
        "shapes",
        Altered(COUPLING, lambda x, y, d: (y, d.astype(x.dtype)), lambda y, x, d: (x, d.astype(y.dtype))),
    ),
    Mutant("a Python if on the data", "jit", BranchOnValue()),
    Mutant("a gradient that is stopped", "grad", StoppedGradient()),
    Mutant("NaN gradients where values are right", "finite gradients", NormWithoutGradient()),
    Mutant("equal only to itself", "value", NotAValue()),
    Mutant("fields that can be set", "value", NotFrozen()),
    Mutant("numerical inverse that stops too early", "round trip", CoarseSearch()),
    Mutant("not autoregressive, with the log-det of one that is", "log-det against the Jacobian", NotAutoregressive()),
    Mutant(
        "inverse that is the identity",
        "round trip of latents",
        Altered(Chain((COUPLING, Reverse())), after_inverse=lambda y, x, d: (y, d)),
    ),
)

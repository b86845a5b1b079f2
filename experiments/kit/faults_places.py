"""Faults that are somewhere else: at a change of form, at parameters far away, far out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from experiments.kit.faults_parts import COUPLING, Altered, Entrywise, Learned, Mutant
from nvpjax.bijector import Bijector, StatelessBijector, sum_over_event
from nvpjax.bijectors import (
    ChannelMask,
    Coupling,
    PaperAffine,
    Softplus,
    Tanh,
)

# ---------------------------------------------------------------------------------------------------------------------
# Changes of form
# ---------------------------------------------------------------------------------------------------------------------


def _bent(x):
    """x + x·|x|/2 up to 1, and on along the tangent, of slope 2."""
    size = jnp.minimum(jnp.abs(x), 1)
    return jnp.sign(x) * (size + size**2 / 2 + 2 * (jnp.abs(x) - size))


def _unbent(y):
    size = jnp.minimum(jnp.abs(y), 1.5)
    return jnp.sign(y) * (jnp.sqrt(1 + 2 * size) - 1 + (jnp.abs(y) - size) / 2)


def _leaky(x, slope_below, threshold):
    return jnp.where(x < threshold, slope_below * x, x)


@dataclass(frozen=True)
class Stepped:
    """A conditioner that jumps where the entry that passes crosses a threshold."""

    threshold: float = 0.0

    def init(self, key, x, context=None, *, outputs):
        return {"size": jnp.ones(())}, ()

    def apply(self, params, state, x, context=None, *, outputs, train=False):
        return jnp.where(x[:, :1] > self.threshold, params["size"].astype(x.dtype), 0) * jnp.ones(
            outputs, x.dtype
        ), state


@dataclass(frozen=True)
class TwoThresholds(Bijector):
    """A coupling by a network that jumps, in inverse elsewhere than in forward."""

    there: Coupling = Coupling(ChannelMask(), PaperAffine(), Stepped())
    back: Coupling = Coupling(ChannelMask(), PaperAffine(), Stepped(0.002))

    def init(self, key, x, context=None):
        return self.there.init(key, x, context)

    def forward(self, params, state, x, context=None, *, train=False):
        return self.there.forward(params, state, x, context)

    def inverse(self, params, state, y, context=None, *, train=False):
        return self.back.inverse(params, state, y, context)


def _moved_from(amount):
    """x, and from 1 on x + amount: a gap where that is positive, an overlap where it is negative."""
    return Entrywise(
        lambda x: jnp.where(x > 1, x + amount, x),
        lambda y: jnp.where(y > 1 + amount / 2, y - amount, y),
        jnp.zeros_like,
    )


def _nan_at_zero(x, y, log_det):
    return jnp.where(x == 0, jnp.nan, y), log_det


FORMS = (
    Mutant(
        "a tail's slope taken from 1.01 in place of 1",
        "changes of form",
        Entrywise(_bent, _unbent, lambda x: jnp.log1p(jnp.where(jnp.abs(x) > 1.01, 1, jnp.abs(x)))),
        slipped=True,
    ),
    Mutant(
        "a tail that begins elsewhere in inverse, beyond the example",
        "changes of form",
        Entrywise(
            lambda x: jnp.where(x > 4.5, 3 * x - 9, x),
            lambda y: jnp.where(y > 4.6, (y + 9) / 3, y),
            lambda x: jnp.where(x > 4.5, jnp.asarray(math.log(3), x.dtype), 0),
        ),
    ),
    Mutant(
        "inverse that changes its form at another place",
        "changes of form",
        Entrywise(
            lambda x: _leaky(x, 0.5, 0),
            lambda y: _leaky(y, 2, 0.01),
            lambda x: jnp.log(jnp.where(x < 0, jnp.asarray(0.5, x.dtype), 1)),
        ),
    ),
    Mutant(
        "log-det that changes its form at another place",
        "changes of form",
        Entrywise(
            lambda x: _leaky(x, 0.5, 0),
            lambda y: _leaky(y, 2, 0),
            lambda x: jnp.log(jnp.where(x < 0.005, jnp.asarray(0.5, x.dtype), 1)),
        ),
    ),
    Mutant("a gap: latents that no x has", "changes of form", _moved_from(0.001)),
    Mutant("an overlap: latents that two x have", "changes of form", _moved_from(-0.001)),
    Mutant("a network that jumps elsewhere in inverse", "changes of form", TwoThresholds()),
    Mutant("NaN at one input", "round trip", Altered(COUPLING, _nan_at_zero)),
)


# ---------------------------------------------------------------------------------------------------------------------
# Parameters far away
# ---------------------------------------------------------------------------------------------------------------------


def _bisected(increasing, y, low, high):
    def halve(bracket, _):
        low, high = bracket
        middle = (low + high) / 2
        below = increasing(middle) < y
        return (jnp.where(below, middle, low), jnp.where(below, high, middle)), None

    (low, high), _ = jax.lax.scan(halve, (low, high), length=60)
    return (low + high) / 2


def _unfolded(a, y):
    """x + a·tanh x = y, as if it increased for every a."""
    return _bisected(lambda x: x + a * jnp.tanh(x), y, y - jnp.abs(a), y + jnp.abs(a))


FAR_PARAMETERS = (
    Mutant(
        "log a for log|a|",
        "far parameters",
        Learned(1.0, lambda a, x: a * x, lambda a, y: y / a, lambda a, x: jnp.log(a)),
        slipped=True,
    ),
    Mutant(
        "a log-scale clipped in forward only",
        "far parameters",
        Learned(
            0.0,
            lambda a, x: x * jnp.exp(jnp.clip(a, -5, 5)),
            lambda a, y: y * jnp.exp(-a),
            lambda a, x: jnp.clip(a, -5, 5),
            lambda a, x: a,
        ),
        slipped=True,
    ),
    Mutant(
        "the root of a learned number that may be negative",
        "far parameters",
        Learned(1.0, lambda a, x: jnp.sqrt(a) * x, lambda a, y: y / jnp.sqrt(a), lambda a, x: 0.5 * jnp.log(a)),
    ),
    Mutant(
        "inverse that divides by |a|",
        "far parameters",
        Learned(1.0, lambda a, x: a * x, lambda a, y: y / jnp.abs(a), lambda a, x: jnp.log(jnp.abs(a))),
    ),
    Mutant(
        "a small scale held above 0.1 in the log-det",
        "far parameters",
        Learned(1.0, lambda a, x: a * x, lambda a, y: y / a, lambda a, x: jnp.log(jnp.maximum(jnp.abs(a), 0.1))),
    ),
    Mutant(
        "a planar flow without its constraint: it folds",
        "far parameters",
        Learned(
            0.0,
            lambda a, x: x + a * jnp.tanh(x),
            _unfolded,
            lambda a, x: jnp.log(jnp.abs(1 + a * (1 - jnp.tanh(x) ** 2))),
        ),
    ),
)


# ---------------------------------------------------------------------------------------------------------------------
# Far out
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NaiveTanh(StatelessBijector):
    """log|∂ tanh/∂x| as log(1 − tanh² x), which is −inf where tanh has rounded to 1."""

    def forward_and_log_det(self, params, x, context):
        y = jnp.tanh(x)
        return y, sum_over_event(jnp.log1p(-jnp.square(y)))

    def inverse_and_log_det(self, params, y, context):
        return jnp.arctanh(y), -sum_over_event(jnp.log1p(-jnp.square(y)))


def _infinite_far_out(x, y, log_det):
    return y, jnp.where(jnp.max(jnp.abs(x), axis=1) > 5e3, jnp.inf, log_det)


def _between_8(y):
    return _bisected(lambda x: x + jnp.tanh(x), y, jnp.full_like(y, -8), jnp.full_like(y, 8))


def _log_cosh(x):
    return jnp.logaddexp(x, -x) - math.log(2)


FAR_OUT = (
    Mutant("log(1 − tanh²): infinite far out", "far ends", NaiveTanh()),
    Mutant("infinite log-det beyond 5,000", "far ends", Altered(Softplus(), _infinite_far_out)),
    Mutant(
        "values clipped beyond 8",
        "far ends",
        Entrywise(lambda x: jnp.clip(x, -8, 8), lambda y: y, jnp.zeros_like),
        slipped=True,
    ),
    Mutant(
        "an inverse that brackets [−8, 8] only",
        "far ends",
        Entrywise(lambda x: x + jnp.tanh(x), _between_8, lambda x: jnp.log1p(1 - jnp.tanh(x) ** 2)),
        slipped=True,
    ),
    Mutant(
        "log-det clipped beyond 8",
        "far ends",
        Entrywise(jnp.sinh, jnp.arcsinh, lambda x: _log_cosh(jnp.clip(x, -8, 8))),
    ),
    Mutant(
        "inverse clipped a millionth inside its domain",
        "far ends",
        Altered(Tanh(), after_inverse=lambda y, x, d: (jnp.clip(x, -7.25, 7.25), d)),
    ),
    Mutant(
        "data clipped a hundred-thousandth inside the domain",
        "far ends",
        Entrywise(lambda x: jnp.log(jnp.clip(x, 1e-5)), jnp.exp, lambda x: -jnp.log(jnp.clip(x, 1e-5))),
        low=0.5,
        high=3.0,
        options={"domain": (0.0, math.inf)},
    ),
    Mutant(
        "log(1 + exp x): infinite from 89 on in float32",
        "far ends",
        Entrywise(lambda x: jnp.log(1 + jnp.exp(x)), lambda y: y + jnp.log(-jnp.expm1(-y)), jax.nn.log_sigmoid),
    ),
)

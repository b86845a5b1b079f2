"""Log-dets and inverses that are wrong wherever one looks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from experiments.kit.faults_parts import COUPLING, Altered, Entrywise, Halves, Mutant, times
from nvpjax.bijector import StatelessBijector, sum_over_event
from nvpjax.bijectors import (
    ChannelMask,
    Coupling,
    Linear,
    LULinear,
    Permutation,
    Reverse,
    Scale,
    Shift,
    Tanh,
    Triangular,
)
from nvpjax.chain import Chain

# ---------------------------------------------------------------------------------------------------------------------
# Log-dets
# ---------------------------------------------------------------------------------------------------------------------


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
class NotAutoregressive(StatelessBijector):
    """Each entry is shifted by a function of the other: no triangular Jacobian, though the log-det says so."""

    def forward_and_log_det(self, params, x, context):
        return x + 0.5 * jnp.sin(x[:, ::-1]), sum_over_event(jnp.zeros_like(x))

    def inverse_and_log_det(self, params, y, context):
        def solve(x, _):
            return y - 0.5 * jnp.sin(x[:, ::-1]), None

        x, _ = jax.lax.scan(solve, y, length=80)
        return x, sum_over_event(jnp.zeros_like(y))


def _negated(x, y, log_det):
    return y, -log_det


def _one_dropped(x, y, log_det):
    return y, log_det - 0.7  # one element's log-derivative


LOG_DETS = (
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
    Mutant(
        "log-det averaged over the event, not summed",
        "log-det against the Jacobian",
        Altered(COUPLING, times(0.5), times(0.5)),
    ),
    Mutant(
        "log-det that counts the half that passes as well",
        "log-det against the Jacobian",
        Altered(COUPLING, times(2.0), times(2.0)),
    ),
    Mutant(
        "log-det to the base of 2",
        "log-det against the Jacobian",
        Altered(COUPLING, times(1 / math.log(2)), times(1 / math.log(2))),
    ),
    Mutant(
        "log-det off by a constant, in both directions",
        "density",
        Altered(Tanh(), _one_dropped, lambda y, x, d: (x, d + 0.7)),
    ),
    Mutant(
        "1x1 convolution whose log-det counts one position", "log-det against the Jacobian", NoPositions(), (2, 2, 3)
    ),
    Mutant(
        "a matrix taken to keep volume",
        "log-det against the Jacobian",
        Altered(LULinear(), times(0.0), times(0.0)),
        (3,),
    ),
    Mutant(
        "a chain's log-det from its last part alone",
        "log-det against the Jacobian",
        Altered(
            Chain((Scale(), Tanh())),
            lambda x, y, d: (y, Tanh().log_det((), (), jnp.arctanh(y))),
            lambda y, x, d: (x, -Tanh().log_det((), (), jnp.arctanh(y))),
        ),
        low=-1.0,
        high=1.0,
        options={"dtypes": ("float32", "float64")},
    ),
    Mutant("not autoregressive, with the log-det of one that is", "log-det against the Jacobian", NotAutoregressive()),
    Mutant("log_det() without a term that forward has", "log-det by itself", WrongLogDetMethod()),
)


# ---------------------------------------------------------------------------------------------------------------------
# Inverses
# ---------------------------------------------------------------------------------------------------------------------


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


def _cubic_by_newton(y):
    """x + x³ = y by three steps from y: enough close to 0."""
    x = y
    for _ in range(3):
        x = x - (x + x**3 - y) / (1 + 3 * x**2)
    return x


def _clipped(x, y, log_det):
    return jnp.clip(y, -1.5, 1.5), log_det


INVERSES = (
    Mutant("inverse with s and t swapped", "round trip", Coupling(ChannelMask(), SwappedInverse(), Halves())),
    Mutant(
        "scale applied twice",
        "round trip",
        Altered(Triangular(), lambda x, y, log_det: (y * jnp.asarray(1.5, y.dtype), log_det)),
    ),
    Mutant("chain inverted in reading order", "round trip", WrongOrder()),
    Mutant("values clipped in silence", "round trip", Altered(Shift(), _clipped)),
    Mutant("numerical inverse that stops too early", "round trip", CoarseSearch()),
    Mutant(
        "three Newton steps, whatever they reach",
        "round trip",
        Entrywise(lambda x: x + x**3, _cubic_by_newton, lambda x: jnp.log1p(3 * x**2)),
    ),
    Mutant(
        "permutation inverted by itself",
        "round trip",
        Altered(Permutation((1, 2, 0)), after_inverse=lambda y, x, d: (y[:, (1, 2, 0)], d)),
        (3,),
    ),
    Mutant(
        "inverse computed in float32",
        "round trip",
        Altered(Tanh(), after_inverse=lambda y, x, d: (x.astype(jnp.float32).astype(y.dtype), d)),
    ),
    Mutant(
        "inverse that is the identity",
        "round trip of latents",
        Altered(Chain((COUPLING, Reverse())), after_inverse=lambda y, x, d: (y, d)),
    ),
    Mutant(
        "inverse's log-det with forward's sign", "log-det of the inverse", Altered(COUPLING, after_inverse=_negated)
    ),
    Mutant(
        "inverse's log-det taken at y",
        "log-det of the inverse",
        Altered(Tanh(), after_inverse=lambda y, x, d: (x, -Tanh().log_det((), (), y))),
    ),
)

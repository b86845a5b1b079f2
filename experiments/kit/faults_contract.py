"""Faults of dtypes, values, purity, gradients and transformations: what a bijector is beside its numbers."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from experiments.kit.faults_parts import COUPLING, Altered, Entrywise, Mutant
from nvpjax.bijector import StatelessBijector, log_det_dtype, sum_over_event, zero_log_det
from nvpjax.bijectors import ActNorm, BatchNorm, Scale, Shift, Tanh

# ---------------------------------------------------------------------------------------------------------------------
# Dtypes
# ---------------------------------------------------------------------------------------------------------------------


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
class SummedIn(StatelessBijector):
    """A scale whose log-det is summed in x's dtype and then widened."""

    scale: Scale = Scale()

    def init_params(self, key, x, context=None):
        return self.scale.init_params(key, x, context)

    def _log_det(self, params, x):
        each = jnp.broadcast_to(params["log_scale"].astype(x.dtype), x.shape)
        return jnp.sum(each, axis=1).astype(log_det_dtype(x))

    def forward_and_log_det(self, params, x, context):
        return self.scale.forward_and_log_det(params, x, context)[0], self._log_det(params, x)

    def inverse_and_log_det(self, params, y, context):
        return self.scale.inverse_and_log_det(params, y, context)[0], -self._log_det(params, y)


def _added_in(bijector):
    """The log-dets of two layers, each as it should be, added in x's dtype and then widened."""

    def added(x, y, log_det):
        halves = (0.5 * log_det).astype(x.dtype)
        return y, (halves + halves).astype(log_det.dtype)

    return Altered(bijector, added, added)


def _column_by_column(log_slopes):
    return sum(log_slopes[:, column] for column in range(1, log_slopes.shape[1])) + log_slopes[:, 0]


DTYPES = (
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
    Mutant("a bfloat16 log-det summed in bfloat16 and then widened", "sums of the log-det", SummedIn(), slipped=True),
    Mutant(
        "a log-det whose columns are added in bfloat16, one by one",
        "sums of the log-det",
        Altered(
            Tanh(),
            lambda x, y, d: (y, _column_by_column(Tanh().log_derivative(x).astype(x.dtype)).astype(d.dtype)),
            lambda y, x, d: (x, -_column_by_column(Tanh().log_derivative(x).astype(x.dtype)).astype(d.dtype)),
        ),
    ),
    Mutant("log-dets of two layers added in bfloat16", "sums of the log-det", _added_in(COUPLING)),
)


# ---------------------------------------------------------------------------------------------------------------------
# Values and purity
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BranchOnValue(StatelessBijector):
    """Chooses its shift by a Python ``if`` on the data."""

    def forward_and_log_det(self, params, x, context):
        return (x + 1 if x[0, 0] > 0 else x - 1), jnp.zeros(len(x))

    def inverse_and_log_det(self, params, y, context):
        return (y - 1 if y[0, 0] > 1 else y + 1), jnp.zeros(len(y))


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


@dataclass(frozen=True, repr=False)
class Nameless(StatelessBijector):
    """Prints itself without its name."""

    def __repr__(self):
        return "a map"

    def forward_and_log_det(self, params, x, context):
        return x, zero_log_det(x)

    def inverse_and_log_det(self, params, y, context):
        return y, zero_log_det(y)


_calls = itertools.count()


@dataclass(frozen=True)
class CountsItsCalls(StatelessBijector):
    """Shifts by how often it was traced."""

    def forward_and_log_det(self, params, x, context):
        return x + next(_calls), zero_log_det(x)

    def inverse_and_log_det(self, params, y, context):
        return y - next(_calls), zero_log_det(y)


@dataclass(frozen=True)
class KeyUnused(StatelessBijector):
    """Draws its parameters without the key that it is given."""

    scale: Scale = Scale()

    def init_params(self, key, x, context=None):
        return {"log_scale": jnp.asarray(np.random.default_rng().normal(size=x.shape[1:]), jnp.float32)}

    def forward_and_log_det(self, params, x, context):
        return self.scale.forward_and_log_det(params, x, context)

    def inverse_and_log_det(self, params, y, context):
        return self.scale.inverse_and_log_det(params, y, context)


VALUES = (
    Mutant("equal only to itself", "value", NotAValue()),
    Mutant("fields that can be set", "value", NotFrozen()),
    Mutant("no name in its repr", "value", Nameless()),
    Mutant("a Python if on the data", "jit", BranchOnValue()),
    Mutant("depends on how often it was called", "pure", CountsItsCalls()),
    Mutant("parameters drawn without the key", "pure", KeyUnused()),
)


# ---------------------------------------------------------------------------------------------------------------------
# Gradients and transformations
# ---------------------------------------------------------------------------------------------------------------------


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


@jax.custom_vjp
def _doubled(x):
    return 2 * x


_doubled.defvjp(lambda x: (2 * x, None), lambda _, cotangent: (cotangent,))


@jax.custom_batching.custom_vmap
def _tripled(x):
    return 3 * x


@_tripled.def_vmap
def _(axis_size, in_batched, x):
    return 3 * x + 1, in_batched[0]


TRANSFORMED = (
    Mutant("a gradient that is stopped", "grad", StoppedGradient()),
    Mutant(
        "inverse's gradient stopped",
        "grad",
        Altered(Tanh(), after_inverse=lambda y, x, d: (jax.lax.stop_gradient(x), d)),
    ),
    Mutant(
        "a gradient written by hand that lacks a factor",
        "grad",
        Entrywise(_doubled, lambda y: y / 2, lambda x: jnp.full_like(x, math.log(2))),
    ),
    Mutant("NaN gradients where values are right", "finite gradients", NormWithoutGradient()),
    Mutant(
        "a rule for vmap that gives something else",
        "vmap",
        Entrywise(_tripled, lambda y: y / 3, lambda x: jnp.full_like(x, math.log(3))),
    ),
    Mutant(
        "statistics of one device, not of the global batch", "devices", BatchNorm(), options={"parallel": BatchNorm()}
    ),
    Mutant("init that measures one device's share", "devices", ActNorm(), options={"parallel": ActNorm()}),
)

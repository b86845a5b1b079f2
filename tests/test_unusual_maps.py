"""The kit raises no false alarm: maps that are unusual, and right."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nvpjax import Affine, Bijector, ChannelMask, Coupling, PaperAffine
from nvpjax.bijector import StatelessBijector, sum_over_event, zero_log_det
from nvpjax.nets import MLP


@dataclass(frozen=True)
class CumulativeSum(StatelessBijector):
    def forward_and_log_det(self, params, x, context):
        return jnp.cumsum(x, axis=1), zero_log_det(x)

    def inverse_and_log_det(self, params, y, context):
        return jnp.diff(y, axis=1, prepend=0), zero_log_det(y)


@dataclass(frozen=True)
class Rotation(StatelessBijector):
    angle: float = 0.7

    def _turned(self, x, angle):
        matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        return x @ jnp.asarray(matrix.T, x.dtype), zero_log_det(x)

    def forward_and_log_det(self, params, x, context):
        return self._turned(x, self.angle)

    def inverse_and_log_det(self, params, y, context):
        return self._turned(y, -self.angle)


@dataclass(frozen=True)
class Entrywise(StatelessBijector):
    """A fixed map of each entry."""

    function: Callable
    back: Callable
    log_slope: Callable

    def forward_and_log_det(self, params, x, context):
        return self.function(x), sum_over_event(self.log_slope(x))

    def inverse_and_log_det(self, params, y, context):
        x = self.back(y)
        return x, -sum_over_event(self.log_slope(x))


def yeo_johnson(power: float) -> Entrywise:
    """Yeo, Johnson, 2000: ((1 + x)^λ − 1)/λ above 0, with 2 − λ below, mirrored."""

    def exponent(a):
        return jnp.where(a < 0, jnp.asarray(2 - power, a.dtype), jnp.asarray(power, a.dtype))

    return Entrywise(
        lambda x: jnp.sign(x) * jnp.expm1(exponent(x) * jnp.log1p(jnp.abs(x))) / exponent(x),
        lambda y: jnp.sign(y) * jnp.expm1(jnp.log1p(exponent(y) * jnp.abs(y)) / exponent(y)),
        lambda x: (exponent(x) - 1) * jnp.log1p(jnp.abs(x)),
    )


def sinh_arcsinh(skew: float, tail: float) -> Entrywise:
    """Jones, Pewsey, 2009: sinh(δ·(arsinh x + ε))."""

    def log_slope(x):
        inner = tail * (jnp.arcsinh(x) + skew)
        return math.log(tail / 2) + jnp.logaddexp(inner, -inner) - jnp.log(jnp.hypot(x, jnp.ones_like(x)))

    return Entrywise(
        lambda x: jnp.sinh(tail * (jnp.arcsinh(x) + skew)), lambda y: jnp.sinh(jnp.arcsinh(y) / tail - skew), log_slope
    )


SOFTSIGN = Entrywise(
    lambda x: x / (1 + jnp.abs(x)), lambda y: y / (1 - jnp.abs(y)), lambda x: -2 * jnp.log1p(jnp.abs(x))
)
CIRCULAR_SHIFT = Entrywise(lambda x: (x + 0.25) % 1, lambda y: (y - 0.25) % 1, jnp.zeros_like)
KINKED = Entrywise(
    lambda x: jnp.where(x < 0.3, 0.5 * x, 2 * x - 0.45),
    lambda y: jnp.where(y < 0.15, 2 * y, (y + 0.45) / 2),
    lambda x: jnp.where(x < 0.3, jnp.asarray(-math.log(2), x.dtype), math.log(2)),
)
CUBIC = Entrywise(
    lambda x: x + x**3,
    lambda y: 2 / math.sqrt(3) * jnp.sinh(jnp.arcsinh(1.5 * math.sqrt(3) * y) / 3),
    lambda x: jnp.log1p(3 * x**2),
)
SYMLOG = Entrywise(
    lambda x: jnp.sign(x) * jnp.log1p(jnp.abs(x)),
    lambda y: jnp.sign(y) * jnp.expm1(jnp.abs(y)),
    lambda x: -jnp.log1p(jnp.abs(x)),
)


@dataclass(frozen=True)
class Step:
    """A conditioner that jumps."""

    def init(self, key, x, context=None, *, outputs):
        return {"sizes": jax.random.normal(key, (outputs,))}, ()

    def apply(self, params, state, x, context=None, *, outputs, train=False):
        return jnp.sign(x[:, :1] - 0.4) * params["sizes"].astype(x.dtype), state


@dataclass(frozen=True)
class ByScores(StatelessBijector):
    """Puts entries into the order of fixed scores."""

    scores: tuple[float, ...]

    def forward_and_log_det(self, params, x, context):
        return x[:, jnp.argsort(jnp.array(self.scores))], zero_log_det(x)

    def inverse_and_log_det(self, params, y, context):
        return y[:, jnp.argsort(jnp.argsort(jnp.array(self.scores)))], zero_log_det(y)


@dataclass(frozen=True)
class OfTwoArrays(StatelessBijector):
    """A dict of a vector and a number: the number is shifted by the vector, the vector is scaled."""

    def forward_and_log_det(self, params, x, context):
        y = {"number": x["number"] + jnp.sin(x["vector"]).sum(axis=1), "vector": 3 * x["vector"]}
        return y, zero_log_det(x) + 2 * math.log(3)

    def inverse_and_log_det(self, params, y, context):
        vector = y["vector"] / 3
        x = {"number": y["number"] - jnp.sin(vector).sum(axis=1), "vector": vector}
        return x, zero_log_det(y) - 2 * math.log(3)


@dataclass(frozen=True)
class Counted(Bijector):
    """Turned by a quarter as often as training has called it: a state of whole numbers, honoured in both modes."""

    def init(self, key, x, context=None):
        return (), {"calls": jnp.int32(0)}

    def _turned(self, x, times):
        quarter = jnp.stack([x, x[:, ::-1] * jnp.array([-1, 1], x.dtype), -x, x[:, ::-1] * jnp.array([1, -1], x.dtype)])
        return quarter[times % 4], zero_log_det(x)

    def forward(self, params, state, x, context=None, *, train=False):
        state = {"calls": state["calls"] + 1} if train else state
        return *self._turned(x, state["calls"]), state

    def inverse(self, params, state, y, context=None, *, train=False):
        return self._turned(y, -state["calls"])


class Case(NamedTuple):
    """A map, and where it is tested."""

    bijector: Bijector
    low: float = -2.0
    high: float = 2.0
    options: dict[str, Any] = {}
    entries: int = 2


UNUSUAL = {
    "cumulative sum": Case(CumulativeSum(), entries=3),
    "rotation": Case(Rotation()),
    "Yeo-Johnson": Case(yeo_johnson(0.5)),
    "Yeo-Johnson above 2": Case(yeo_johnson(1.7)),
    "sinh-arcsinh": Case(sinh_arcsinh(0.3, 1.3)),
    # In bfloat16 x = 2,000 gives y = 1, which nothing can take back.
    "softsign on ±2,000": Case(SOFTSIGN, -2000.0, 2000.0, {"dtypes": ("float32", "float64")}),
    "circular shift": Case(CIRCULAR_SHIFT, 0.05, 0.95, {"domain": (0.0, 1.0)}),
    "piecewise linear": Case(KINKED),
    "coupling by a network that jumps": Case(Coupling(ChannelMask(), PaperAffine(), Step())),
    "coupling by a network of kinks": Case(Coupling(ChannelMask("second"), Affine(), MLP((8,), final_scale=1.0))),
    "x + x³": Case(CUBIC),
    "symmetric logarithm": Case(SYMLOG),
    "order of scores": Case(ByScores((0.3, -1.0, 2.0, 0.5)), entries=4),
    "two arrays": Case(OfTwoArrays()),
    "whole numbers that training counts": Case(Counted()),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_no_check_fails(name, check_bijector):
    bijector, low, high, options, entries = UNUSUAL[name]
    example = np.random.default_rng(0).uniform(low, high, (4, entries))
    if name == "two arrays":
        example = {"vector": example, "number": example[:, 0] + 1}
    check_bijector(bijector, example, **options)

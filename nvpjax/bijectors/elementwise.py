"""Elementwise bijectors without a network: fixed functions of one number, and learned scales and shifts.

Each log-derivative is written so that it is right far out, where the function itself has rounded to its limit.
Constants are Python's numbers: numpy's are float64, and with x64 what they meet becomes it.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree, StatelessBijector, log_det_dtype, sum_over_event, zero_log_det
from nvpjax.values import expect_finite


class Elementwise(StatelessBijector):
    """The helper base for fixed increasing or decreasing functions of one number.

    Implement ``function``, ``inverse_function`` and ``log_derivative``, all of x or y of any shape:

        forward:  y = f(x),       log_det = Σ log|f'(x)|
        inverse:  x = f⁻¹(y),     log_det = −Σ log|f'(x)|
    """

    EVENT_AXES = 0

    @abc.abstractmethod
    def function(self, x: jax.Array) -> jax.Array:
        """Give f(x)."""

    @abc.abstractmethod
    def inverse_function(self, y: jax.Array) -> jax.Array:
        """Give f⁻¹(y)."""

    @abc.abstractmethod
    def log_derivative(self, x: jax.Array) -> jax.Array:
        """Give log|f'(x)|."""

    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        return self.function(x), sum_over_event(self.log_derivative(x))

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        x = self.inverse_function(y)
        return x, -sum_over_event(self.log_derivative(x))

    def log_det(self, params: PyTree, state: PyTree, x: jax.Array, context: PyTree = None) -> jax.Array:
        return sum_over_event(self.log_derivative(x))


@dataclass(frozen=True)
class FixedAffine(Elementwise):
    """y = scale·x + shift with fixed numbers: [0, 1] to [−1, 1] is ``FixedAffine(2.0, -1.0)``.

    Each is one number, or a tuple of one for each entry of the last axis: what standardises columns is
    ``FixedAffine(tuple(map(float, 1 / sd)), tuple(map(float, -mean / sd)))``.

    Errors: TypeError for what is no number or tuple of numbers, arrays among them, since a description holds none;
    ValueError for a scale of 0, for numbers that are not finite, or for another number of them than entries.

    >>> import jax.numpy as jnp
    >>> FixedAffine((2.0, 10.0)).forward((), (), jnp.ones((1, 2)))[0].tolist()
    [[2.0, 10.0]]
    """

    scale: float | tuple[float, ...] = 1.0
    shift: float | tuple[float, ...] = 0.0

    def __post_init__(self):
        for name in ("scale", "shift"):
            given = getattr(self, name)
            numbers = given if isinstance(given, tuple) else (given,)
            if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
                raise TypeError(
                    f"FixedAffine: expected {name} to be a number, or a tuple of numbers, got {given!r}. Of an array "
                    "a: tuple(map(float, a))."
                )
            if not all(map(math.isfinite, numbers)):
                raise ValueError(f"FixedAffine: expected {name} to be a finite number, got {given}.")
        if 0 in (self.scale if isinstance(self.scale, tuple) else (self.scale,)):
            raise ValueError("FixedAffine: expected a scale other than 0, which cannot be inverted.")

    def function(self, x: jax.Array) -> jax.Array:
        scale, shift = self._numbers(x)
        return scale * x + shift

    def inverse_function(self, y: jax.Array) -> jax.Array:
        scale, shift = self._numbers(y)
        return (y - shift) / scale

    def log_derivative(self, x: jax.Array) -> jax.Array:
        if isinstance(self.scale, tuple):
            return jnp.broadcast_to(jnp.asarray([math.log(abs(scale)) for scale in self.scale], x.dtype), x.shape)
        return jnp.full_like(x, math.log(abs(self.scale)))

    def _numbers(self, x):
        for given in (self.scale, self.shift):
            if isinstance(given, tuple) and x.shape[-1:] != (len(given),):
                raise ValueError(
                    f"FixedAffine: expected a number for each of the entries, got {len(given)} for shape {x.shape}."
                )
        return [
            jnp.asarray(given, x.dtype) if isinstance(given, tuple) else given for given in (self.scale, self.shift)
        ]


@dataclass(frozen=True)
class Exp(Elementwise):
    """y = exp(x), from the line to the positive numbers;  log|∂y/∂x| = x."""

    def function(self, x: jax.Array) -> jax.Array:
        return jnp.exp(x)

    def inverse_function(self, y: jax.Array) -> jax.Array:
        return jnp.log(y)

    def log_derivative(self, x: jax.Array) -> jax.Array:
        return x


@dataclass(frozen=True)
class Log(Elementwise):
    """y = log x, from the positive numbers to the line;  log|∂y/∂x| = −log x.

    x ≤ 0 gives NaN or −inf: it is not in the domain.
    """

    def function(self, x: jax.Array) -> jax.Array:
        return jnp.log(x)

    def inverse_function(self, y: jax.Array) -> jax.Array:
        return jnp.exp(y)

    def log_derivative(self, x: jax.Array) -> jax.Array:
        return -jnp.log(x)

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        return jnp.exp(y), sum_over_event(y)  # from y: exp(y) overflows far out


@dataclass(frozen=True)
class Softplus(Elementwise):
    """y = log(1 + exp(x)), from the line to the positive numbers;  log|∂y/∂x| = −log(1 + exp(−x)).

    The inverse is y + log(1 − exp(−y)). Below about −87 in float32 y rounds to 0 and cannot be taken back; the log-det
    is right there all the same.
    """

    def function(self, x: jax.Array) -> jax.Array:
        return jax.nn.softplus(x)

    def inverse_function(self, y: jax.Array) -> jax.Array:
        return y + jnp.log(-jnp.expm1(-y))

    def log_derivative(self, x: jax.Array) -> jax.Array:
        return jax.nn.log_sigmoid(x)


@dataclass(frozen=True)
class Sigmoid(Elementwise):
    """y = 1/(1 + exp(−x)), from the line to (0, 1);  log|∂y/∂x| = −softplus(x) − softplus(−x).

    Above 17 in float32 y rounds to 1 and cannot be taken back; the log-det is right there all the same. Its inverse
    with a margin, for data that reach 0 and 1, is ``Logit``.
    """

    def function(self, x: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(x)

    def inverse_function(self, y: jax.Array) -> jax.Array:
        return jnp.log(y) - jnp.log1p(-y)

    def log_derivative(self, x: jax.Array) -> jax.Array:
        return jax.nn.log_sigmoid(x) + jax.nn.log_sigmoid(-x)


@dataclass(frozen=True)
class Tanh(Elementwise):
    """y = tanh x, from the line to (−1, 1);  log|∂y/∂x| = 2·(log 2 − |x| − log(1 + exp(−2|x|))).

    From 9 on in float32 y rounds to 1 and cannot be taken back; the log-det is right there all the same.
    """

    def function(self, x: jax.Array) -> jax.Array:
        return jnp.tanh(x)

    def inverse_function(self, y: jax.Array) -> jax.Array:
        return _arctanh(y)

    def log_derivative(self, x: jax.Array) -> jax.Array:
        return -2 * _log_cosh(x)


@dataclass(frozen=True)
class Arctanh(Elementwise):
    """y = artanh x = ½·log((1 + x)/(1 − x)), from (−1, 1) to the line;  log|∂y/∂x| = −log(1 − x) − log(1 + x)."""

    def function(self, x: jax.Array) -> jax.Array:
        return _arctanh(x)

    def inverse_function(self, y: jax.Array) -> jax.Array:
        return jnp.tanh(y)

    def log_derivative(self, x: jax.Array) -> jax.Array:
        return -jnp.log1p(-x) - jnp.log1p(x)

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        # From y, not from x = tanh y, which has rounded to 1 far out.
        return jnp.tanh(y), -2 * sum_over_event(_log_cosh(y))


@dataclass(frozen=True)
class Sinh(Elementwise):
    """y = sinh x, from line to line;  log|∂y/∂x| = log cosh x = |x| + log(1 + exp(−2|x|)) − log 2.

    Overflows above 89 in float32; the log-det does not.
    """

    def function(self, x: jax.Array) -> jax.Array:
        return jnp.sinh(x)

    def inverse_function(self, y: jax.Array) -> jax.Array:
        return jnp.arcsinh(y)

    def log_derivative(self, x: jax.Array) -> jax.Array:
        return _log_cosh(x)


@dataclass(frozen=True)
class Arcsinh(Elementwise):
    """y = arsinh x = log(x + √(1 + x²)), from line to line;  log|∂y/∂x| = −½·log(1 + x²). It tames heavy tails."""

    def function(self, x: jax.Array) -> jax.Array:
        return jnp.arcsinh(x)

    def inverse_function(self, y: jax.Array) -> jax.Array:
        return jnp.sinh(y)

    def log_derivative(self, x: jax.Array) -> jax.Array:
        return -jnp.log(jnp.hypot(x, jnp.ones_like(x)))

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        return jnp.sinh(y), sum_over_event(_log_cosh(y))  # from y: sinh(y) overflows far out


@dataclass(frozen=True)
class Power(Elementwise):
    """y = x^exponent for positive x;  log|∂y/∂x| = log|exponent| + (exponent − 1)·log x.

    Errors: ValueError for an exponent of 0. x ≤ 0 gives NaN or an infinite log-det: it is not in the domain.
    """

    exponent: float

    def __post_init__(self):
        expect_finite(self)
        if self.exponent == 0:
            raise ValueError("Power: expected an exponent other than 0, which cannot be inverted.")

    def function(self, x: jax.Array) -> jax.Array:
        return jnp.power(x, self.exponent)

    def inverse_function(self, y: jax.Array) -> jax.Array:
        return jnp.power(y, 1 / self.exponent)

    def log_derivative(self, x: jax.Array) -> jax.Array:
        return math.log(abs(self.exponent)) + (self.exponent - 1) * jnp.log(x)

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        # From y: y^(1/exponent) over- and underflows far out.
        log_derivative = math.log(abs(self.exponent)) + (1 - 1 / self.exponent) * jnp.log(y)
        return jnp.power(y, 1 / self.exponent), -sum_over_event(log_derivative)


@dataclass(frozen=True)
class NormalCDF(Elementwise):
    """y = Φ(x), the standard normal's distribution function, from the line to (0, 1).

        log|∂y/∂x| = −½x² − ½·log 2π;     x = Φ⁻¹(y)

    Above 5 in float32 y rounds to 1 and cannot be taken back; the log-det is right there all the same.
    """

    def function(self, x: jax.Array) -> jax.Array:
        return jax.scipy.special.ndtr(x.astype(log_det_dtype(x))).astype(x.dtype)

    def inverse_function(self, y: jax.Array) -> jax.Array:
        return jax.scipy.special.ndtri(y.astype(log_det_dtype(y))).astype(y.dtype)

    def log_derivative(self, x: jax.Array) -> jax.Array:
        return -0.5 * (jnp.square(x) + math.log(2 * math.pi))


@dataclass(frozen=True)
class LeakyReLU(Elementwise):
    """y = x for x ≥ 0, slope·x below;  log|∂y/∂x| = 0 or log slope.

    Errors: ValueError unless slope > 0.
    """

    slope: float = 0.01

    def __post_init__(self):
        expect_finite(self)
        if not self.slope > 0:
            raise ValueError(f"LeakyReLU: expected slope > 0, got {self.slope}: otherwise it cannot be inverted.")

    def function(self, x: jax.Array) -> jax.Array:
        return jnp.where(x < 0, self.slope * x, x)

    def inverse_function(self, y: jax.Array) -> jax.Array:
        return jnp.where(y < 0, y / self.slope, y)

    def log_derivative(self, x: jax.Array) -> jax.Array:
        return jnp.where(x < 0, jnp.asarray(math.log(self.slope), x.dtype), 0)


@dataclass(frozen=True)
class Logit(StatelessBijector):
    """Take values in (0, 1) to the real line; with α those in [0, 1], after squeezing them away from the ends.

        v = α + (1 − 2α)·x,     y = log v − log(1 − v)
        log_det = Σ softplus(y) + softplus(−y) + log(1 − 2α)
        inverse:  x = (sigmoid(y) − α) / (1 − 2α)

    With α above 0 the inverse of a large |y| lies outside [0, 1] by at most α/(1 − 2α), and so does some of a flow's
    density: it is returned as it is, not clipped.

    Args: ``alpha``: 0 is the plain logit, for columns that do not reach 0 and 1: nothing is outside. Pixels do reach
    them: 0.05 in the authors' program and so behind the published numbers; 1e-6 is usual for MNIST. The constant
    changes bits/dim.

    Errors: ValueError unless 0 <= alpha < ½. x outside [0, 1] gives NaN, or with α a finite value that means nothing:
    scale images first (``nvpjax.UniformDequantization``).

    Reference: Real NVP, sec. 4.1. The paper prints α + (1 − α)·x; the authors' program, followed here, is symmetric.

    >>> import jax.numpy as jnp
    >>> Logit(alpha=0.05).forward((), (), jnp.array([[0.5]]))[0].tolist()
    [[0.0]]
    """

    EVENT_AXES = 0
    alpha: float = 0.0

    def __post_init__(self):
        expect_finite(self)
        if not 0 <= self.alpha < 0.5:
            raise ValueError(f"Logit: expected 0 <= alpha < 0.5, got {self.alpha}.")

    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        # 1 − v is built from 1 − x, not from v: near x = 1 with a small α the subtraction would lose all digits.
        y = jnp.log(self.alpha + (1 - 2 * self.alpha) * x) - jnp.log(self.alpha + (1 - 2 * self.alpha) * (1 - x))
        return y, self._log_det(y)

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        x = (jax.nn.sigmoid(y) - self.alpha) / (1 - 2 * self.alpha)
        return x, -self._log_det(y)

    def _log_det(self, y):
        return sum_over_event(jax.nn.softplus(y) + jax.nn.softplus(-y) + math.log1p(-2 * self.alpha))


@dataclass(frozen=True)
class Scale(StatelessBijector):
    """Multiply every entry of the event by a learned positive number of its own: a diagonal matrix.

        y = x·exp(s),     x = y·exp(−s),     log_det = Σ s

    NICE ends in it. Shapes: x ``(batch, *event)``, parameter ``log_scale`` ``(*event)``, zero at the start.

    Reference: NICE, sec. 3.3.
    """

    EVENT_AXES = 0

    def init_params(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> PyTree:
        return {"log_scale": jnp.zeros(x.shape[1:])}

    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        log_scale = params["log_scale"].astype(x.dtype)
        return x * jnp.exp(log_scale), sum_over_event(jnp.broadcast_to(log_scale, x.shape))

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        log_scale = params["log_scale"].astype(y.dtype)
        return y * jnp.exp(-log_scale), -sum_over_event(jnp.broadcast_to(log_scale, y.shape))


@dataclass(frozen=True)
class Shift(StatelessBijector):
    """Add to every entry of the event a learned number of its own:  y = x + b,  log_det = 0.

    Shapes: x ``(batch, *event)``, parameter ``shift`` ``(*event)``, zero at the start. With ``Scale`` in a ``Chain`` it
    is the learned elementwise affine map.
    """

    EVENT_AXES = 0

    def init_params(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> PyTree:
        return {"shift": jnp.zeros(x.shape[1:])}

    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        return x + params["shift"].astype(x.dtype), zero_log_det(x)

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        return y - params["shift"].astype(y.dtype), zero_log_det(y)


def _log_cosh(x):
    size = jnp.abs(x)
    return size + jnp.log1p(jnp.exp(-2 * size)) - math.log(2)


def _arctanh(x):
    return 0.5 * (jnp.log1p(x) - jnp.log1p(-x))

"""Fixed functions of one number: log-derivatives against decimal arithmetic far out, values against scipy."""

from collections.abc import Callable
from decimal import Decimal as D
from decimal import localcontext
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from nvpjax import (
    Arcsinh,
    Arctanh,
    Bijector,
    Exp,
    FixedAffine,
    LeakyReLU,
    Log,
    Logit,
    NormalCDF,
    Power,
    Scale,
    Shift,
    Sigmoid,
    Sinh,
    Softplus,
    Tanh,
)

DECADES = np.concatenate([[size, 3 * size] for size in 10.0 ** np.arange(-3, 5)])[:-1].astype(np.float32)
POSITIVE = np.concatenate([DECADES, DECADES + 1]).astype(np.float32)
LINE = np.concatenate([-DECADES, DECADES])
UNIT = np.concatenate([np.linspace(0.001, 0.999, 15), 10.0 ** -np.arange(2, 10), 1 - 10.0 ** -np.arange(1, 8)])
UNIT = UNIT.astype(np.float32)
BALL = np.concatenate([-UNIT, UNIT])
PI = D("3.14159265358979323846264338327950288419716939937510582097494459")


class Case(NamedTuple):
    bijector: Bijector
    x: np.ndarray
    derivative: Callable[[D], D]
    """log|f'(x)|, as it comes from the rules of differentiation."""
    value: Callable[[np.ndarray], np.ndarray]
    """f(x) in float64."""


def squeezed_logit(alpha: float) -> Case:
    shrink = 1 - 2 * D(alpha)

    def derivative(x):
        v = D(alpha) + shrink * x
        return (shrink / v / (1 - v)).ln()

    return Case(Logit(alpha), UNIT, derivative, lambda x: special.logit(alpha + (1 - 2 * alpha) * x))


def sech(x: D) -> D:
    return 2 / (x.exp() + (-x).exp())


CASES = {
    "fixed affine": Case(FixedAffine(-2.0, 0.5), LINE, lambda x: D(2).ln(), lambda x: -2 * x + 0.5),
    "exp": Case(Exp(), LINE, lambda x: x.exp().ln(), np.exp),
    "log": Case(Log(), POSITIVE, lambda x: (1 / x).ln(), np.log),
    "softplus": Case(Softplus(), LINE, lambda x: (1 / (1 + (-x).exp())).ln(), lambda x: np.logaddexp(0, x)),
    "sigmoid": Case(Sigmoid(), LINE, lambda x: ((-x).exp() / (1 + (-x).exp()) ** 2).ln(), special.expit),
    "tanh": Case(Tanh(), LINE, lambda x: (sech(x) ** 2).ln(), np.tanh),
    "arctanh": Case(Arctanh(), BALL, lambda x: (1 / (1 - x * x)).ln(), np.arctanh),
    "sinh": Case(Sinh(), LINE, lambda x: (1 / sech(x)).ln(), np.sinh),
    "arcsinh": Case(Arcsinh(), LINE, lambda x: (1 / (1 + x * x).sqrt()).ln(), np.arcsinh),
    "cube": Case(Power(3.0), POSITIVE, lambda x: (3 * x * x).ln(), lambda x: x**3),
    "power, negative": Case(Power(-0.5), POSITIVE, lambda x: (1 / (2 * x * x.sqrt())).ln(), lambda x: 1 / np.sqrt(x)),
    "normal cdf": Case(
        NormalCDF(), LINE, lambda x: ((-x * x / 2).exp() / (2 * PI).sqrt()).ln(), lambda x: special.ndtr(x)
    ),
    "leaky relu": Case(
        LeakyReLU(0.2), LINE, lambda x: (D("0.2") if x < 0 else D(1)).ln(), lambda x: np.where(x < 0, 0.2 * x, x)
    ),
    "logit, plain": squeezed_logit(0.0),
    "logit, small margin": squeezed_logit(1e-6),
    "logit": squeezed_logit(0.05),
}


def exactly(function: Callable[[D], D], x: np.ndarray) -> np.ndarray:
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 60, 10**9, -(10**9)
        return np.array([float(function(D(float(number)))) for number in x])


@pytest.mark.parametrize("name", CASES)
def test_log_derivative_far_out_against_decimal(name):
    bijector, x, derivative, _ = CASES[name]
    expected = exactly(derivative, x)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(bijector.log_det((), (), x[:, None]), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(bijector.forward((), (), x[:, None])[1], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_values_against_scipy(name):
    bijector, x, _, value = CASES[name]
    with np.errstate(over="ignore"):
        expected = value(x.astype(np.float64)).astype(np.float32)  # what overflows in float32 is infinite in both
    np.testing.assert_allclose(
        bijector.forward((), (), jnp.asarray(x[:, None]))[0][:, 0], expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    "name, derivative",
    [("arctanh", lambda y: (sech(y) ** 2).ln()), ("log", lambda y: y), ("arcsinh", lambda y: -sech(y).ln())],
)
def test_log_derivative_of_the_inverse_where_x_has_rounded_to_its_end_or_overflown(name, derivative):
    bijector = CASES[name].bijector
    np.testing.assert_allclose(bijector.inverse((), (), LINE[:, None])[1], exactly(derivative, LINE), 1e-5, 1e-6)


@pytest.mark.parametrize("exponent", [0.5, -1.0, 3.0])
def test_log_derivative_of_the_inverse_power_where_x_over_or_underflows(exponent):
    y = np.float32([1e-37, 1e-30, 1.0, 1e30, 1e38])
    expected = -np.log(abs(exponent)) - (1 - 1 / exponent) * np.log(y.astype(np.float64))
    np.testing.assert_allclose(Power(exponent).inverse((), (), y[:, None])[1], expected, rtol=1e-5)


def test_scale_and_shift_learn_one_number_an_entry():
    generator = np.random.default_rng(0)
    x, numbers = generator.normal(size=(4, 3, 2)).astype(np.float32), generator.normal(size=(3, 2)).astype(np.float32)
    for bijector in (Scale(), Shift()):
        params, _ = bijector.init(jax.random.key(0), x)
        assert {key: value.tolist() for key, value in params.items()} in (
            {"log_scale": np.zeros((3, 2)).tolist()},
            {"shift": np.zeros((3, 2)).tolist()},
        )
    y, log_det, _ = Scale().forward({"log_scale": numbers}, (), x)
    np.testing.assert_allclose(y, x * np.exp(numbers), rtol=1e-6)
    np.testing.assert_allclose(log_det, np.full(4, numbers.sum(dtype=np.float64)), rtol=1e-5)
    y, log_det, _ = Shift().forward({"shift": numbers}, (), x)
    np.testing.assert_allclose(y, x + numbers, rtol=1e-6)
    assert np.array_equal(log_det, np.zeros(4))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: FixedAffine(0.0), "FixedAffine: expected a scale other than 0"),
        (lambda: FixedAffine((1.0, 0.0)), "FixedAffine: expected a scale other than 0"),
        (lambda: FixedAffine((1.0, 2.0)).forward((), (), jnp.ones((1, 3))), "a number for each of the entries, got 2"),
        (lambda: Power(0.0), "Power: expected an exponent other than 0"),
        (lambda: LeakyReLU(0.0), "LeakyReLU: expected slope > 0"),
        (lambda: Logit(0.5), "Logit: expected 0 <= alpha < 0.5"),
    ],
)
def test_functions_without_an_inverse_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

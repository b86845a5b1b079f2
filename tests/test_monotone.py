"""Monotone polynomials and networks as transforms, against scipy's polynomials and quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, interpolate, special

from nvpjax import Additive, Affine, BernsteinPolynomial, InTurn, LogisticMixture, MonotoneIntegral, SumOfSquares
from nvpjax.nets import MLP

KEY = jax.random.key(0)
X = np.linspace(-6, 6, 121)


def wide(tree):
    return jax.tree.map(lambda a: jnp.asarray(a, "float64"), tree)


def mapped(transform, params, theta, x=X):
    """y and log|∂y/∂x| of every x by the same numbers, in float64."""
    with jax.enable_x64(True):
        theta = np.broadcast_to(theta, (len(x), len(theta)))
        y, log_slope = transform.forward(wide(params), theta, x[:, None])
    return np.asarray(y)[:, 0], np.asarray(log_slope)[:, 0]


def drawn(transform, seed=0, size=1.0):
    return size * np.random.default_rng(seed).normal(size=transform.parameters_per_element)


def test_bernstein_polynomials_are_scipys_and_go_on_straight():
    transform = BernsteinPolynomial(degree=6, limit=3.0, minimum=1e-2)
    theta = drawn(transform, size=2.0)
    y, log_slope = mapped(transform, (), theta)
    shares = 0.01 + (1 - 6 * 0.01) * special.softmax(theta)
    coefficients = -3 + 6 * np.concatenate([[0], np.cumsum(shares)])
    polynomial = interpolate.BPoly(coefficients[:, None], [-3, 3])
    inside = np.abs(X) <= 3
    np.testing.assert_allclose(y[inside], polynomial(X[inside]), atol=1e-12)
    np.testing.assert_allclose(log_slope[inside], np.log(polynomial.derivative()(X[inside])), atol=1e-10)
    slopes = np.where(X < 0, 6 * shares[0], 6 * shares[-1])[~inside]
    np.testing.assert_allclose(y[~inside], (np.sign(X) * 3)[~inside] * (1 - slopes) + slopes * X[~inside], atol=1e-12)
    np.testing.assert_allclose(np.exp(log_slope[~inside]), slopes, rtol=1e-12)


def test_bernstein_polynomials_invert_beyond_the_ends_where_the_end_is_flat():
    transform, theta = BernsteinPolynomial(degree=5, limit=2.0), np.float32([[8, 0, 0, 0, -9]])
    x = np.float32([[-40.0], [2.0], [60.0]])
    y, _ = transform.forward((), np.tile(theta, (3, 1)), x)
    again, _ = transform.inverse((), np.tile(theta, (3, 1)), y)
    np.testing.assert_allclose(again, x, rtol=2e-4)


def test_sums_of_squares_are_numpys_polynomials():
    transform = SumOfSquares(polynomials=3, degree=2, minimum=0.05)
    theta, x = drawn(transform), np.linspace(-2, 2, 41)
    params = transform.init(KEY)
    y, log_slope = mapped(transform, params, theta, x)
    rows = theta[:-1].reshape(3, 3) + np.asarray(params["coefficients"], float)
    slope = sum((np.polynomial.Polynomial(row) ** 2 for row in rows), np.polynomial.Polynomial([0.05]))
    np.testing.assert_allclose(y, slope.integ()(x) + theta[-1], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(log_slope, np.log(slope(x)), rtol=1e-12, atol=1e-12)


def test_polynomials_of_a_sum_of_squares_learn_apart():
    transform, x = SumOfSquares(polynomials=2, degree=2), jnp.linspace(-2, 2, 9)[:, None]

    def nats(theta):
        y, log_slope = transform.forward(transform.init(KEY), jnp.broadcast_to(theta, (9, theta.size)), x)
        return jnp.mean(y**2 / 2 - log_slope)

    first, second = jax.grad(nats)(jnp.zeros(transform.parameters_per_element))[:-1].reshape(2, 3)
    assert np.abs(second).max() > 1e-3 and np.abs(first - second).max() > 1e-3


NETWORK = MLP((8,), jax.nn.silu, final_scale=1.0)


def integrand(transform, params, theta):
    """g(u; h) of a MonotoneIntegral in numpy."""
    params = jax.tree.map(lambda a: np.asarray(a, float), params)
    first, last = params["Dense_0"], params["Dense_1"]

    def g(u):
        hidden = np.concatenate([[u], theta[:-1]]) @ first["kernel"] + first["bias"]
        number = (hidden * special.expit(hidden)) @ last["kernel"][:, 0] + last["bias"][0]
        return transform.minimum + np.logaddexp(0, number + np.log(np.expm1(1 - transform.minimum)))

    return g


def test_integrals_of_a_network_are_scipys():
    errors = []
    for knots in (6, 12, 24):
        transform = MonotoneIntegral(NETWORK, embedding=3, knots=knots, limit=3.0)
        params, theta = transform.init(KEY), drawn(transform)
        params = jax.tree.map(lambda a: a * 1.5, params)
        g = integrand(transform, params, theta)
        x = np.linspace(-3, 3, 25)
        y, log_slope = mapped(transform, params, theta, x)
        expected = np.array([integrate.quad(g, 0, v, epsabs=1e-12)[0] for v in x]) + theta[-1]
        errors.append(np.abs(y - expected).max())
        slopes = np.array([g(v) for v in x])
        assert np.ptp(slopes) > 0.5 and np.abs(np.exp(log_slope) - slopes).max() < 10 * knots**-3
        far, log_far = mapped(transform, params, theta, np.array([5.0, -7.0]))
        np.testing.assert_allclose(far, y[[-1, 0]] + np.array([2 * g(3.0), -4 * g(-3.0)]), rtol=1e-9)
        np.testing.assert_allclose(np.exp(log_far), [g(3.0), g(-3.0)], rtol=1e-9)
    assert errors[0] < 1e-2 and errors[1] < errors[0] / 8 and errors[2] < errors[1] / 8, errors


def test_integrals_refuse_networks_that_measure():
    class Measuring:
        def init(self, key, x, context=None, *, outputs):
            return (), jnp.zeros(3)

        def apply(self, params, state, x, context=None, *, outputs, train=False):
            return jnp.zeros((*x.shape[:-1], outputs)), state

    with pytest.raises(ValueError, match="without state"):
        MonotoneIntegral(Measuring()).init(KEY)


def test_in_turn_is_one_after_the_other():
    parts = (Affine(), LogisticMixture(2), Additive())
    both, x = InTurn(parts), np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    theta = np.random.default_rng(1).normal(size=(5, both.parameters_per_element * 3)).astype(np.float32)
    params = both.init(KEY)
    expected, total, start = x, 0, 0
    for part, own in zip(parts, params):
        numbers = theta[:, start : start + 3 * part.parameters_per_element]
        expected, log_slope = part.forward(own, numbers, expected)
        total, start = total + log_slope, start + 3 * part.parameters_per_element
    assert start == theta.shape[1]
    y, log_slope = both.forward(params, theta, x)
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    np.testing.assert_allclose(log_slope, total, rtol=1e-6)
    again, back = both.inverse(params, theta, y)
    np.testing.assert_allclose(again, x, atol=1e-4)
    np.testing.assert_allclose(back, -log_slope, atol=1e-4)

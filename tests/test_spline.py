"""Splines, mixtures of logistics and the search that inverts these, against numpy, decimal and closed forms."""

from decimal import Decimal as D
from decimal import localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nvpjax import LogisticMixture, RationalQuadraticSpline
from nvpjax.bijectors.root import solve_increasing

SPLINE = RationalQuadraticSpline(bins=5, limit=3.0, minimum=1e-2)
NUMBERS = 3 * SPLINE.bins - 1


@jax.jit
def spline(theta, x):
    return SPLINE.forward((), theta, x)


def knots_of(theta):
    """The knots and slopes of one element, from its 3·bins − 1 numbers."""
    bins, limit, minimum = SPLINE.bins, SPLINE.limit, SPLINE.minimum

    def edges(numbers):
        shares = np.exp(numbers - numbers.max())
        shares = minimum + (1 - bins * minimum) * shares / shares.sum()
        return -limit + 2 * limit * np.concatenate([[0], np.cumsum(shares)])

    inner = minimum + np.logaddexp(0, theta[2 * bins :] + np.log(np.exp(1 - minimum) - 1))
    return edges(theta[:bins]), edges(theta[bins : 2 * bins]), np.concatenate([[1], inner, [1]])


def gregory_delbourgo(xs, ys, slopes, x):
    """The interpolant of Gregory and Delbourgo (1982), eq. 2.2-2.4, at one x, which may be complex."""
    k = np.searchsorted(xs, x.real, side="right") - 1
    if not 0 <= k < len(xs) - 1:
        return x
    w, rise = xs[k + 1] - xs[k], ys[k + 1] - ys[k]
    t, chord = (x - xs[k]) / w, rise / w
    top = ys[k + 1] * chord * t**2 + (ys[k] * slopes[k + 1] + ys[k + 1] * slopes[k]) * t * (1 - t)
    top += ys[k] * chord * (1 - t) ** 2
    return top / (chord + (slopes[k + 1] + slopes[k] - 2 * chord) * t * (1 - t))


def drawn(shape, scale=2.0, seed=0):
    """θ as a network gives it, parameter by parameter, and by element in float64."""
    by_element = (scale * np.random.default_rng(seed).normal(size=(*shape, NUMBERS))).astype(np.float32)
    return np.swapaxes(by_element, -1, -2).reshape(*shape[:-1], -1), by_element.astype(np.float64)


def test_spline_is_gregory_and_delbourgos():
    theta, by_element = drawn((60, 2))
    x = np.random.default_rng(1).uniform(-3.5, 3.5, size=(60, 2))
    with jax.enable_x64(True):
        y, log_derivative = map(np.asarray, spline(theta.astype(np.float64), x))
    # Derivatives by a complex step: exact, and of the value alone.
    steps = [[gregory_delbourgo(*knots_of(t), complex(v, 1e-30)) for t, v in zip(*row)] for row in zip(by_element, x)]
    steps = np.array(steps)
    np.testing.assert_allclose(y, steps.real, atol=1e-11)
    np.testing.assert_allclose(log_derivative, np.log(steps.imag / 1e-30), atol=1e-9)
    inside = abs(x) < 3
    assert abs(y - x)[inside].max() > 0.5 and not inside.all()


def test_spline_increases_and_joins_the_identity_smoothly():
    theta, _ = drawn((1, 1), scale=4.0)
    x = np.linspace(-4, 4, 4001, dtype=np.float32)[:, None]
    y, log_derivative = spline(np.broadcast_to(theta, (len(x), NUMBERS)), x)
    y, inside = np.asarray(y), abs(x) < 3
    assert np.all(np.diff(y[:, 0]) > 0) and np.all(np.isfinite(log_derivative))
    assert np.array_equal(y[~inside], x[~inside]) and not np.any(log_derivative[~inside])
    assert abs(y - x)[inside].max() > 0.5

    ends = np.nextafter(np.float32([[3], [-3]]), np.float32(0))
    thetas, _ = drawn((2, 1))
    y, log_derivative = spline(thetas, ends)
    np.testing.assert_allclose(y, ends, atol=1e-5)
    np.testing.assert_allclose(log_derivative, 0, atol=1e-3)  # slope 1 on the outer side


# ---------------------------------------------------------------------------------------------------------------------
# The mixture of logistics
# ---------------------------------------------------------------------------------------------------------------------

MIXTURE = LogisticMixture(components=3)
CENTRES = np.array([-2 / 3, 0, 2 / 3])
X = np.float32([-1e4, -90, -20, -3, -1, -0.1, 0, 0.4, 1, 2.5, 6, 30, 150, 1e4])


def mixtures(spread=1.5):
    """One θ for every x: weights, offsets from the centres, widths before their bound, the bound's r, b."""
    return np.random.default_rng(3).uniform(-spread, spread, size=(len(X), MIXTURE.parameters_per_element))


def means_and_log_scales(theta):
    """By component, from the offsets and the widths."""
    return CENTRES + theta[..., 3:6], 7 * (2 / np.pi) * np.arctan(theta[..., 6:9] / 7)


def exact_mixture(theta, x):
    """(y, log|∂y/∂x|): density and distribution function from their definitions, in decimals."""
    w, (r, b), (m, s) = theta[:3], theta[-2:], means_and_log_scales(np.asarray(theta))
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 60, 10**9, -(10**9)
        total = sum(D(v).exp() for v in w)
        below = above = density = D(0)
        for weight, mean, log_scale in zip(w, m, s):
            share, u = D(weight).exp() / total, (D(x) - D(mean)) / D(log_scale).exp()
            below += share / (1 + (-u).exp())
            above += share / (1 + u.exp())
            density += share / (1 + (-u).exp()) / (1 + u.exp()) / D(log_scale).exp()
        a = D(float(np.tanh(r)))
        return float((below / above).ln() * a.exp() + D(b)), float((density / below / above).ln() + a)


def test_mixture_of_logistics_against_decimal_far_out_too():
    theta = mixtures().astype(np.float32)
    y, log_derivative = jax.jit(MIXTURE.forward)(MIXTURE.init(None), theta, X[:, None])
    expected = np.array([exact_mixture(t.astype(float).tolist(), float(x)) for t, x in zip(theta, X)])
    np.testing.assert_allclose(y[:, 0], expected[:, 0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(log_derivative[:, 0], expected[:, 1], rtol=1e-5, atol=1e-5)


def test_inverse_of_the_mixture_keeps_its_tolerance():
    theta = mixtures().astype(np.float32)
    exact = np.array([exact_mixture(t.astype(float).tolist(), float(x)) for t, x in zip(theta, X)])
    x, log_derivative = jax.jit(MIXTURE.inverse)(MIXTURE.init(None), theta, exact[:, :1].astype(np.float32))
    # The bracket is that of the components; y and the function itself are rounded, which the slope turns into x.
    logit = (exact[:, 0] - theta[:, -1]) * np.exp(-np.tanh(theta[:, -2].astype(float)))
    means, log_scales = means_and_log_scales(theta)
    each = means + np.exp(log_scales) * logit[:, None]
    epsilon = np.finfo(np.float32).eps
    rounding = 4 * epsilon * (1 + abs(exact[:, 0])) * np.exp(-exact[:, 1])
    allowed = np.ptp(each, axis=1) * epsilon / 4 + epsilon * abs(X) + rounding
    assert np.all(abs(x[:, 0] - X) <= allowed), (x[:, 0] - X) / allowed
    np.testing.assert_allclose(log_derivative[:, 0], -exact[:, 1], rtol=1e-4, atol=1e-4)


def test_components_that_a_network_starts_at_zero_learn_apart():
    # Equal components would have equal gradients in every step, and the mixture would be one logistic for ever.
    params, x = MIXTURE.init(None), np.linspace(-3, 3, 7, dtype="float32")[:, None]

    def nats(theta):
        y, log_derivative = MIXTURE.forward(params, jnp.broadcast_to(theta, (7, theta.size)), x)
        return jnp.mean(y**2 / 2 - log_derivative)

    weights, offsets, _ = np.split(jax.grad(nats)(jnp.zeros(MIXTURE.parameters_per_element))[:-2], 3)
    assert np.ptp(weights) > 1e-3 and np.ptp(offsets) > 1e-3


def test_a_network_far_off_makes_no_width_of_zero():
    theta = np.float32([[3648, -3648, 0, 3648, -3648, 0, -2432, 2432, -1e9, 0, 0]])
    y, log_derivative = MIXTURE.forward(MIXTURE.init(None), theta, np.float32([[1.7]]))
    assert np.isfinite(y).all() and np.isfinite(log_derivative).all()


# ---------------------------------------------------------------------------------------------------------------------
# solve_increasing
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bisection_alone_keeps_the_stated_tolerance(dtype):
    @jax.custom_jvp
    def identity(x):
        return x

    @identity.defjvp
    def steep(primals, tangents):
        return primals[0], 1e30 * tangents[0]  # so that the Newton step after the bisection moves nothing

    generator = np.random.default_rng(0)
    with jax.enable_x64(dtype == "float64"):
        low = generator.uniform(-1e4, 1, 200).astype(dtype)
        high = low + (10 ** generator.uniform(-3, 4, 200)).astype(dtype)
        roots = np.clip(low + generator.uniform(0, 1, 200).astype(dtype) * (high - low), low, high)
        x = np.asarray(solve_increasing(identity, *map(jnp.asarray, (roots, low, high))))
    assert x.dtype == dtype
    epsilon = np.finfo(dtype).eps
    assert np.all(abs(x - roots) <= np.minimum(high - low, 64) * epsilon / 4 + epsilon * abs(roots))


def cubic(x, a):
    return x + a * x**3


def root_of_cubic(y, a):
    """Cardano's real root of x + a·x³ = y, for a > 0, where the two cube roots do not cancel much."""
    p, q = 1 / a, y / a
    root = np.sqrt(q**2 / 4 + p**3 / 27)
    return np.cbrt(q / 2 + root) + np.cbrt(q / 2 - root)


def test_derivatives_are_those_of_the_implicit_function():
    y, a = jnp.array([-20.0, -2.0, -0.3, 0.5, 1.0, 9.0]), jnp.array([0.5, 1.0, 2.0, 1.0, 0.3, 1.0])
    root = root_of_cubic(np.asarray(y, np.float64), np.asarray(a, np.float64))

    def solve(y, a):
        return solve_increasing(lambda x: cubic(x, a), y, -jnp.abs(y), jnp.abs(y))

    values, to_y_and_a = jax.vmap(jax.value_and_grad(solve, argnums=(0, 1)))(y, a)
    slope = 1 + 3 * np.asarray(a) * root**2
    np.testing.assert_allclose(values, root, rtol=1e-6)
    np.testing.assert_allclose(to_y_and_a[0], 1 / slope, rtol=1e-5)
    np.testing.assert_allclose(to_y_and_a[1], -(root**3) / slope, rtol=1e-5)


def test_nan_in_gives_nan_out():
    x = solve_increasing(lambda x: cubic(x, 1.0), jnp.array([jnp.nan, 2.0]), jnp.array([-3.0, -3.0]), jnp.full(2, 3.0))
    assert np.isnan(x[0]) and abs(x[1] - 1) < 1e-6

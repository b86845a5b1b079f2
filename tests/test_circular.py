"""Maps and densities of circles: against complex numbers, closed forms, scipy, and integrals around the circle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from nvpjax import (
    CircularSpline,
    CircularSplineCoupling,
    Coupling,
    Flow,
    Moebius,
    NoMask,
    NonCompactProjection,
    UniformCircle,
    VonMises,
    Wrap,
)
from nvpjax.nets import MLP, OfAngles
from nvpjax.testing import moved_from_start
from tests.test_spline import gregory_delbourgo

KEY = jax.random.key(0)
NUMBER = 20_000
TURN = 2 * np.pi
TRANSFORMS = {
    "spline": CircularSpline(bins=5, minimum=1e-2),
    "moebius": Moebius(components=3),
    "projection": NonCompactProjection(),
}


def mapped(transform, theta, x):
    """y and log|∂y/∂x| of every x by the same numbers, in float64."""
    with jax.enable_x64(True):
        params = jax.tree.map(lambda a: jnp.asarray(a, "float64"), transform.init(KEY))
        return map(np.asarray, transform.forward(params, np.broadcast_to(theta, (len(x), len(theta))), x[:, None]))


def drawn(transform, seed=0, size=1.5):
    return size * np.random.default_rng(seed).normal(size=transform.parameters_per_element)


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_the_circle_is_covered_once_and_without_a_seam(transform):
    x = np.linspace(-np.pi, np.pi, 2001)
    y, log_slope = mapped(transform, drawn(transform), x)
    assert np.all(np.diff(y[:, 0]) > 0) and np.ptp(np.diff(y[:, 0])) > 1e-4
    np.testing.assert_allclose(y[-1] - y[0], TURN, rtol=1e-12)
    np.testing.assert_allclose(log_slope[-1], log_slope[0], atol=1e-9)
    # The mean slope around the circle is 1: it is covered once.
    np.testing.assert_allclose(np.exp(log_slope[:-1]).mean(), 1, atol=1e-3)
    later, same_slope = mapped(transform, drawn(transform), x - 3 * TURN)
    np.testing.assert_allclose(later, y - 3 * TURN, atol=1e-9)
    np.testing.assert_allclose(same_slope[1:-1], log_slope[1:-1], atol=1e-9)


def test_the_spline_is_gregory_and_delbourgos_with_equal_slopes_at_the_ends():
    transform, x = TRANSFORMS["spline"], np.random.default_rng(1).uniform(-np.pi, np.pi, 50)
    theta = drawn(transform, 2)
    y, log_slope = mapped(transform, theta, x)

    def edges(numbers):
        shares = 0.01 + (1 - 5 * 0.01) * special.softmax(numbers)
        return -np.pi + TURN * np.concatenate([[0], np.cumsum(shares)])

    slopes = 0.01 + np.logaddexp(0, theta[10:] + np.log(np.exp(0.99) - 1))
    knots = edges(theta[:5]), edges(theta[5:10]), np.append(slopes, slopes[0])
    steps = np.array([gregory_delbourgo(*knots, complex(v, 1e-30)) for v in x])
    np.testing.assert_allclose(y[:, 0], steps.real, atol=1e-11)
    np.testing.assert_allclose(log_slope[:, 0], np.log(steps.imag / 1e-30), atol=1e-9)


def test_moebius_maps_are_those_of_complex_numbers():
    transform, x = TRANSFORMS["moebius"], np.linspace(-np.pi, np.pi, 4001)
    theta = drawn(transform, 3)
    y, log_slope = mapped(transform, theta, x)
    weights, (u, v) = special.softmax(theta[:3]), theta[3:].reshape(2, 3)
    w = u + 1j * v + 0.5 * np.exp(TURN * 1j * np.arange(3) / 3)
    w *= 0.99 / np.sqrt(1 + abs(w) ** 2)
    z = np.exp(1j * x)[:, None]
    images = (1 - abs(w) ** 2) / abs(z - w) ** 2 * (z - w) - w
    np.testing.assert_allclose(abs(images), 1, rtol=1e-12)
    lifted = np.unwrap(np.angle(images), axis=0)
    lifted -= TURN * np.round((lifted.mean(axis=0) - x.mean()) / TURN)
    np.testing.assert_allclose(y[:, 0], lifted @ weights, atol=1e-6)  # the ring is float32
    np.testing.assert_allclose(np.gradient(y[:, 0], x), np.exp(log_slope[:, 0]), rtol=1e-2)


def test_the_projection_is_affine_on_the_line():
    transform, x = TRANSFORMS["projection"], np.random.default_rng(4).uniform(-3, 3, 50)
    y, log_slope = mapped(transform, np.array([0.7, -1.3]), x)
    alpha = np.exp(np.tanh(-1.3))
    np.testing.assert_allclose(np.tan(y[:, 0] / 2), alpha * np.tan(x / 2) + 0.7, rtol=1e-9)
    slope = alpha * np.cos(y[:, 0] / 2) ** 2 / np.cos(x / 2) ** 2
    np.testing.assert_allclose(log_slope[:, 0], np.log(slope), atol=1e-9)


def test_parts_of_a_moebius_map_learn_apart():
    transform, x = TRANSFORMS["moebius"], jnp.linspace(-3, 3, 7)[:, None]

    def mean(theta):
        y, log_slope = transform.forward(transform.init(KEY), jnp.broadcast_to(theta, (7, theta.size)), x)
        return jnp.mean(jnp.cos(y) - log_slope)

    gradient = jax.grad(mean)(jnp.zeros(transform.parameters_per_element))
    assert np.ptp(gradient[3:6]) > 1e-3 and np.ptp(gradient[6:]) > 1e-3


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_a_density_of_the_circle_integrates_to_one(transform):
    flow = Flow(Coupling(NoMask(), transform, MLP((8,), final_scale=1.0)), UniformCircle())
    x, context = np.float32(np.linspace(-np.pi, np.pi, 4096, endpoint=False))[:, None], np.ones((4096, 2), "float32")
    params, state = flow.init(KEY, x, context)
    density = np.exp(flow.log_prob(moved_from_start(KEY, params), state, x, context)[0])
    assert density.max() > 1.5 * density.min()
    np.testing.assert_allclose(density.mean() * TURN, 1, atol=1e-4)


def test_a_density_of_the_torus():
    flow = CircularSplineCoupling(passes=1, hidden=(16,), bins=4).build((2,))
    axis = np.linspace(-np.pi, np.pi, 200, endpoint=False, dtype="float32")
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    params, state = flow.init(KEY, grid)
    density = flow.at(moved_from_start(jax.random.key(2), params, 0.2), state)
    log_density = np.asarray(density.log_prob(grid), np.float64)
    assert np.ptp(log_density) > 1
    np.testing.assert_allclose(np.exp(log_density).mean() * TURN**2, 1, atol=1e-3)
    np.testing.assert_allclose(
        density.log_prob(grid[::97] + np.float32([TURN, -2 * TURN])), log_density[::97], atol=1e-3
    )

    samples = np.asarray(density.sample(KEY, NUMBER), np.float64)
    assert np.abs(samples).max() < np.pi + 1e-5
    for function in (np.cos, np.sin):
        expected = (np.exp(log_density)[:, None] * function(grid.astype(float))).mean(axis=0) * TURN**2
        assert np.all(abs(function(samples).mean(axis=0) - expected) < 5 / np.sqrt(NUMBER))


def test_angles_beside_numbers_of_the_line():
    flow = CircularSplineCoupling(angles=(1,), passes=1, hidden=(16,), bins=4).build((3,))
    x = np.random.default_rng(0).uniform(-3, 3, size=(64, 3)).astype(np.float32)
    params, state = flow.init(KEY, x)
    density = flow.at(moved_from_start(KEY, params, 0.5), state)
    shift = np.float32([0, TURN, 0])
    np.testing.assert_allclose(density.log_prob(x + shift), density.log_prob(x), rtol=2e-5, atol=2e-4)
    assert np.abs(density.log_prob(x + shift[[1, 0, 2]]) - density.log_prob(x)).max() > 1  # the others do go on
    # Every entry depends on every other one: Jacobian of the latents.
    jacobian = jax.jacfwd(lambda x: flow.bijector.forward(*_numbers(density), x[None])[0][0])(x[0])
    assert np.all(np.abs(jacobian) > 1e-7)


def _numbers(density):
    return density.params["bijector"], density.state["bijector"]


def test_wrapped_angles():
    x = np.float32([[-3.0, 3.5], [9.5, -3.5]])
    y, log_det, _ = Wrap().forward((), (), x)
    np.testing.assert_allclose(y, np.angle(np.exp(1j * x.astype(complex))), atol=1e-6)
    assert not np.any(log_det)


def test_networks_see_no_seam():
    network = OfAngles(MLP((8,), final_scale=1.0), columns=(2, 0))
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    params, state = network.init(KEY, x, outputs=2)
    seen = np.concatenate([np.cos(x[:, [2, 0]]), np.sin(x[:, [2, 0]]), x[:, [1]]], axis=1)
    expected, _ = network.network.apply(params, state, seen, outputs=2)
    np.testing.assert_allclose(network.apply(params, state, x, outputs=2)[0], expected, rtol=1e-6)
    with pytest.raises(ValueError, match="expected columns below 2"):
        network.init(KEY, x[:, :2], outputs=2)


@pytest.mark.parametrize("concentration", [1e-4, 0.3, 2.0, 50.0, 1e4])
def test_von_mises(concentration):
    z = np.float32([[-9.0], [-1.0], [0.0], [0.02], [3.0]])
    params = {"mean": jnp.full(1, 0.7), "log_concentration": jnp.full(1, np.log(concentration))}
    expected = stats.vonmises.logpdf(z[:, 0].astype(float), concentration, 0.7)
    np.testing.assert_allclose(VonMises().log_prob(params, z), expected, rtol=1e-5, atol=1e-5)
    draws = VonMises().sample(KEY, params, jax.ShapeDtypeStruct((NUMBER, 1), jnp.float32))[:, 0]
    assert np.abs(draws - 0.7).max() < np.pi + 1e-5
    # A Kolmogorov-Smirnov distance that one draw in a million reaches.
    distribution = stats.vonmises(concentration, 0.7)
    assert stats.kstest(np.asarray(draws, float), distribution.cdf).pvalue > 1e-6


def test_von_mises_of_no_number_ends():
    params = {"mean": jnp.zeros(1), "log_concentration": jnp.full(1, jnp.nan)}
    assert np.isnan(VonMises().sample(KEY, params, jnp.zeros((3, 1)))).all()
    assert np.isnan(UniformCircle().log_prob((), jnp.array([[jnp.nan]]))).all()


@pytest.mark.parametrize("angles", [(0, 0), (-1,), (2,)])
def test_angles_that_are_no_entries_are_refused(angles):
    with pytest.raises(ValueError, match="expected angles"):
        CircularSplineCoupling(angles).build((2,))

"""Linear maps of the last axis, against matrices that numpy composes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nvpjax import Householder, Linear, LULinear, RandomPermutation, Triangular
from nvpjax.testing import moved_from_start

CHANNELS = 4


@partial(jax.jit, static_argnums=0)
def init(bijector, key):
    return bijector.init(key, jnp.zeros((1, CHANNELS)))


@partial(jax.jit, static_argnums=0)
def forward(bijector, params, state, x):
    return bijector.forward(params, state, x)


def started(bijector, seed=0, moved=True):
    params, state = init(bijector, jax.random.key(seed))
    return (moved_from_start(jax.random.key(seed + 1), params) if moved else params), state


def matrix_of(bijector, params, state):
    """W, from what the bijector makes of the unit vectors, and its claimed log|det W|."""
    rows, log_det, _ = forward(bijector, params, state, np.eye(CHANNELS + 1, CHANNELS, dtype=np.float32))
    rows = np.asarray(rows, np.float64)
    return (rows[:-1] - rows[-1]).T, float(log_det[0])


@pytest.mark.parametrize("bijector", [Linear(), LULinear()], ids=repr)
def test_starts_as_a_random_rotation(bijector):
    w, log_det = matrix_of(bijector, *started(bijector, moved=False))
    np.testing.assert_allclose(w @ w.T, np.eye(CHANNELS), atol=1e-5)
    assert abs(log_det) < 1e-5 and np.count_nonzero(abs(w) > 1e-3) == w.size
    assert not np.allclose(abs(w), abs(matrix_of(bijector, *started(bijector, seed=5, moved=False))[0]), atol=1e-2)


def test_lu_linear_is_the_product_of_its_factors():
    params, state = started(LULinear())
    state = {**state, "permutation": jnp.array([2, 0, 3, 1])}  # not its own inverse
    params = {name: np.asarray(value, np.float64) for name, value in params.items()}
    p = np.eye(CHANNELS)[state["permutation"]]
    lower = np.tril(params["lower"], -1) + np.eye(CHANNELS)
    upper = np.triu(params["upper"], 1) + np.diag(np.asarray(state["sign"]) * np.exp(params["log_scale"]))
    w, log_det = matrix_of(LULinear(), params, state)
    np.testing.assert_allclose(w, p @ lower @ upper, atol=1e-5)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(w)[1], atol=1e-5)


@pytest.mark.parametrize("lower", [True, False])
def test_triangular_uses_its_own_triangle_and_a_positive_diagonal(lower):
    params, state = started(Triangular(lower))
    w, log_det = matrix_of(Triangular(lower), params, state)
    beside = np.tril(params["matrix"], -1) if lower else np.triu(params["matrix"], 1)
    np.testing.assert_allclose(w, beside + np.diag(np.exp(params["log_diagonal"])), atol=1e-6)
    np.testing.assert_allclose(
        forward(Triangular(lower), params, state, np.zeros((5, 4), np.float32))[0][0], params["shift"]
    )
    np.testing.assert_allclose(log_det, np.linalg.slogdet(w)[1], atol=1e-6)


@pytest.mark.parametrize("reflections", [1, 3])
def test_householder_is_the_product_of_its_reflections(reflections):
    params, state = started(Householder(reflections))
    expected = np.eye(CHANNELS)
    for v in np.asarray(params["vectors"], np.float64):
        expected = expected @ (np.eye(CHANNELS) - 2 * np.outer(v, v) / (v @ v))
    w, log_det = matrix_of(Householder(reflections), params, state)
    np.testing.assert_allclose(w, expected, atol=1e-5)
    np.testing.assert_allclose(w @ w.T, np.eye(CHANNELS), atol=1e-5)
    assert log_det == 0


@pytest.mark.parametrize("bijector", [Linear(), LULinear(), Triangular(), Householder(2)], ids=repr)
def test_on_an_image_it_is_the_matrix_at_every_pixel(bijector):
    params, state = started(bijector)
    w, _ = matrix_of(bijector, params, state)
    x = np.random.default_rng(0).normal(size=(2, 3, 5, CHANNELS)).astype(np.float32)
    y, log_det_of_image, _ = forward(bijector, params, state, x)
    shift = np.asarray(params.get("shift", 0.0))
    expected = [[[w @ pixel + shift for pixel in row] for row in image] for image in x]
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(log_det_of_image, [15 * np.linalg.slogdet(w)[1]] * 2, atol=1e-4)


def test_random_permutation_keeps_its_order_in_state():
    x = np.random.default_rng(0).normal(size=(2, 3, 8)).astype(np.float32)
    _, state = RandomPermutation().init(jax.random.key(0), x)
    order = np.asarray(state["order"])
    assert sorted(order) == list(range(8)) and list(order) != list(range(8))
    y, log_det, after = RandomPermutation().forward((), state, x)
    assert np.array_equal(y, x[..., order]) and np.array_equal(after["order"], order) and not np.any(log_det)
    assert np.array_equal(RandomPermutation().inverse((), state, y)[0], x)
    _, other = RandomPermutation().init(jax.random.key(1), x)
    assert not np.array_equal(other["order"], order)
    assert np.array_equal(RandomPermutation().forward((), other, x)[0], x[..., np.asarray(other["order"])])

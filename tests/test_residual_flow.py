"""Contractions and residual flows: singular values by numpy, the estimate of log-dets against exact ones."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nvpjax import ExactLogDet, InvertibleResidual, ResidualFlow, ResidualFlowVectors, SeriesLogDet
from nvpjax.bijectors.residual_log_det import log_det_beside_identity, noise_of
from nvpjax.nets import ContractiveConvolutions, ContractiveMLP
from nvpjax.testing import moved_from_start

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).normal(size=(3, 4, 5, 2)).astype(np.float32)
VECTORS = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
CASES = {"mlp": (ContractiveMLP((16, 8), 0.8), VECTORS), "convolutions": (ContractiveConvolutions(5, 0.7), IMAGES)}


def far(network, x, size=2.0):
    """Weights of params far from the start, by the vectors that init found."""
    params, state = network.init(KEY, x)
    params = moved_from_start(KEY, params, size)
    return network.weights(params, network.settle(params, state)), params


def matrix(linear, event):
    return np.asarray(jax.jacfwd(lambda v: linear(v).ravel())(jnp.zeros(event)), float).reshape(-1, int(np.prod(event)))


@pytest.mark.parametrize("case", CASES)
def test_largest_singular_values_are_numpys(case):
    network, x = CASES[case]
    weights, params = far(network, x)
    _, state = network.init(KEY, x)
    share = network.coefficient ** (1 / 3)
    for name, vector in state.items():
        kernels = params[name]["kernel"], weights[name]["kernel"]
        matrices = [matrix(partial(network.linear, kernel), vector.shape) for kernel in kernels]
        before, after = (np.linalg.norm(one, 2) for one in matrices)
        assert before > 2 and abs(after - share) < 1e-3 * share


def test_short_kernels_stay_as_they_are():
    network, x = CASES["mlp"]
    params, state = network.init(KEY, x)
    small = jax.tree.map(lambda a: a / 100, params)
    for name, layer in network.weights(small, network.settle(small, state)).items():
        np.testing.assert_array_equal(layer["kernel"], small[name]["kernel"])


@pytest.mark.parametrize("case", CASES)
def test_slopes_stay_below_the_coefficient(case):
    network, x = CASES[case]
    weights, _ = far(network, x)

    def flat(entries):
        return network.apply(weights, entries.reshape(1, *x.shape[1:])).ravel()

    points = [jnp.asarray(scale * one.ravel()) for scale in (0.1, 1, 5) for one in x]
    slopes = [np.linalg.norm(jax.jacfwd(flat)(point), 2) for point in points]
    assert 0.1 * network.coefficient < max(slopes) <= network.coefficient * 1.001


def test_more_than_ten_layers_go_in_their_order():
    network = ContractiveMLP(tuple(range(4, 16)), 0.9)  # widths that differ: out of order they do not fit
    params, state = network.init(KEY, VECTORS)
    assert jax.jit(network.apply)(network.weights(params, state), VECTORS).shape == VECTORS.shape


def test_inverse_where_rounds_are_too_few_is_no_number():
    block = InvertibleResidual(ContractiveMLP((16,), 0.99), rounds=3)
    params, state = block.init(KEY, VECTORS)
    params = moved_from_start(KEY, params, 3.0)
    y, _, _ = block.forward(params, state, VECTORS)
    assert np.isnan(block.inverse(params, state, y)[0]).any()
    enough = dataclasses.replace(block, rounds=2000)
    np.testing.assert_allclose(enough.inverse(params, state, y)[0], VECTORS, atol=2e-4)


def test_derivatives_of_the_inverse():
    block = InvertibleResidual(ContractiveMLP((16,), 0.9))
    params, state = block.init(KEY, VECTORS)
    y, _, _ = block.forward(params, state, VECTORS)

    def there(x):
        return block.forward(params, state, x[None])[0][0]

    def back(y):
        return block.inverse(params, state, y[None])[0][0]

    expected = np.linalg.inv(jax.jacfwd(there)(jnp.asarray(VECTORS[0])))
    np.testing.assert_allclose(jax.jacfwd(back)(y[0]), expected, atol=1e-4)
    np.testing.assert_allclose(jax.jacrev(back)(y[0]), expected, atol=1e-4)

    # With respect to params: x = f⁻¹(f(x; θ); θ) does not move with θ.
    def round_trip(params):
        return block.inverse(params, state, block.forward(params, state, VECTORS)[0])[0].sum()

    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(jax.grad(round_trip)(params))) < 1e-3


def test_training_moves_the_vectors_and_the_noise_and_evaluation_does_not():
    block = InvertibleResidual(ContractiveMLP((16,), 0.9), SeriesLogDet())
    params, state = block.init(KEY, VECTORS)
    moved = moved_from_start(KEY, params)
    _, _, same = block.forward(moved, state, VECTORS)
    jax.tree.map(np.testing.assert_array_equal, same, state)
    _, _, other = block.forward(moved, state, VECTORS, train=True)
    assert all(np.abs(a - b).max() > 0 for a, b in zip(*map(jax.tree.leaves, (other["network"], state["network"]))))
    assert np.any(other["noise"] != state["noise"])


def test_log_dets_beside_the_identity_are_numpys():
    for size, seed in ((1, 0), (5, 1), (40, 2)):
        matrix = np.random.default_rng(seed).normal(size=(size, size))
        matrix = np.eye(size) + 0.95 * matrix / np.linalg.norm(matrix, 2)
        with jax.enable_x64(True):
            found, gradient = jax.value_and_grad(log_det_beside_identity)(jnp.asarray(matrix))
        np.testing.assert_allclose(found, np.linalg.slogdet(matrix)[1], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(gradient, np.linalg.inv(matrix).T, rtol=1e-8, atol=1e-10)


# ---------------------------------------------------------------------------------------------------------------------
# The estimate
# ---------------------------------------------------------------------------------------------------------------------


def estimates(exact_terms, draws=1000):
    """Estimates and their gradients by draws of noise, and the exact ones."""
    network = ContractiveMLP((8,), 0.7)
    params, vectors = network.init(KEY, VECTORS)
    weights = network.weights(moved_from_start(KEY, params, 1.0), vectors)
    series = SeriesLogDet(exact_terms, exact_terms)

    def total(weights, state, log_det_by):
        each = log_det_by.log_det(network.apply, weights, jnp.asarray(VECTORS), None, state, train=True)
        return each.sum(), each

    states = jax.vmap(jax.random.key_data)(jax.random.split(jax.random.key(5), draws))
    run = jax.jit(jax.vmap(lambda state: jax.grad(total, has_aux=True)(weights, state, series)))
    gradients, each = run(states)
    exact_gradients, exact = jax.grad(total, has_aux=True)(weights, (), ExactLogDet())
    return (gradients, each), (exact_gradients, exact)


@pytest.mark.parametrize("exact_terms", [1, 4])
def test_the_series_is_unbiased_and_so_is_its_gradient(exact_terms):
    found, exact = estimates(exact_terms)
    for draws, truth in zip(*map(jax.tree.leaves, (found, exact)), strict=True):
        draws, truth = np.asarray(draws, float), np.asarray(truth, float)
        error = draws.std(axis=0) / np.sqrt(len(draws))
        # Five standard errors, and what the sums round to.
        assert np.all(np.abs(draws.mean(axis=0) - truth) < 5 * error + 1e-5 * (1 + np.abs(truth)))
    assert found[1].std(axis=0).max() > 1e-2


def test_many_exact_terms_leave_hutchinsons_noise_alone():
    network = ContractiveMLP((8,), 0.5)
    params, state = network.init(KEY, VECTORS[:, :1])
    weights, x = network.weights(params, state), jnp.asarray(VECTORS[:, :1])
    key = SeriesLogDet().init(KEY)
    noise = noise_of(jax.random.split(KEY)[1], x)[:, 0]
    # Of one entry εᵀJᵏε is ε²·Jᵏ: the estimate is ε² times the log-det, but for terms below 0.5^30.
    expected = noise**2 * ExactLogDet().log_det(network.apply, weights, x, None, (), train=False)
    found = SeriesLogDet(30, 30).log_det(network.apply, weights, x, None, key, train=False)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_noise_of_an_example_is_its_own():
    noise = noise_of(KEY, jnp.asarray(IMAGES))
    np.testing.assert_array_equal(noise[1:2], noise_of(KEY, jnp.asarray(IMAGES[1:2])))
    np.testing.assert_array_equal(noise[::-1], noise_of(KEY, jnp.asarray(IMAGES[::-1])))
    grid = jnp.asarray(np.random.default_rng(0).integers(0, 2, size=(4000, 3, 4)) / 2, "float32")  # few bits differ
    distinct = np.unique(np.asarray(grid).reshape(4000, -1), axis=0)
    drawn = np.asarray(noise_of(KEY, jnp.asarray(distinct.reshape(-1, 3, 4))))
    assert len(np.unique(drawn[:, 0, 0])) > 0.999 * len(distinct)
    assert abs(drawn.mean()) < 5 / np.sqrt(drawn.size) and abs(drawn.std() - 1) < 0.02
    assert not np.array_equal(noise, noise_of(jax.random.key(1), jnp.asarray(IMAGES)))


def test_memory_does_not_grow_with_the_number_of_terms():
    network, x = ContractiveMLP((64, 64), 0.9), jnp.zeros((256, 16))
    params, state = network.init(KEY, x)

    def temporary(exact_terms):
        series = SeriesLogDet(exact_terms)

        def nats(params):
            weights = network.weights(params, state)
            return series.log_det(network.apply, weights, x, None, series.init(KEY), train=True).sum()

        return jax.jit(jax.grad(nats)).lower(params).compile().memory_analysis().temp_size_in_bytes

    assert temporary(2) == temporary(200)


def test_a_residual_flow_of_images():
    flow = ResidualFlow(scales=2, blocks=1, features=4, dense_blocks=1, dense_features=8).build((4, 4, 1))
    x = np.random.default_rng(0).uniform(size=(3, 4, 4, 1)).astype(np.float32)
    params, state = jax.jit(flow.init)(KEY, x)
    latents, log_det, _ = jax.jit(flow.bijector.forward)(params["bijector"], state["bijector"], x)
    again, _ = jax.jit(flow.bijector.inverse)(params["bijector"], state["bijector"], latents)
    np.testing.assert_allclose(again, x, atol=1e-4)
    assert latents.shape == (3, 16) and np.all(np.isfinite(log_det))


@pytest.mark.parametrize("model", [ResidualFlowVectors(), ResidualFlow()], ids=lambda model: type(model).__name__)
def test_networks_in_a_coarse_dtype_are_refused(model):
    shape = (4,) if isinstance(model, ResidualFlowVectors) else (8, 8, 1)
    with pytest.raises(ValueError, match="float32 or wider"):
        model.build(shape, network_dtype="bfloat16")


def test_shapes_and_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="0 < coefficient < 1"):
        ContractiveMLP((4,), 1.0)
    with pytest.raises(ValueError, match=r"expected x \(batch, height"):
        ContractiveConvolutions(4).init(KEY, VECTORS)
    with pytest.raises(TypeError, match="expected as network"):
        InvertibleResidual("MLP")

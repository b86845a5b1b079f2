"""Batch normalisation against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nvpjax import BatchNorm, Checkerboard


def batches(number, shape=(8, 3), seed=0):
    return np.random.default_rng(seed).normal(1.0, 2.0, size=(number, *shape)).astype(np.float32)


def test_training_uses_the_moments_of_the_changed_positions_alone():
    x = batches(1, (4, 3, 3, 2))[0]
    norm = BatchNorm(Checkerboard("even"), epsilon=0.0)
    params, state = norm.init(jax.random.key(0), jnp.asarray(x))
    y, log_det, _ = norm.forward(params, state, jnp.asarray(x), train=True)
    odd = np.indices((3, 3)).sum(axis=0) % 2 == 1
    mean, variance = x[:, odd].mean(axis=(0, 1)), x[:, odd].var(axis=(0, 1))
    np.testing.assert_allclose(np.asarray(y)[:, odd], (x[:, odd] - mean) / np.sqrt(variance), atol=1e-5)
    assert np.array_equal(np.asarray(y)[:, ~odd], x[:, ~odd])
    np.testing.assert_allclose(log_det, -0.5 * odd.sum() * np.log(variance).sum(), rtol=1e-5)


@pytest.mark.parametrize("lag", [0.0, 0.6, 0.9])
def test_running_averages_and_lag_follow_equations_20_and_21(lag):
    momentum = 0.9
    norm = BatchNorm(lag=lag, momentum=momentum, epsilon=0.0)
    params, state = norm.init(jax.random.key(0), jnp.zeros((8, 3)))
    raw = np.zeros(3)  # without bias correction, as in the paper
    for step, x in enumerate(batches(5), start=1):
        used = ((1 - lag) * x.mean(0) + lag * raw) / (1 - lag + lag * (1 - momentum ** (step - 1)))
        raw = momentum * raw + (1 - momentum) * x.mean(0)
        _, _, state = norm.forward(params, state, jnp.asarray(x), train=True)
        np.testing.assert_allclose(state["mean"], raw / (1 - momentum**step), rtol=2e-5)
        np.testing.assert_allclose(state["used_mean"], used, rtol=2e-5)
        if lag == momentum:
            np.testing.assert_allclose(state["used_mean"], state["mean"], rtol=2e-5)


def test_evaluation_normalises_each_example_by_itself():
    norm = BatchNorm()
    x = jnp.asarray(batches(1)[0])
    params, state = norm.init(jax.random.key(0), x)
    _, _, state = norm.forward(params, state, x, train=True)
    y, _, after = norm.forward(params, state, x)
    np.testing.assert_array_equal(norm.forward(params, state, x[:1])[0], y[:1])
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(after)))


def test_gradient_flows_through_the_batch_moments_only():
    norm = BatchNorm(lag=0.5, epsilon=0.0)
    params, state = norm.init(jax.random.key(0), jnp.zeros((8, 3)))
    _, _, state = norm.forward(params, state, jnp.asarray(batches(1)[0]), train=True)

    def log_det(x, mean_before):
        before = {**state, "mean": mean_before, "variance": state["variance"] + 0 * mean_before}
        y, log_det, _ = norm.forward(params, before, x, train=True)
        return jnp.sum(y) + jnp.sum(log_det)

    to_x, to_running = jax.grad(log_det, argnums=(0, 1))(jnp.asarray(batches(1, seed=1)[0]), state["mean"])
    assert np.any(np.asarray(to_x) != 0) and np.all(np.asarray(to_running) == 0)

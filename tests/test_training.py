"""One step is the same step on any number of devices."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nvpjax import real_nvp
from nvpjax.parallel import (
    AXIS,
    parallel_eval_step,
    parallel_measure_step,
    parallel_train_step,
    replicate,
    shard,
    unreplicate,
)
from nvpjax.testing import moved_from_start
from nvpjax.training import (
    create_train_state,
    make_eval_step,
    make_measure_step,
    make_train_mode_bits,
    make_train_step,
)

# One process runs them all: they share a fixture that takes long.
pytestmark = pytest.mark.xdist_group("training")

# Without Adam's division by the gradient's own size, what the optimiser has moved is −1 x the gradient.
OPTIMIZER = optax.sgd(1.0)
FLOW = real_nvp(channels=1, scales=2, features=4, blocks=0, axis_name=AXIS)
IMAGES = np.random.default_rng(0).integers(0, 17, size=(8, 8, 8, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def start():
    x = jnp.full((2, 8, 8, 1), 0.5)
    train_state = jax.jit(lambda key: create_train_state(FLOW, OPTIMIZER, key, x))(jax.random.key(0))
    return train_state._replace(params=moved_from_start(jax.random.key(1), train_state.params, 0.1))


@pytest.fixture(scope="module")
def steps(start):
    results = {}
    for number in (1, 2, 4):
        devices = jax.local_devices()[:number]
        step = parallel_train_step(make_train_step(FLOW, OPTIMIZER, levels=17, axis_name=AXIS), devices)
        after, metrics = step(replicate(start, devices), jax.random.key(2), shard(IMAGES, number))
        results[number] = unreplicate(after), unreplicate(metrics), after
    return results


@pytest.mark.parametrize("number", [2, 4])
def test_loss_gradients_and_running_averages_do_not_depend_on_the_devices(start, steps, number):
    one, many = steps[1], steps[number]
    np.testing.assert_allclose(many[1]["loss"], one[1]["loss"], rtol=1e-5)
    gradients = [jax.tree.map(lambda a, b: np.asarray(a - b), start.params, result[0].params) for result in (one, many)]
    norm = optax.tree.norm(gradients[0])
    difference = optax.tree.norm(jax.tree.map(lambda a, b: a - b, *gradients))
    assert float(norm) > 1 and float(difference / norm) < 1e-5
    for a, b in zip(jax.tree.leaves(one[0].state), jax.tree.leaves(many[0].state)):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5)


def test_devices_hold_the_same_numbers_after_a_step(steps):
    for leaf in jax.tree.leaves(steps[4][2]):
        copies = np.asarray(leaf)
        assert all(np.array_equal(copies[0], copy) for copy in copies[1:])


def test_evaluation_of_an_image_does_not_depend_on_batch_padding_or_devices(start):
    step = make_eval_step(FLOW, levels=17)
    key, indices = jax.random.key(3), np.arange(8)
    whole = jax.jit(step)(start.params, start.state, key, IMAGES, indices)
    padded = np.resize(np.arange(5, 8), 8)
    last = jax.jit(step)(start.params, start.state, key, IMAGES[padded], padded)[:3]
    np.testing.assert_allclose(last, whole[5:], rtol=1e-6)
    variables = replicate((start.params, start.state))
    parallel = parallel_eval_step(step)(*variables, key, shard(IMAGES, 4), shard(indices, 4))
    np.testing.assert_allclose(np.ravel(parallel), whole, rtol=1e-6)


def test_batch_that_devices_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiple of 3"):
        shard(np.zeros((8, 2)), 3)


def test_loss_is_the_negative_log_likelihood_in_nats(steps):
    metrics = steps[1][1]
    nats = (metrics["bits_per_dim"] - np.log2(17)) * 64 * np.log(2)
    np.testing.assert_allclose(metrics["loss"], nats, rtol=1e-4)


def test_moments_measured_anew_belong_to_the_parameters_of_now(start):
    """Averages of a flow whose parameters then moved far are wrong for it; sixty batches put them right."""
    key, indices = jax.random.key(5), np.arange(len(IMAGES))
    params = moved_from_start(jax.random.key(6), start.params, 0.5)
    averages = {}
    for number in (1, 4):
        devices = jax.local_devices()[:number]
        measure = parallel_measure_step(make_measure_step(FLOW, levels=17, axis_name=AXIS), devices)
        variables, state = replicate(params, devices), replicate(start.state, devices)
        for batch in range(60):
            state, bits = measure(variables, state, jax.random.fold_in(key, batch), shard(IMAGES, number))
        averages[number] = unreplicate(state)
        training_bits = float(unreplicate(bits))
    chex.assert_trees_all_close(averages[1], averages[4], rtol=1e-4, atol=1e-5)

    evaluate = jax.jit(make_eval_step(FLOW, levels=17))
    stale, fresh = (evaluate(params, state, key, IMAGES, indices).mean() for state in (start.state, averages[1]))
    train_mode = jax.vmap(make_train_mode_bits(FLOW, levels=17), axis_name=AXIS, in_axes=(None, None, None, 0, 0))
    own = jax.jit(train_mode)(params, start.state, key, IMAGES[None], indices[None]).mean()
    np.testing.assert_allclose(training_bits, own, atol=0.05)  # of other noise
    assert abs(stale - own) > 0.1 and abs(fresh - own) < 0.1 * abs(stale - own)


def test_step_that_is_not_finite_changes_nothing_but_its_count(start, steps):
    def penalty(params):
        return jnp.where(jnp.abs(jax.tree.leaves(params)[0]).sum() > 1e6, jnp.nan, 0.0)

    step = parallel_train_step(make_train_step(FLOW, OPTIMIZER, levels=17, penalty=penalty, axis_name=AXIS))
    poisoned = start._replace(params=jax.tree.map(lambda leaf: leaf + 1e7, start.params))
    key, images = jax.random.key(2), shard(IMAGES, 4)
    once, metrics = step(replicate(poisoned), key, images)
    assert not np.isfinite(unreplicate(metrics)["loss"]) and unreplicate(metrics)["skipped_in_a_row"] == 1
    once = unreplicate(once)
    twice = unreplicate(step(replicate(once), key, images)[0])
    assert (once.step, once.skipped, once.skipped_in_a_row) == (1, 1, 1)
    assert (twice.step, twice.skipped, twice.skipped_in_a_row) == (2, 2, 2)
    for name in ("params", "state", "optimizer_state"):
        chex.assert_trees_all_equal(getattr(twice, name), getattr(poisoned, name))
    well, metrics = step(replicate(twice._replace(params=start.params)), key, images)
    well = unreplicate(well)
    assert (well.step, well.skipped, well.skipped_in_a_row) == (3, 2, 0) and np.isfinite(unreplicate(metrics)["loss"])

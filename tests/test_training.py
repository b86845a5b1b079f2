"""One step is the same step on any number of devices, for any objective."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from nvpjax import (
    Affine,
    BatchNorm,
    Chain,
    ChannelMask,
    Checkerboard,
    Coupling,
    Flow,
    Likelihood,
    Logit,
    PixelLikelihood,
    Squeeze,
    Triangular,
)
from nvpjax.bijectors import TanhBound
from nvpjax.nets import ResidualNet
from nvpjax.parallel import AXIS, parallel_eval_step, parallel_train_step, replicate, shard, unreplicate
from nvpjax.testing import moved_from_start
from nvpjax.training import create_train_state, make_eval_step, make_measure_step, make_round_trip, make_train_step

# One process runs them all: they share a fixture that takes long.
pytestmark = pytest.mark.xdist_group("training")

# Without Adam's division by the gradient's own size, what the optimiser has moved is −1 x the gradient.
OPTIMIZER = optax.sgd(1.0)
DECAY = 0.05
"""Below the ramp's first value, so that it is taken as it is."""
IMAGES = np.random.default_rng(0).integers(0, 17, size=(8, 4, 4, 1)).astype(np.uint8)
BATCH = {"image": IMAGES}


def image_objective(axis_name):
    """Two couplings with batch normalisation between them and inside their networks."""

    def layer(mask, **options):
        network = ResidualNet(4, 0, axis_name=axis_name, **options)
        return Coupling(mask, Affine(TanhBound(initial_scale=1.0)), network), BatchNorm(mask, axis_name=axis_name)

    first = layer(Checkerboard(passes="even"), mask_channel=True)
    second = layer(ChannelMask(passes="first"))
    return PixelLikelihood(Flow(Chain((Logit(0.05), *first, Squeeze(), *second))), levels=17)


ON_DEVICES, ALONE = image_objective(AXIS), image_objective(None)


def moved(train_state, size=0.1):
    return train_state._replace(params=moved_from_start(jax.random.key(1), train_state.params, size))


@pytest.fixture(scope="module")
def start():
    start = jax.jit(lambda key: create_train_state(ALONE, OPTIMIZER, key, BATCH, averages=True))(jax.random.key(0))
    return moved(start)


@pytest.fixture(scope="module")
def steps(start):
    results = {}
    for number in (1, 2, 4):
        devices = jax.local_devices()[:number]
        step = make_train_step(ON_DEVICES, OPTIMIZER, average_decay=DECAY, axis_name=AXIS)
        after, metrics = parallel_train_step(step, devices)(
            replicate(start, devices), jax.random.key(2), shard(BATCH, number)
        )
        results[number] = unreplicate(after), unreplicate(metrics), after
    return results


def assert_same_step(start, one, many):
    (one, one_metrics), (many, many_metrics) = one, many
    np.testing.assert_allclose(many_metrics["loss"], one_metrics["loss"], rtol=1e-5)
    gradients = [jax.tree.map(lambda a, b: np.asarray(a - b), start.params, result.params) for result in (one, many)]
    norm = optax.tree.norm(gradients[0])
    difference = optax.tree.norm(jax.tree.map(lambda a, b: a - b, *gradients))
    assert float(norm) > 1 and float(difference / norm) < 1e-5
    chex.assert_trees_all_close(many.state, one.state, rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_close(many.averages, one.averages, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("number", [2, 4])
def test_the_step_does_not_depend_on_the_number_of_devices(start, steps, number):
    assert_same_step(start, steps[1][:2], steps[number][:2])


def test_jit_on_a_mesh_gives_the_step_of_pmap(start, steps):
    mesh = Mesh(np.array(jax.local_devices()[:4]), ("data",))
    everywhere, divided = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    step = jax.jit(make_train_step(ALONE, OPTIMIZER, average_decay=DECAY))
    batch = jax.device_put(BATCH, divided)
    assert len(batch["image"].sharding.device_set) == 4
    after = step(jax.device_put(start, everywhere), jax.random.key(2), batch)
    assert_same_step(start, steps[4][:2], jax.tree.map(np.asarray, after))


def test_devices_hold_the_same_numbers_after_a_step(steps):
    for leaf in jax.tree.leaves(steps[4][2]):
        copies = np.asarray(leaf)
        assert all(np.array_equal(copies[0], copy) for copy in copies[1:])


def test_loss_is_the_mean_of_the_nats_and_the_penalty(start, steps):
    metrics, key = steps[1][1], jax.random.fold_in(jax.random.key(2), 0)
    nats = jax.jit(make_eval_step(ALONE, train=True))(start.params, start.state, key, {**BATCH, "index": np.arange(8)})
    np.testing.assert_allclose(metrics["loss"], nats.mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["nats"], nats.mean(), rtol=1e-4)


def vectors():
    objective = Likelihood(Flow(Triangular()))
    batch = {"x": np.random.default_rng(0).standard_normal((6, 2), np.float32)}
    return objective, batch, moved(create_train_state(objective, OPTIMIZER, jax.random.key(0), batch, averages=True))


def test_gradient_and_penalty_against_differences():
    objective, batch, start = vectors()

    def penalty(params):
        return 0.1 * jnp.sum(params["bijector"]["shift"] ** 3)

    step = jax.jit(make_train_step(objective, OPTIMIZER, penalty=penalty, average_decay=DECAY))
    after, metrics = step(start, jax.random.key(0), batch)
    flat, restore = jax.flatten_util.ravel_pytree(start.params)

    def loss(flat):
        params = restore(flat)
        return objective(params, start.state, jax.random.key(0), batch)[0].mean() + penalty(params)

    differences = np.array([(loss(flat + 1e-2 * e) - loss(flat - 1e-2 * e)) / 2e-2 for e in np.eye(len(flat))])
    gradient = flat - jax.flatten_util.ravel_pytree(after.params)[0]
    np.testing.assert_allclose(gradient, differences, rtol=1e-2, atol=2e-3)
    np.testing.assert_allclose(metrics["gradient_norm"], np.linalg.norm(differences), rtol=1e-2)
    assert metrics["loss"] != metrics["nats"]


@pytest.mark.parametrize("decay", [0.05, 0.9, lambda step: 0.5 + 0.1 * step], ids=["below", "ramp", "schedule"])
def test_averages_over_three_steps(decay):
    objective, batch, state = vectors()
    step = jax.jit(make_train_step(objective, OPTIMIZER, average_decay=decay))
    expected = state.averages.params
    for number in range(3):
        state, _ = step(state, jax.random.key(0), batch)
        weight = decay(number) if callable(decay) else min(decay, (1 + number) / (10 + number))
        expected = jax.tree.map(lambda a, b: weight * a + (1 - weight) * b, expected, state.params)  # noqa: B023
    chex.assert_trees_all_close(state.averages.params, expected, rtol=1e-5, atol=1e-6)
    assert state.evaluated[0] is state.averages.params


@pytest.mark.parametrize("averages, decay, made", [(False, 0.9, "without"), (True, None, "with")])
def test_a_train_state_of_the_other_kind_is_refused(averages, decay, made):
    objective, batch, _ = vectors()
    state = create_train_state(objective, OPTIMIZER, jax.random.key(0), batch, averages=averages)
    with pytest.raises(ValueError, match=f"average_decay={decay}, got one {made} averages"):
        make_train_step(objective, OPTIMIZER, average_decay=decay)(state, jax.random.key(0), batch)


def test_measured_moments_go_to_the_parameters_or_to_their_averages():
    _, _, state = vectors()
    ours, averaged = state.with_measured("new"), state.with_measured("new", of_averages=True)
    assert ours.state == "new" and ours.averages == state.averages
    assert averaged.state == state.state and averaged.averages.state == "new"
    assert averaged.averages.params is state.averages.params


def test_evaluation_of_an_image_does_not_depend_on_batch_padding_or_devices(start):
    step, key = make_eval_step(ALONE), jax.random.key(3)
    indexed = {**BATCH, "index": np.arange(8)}
    whole = jax.jit(step)(start.params, start.state, key, indexed)
    rows = np.resize(np.arange(5, 8), 8)
    last = jax.jit(step)(start.params, start.state, key, jax.tree.map(lambda leaf: leaf[rows], indexed))[:3]
    np.testing.assert_allclose(last, whole[5:], rtol=1e-6)
    variables = replicate((start.params, start.state))
    parallel = parallel_eval_step(step)(*variables, key, shard(indexed, 4))
    np.testing.assert_allclose(np.ravel(parallel), whole, rtol=1e-6)


def test_batch_that_devices_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiple of 3"):
        shard({"x": np.zeros((8, 2)), "context": np.zeros(8)}, 3)


def test_moments_measured_anew_belong_to_the_parameters_of_now(start):
    """Averages of a flow whose parameters then moved far are wrong for it; sixty batches put them right."""
    key = jax.random.key(5)
    params = moved_from_start(jax.random.key(6), start.params, 1.0)
    averages, nats = {}, {}
    for number in (1, 4):
        devices = jax.local_devices()[:number]
        measure = parallel_eval_step(make_measure_step(ON_DEVICES, axis_name=AXIS), devices)
        variables, state = replicate(params, devices), replicate(start.state, devices)
        for batch in range(60):
            state, measured = measure(variables, state, jax.random.fold_in(key, batch), shard(BATCH, number))
        averages[number], nats[number] = unreplicate(state), float(unreplicate(measured))
    chex.assert_trees_all_close(averages[1], averages[4], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(nats[1], nats[4], rtol=1e-4)

    batch, evaluate = {**BATCH, "index": np.arange(8)}, jax.jit(make_eval_step(ALONE))
    stale, fresh = (evaluate(params, state, key, batch).mean() for state in (start.state, averages[1]))
    own = jax.jit(make_eval_step(ALONE, train=True))(params, start.state, key, batch).mean()
    np.testing.assert_allclose(nats[1], own, atol=2)  # of other noise
    assert abs(stale - own) > 1 and abs(fresh - own) < 0.1 * abs(stale - own)


def test_round_trip_is_the_largest_error_of_each_example(start):
    batch = {**BATCH, "index": np.arange(8)}
    error = jax.jit(make_round_trip(ALONE))(start.params, start.state, jax.random.key(0), batch)
    assert error.shape == (8,) and 0 < error.max() < 1e-3

    class WrongInverse:
        def forward(self, params, state, x, context):
            return x, None, state

        def inverse(self, params, state, y, context):
            return y.at[1, 0].add(-3.0), None

    class Objective:
        flow = type("Flow", (), {"bijector": WrongInverse()})

        def data(self, params, state, key, batch):
            return batch["x"], None

        def flow_params(self, params):
            return {"bijector": params}

        def flow_state(self, state):
            return {"bijector": state}

    assert make_round_trip(Objective())((), (), None, {"x": jnp.zeros((3, 2))}).tolist() == [0, 3, 0]


def test_step_that_is_not_finite_changes_nothing_but_its_count(start):
    def penalty(params):
        return jnp.where(jnp.abs(jax.tree.leaves(params)[0]).sum() > 1e6, jnp.nan, 0.0)

    options = {"penalty": penalty, "average_decay": DECAY, "axis_name": AXIS}
    step = parallel_train_step(make_train_step(ON_DEVICES, OPTIMIZER, **options))
    poisoned = start._replace(params=jax.tree.map(lambda leaf: leaf + 1e7, start.params))
    key, batch = jax.random.key(2), shard(BATCH, 4)
    once, metrics = step(replicate(poisoned), key, batch)
    assert not np.isfinite(unreplicate(metrics)["loss"]) and unreplicate(metrics)["skipped_in_a_row"] == 1
    once = unreplicate(once)
    twice = unreplicate(step(replicate(once), key, batch)[0])
    assert (once.step, once.skipped, once.skipped_in_a_row) == (1, 1, 1)
    assert (twice.step, twice.skipped, twice.skipped_in_a_row) == (2, 2, 2)
    for name in ("params", "state", "optimizer_state", "averages"):
        chex.assert_trees_all_equal(getattr(twice, name), getattr(poisoned, name))
    well, metrics = step(replicate(twice._replace(params=start.params)), key, batch)
    well = unreplicate(well)
    assert (well.step, well.skipped, well.skipped_in_a_row) == (3, 2, 0) and np.isfinite(unreplicate(metrics)["loss"])

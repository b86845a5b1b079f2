"""Activation normalisation starts from the data, once, and on the global batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nvpjax import ActNorm, Chain, Glow, Inverse, LULinear, Repeat
from nvpjax.parallel import AXIS, parallel_init, replicate, shard


def batch(*shape, seed=0):
    """Channels with means and scales of their own."""
    generator = np.random.default_rng(seed)
    own = generator.uniform(0.2, 5, shape[-1])
    return (generator.normal(size=shape) * own + 3 * own - 5).astype(np.float32)


def check_normalised(y):
    channels = np.asarray(y, np.float64).reshape(-1, y.shape[-1])
    np.testing.assert_allclose(channels.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(channels.std(axis=0), 1, atol=1e-4)


@pytest.mark.parametrize("norm", [ActNorm(), Inverse(ActNorm())], ids=repr)
def test_the_batch_of_init_comes_out_with_mean_0_and_variance_1(norm):
    x = batch(16, 3, 2, 3)
    params, state = norm.init(jax.random.key(0), x)
    y, log_det, _ = norm.forward(params, state, x)
    check_normalised(y)
    std = x.astype(np.float64).reshape(-1, 3).std(axis=0)
    np.testing.assert_allclose(log_det, np.full(16, -6 * np.log(std).sum()), rtol=1e-5)


def test_other_data_go_through_what_init_measured():
    x, other = batch(64, 3), batch(5, 3, seed=1)
    params, state = ActNorm().init(jax.random.key(0), x)
    restored = jax.tree.map(lambda a: jnp.asarray(np.array(a)), params)
    for train in (False, True):
        y, log_det, after = ActNorm().forward(restored, state, other, train=train)
        np.testing.assert_allclose(y, (other - x.mean(axis=0)) / x.std(axis=0), atol=1e-5)
        np.testing.assert_allclose(log_det, np.full(5, -np.log(x.std(axis=0)).sum()), rtol=1e-5)
        np.testing.assert_allclose(ActNorm().inverse(restored, state, y, train=train)[0], other, atol=1e-5)
        assert not jax.tree.leaves(after)


@pytest.mark.parametrize("rows", [8, 300])
def test_a_constant_channel_keeps_scale_1(rows):
    # In floating point the mean of many 0.1 need not be 0.1, and a variance about it is rounding alone.
    constants = np.float32([5, 0.1, -1 / 3, 1e4 / 7])
    x = np.concatenate([batch(rows, 1), np.broadcast_to(constants, (rows, 4))], axis=1)
    params, state = ActNorm().init(jax.random.key(0), x)
    assert abs(params["log_scale"][0]) > 0.1
    assert np.array_equal(params["log_scale"][1:], np.zeros(4)), f"scaled by {np.exp(params['log_scale'][1:])}"
    np.testing.assert_allclose(ActNorm().forward(params, state, x)[0][:, 1:] / constants, 0, atol=1e-5)


@pytest.mark.parametrize(
    "bijector, x, number",
    [
        (Chain((LULinear(), ActNorm(), LULinear(), ActNorm())), batch(32, 3), 2),
        (Glow(levels=2, depth=1, features=2).build((4, 4, 1)).bijector, batch(16, 4, 4, 1), 2),
    ],
    ids=["chain", "Glow"],
)
def test_deeper_ones_measure_what_the_layers_before_them_give(bijector, x, number, monkeypatch):
    outputs, forward = [], ActNorm.forward

    def recorded(self, *args, **kwargs):
        result = forward(self, *args, **kwargs)
        jax.debug.callback(outputs.append, result[0])  # from inside loops too
        return result

    params, state = jax.jit(bijector.init)(jax.random.key(0), x)
    monkeypatch.setattr(ActNorm, "forward", recorded)
    jax.block_until_ready(jax.jit(bijector.forward)(params, state, x))
    jax.effects_barrier()
    assert len(outputs) == number
    for y in outputs:
        check_normalised(y)


def test_layers_of_a_repeat_measure_what_the_layers_before_them_give():
    layer, x = Chain((ActNorm(), LULinear())), batch(32, 3)
    params, state = jax.jit(Repeat(layer, 3).init)(jax.random.key(0), x)
    for k in range(3):
        own = jax.tree.map(lambda a, k=k: a[k], (params, state))
        check_normalised(ActNorm().forward(own[0][0], (), x)[0])
        x, _, _ = layer.forward(*own, x)


def test_four_devices_measure_the_global_batch():
    def layers(axis_name=None):
        return Chain((ActNorm(axis_name), LULinear(), ActNorm(axis_name)))

    x = np.sort(batch(32, 3), axis=0)  # sorted: every device's own moments are far from the global ones
    expected, _ = layers().init(jax.random.key(0), x)
    params, _ = parallel_init(layers(AXIS).init)(jax.random.key(0), shard(x, 4))
    assert len(jax.tree.leaves(params)[0].sharding.device_set) == 4
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), params, replicate(expected))

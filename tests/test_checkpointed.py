"""Layers whose inputs alone are kept: the same gradients, less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nvpjax
from nvpjax import Affine, Chain, ChannelMask, Checkpointed, Coupling, Repeat
from nvpjax.nets import MLP
from nvpjax.testing import moved_from_start

ENTRIES = 8
LAYER = Coupling(ChannelMask(), Affine(), MLP((64, 64)))


def compiled_gradient(bijector, x):
    params, state = jax.eval_shape(bijector.init, jax.random.key(0), x)

    def loss(params, state, x):
        y, log_det, after = bijector.forward(params, state, x, train=True)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(y)) - jnp.sum(log_det), after

    return jax.jit(jax.grad(loss, has_aux=True)).lower(params, state, x).compile()


@pytest.mark.parametrize("name", ["repeat", "RealNVP"])
def test_gradients_and_state_are_those_of_the_plain_flow(name):
    image_flow = nvpjax.RealNVP(scales=1, features=2, blocks=1).build((8, 8, 1)).bijector
    plain, event = {"repeat": (Repeat(LAYER, 4, alternate=True), (ENTRIES,)), "RealNVP": (image_flow, (8, 8, 1))}[name]
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(6, *event)), jnp.float32)
    params, state = jax.jit(Checkpointed(plain).init)(jax.random.key(0), x)
    params = moved_from_start(jax.random.key(1), params, 0.1)
    expected, found = (compiled_gradient(flow, x)(params, state, x) for flow in (plain, Checkpointed(plain)))
    # Of all, not of each: a bias before a batch normalisation has a gradient of rounding alone.
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * largest, rtol=0)


def test_memory_grows_by_one_event_a_layer():
    x = jnp.zeros((4096, ENTRIES))

    def memory(bijector):
        return compiled_gradient(bijector, x).memory_analysis().temp_size_in_bytes

    deep, deeper = Repeat(LAYER, 16, alternate=True), Repeat(LAYER, 64, alternate=True)
    assert memory(Checkpointed(deeper)) - memory(Checkpointed(deep)) < 1.5 * 48 * x.nbytes
    assert memory(deeper) - memory(deep) > 10 * 48 * x.nbytes


def test_what_is_no_bijector_is_refused():
    with pytest.raises(TypeError, match="Checkpointed: expected a Bijector"):
        Checkpointed(Chain)

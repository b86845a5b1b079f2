"""Networks in float32 against themselves in float64, and in bfloat16: where rounding is easily lost."""

import jax
import jax.numpy as jnp
import numpy as np

from nvpjax import Affine, ChannelMask, Coupling, Flow, TanhBound, real_nvp
from nvpjax.nets import MLP, FlaxConditioner, GatedNet


def test_normalised_features_keep_their_digits_where_they_are_nearly_the_same():
    net = GatedNet(features=2, blocks=1, outputs=2)
    x = jax.random.normal(jax.random.key(0), (64, 2, 2, 1))
    params = jax.jit(net.init)(jax.random.key(1), x)
    leaves, structure = jax.tree.flatten(params)
    rng = np.random.default_rng(2)
    params = jax.tree.unflatten(structure, [np.float32(0.3 * rng.normal(size=leaf.shape)) for leaf in leaves])
    params["params"]["Conv_0"]["bias"] = np.full(2, 8, np.float32)  # features near 8, that differ by a little
    narrow = jax.jit(net.apply)(params, x)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (params, np.asarray(x)))
        exact = jax.jit(net.apply)(*wide)
    np.testing.assert_allclose(narrow, exact, atol=2e-4)


def test_log_det_with_a_network_in_bfloat16_is_that_of_the_map_it_computes():
    network = FlaxConditioner(MLP(hidden=(16,), outputs=4), jnp.bfloat16)
    coupling = Coupling(ChannelMask(), Affine(TanhBound(1.0)), network)
    x = jax.random.normal(jax.random.key(0), (5, 4))
    params, state = coupling.init(jax.random.key(1), x)
    params = jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(2), leaf.shape), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    y, log_det, _ = coupling.forward(params, state, x)
    assert y.dtype == log_det.dtype == jnp.float32

    def of_one(x):
        return coupling.forward(params, state, x[None])[0][0]

    _, expected = jnp.linalg.slogdet(jax.vmap(jax.jacfwd(of_one))(x))
    np.testing.assert_allclose(log_det, expected, atol=1e-5)
    plain = Coupling(ChannelMask(), Affine(TanhBound(1.0)), FlaxConditioner(network.module))
    difference = jnp.max(jnp.abs(log_det - plain.forward(params, state, x)[1]))
    assert 1e-4 < difference < 0.1  # the network was rounded, and little came of it


def test_real_nvp_with_networks_in_bfloat16_trains_on_float32_state():
    options = {"channels": 1, "scales": 2, "features": 4, "blocks": 1}
    rounded, plain = real_nvp(**options, network_dtype=jnp.bfloat16), real_nvp(**options)
    x = jax.random.uniform(jax.random.key(0), (8, 8, 8, 1), minval=0.1, maxval=0.9)
    params, state = jax.jit(rounded.init)(jax.random.key(1), x)
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(2), leaf.shape), params)

    def nats(flow: Flow):
        def loss(params):
            log_prob, after = flow.log_prob(params, state, x, train=True)
            return -jnp.mean(log_prob), after

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

    (loss, after), gradients = nats(rounded)
    (expected, _), exact = nats(plain)
    of_rounded, of_plain = (
        jax.tree.map(lambda leaf: leaf.dtype, tree) for tree in ((after, gradients), (state, params))
    )
    assert of_rounded == of_plain
    assert 0 < abs(loss - expected) / (64 * np.log(2)) < 0.01  # bits/dim
    difference, size = (
        sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(tree)) ** 0.5
        for tree in (jax.tree.map(jnp.subtract, gradients, exact), exact)
    )
    assert difference < 0.2 * size  # 2⁻⁸ a rounding, some hundred of them one after the other

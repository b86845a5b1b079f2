"""Networks in float32 against themselves in float64, where rounding is easily lost."""

import jax
import jax.numpy as jnp
import numpy as np

from nvpjax.nets import GatedNet


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

"""Batch normalisation inside networks against Flax's, whose derivatives are jax's own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from nvpjax.nets.batch_norm import EPSILON, MOMENTUM, BatchNorm

X = 3 + 2 * jax.random.normal(jax.random.key(0), (6, 4, 5, 3))
WEIGHTS = jax.random.normal(jax.random.key(1), X.shape)
VARIABLES = {
    "params": {"bias": jnp.array([0.5, -1.0, 2.0])},
    "batch_stats": {"mean": jnp.array([1.0, 2.0, 3.0]), "var": jnp.array([4.0, 0.5, 1.0])},
}
near = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


def flax_norm(train):
    options = {"use_scale": False, "momentum": MOMENTUM, "epsilon": EPSILON, "use_fast_variance": False}
    return linen.BatchNorm(use_running_average=not train, **options)


def applied(module, params, x):
    return module.apply({**VARIABLES, "params": params}, x, mutable=["batch_stats"])


@pytest.mark.parametrize("train", [False, True])
def test_values_and_derivatives_of_both_modes_are_those_of_flax(train):
    def of(module):
        def function(params, x):
            y, moved = applied(module, params, x)
            return jnp.sum(WEIGHTS * jnp.sin(y)), (y, moved)

        tangents = (jax.tree.map(jnp.ones_like, VARIABLES["params"]), WEIGHTS)
        gradients, results = jax.grad(function, argnums=(0, 1), has_aux=True)(VARIABLES["params"], X)
        _, forward = jax.jvp(lambda *xs: function(*xs)[0], (VARIABLES["params"], X), tangents)
        twice = jax.grad(lambda x: jnp.sum(WEIGHTS * jax.grad(lambda x: function(VARIABLES["params"], x)[0])(x)))(X)
        return results, gradients, forward, twice

    jax.tree.map(near, of(BatchNorm(train)), of(flax_norm(train)))


def test_derivatives_over_devices_are_those_of_the_whole_batch():
    def loss(module, x, weights):
        return jnp.sum(weights * jnp.sin(applied(module, VARIABLES["params"], x)[0]))

    shards, weights = X.reshape(2, 3, 4, 5, 3), WEIGHTS.reshape(2, 3, 4, 5, 3)
    apart = jax.vmap(partial(loss, BatchNorm(True, "devices")), axis_name="devices")
    gradient = jax.grad(lambda x: jnp.sum(apart(x, weights)))(shards)
    near(gradient.reshape(X.shape), jax.grad(partial(loss, flax_norm(True)))(X, WEIGHTS))

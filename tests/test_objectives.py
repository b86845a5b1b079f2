"""Pixels, densities and bits per dimension, against closed forms."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nvpjax import Distribution, Flow, Logit, bits_per_dim, dequantize
from nvpjax.bijector import sum_over_event
from nvpjax.objectives import image_keys, importance_weighted, sum_of_squares


@dataclass(frozen=True)
class Logistic(Distribution):
    """The density whose logit is uniform: −z − 2·softplus(−z)."""

    def log_prob(self, params, z, context=None):
        return sum_over_event(-z - 2 * jax.nn.softplus(-z))

    def sample(self, key, params, like, context=None):
        return jax.random.logistic(key, like.shape)


def test_uniform_density_has_exactly_eight_bits():
    assert float(bits_per_dim(jnp.zeros(()), 3072)) == 8.0
    assert float(bits_per_dim(jnp.zeros(()), 64, levels=16)) == 4.0


def test_uniform_density_through_the_logit_has_eight_bits():
    flow = Flow(Logit(alpha=0.0), Logistic())
    x = jax.random.uniform(jax.random.key(0), (16, 4, 4, 3), minval=0.01, maxval=0.99)
    log_prob, _ = flow.log_prob({"bijector": (), "base": ()}, (), x)
    np.testing.assert_allclose(bits_per_dim(log_prob, 48), 8.0, atol=1e-5)


def test_bits_of_a_density_known_in_closed_form():
    # p(x) = 2x on [0, 1] in each of D dimensions: the mean of log p over its own samples is ln 2 − ½ a dimension.
    x = np.sqrt(np.random.default_rng(0).uniform(size=(200_000, 2)))
    bits = bits_per_dim(jnp.asarray(np.log(2 * x).sum(axis=1)), 2)
    np.testing.assert_allclose(np.mean(bits), 8 - (np.log(2) - 0.5) / np.log(2), atol=5e-3)


def test_dequantisation_stays_in_its_cell_and_fills_it():
    images = jnp.repeat(jnp.arange(17, dtype=jnp.uint8)[:, None], 1000, axis=1)
    x = np.asarray(dequantize(jax.random.split(jax.random.key(0), 17), images, levels=17))
    cell = x * 17 - np.arange(17)[:, None]
    assert cell.min() > -1e-5 and cell.max() < 1 + 1e-5
    np.testing.assert_allclose(cell.mean(axis=1), 0.5, atol=0.05)


def test_noise_of_an_image_does_not_depend_on_its_batch():
    images = jnp.zeros((6, 4), jnp.uint8)
    keys = image_keys(jax.random.key(0), jnp.arange(6))
    assert np.array_equal(dequantize(keys, images)[4:], dequantize(keys[4:], images[4:]))


def test_float_images_are_refused():
    with pytest.raises(TypeError, match="integer"):
        dequantize(jax.random.split(jax.random.key(0), 1), jnp.zeros((1, 2)))


def test_sum_of_squares_takes_named_leaves_only():
    params = ({"a": {"scale": jnp.full(2, 3.0), "kernel": jnp.ones(5)}}, {"scale": jnp.float32(2.0)})
    assert float(sum_of_squares(params, ("scale",))) == 22.0


def test_importance_weighted_draws_against_the_sum_in_another_base():
    bits = np.array([[1.0, 2.0], [1.5, 2.0], [0.5, 2.5]])
    dimensions = 6
    expected = [-math.log2(sum(2 ** (-dimensions * value) for value in draws) / 3) / dimensions for draws in bits.T]
    np.testing.assert_allclose(importance_weighted(bits, dimensions), expected, rtol=1e-12)
    assert np.all(importance_weighted(bits, dimensions) < bits.mean(axis=0))
    np.testing.assert_array_equal(importance_weighted(bits[:1], 3072), bits[0])
    assert np.all(np.isfinite(importance_weighted(100 * bits, 12_288)))  # exponents of a million

"""Variational dequantisation, by noise whose density is known in closed form."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from nvpjax import Chain, Flow, Logit, StatelessBijector, variational_dequantize
from nvpjax.bijector import zero_log_det
from nvpjax.objectives import image_keys

LEVELS = 8
IMAGES = np.random.default_rng(0).integers(0, LEVELS, size=(50, 4, 5, 1), dtype=np.uint8)
KEYS = image_keys(jax.random.key(0), jnp.arange(50))


@dataclass(frozen=True)
class PlusContext(StatelessBijector):
    """y = x + context."""

    def forward_and_log_det(self, params, x, context):
        return x + context, zero_log_det(x)

    def inverse_and_log_det(self, params, y, context):
        return y - context, zero_log_det(y)


@partial(jax.jit, static_argnums=2)
def dequantize(keys, images, noise, params, state):
    return variational_dequantize(keys, images, noise, params, state, levels=LEVELS)


def dequantized(*bijectors, images=IMAGES, keys=KEYS):
    noise = Flow(Chain(bijectors))
    params, state = noise.init(jax.random.key(0), *2 * [jnp.asarray(images / LEVELS, jnp.float32)])
    x, log_q = dequantize(keys, images, noise, params, state)
    return np.asarray(x, np.float64), np.asarray(log_q)


def test_log_q_is_that_of_the_noise_and_x_stays_in_its_cell():
    x, log_q = dequantized(Logit(0.0))
    u = x * LEVELS - IMAGES
    assert np.all(u >= 0) and np.all(u <= 1)
    log_density = stats.norm.logpdf(special.logit(u)) - np.log(u) - np.log1p(-u)
    np.testing.assert_allclose(log_q, log_density.sum(axis=(1, 2, 3)), atol=1e-2, rtol=1e-4)
    assert stats.kstest(special.logit(u).ravel(), "norm").pvalue > 1e-3


def test_the_noise_is_told_of_its_pixel_between_minus_1_and_1():
    x, log_q = dequantized(Logit(0.0), PlusContext())
    u, context = x * LEVELS - IMAGES, 2 * IMAGES / LEVELS - 1
    z = special.logit(u) + context
    log_density = stats.norm.logpdf(z) - np.log(u) - np.log1p(-u)
    np.testing.assert_allclose(log_q, log_density.sum(axis=(1, 2, 3)), atol=1e-2, rtol=1e-4)
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3


def test_the_noise_of_an_image_does_not_depend_on_its_batch():
    x, log_q = dequantized(Logit(0.0))
    alone, log_q_alone = dequantized(Logit(0.0), images=IMAGES[[7, 3]], keys=KEYS[jnp.array([7, 3])])
    np.testing.assert_allclose(alone, x[[7, 3]], rtol=1e-6)
    np.testing.assert_allclose(log_q_alone, log_q[[7, 3]], rtol=1e-5)
    repeated, _ = dequantized(Logit(0.0), images=np.repeat(IMAGES[:1], 50, axis=0))
    assert len(np.unique(repeated[:, 0, 0, 0])) == 50


def test_float_images_are_refused():
    with pytest.raises(TypeError, match="variational_dequantize: expected whole pixels of an integer dtype, got float"):
        variational_dequantize(KEYS, jnp.asarray(IMAGES, jnp.float32), Flow(Logit(0.0)), {}, ())

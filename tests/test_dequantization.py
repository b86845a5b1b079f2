"""Noise that makes numbers of pixels: against its own density, known in closed form, and its moments."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from nvpjax import (
    BatchNorm,
    Chain,
    Flow,
    GaussianDequantization,
    LearnedDequantization,
    Logit,
    StatelessBijector,
    UniformDequantization,
)
from nvpjax.bijector import zero_log_det
from nvpjax.dequantization import example_keys

LEVELS = 8
IMAGES = np.random.default_rng(0).integers(0, LEVELS, size=(50, 4, 5, 1), dtype=np.uint8)
KEYS = example_keys(jax.random.key(0), jnp.arange(50))


@dataclass(frozen=True)
class PlusContext(StatelessBijector):
    """y = x + context."""

    def forward_and_log_det(self, params, x, context):
        return x + context, zero_log_det(x)

    def inverse_and_log_det(self, params, y, context):
        return y - context, zero_log_det(y)


@partial(jax.jit, static_argnums=0)
def spread(dequantization, keys, images):
    variables = dequantization.init(jax.random.key(0), images, LEVELS)
    return dequantization.spread(*variables, keys, images, LEVELS)


def spread_over_cells(dequantization, images=IMAGES, keys=KEYS):
    """u, where x = (pixel + u) / levels, and log q."""
    x, log_q = spread(dequantization, keys, images)
    return np.asarray(x, np.float64) * LEVELS - images, np.asarray(log_q)


def test_uniform_noise_fills_its_cell_evenly():
    images = np.repeat(np.arange(LEVELS, dtype=np.uint8)[:, None], 2000, axis=1)
    u, log_q = spread_over_cells(UniformDequantization(), images, KEYS[:LEVELS])
    assert u.min() > -1e-5 and u.max() < 1 + 1e-5
    for of_level in u:
        assert stats.kstest(of_level, "uniform").pvalue > 1e-3
    np.testing.assert_array_equal(log_q, np.zeros(LEVELS))


def test_gaussian_noise_has_its_moments_around_the_middle_of_a_cell():
    images = np.full((4, 20_000), 3, np.uint8)
    x, log_q = spread(GaussianDequantization(0.3), KEYS[:4], images)
    noise = (np.asarray(x, np.float64) - 3.5 / LEVELS) / 0.3
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    np.testing.assert_allclose([noise.mean(), noise.std()], [0, 1], atol=0.02)
    assert not GaussianDequantization(0.3).is_bound and UniformDequantization().is_bound and np.all(log_q == 0)


def test_learned_noise_stays_in_its_cell_and_log_q_is_that_of_the_noise():
    u, log_q = spread_over_cells(LearnedDequantization(Flow(Logit(0.0))))
    assert np.all(u >= 0) and np.all(u <= 1)
    log_density = stats.norm.logpdf(special.logit(u)) - np.log(u) - np.log1p(-u)
    np.testing.assert_allclose(log_q, log_density.sum(axis=(1, 2, 3)), atol=1e-2, rtol=1e-4)
    assert stats.kstest(special.logit(u).ravel(), "norm").pvalue > 1e-3


def test_learned_noise_is_told_of_its_pixel_between_minus_1_and_1():
    u, log_q = spread_over_cells(LearnedDequantization(Flow(Chain((Logit(0.0), PlusContext())))))
    z = special.logit(u) + 2 * IMAGES / LEVELS - 1
    log_density = stats.norm.logpdf(z) - np.log(u) - np.log1p(-u)
    np.testing.assert_allclose(log_q, log_density.sum(axis=(1, 2, 3)), atol=1e-2, rtol=1e-4)
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3


KINDS = {
    "uniform": UniformDequantization(),
    "gaussian": GaussianDequantization(0.05),
    "learned": LearnedDequantization(Flow(Logit(0.0))),
}


@pytest.mark.parametrize("name", KINDS)
def test_noise_of_an_image_does_not_depend_on_its_batch_and_differs_from_image_to_image(name):
    u, log_q = spread_over_cells(KINDS[name])
    alone, log_q_alone = spread_over_cells(KINDS[name], IMAGES[[7, 3]], KEYS[jnp.array([7, 3])])
    np.testing.assert_allclose(alone, u[[7, 3]], atol=1e-5)
    np.testing.assert_allclose(log_q_alone, log_q[[7, 3]], rtol=1e-5)
    repeated, _ = spread_over_cells(KINDS[name], np.repeat(IMAGES[:1], 50, axis=0))
    assert len(np.unique(repeated.reshape(50, -1), axis=0)) == 50 and len(np.unique(repeated[0])) == 20


@pytest.mark.parametrize("name", KINDS)
def test_wrong_images_are_refused(name):
    with pytest.raises(TypeError, match="expected whole pixels of an integer dtype, got float"):
        spread(KINDS[name], KEYS, jnp.asarray(IMAGES, jnp.float32))
    with pytest.raises(ValueError, match="at least one image"):
        spread(KINDS[name], KEYS[:0], IMAGES[:0])


def test_learned_noise_that_measures_and_noise_of_no_width_are_refused():
    with pytest.raises(ValueError, match="measures nothing"):
        LearnedDequantization(Flow(Chain((Logit(0.0), BatchNorm())))).init(KEYS[0], IMAGES, LEVELS)
    with pytest.raises(ValueError, match="deviation > 0"):
        GaussianDequantization(0.0)

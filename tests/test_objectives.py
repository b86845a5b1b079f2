"""Objectives against closed forms, bounds against enumeration, gradients against differences."""

import itertools
import math
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from nvpjax import (
    Affine,
    Autoregressive,
    Chain,
    ChannelMask,
    Coupling,
    DiagonalNormal,
    Distribution,
    FixedAffine,
    Flow,
    GaussianDequantization,
    Inverse,
    LearnedDequantization,
    Likelihood,
    Logit,
    PixelLikelihood,
    ReverseKL,
    Shift,
    Triangular,
    Uniform,
    UniformDequantization,
    bits_per_dim,
)
from nvpjax.bijector import sum_over_event
from nvpjax.bijectors import TanhBound
from nvpjax.nets import MADE, MLP
from nvpjax.objectives import importance_weighted
from nvpjax.testing import moved_from_start

KEY = jax.random.key(0)


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


def test_bits_of_a_density_known_in_closed_form():
    # p(x) = 2x on [0, 1] in each of D dimensions: the mean of log p over its own samples is ln 2 − ½ a dimension.
    x = np.sqrt(np.random.default_rng(0).uniform(size=(200_000, 2)))
    bits = bits_per_dim(jnp.asarray(np.log(2 * x).sum(axis=1)), 2)
    np.testing.assert_allclose(np.mean(bits), 8 - (np.log(2) - 0.5) / np.log(2), atol=5e-3)


def test_likelihood_is_minus_the_log_density_of_x_given_the_context():
    flow = Flow(Coupling(ChannelMask(), Affine(), MLP((8,))))
    x, context = np.random.default_rng(0).standard_normal((2, 5, 2)).astype(np.float32)
    objective, batch = Likelihood(flow), {"x": x, "context": context}
    params, state = objective.init(KEY, batch)
    params = moved_from_start(KEY, params)
    nats, _ = objective(params, state, KEY, batch)
    np.testing.assert_allclose(nats, -flow.log_prob(params, state, x, context)[0], rtol=1e-6)
    assert np.any(nats != objective(params, state, KEY, {"x": x, "context": context[::-1]})[0])
    with pytest.raises(ValueError, match="expected a batch with 'x'"):
        objective(params, state, KEY, {"image": x})


IMAGES = np.array(list(itertools.product((0, 1), repeat=2)), np.uint8)
"""All images of two pixels of two levels: (4, 2)."""


MEAN, DEVIATION = np.array([0.3, -0.6]), np.array([0.8, 1.3])


def log_density(x, entry):
    """Of an entry of x in the flow below: its logit is normal."""
    logit = np.log(x) - np.log1p(-x)
    return stats.norm.logpdf(logit, MEAN[entry], DEVIATION[entry]) - np.log(x) - np.log1p(-x)


def over_cells(of_density):
    """Of every image the sum over its pixels, which are independent, of what is made of the density in a cell."""

    def of_one(pixel, entry):
        return of_density(lambda x: log_density(x, entry), pixel / 2, (pixel + 1) / 2)

    return np.array([sum(of_one(pixel, entry) for entry, pixel in enumerate(image)) for image in IMAGES.tolist()])


EXACT = over_cells(lambda log_p, low, high: -math.log(integrate.quad(lambda x: math.exp(log_p(x)), low, high)[0]))
"""−log P of each image."""


def pixels(dequantization, draws):
    """Nats of each of the four images: (draws, 4), by a flow that is ``log_density``."""
    objective = PixelLikelihood(Flow(Logit(0.0), DiagonalNormal()), levels=2, dequantization=dequantization)
    params, state = objective.init(KEY, {"image": IMAGES})
    base = {"mean": jnp.asarray(MEAN, jnp.float32), "log_scale": jnp.asarray(np.log(DEVIATION), jnp.float32)}
    params["flow"]["base"] = base
    images = {"image": np.tile(IMAGES, (draws, 1)), "index": np.arange(4 * draws)}
    nats, _ = jax.jit(objective)(params, state, KEY, images)
    return np.asarray(nats, np.float64).reshape(draws, 4)


@pytest.mark.parametrize(
    "dequantization",
    [UniformDequantization(), LearnedDequantization(Flow(Chain((Logit(0.0), FixedAffine(scale=1 / 1.7)))))],
    ids=["uniform", "learned"],
)
def test_nats_are_above_the_exact_ones_and_many_draws_come_to_them(dequantization):
    np.testing.assert_allclose(np.exp(-EXACT).sum(), 1, atol=1e-6)
    nats = pixels(dequantization, 20_000)
    mean, standard_error = nats.mean(axis=0), nats.std(axis=0) / math.sqrt(len(nats))
    assert np.all(mean - EXACT > 3 * standard_error)
    np.testing.assert_allclose(importance_weighted(nats), EXACT, atol=0.03)


def test_nats_of_uniform_noise_are_the_integral_over_the_cell():
    expected = over_cells(lambda log_p, low, high: math.log(2) - 2 * integrate.quad(log_p, low, high)[0])
    np.testing.assert_allclose(pixels(UniformDequantization(), 20_000).mean(axis=0), expected, atol=0.04)


def test_a_flow_that_knows_nothing_costs_all_bits():
    batch = {"image": np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3)).astype(np.uint8)}
    for flow in (Flow(Chain(()), Uniform()), Flow(Logit(0.0), Logistic())):
        objective = PixelLikelihood(flow)
        nats, _ = objective(*objective.init(KEY, batch), KEY, batch)
        np.testing.assert_allclose(nats / (48 * math.log(2)), 8, atol=1e-4)


def test_nats_of_an_image_depend_on_its_index_and_not_on_its_batch():
    rng = np.random.default_rng(0)
    batch = {"image": rng.integers(0, 4, (6, 2, 2, 1)).astype(np.uint8), "index": np.arange(10, 16)}
    objective = PixelLikelihood(Flow(Logit(0.05)), levels=4)
    variables = objective.init(KEY, batch)
    nats = np.asarray(objective(*variables, KEY, batch)[0])
    alone, _ = objective(*variables, KEY, jax.tree.map(lambda leaf: leaf[4:], batch))
    np.testing.assert_allclose(alone, nats[4:], rtol=1e-6)
    renamed, _ = objective(*variables, KEY, {**batch, "index": np.arange(6)})
    assert np.all(renamed != nats) and np.all(objective(*variables, jax.random.key(1), batch)[0] != nats)


def test_gaussian_noise_of_pixels_has_the_entropy_of_its_smoothed_density():
    """A flow that is exactly N(3.5/8, σ²) at pixel 3: nats are its entropy and D·log levels."""
    flow = Flow(Chain(()), DiagonalNormal())
    objective = PixelLikelihood(flow, levels=8, dequantization=GaussianDequantization(0.2))
    batch = {"image": np.full((4000, 2), 3, np.uint8), "index": np.arange(4000)}
    params, state = objective.init(KEY, batch)
    params["flow"]["base"] = {"mean": jnp.full(2, 3.5 / 8), "log_scale": jnp.full(2, math.log(0.2))}
    expected = 2 * (0.5 * math.log(2 * math.pi * math.e) + math.log(0.2) + math.log(8))
    np.testing.assert_allclose(objective(params, state, KEY, batch)[0].mean(), expected, atol=0.06)


@dataclass(frozen=True)
class NormalAroundLabel(Distribution):
    def log_prob(self, params, z, context=None):
        return sum_over_event(-0.5 * (z - context[:, None]) ** 2)

    def sample(self, key, params, like, context=None):
        return context[:, None] + jax.random.normal(key, like.shape)


def test_labels_are_the_context_where_they_are_asked_for():
    objective = PixelLikelihood(Flow(Chain(()), NormalAroundLabel()), levels=2, labels=True)
    batch = {"image": np.zeros((3, 1), np.uint8), "label": np.array([0, 1, 5])}
    variables = objective.init(KEY, batch)
    x, context = objective.data(*variables, KEY, batch)
    np.testing.assert_array_equal(context, batch["label"])
    nats, _ = objective(*variables, KEY, batch)
    np.testing.assert_allclose(nats, 0.5 * (x[:, 0] - batch["label"]) ** 2 + math.log(2), rtol=1e-5)
    with pytest.raises(ValueError, match="expected a batch with 'label'"):
        objective(*variables, KEY, {"image": batch["image"]})
    without = replace(objective, flow=Flow(Chain(()), Uniform()), labels=False)
    assert without.data(*without.init(KEY, batch), KEY, batch)[1] is None


@pytest.mark.parametrize(
    "log_density", [lambda x: -jnp.sum(x**2), lambda x: -(x**2), lambda x: -jnp.sum(x**2, axis=1)[:, None]]
)
def test_a_log_density_that_gives_no_number_for_each_draw_is_refused(log_density):
    objective, batch = ReverseKL(Flow(Chain(()), DiagonalNormal()), log_density, (2,)), {"index": np.arange(5)}
    with pytest.raises(ValueError, match=r"ReverseKL: expected from log_density a number for each draw, shape \(5,\)"):
        objective(*objective.init(KEY, batch), KEY, batch)
    with pytest.raises(TypeError, match="expected event_shape, a tuple"):
        ReverseKL(objective.flow, log_density, 2)


def standard_normal_up_to_a_factor(x):
    return 3.0 - 0.5 * jnp.sum(x**2, axis=1)


def reverse_kl(log_scale, draws=20_000):
    """x = exp(log_scale)·z + shift, as a flow of the plane."""
    objective = ReverseKL(Flow(Chain(()), DiagonalNormal()), standard_normal_up_to_a_factor, (2,))
    batch = {"index": np.arange(draws)}
    params, state = objective.init(KEY, batch)
    base = {"mean": jnp.array([0.5, 0.0]), "log_scale": jnp.asarray(log_scale)}
    return objective, {**params, "base": base}, state, batch


def test_reverse_kl_is_the_divergence_less_the_log_evidence():
    objective, params, state, batch = reverse_kl([0.3, -0.2])
    deviation, mean = np.exp([0.3, -0.2]), np.array([0.5, 0.0])
    divergence = np.sum(0.5 * (deviation**2 + mean**2 - 1) - np.log(deviation))
    nats, _ = objective(params, state, KEY, batch)
    np.testing.assert_allclose(nats.mean(), divergence - (math.log(2 * math.pi) + 3), atol=0.03)
    alone, _ = objective(params, state, KEY, {"index": np.array([7, 3])})
    np.testing.assert_allclose(alone, np.asarray(nats)[[7, 3]], rtol=1e-4, atol=1e-5)


def test_gradient_of_reverse_kl_goes_through_the_draws():
    objective = ReverseKL(Flow(Inverse(Chain((Triangular(), Shift())))), standard_normal_up_to_a_factor, (2,))
    batch = {"index": np.arange(16)}
    params, state = objective.init(KEY, batch)
    flat, restore = jax.flatten_util.ravel_pytree(moved_from_start(jax.random.key(1), params))

    @jax.jit
    def loss(flat):
        return jnp.mean(objective(restore(flat), state, KEY, batch, train=True)[0])

    step = 1e-2
    differences = [(loss(flat + step * e) - loss(flat - step * e)) / (2 * step) for e in np.eye(len(flat))]
    np.testing.assert_allclose(jax.grad(loss)(flat), differences, rtol=1e-2, atol=2e-3)
    assert np.abs(differences).max() > 0.1


def test_context_of_reverse_kl_goes_to_flow_and_density():
    def around_context(x, context):
        return -0.5 * jnp.sum((x - context) ** 2, axis=1)

    network = MADE((8,))
    flow = Flow(Inverse(Autoregressive(Affine(TanhBound(1.0)), network)))
    objective = ReverseKL(flow, around_context, (2,))
    context = np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)
    batch = {"index": np.arange(5), "context": context}
    params, state = objective.init(KEY, batch)
    params = moved_from_start(KEY, params)
    x, given = objective.data(params, state, KEY, batch)
    nats, _ = objective(params, state, KEY, batch)
    log_q, _ = flow.log_prob(params, state, x, context)
    np.testing.assert_allclose(nats, log_q + 0.5 * np.sum((x - context) ** 2, axis=1), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(given, context)


def test_importance_weighted_draws_against_the_sum():
    nats = np.array([[1.0, 2.0], [1.5, 2.0], [0.5, 2.5]])
    expected = [-math.log(sum(math.exp(-value) for value in draws) / 3) for draws in nats.T]
    np.testing.assert_allclose(importance_weighted(nats), expected, rtol=1e-12)
    assert np.all(importance_weighted(nats) < nats.mean(axis=0))
    np.testing.assert_array_equal(importance_weighted(nats[:1]), nats[0])
    np.testing.assert_allclose(importance_weighted(nats + 1e6), 1e6 + np.array(expected), rtol=1e-12)


def test_draws_of_two_values_give_the_exact_number_in_expectation_and_more_draws_less():
    """log P by enumeration of a noise of two values, ½ each: E of the bound of k draws falls with k towards it."""
    values = np.array([0.0, 3.0])  # nats at either value
    exact = -math.log(np.exp(-values).mean())

    def expectation(draws):
        return np.mean(
            [importance_weighted(np.array(one)[:, None])[0] for one in itertools.product(values, repeat=draws)]
        )

    bounds = [expectation(draws) for draws in (1, 2, 4, 8)]
    assert bounds == sorted(bounds, reverse=True) and exact < bounds[-1] < exact + 0.1 and bounds[0] == 1.5

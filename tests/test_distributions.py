"""Base distributions against scipy, and those of other libraries as bases."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from nvpjax import (
    ByColumns,
    Chain,
    DiagonalNormal,
    FixedAffine,
    Flow,
    HeavyTails,
    Laplace,
    NormalMixture,
    Resampled,
    StandardNormal,
    StudentT,
    Uniform,
    fit,
)
from nvpjax.nets import MLP
from nvpjax.testing import moved_from_start

KEY = jax.random.key(0)
NUMBER = 20_000


def numbers(*shape, seed=0, size=1.0):
    return (size * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def check_moments(draws, mean, std):
    """To five standard errors; that of a variance from the draws themselves."""
    draws = np.asarray(draws, np.float64)
    assert np.all(abs(draws.mean(axis=0) - mean) < 5 * std / np.sqrt(len(draws)))
    squares = np.square(draws - mean)
    assert np.all(abs(squares.mean(axis=0) - np.square(std)) < 5 * squares.std(axis=0) / np.sqrt(len(draws)))


def test_standard_normal_over_a_tree():
    z = {"a": numbers(4, 3, size=4), "b": numbers(4, 2, 2, seed=1)}
    expected = stats.norm.logpdf(z["a"]).sum(axis=1) + stats.norm.logpdf(z["b"]).sum(axis=(1, 2))
    np.testing.assert_allclose(StandardNormal().log_prob((), z), expected, rtol=1e-5)
    draws = StandardNormal().sample(KEY, (), (jnp.zeros((NUMBER, 2)), jnp.zeros((NUMBER, 2))))
    check_moments(np.concatenate(draws, axis=1), np.zeros(4), np.ones(4))
    assert abs(np.corrcoef(draws[0][:, 0], draws[1][:, 0])[0, 1]) < 0.04  # leaves do not share their noise


def test_diagonal_normal_over_a_tree():
    z = (numbers(4, 3, size=4), numbers(4, 2, 2, seed=1))
    params = DiagonalNormal().init(KEY, z)
    np.testing.assert_allclose(DiagonalNormal().log_prob(params, z), StandardNormal().log_prob((), z), rtol=1e-6)
    params = moved_from_start(KEY, params, 1.0)
    (m, n), (s, t) = params["mean"], map(np.exp, params["log_scale"])
    expected = stats.norm.logpdf(z[0], m, s).sum(axis=1) + stats.norm.logpdf(z[1], n, t).sum(axis=(1, 2))
    np.testing.assert_allclose(DiagonalNormal().log_prob(params, z), expected, rtol=1e-5)
    like = tuple(jax.ShapeDtypeStruct((NUMBER, *leaf.shape[1:]), jnp.float32) for leaf in z)
    draws = DiagonalNormal().sample(KEY, params, like)
    check_moments(draws[0], m, s)
    check_moments(draws[1], n, t)


def test_normal_mixture():
    z, mixture = numbers(5, 2, 3, size=2), NormalMixture(3)
    params = mixture.init(KEY, z)
    means = np.asarray(params["mean"]).reshape(3, -1)
    assert len(np.unique(means[:, 0])) == 3
    params = moved_from_start(jax.random.key(1), params, 0.7)
    weights, mean, std = special.softmax(params["logits"]), params["mean"], np.exp(params["log_scale"])
    each = np.stack([stats.norm.logpdf(z, m, s).sum(axis=(1, 2)) for m, s in zip(mean, std)])
    expected = special.logsumexp(each + np.log(weights)[:, None], axis=0)
    np.testing.assert_allclose(jax.jit(mixture.log_prob)(params, z), expected, rtol=1e-5)

    draws = jax.jit(mixture.sample)(KEY, params, jnp.zeros((NUMBER, 2, 3)))
    mean_of_all = np.tensordot(weights, mean, 1)
    second_moment = np.tensordot(weights, np.square(std) + np.square(mean), 1)
    check_moments(draws, mean_of_all, np.sqrt(second_moment - np.square(mean_of_all)))
    # One component an example, not one an entry: entries of an example hang together.
    product = np.tensordot(weights, mean[:, 0, 0] * mean[:, 1, 1], 1)
    products = np.asarray(draws[:, 0, 0] * draws[:, 1, 1], np.float64)
    assert abs(products.mean() - product) < 5 * products.std() / np.sqrt(NUMBER)
    assert abs(product - mean_of_all[0, 0] * mean_of_all[1, 1]) > 10 * products.std() / np.sqrt(NUMBER)


def test_uniform_and_its_ends():
    uniform, z = Uniform(-1.0, 3.0), np.float32([[-1.0, 2.9], [3.0, 0.0], [-1.1, 0.0], [0.0, 1.0]])
    expected = stats.uniform.logpdf(z, -1, 4).sum(axis=1)
    expected[1] = -np.inf  # half open: 3 is outside
    np.testing.assert_allclose(uniform.log_prob((), z), expected, rtol=1e-6)
    draws = uniform.sample(KEY, (), jax.ShapeDtypeStruct((NUMBER, 2), jnp.float32))
    check_moments(draws, np.ones(2), np.full(2, 4 / np.sqrt(12)))
    assert np.min(draws) >= -1 and np.max(draws) < 3
    with pytest.raises(ValueError, match="Uniform: expected low < high"):
        Uniform(1.0, 1.0)


# ---------------------------------------------------------------------------------------------------------------------
# Distributions of other libraries
# ---------------------------------------------------------------------------------------------------------------------


class Foreign:
    """An exponential of rate 2 as distrax and TFP would give it, without being of theirs."""

    def __init__(self, batch_shape=(), event_shape=()):
        self.batch_shape, self.event_shape = batch_shape, event_shape

    def log_prob(self, z):
        own = tuple(range(z.ndim - len(self.event_shape), z.ndim))
        return jnp.sum(jnp.log(2.0) - 2 * z, axis=own)

    def sample(self, sample_shape, seed):
        return jax.random.exponential(seed, (*sample_shape, *self.batch_shape, *self.event_shape)) / 2


@pytest.mark.parametrize("batch, event", [((), ()), ((3,), ()), ((), (3,)), ((2,), (3,)), ((), (2, 3))])
def test_a_foreign_distribution_is_a_base(batch, event):
    flow = Flow(Chain(()), Foreign(batch, event))
    x = abs(numbers(4, 2, 3))
    params, state = flow.init(KEY, x)
    log_prob, _ = flow.log_prob(params, state, x)
    np.testing.assert_allclose(log_prob, stats.expon.logpdf(x, scale=0.5).sum(axis=(1, 2)), rtol=1e-5)
    draws = flow.sample(KEY, params, state, NUMBER)
    assert draws.shape == (NUMBER, 2, 3)
    check_moments(draws, np.full((2, 3), 0.5), np.full((2, 3), 0.5))


@pytest.mark.parametrize("batch, event", [((), (2,)), ((4,), (2, 3)), ((3,), (2,)), ((1,), ())])
def test_a_foreign_distribution_of_another_shape_is_refused(batch, event):
    own = str((*batch, *event)).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match=rf"the latents' last axes, got {own} for latents of shape \(4, 2, 3\)"):
        Flow(Chain(()), Foreign(batch, event)).init(KEY, jnp.zeros((4, 2, 3)))


def test_an_object_that_is_no_distribution_is_refused():
    with pytest.raises(TypeError, match=r"Flow: expected a base .* lacks log_prob, sample, batch_shape, event_shape"):
        Flow(Chain(()), object())


@pytest.mark.parametrize("base, name", [(NormalMixture(2), "NormalMixture"), (Foreign(), "ForeignDistribution")])
def test_trees_are_refused_where_one_array_is_needed(base, name):
    with pytest.raises(TypeError, match=f"{name}: expected latents that are one array, got a tree of 2"):
        Flow(Chain(()), base).init(KEY, (jnp.zeros((1, 2)), jnp.zeros((1, 3))))


@pytest.mark.parametrize("degrees", [0.5, 1.0, 5.0, 39.0, 41.0, 1e5])
def test_student_t(degrees):
    z, student = np.float32([[0.0, 0.3], [-2.0, 50.0], [1e4, -1e25]]), StudentT(degrees)
    params = student.init(KEY, z)
    params["log_degrees"] = params["log_degrees"] + jnp.array([0.0, 0.4])
    expected = stats.t.logpdf(z.astype(float), degrees * np.exp([0, 0.4])).sum(axis=1)
    np.testing.assert_allclose(student.log_prob(params, z), expected, rtol=2e-5, atol=2e-5)
    draws = np.asarray(student.sample(KEY, params, jax.ShapeDtypeStruct((NUMBER, 2), jnp.float32)), float)
    for column, nu in enumerate(degrees * np.exp([0, 0.4])):
        assert stats.kstest(draws[:, column], stats.t(nu).cdf).pvalue > 1e-6


def test_tails_of_student_t_are_learned():
    draws = np.float32(np.random.default_rng(0).standard_t(2.0, size=(NUMBER, 1)))
    student = StudentT(10.0)

    def nats(log_degrees):
        return -student.log_prob({"log_degrees": log_degrees[None]}, draws).mean()

    start = jnp.log(10.0)
    for _ in range(20):
        start -= jax.grad(nats)(start) / jnp.maximum(jax.grad(jax.grad(nats))(start), 1e-2)
    assert abs(np.exp(start) - 2) < 0.15


def test_laplace():
    z = numbers(5, 2, 2, size=3)
    np.testing.assert_allclose(Laplace().log_prob((), z), stats.laplace.logpdf(z).sum(axis=(1, 2)), rtol=1e-5)
    draws = Laplace().sample(KEY, (), jax.ShapeDtypeStruct((NUMBER, 2), jnp.float32))
    assert all(stats.kstest(np.asarray(column, float), stats.laplace.cdf).pvalue > 1e-6 for column in draws.T)


def test_distributions_by_columns():
    base, z = ByColumns((((2, 0), DiagonalNormal()), ((1,), Laplace()))), numbers(5, 3)
    params = moved_from_start(KEY, base.init(KEY, z))
    mean, log_scale = params[0]["mean"], params[0]["log_scale"]
    expected = stats.norm.logpdf(z[:, [2, 0]], mean, np.exp(log_scale)).sum(axis=1) + stats.laplace.logpdf(z[:, 1])
    np.testing.assert_allclose(base.log_prob(params, z), expected, rtol=1e-5)
    draws = base.sample(KEY, params, jax.ShapeDtypeStruct((NUMBER, 3), jnp.float32))
    check_moments(draws[:, [2, 0]], mean, np.exp(log_scale))
    check_moments(draws[:, 1:2], np.zeros(1), np.full(1, np.sqrt(2)))


@pytest.mark.parametrize("columns", [((0,), (2,)), ((0, 1), (1,)), ((0, 1), ())])
def test_columns_in_none_or_two_are_refused(columns):
    with pytest.raises(ValueError, match="each of the columns"):
        ByColumns(tuple((part, Laplace()) for part in columns))


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_heavy_tails_are_as_heavy_as_stated(weight):
    tails = HeavyTails(weight)
    z = np.array([-12.0, -3.0, -0.1, 0.0, 1e-3, 1.0, 5.0, 9.0])
    with jax.enable_x64(True):
        params = dict.fromkeys(tails.init(KEY, jnp.zeros((1, 1)))[0], np.log([weight]))
        x, log_det = map(np.asarray, tails.inverse(params, (), z[:, None]))
        again, back, _ = tails.forward(params, (), x)
    expected = np.sign(z) * np.expm1(-weight * np.log(2 * stats.norm.sf(np.abs(z)))) / weight
    np.testing.assert_allclose(x[:, 0], expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(again[:, 0], z, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(back, -log_det, atol=1e-9)
    # P(|x| > t) is (1 + λt)^(−1/λ): the exponent between two far quantiles
    draws = np.abs(Flow(tails).at(*Flow(tails).init(KEY, np.zeros((1, 1), "float32"))).sample(KEY, 200_000))
    low, high = np.quantile(draws, [0.99, 0.9999])
    exponent = np.log(100) / np.log((1 + weight * high) / (1 + weight * low))
    assert abs(exponent * weight - 1) < 0.15


def halves(z):
    """A network that takes what lies on the right, nearly always, and of the left a tenth."""
    return jnp.where(z[:, :1] > 0, 4.0, np.log(1 / 9))


@dataclasses.dataclass(frozen=True)
class Halves:
    def init(self, key, x, context=None, *, outputs):
        return (), ()

    def apply(self, params, state, x, context=None, *, outputs, train=False):
        return halves(x), state


@pytest.mark.parametrize("tries", [1, 2, 50])
def test_resampled_is_what_its_draws_are(tries):
    base = Resampled(Halves(), tries=tries, points=100_000)
    params = base.init(KEY, jnp.zeros((1, 2)))
    draws = np.asarray(base.sample(KEY, params, jax.ShapeDtypeStruct((NUMBER, 2), jnp.float32)))
    right = np.mean(draws[:, 0] > 0)
    # By hand: after t tries nothing is taken with probability (1 − Z)^t; the last try takes whatever comes.
    of_right = special.expit(4.0)
    mean = (of_right + 0.1) / 2
    by_chance = (1 - mean) ** (tries - 1)
    expected = by_chance * 0.5 + (1 - by_chance) * of_right / 2 / mean
    assert abs(right - expected) < 5 * np.sqrt(0.25 / NUMBER)
    z = numbers(7, 2)
    factor = np.where(z[:, 0] > 0, expected, 1 - expected) / 0.5
    np.testing.assert_allclose(base.log_prob(params, z), stats.norm.logpdf(z).sum(axis=1) + np.log(factor), atol=0.02)


def test_resampled_integrates_to_one_and_learns_what_it_is_shown():
    """A ring, which no flow of a normal has without a cut."""
    rng = np.random.default_rng(0)
    angle, radius = rng.uniform(0, 2 * np.pi, 4000), rng.normal(1.5, 0.1, 4000)
    ring = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)
    flow = Flow(FixedAffine(1.0, 0.0), Resampled(MLP((64, 64), jnp.tanh)))
    density, _ = fit(KEY, flow, ring, steps=1500, batch_size=256, learning_rate=1e-2, patience=40, progress=False)
    axis = (np.arange(300) + 0.5) / 300 * 10 - 5
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2).astype(np.float32)
    total = np.exp(np.asarray(density.log_prob(grid), np.float64)).sum() * (10 / 300) ** 2
    assert abs(total - 1) < 0.1
    assert -density.log_prob(ring).mean() < 1.6  # a normal's is 3.0, the ring's entropy 1.36
    inside = np.linalg.norm(np.asarray(density.sample(KEY, 2000)), axis=1) < 0.9
    assert inside.mean() < 0.02


def test_resampled_refuses_what_it_cannot_take():
    with pytest.raises(TypeError, match="conditioner"):
        Resampled(halves)
    with pytest.raises(ValueError, match="expected latents"):
        Resampled(Halves()).init(KEY, jnp.zeros((1, 2, 2)))
    with pytest.raises(ValueError, match="tries"):
        Resampled(Halves(), tries=0)

"""A flow is a density: it integrates to one, and its samples have the density it claims."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from nvpjax import (
    Affine,
    BatchNorm,
    Chain,
    ChannelMask,
    Coupling,
    Density,
    DiagonalNormal,
    Flow,
    OnLeaf,
    PaperAffine,
    Squeeze,
    StandardNormal,
    StatelessBijector,
    Triangular,
)
from nvpjax.bijector import zero_log_det
from nvpjax.nets import MLP
from nvpjax.testing import moved_from_start

KEY = jax.random.key(0)


def flow_in_the_plane():
    def network():
        return MLP(hidden=(16,), activation=jnp.tanh)

    first, second = ChannelMask("first"), ChannelMask("second")
    couplings = [Coupling(first, Affine(), network()), Coupling(second, PaperAffine(), network())] * 2
    flow = Flow(Chain(couplings), StandardNormal())
    params, state = flow.init(KEY, jnp.zeros((1, 2)))
    return flow, moved_from_start(jax.random.key(1), params), state


def density_in_the_plane():
    flow, params, state = flow_in_the_plane()
    return flow.at(params, state)


def test_density_integrates_to_one_on_a_grid():
    flow, params, state = flow_in_the_plane()
    side = np.linspace(-25, 25, 1001)
    grid = jnp.asarray(np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2), jnp.float32)
    log_prob, _ = jax.jit(flow.log_prob)(params, state, grid)
    integral = np.exp(np.asarray(log_prob, np.float64)).sum() * (side[1] - side[0]) ** 2
    assert abs(integral - 1) < 1e-3


def test_samples_have_the_density_that_is_claimed():
    """By the density itself: its integral over each cell of a coarse board against the share of the samples there."""
    flow, params, state = flow_in_the_plane()
    x, claimed = jax.jit(flow.sample_and_log_prob, static_argnums=3)(KEY, params, state, 20_000)
    np.testing.assert_allclose(claimed, flow.log_prob(params, state, x)[0], atol=1e-3)
    np.testing.assert_allclose(x, flow.sample(KEY, params, state, 20_000), atol=1e-4)

    fine, cells = 1200, 6  # fine steps a side, over [−6, 6]²
    side = (np.arange(fine) + 0.5) * 12 / fine - 6
    grid = jnp.asarray(np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2), jnp.float32)
    log_prob, _ = jax.jit(flow.log_prob)(params, state, grid)
    density = np.exp(np.asarray(log_prob, np.float64)).reshape(cells, fine // cells, cells, fine // cells)
    expected = density.sum(axis=(1, 3)) * (12 / fine) ** 2
    counts, _, _ = np.histogram2d(*np.asarray(x).T, bins=cells, range=[[-6, 6], [-6, 6]])
    many = expected * len(x) > 5
    everywhere = [*counts[many], len(x) - counts[many].sum()]
    shares = [*expected[many], 1 - expected[many].sum()]
    assert stats.chisquare(everywhere, np.array(shares) * len(x)).pvalue > 1e-3


def test_samples_of_a_linear_flow_have_its_moments():
    flow = Flow(Triangular(), DiagonalNormal())
    params, state = flow.init(KEY, jnp.zeros((1, 2)))
    params = moved_from_start(jax.random.key(1), params, 0.5)
    x = np.asarray(flow.sample(KEY, params, state, 50_000))
    shift, first, second = flow.bijector.forward(params["bijector"], (), jnp.eye(3, 2, k=-1))[0]
    linear = np.stack([first - shift, second - shift], axis=1)
    mean, deviation = params["base"]["mean"], np.exp(params["base"]["log_scale"])
    inverse = np.linalg.inv(linear)
    np.testing.assert_allclose(x.mean(axis=0), inverse @ (mean - shift), atol=0.05)
    np.testing.assert_allclose(np.cov(x.T), inverse @ np.diag(deviation**2) @ inverse.T, rtol=0.05, atol=0.02)


def test_context_reaches_the_networks():
    flow = Flow(Coupling(ChannelMask(), Affine(), MLP(hidden=(8,))))
    x, context = jnp.ones((3, 2)), jnp.arange(3.0)[:, None]
    params, state = flow.init(KEY, x, context)
    log_prob, _ = flow.log_prob(params, state, x, context)
    assert len(set(np.asarray(log_prob).tolist())) == 3
    density = flow.at(params, state)
    np.testing.assert_array_equal(density.log_prob(x, context), log_prob)
    draws, claimed = density.sample_and_log_prob(KEY, 3, context)
    np.testing.assert_allclose(claimed, density.log_prob(draws, context), rtol=1e-4)
    assert np.abs(claimed - density.log_prob(draws, context[::-1])).max() > 1e-3
    with pytest.raises(ValueError, match=r"a row for each of the 5 rows of x, got shape \(3, 1\)"):
        density.sample(KEY, 5, context)


# ---------------------------------------------------------------------------------------------- at


def test_a_density_is_the_flow_with_its_numbers():
    flow, params, state = flow_in_the_plane()
    density, x = flow.at(params, state), jax.random.normal(KEY, (5, 2))
    assert isinstance(density, Density) and density.event_shape == (2,) and density.event_dtype == jnp.float32
    np.testing.assert_array_equal(density.log_prob(x), flow.log_prob(params, state, x)[0])
    np.testing.assert_array_equal(density.sample(KEY, 4), flow.sample(KEY, params, state, 4))
    log_det = flow.bijector.log_det(params["bijector"], state["bijector"], x)
    by_hand = stats.norm.logpdf(density.latents(x)).sum(axis=1) + log_det
    np.testing.assert_allclose(density.log_prob(x), by_hand, rtol=1e-5)
    back, log_prob = density.from_latents(density.latents(x))
    np.testing.assert_allclose(back, x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(log_prob, by_hand, rtol=1e-4)
    with pytest.raises(ValueError, match=r"expected x of events \(2,\), got \(3,\)"):
        density.log_prob(jnp.zeros((5, 3)))


def test_a_context_of_one_row_is_that_of_all_events():
    flow = Flow(Coupling(ChannelMask(), Affine(), MLP((4,))))
    x, contexts = jax.random.normal(KEY, (5, 2)), jax.random.normal(jax.random.key(1), (5, 3))
    params, state = flow.init(KEY, x, contexts)
    density = flow.at(jax.tree.map(lambda leaf: leaf + 0.3, params), state)
    one, repeated = contexts[:1], jnp.repeat(contexts[:1], 5, axis=0)
    for act in (density.log_prob, density.latents, density.from_latents):
        jax.tree.map(np.testing.assert_array_equal, act(x, one), act(x, repeated))
        assert np.any(jax.tree.leaves(act(x, one))[0] != jax.tree.leaves(act(x, contexts))[0])
    jax.tree.map(
        np.testing.assert_array_equal,
        density.sample_and_log_prob(KEY, 5, one),
        density.sample_and_log_prob(KEY, 5, repeated),
    )
    for wrong in (contexts[:2], contexts[0]):
        with pytest.raises(ValueError, match="a row for each of the 5 rows of x"):
            density.log_prob(x, wrong)
        with pytest.raises(ValueError, match="a row for each of the 5 rows of x"):
            density.sample(KEY, 5, wrong)


def test_a_density_goes_through_jit_whole_and_is_compiled_once_for_other_numbers():
    density, x, traces = density_in_the_plane(), jax.random.normal(KEY, (5, 2)), []

    @jax.jit
    def log_prob(density, x):
        traces.append(density.event_shape)
        return density.log_prob(x)

    np.testing.assert_allclose(log_prob(density, x), density.log_prob(x), rtol=1e-5)
    other = jax.tree.map(lambda leaf: leaf + 0.1, density)
    np.testing.assert_allclose(log_prob(other, x), other.log_prob(x), rtol=1e-5)
    assert traces == [(2,)]
    # What jit gives back remembers its event too, and so do a flow's params and state.
    back = jax.jit(lambda density: density)(density)
    assert back.sample(KEY, 3).shape == (3, 2) and back.flow == density.flow
    state = jax.jit(lambda state: state)(density.state)
    assert density.flow.sample(KEY, density.params, state, 3).shape == (3, 2)


def test_an_ensemble_is_vmapped_and_scanned():
    flow, x = flow_in_the_plane()[0], jax.random.normal(KEY, (5, 2))
    keys = jax.random.split(KEY, 3)
    ensemble = jax.vmap(lambda key: flow.at(*flow.init(key, jnp.zeros((1, 2)))))(keys)
    of_all = jax.vmap(lambda density: density.log_prob(x))(ensemble)
    members = [jax.tree.map(lambda leaf: leaf[number], ensemble) for number in range(3)]  # noqa: B023
    one_by_one = np.stack([member.log_prob(x) for member in members])
    np.testing.assert_allclose(of_all, one_by_one, rtol=1e-4, atol=1e-5)
    _, scanned = jax.lax.scan(lambda carry, density: (carry, density.log_prob(x)), None, ensemble)
    np.testing.assert_allclose(scanned, one_by_one, rtol=1e-4, atol=1e-5)
    draws = jax.vmap(lambda key, density: density.sample(key, 4))(keys, ensemble)
    assert draws.shape == (3, 4, 2) and not np.array_equal(draws[0], draws[1])


def test_gradient_of_a_density_is_with_respect_to_its_numbers_and_to_x():
    density, x = density_in_the_plane(), jax.random.normal(KEY, (3, 2))
    gradient = jax.grad(lambda density: density.log_prob(x).sum())(density)
    flow, params, state = flow_in_the_plane()
    expected = jax.grad(lambda params: flow.log_prob(params, state, x)[0].sum())(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), gradient.params, expected)
    step = 1e-2
    score = jax.grad(lambda x: density.log_prob(x).sum())(x)
    for axis in np.eye(2, dtype=np.float32):
        difference = (density.log_prob(x + step * axis) - density.log_prob(x - step * axis)) / (2 * step)
        np.testing.assert_allclose(score @ axis, difference, rtol=2e-2, atol=2e-2)


def test_a_density_uses_running_averages():
    flow = Flow(BatchNorm())
    x = 3 + 2 * jax.random.normal(KEY, (500, 1))
    params, state = flow.init(KEY, x)
    _, state = flow.log_prob(params, state, x, train=True)
    alone = flow.at(params, state).log_prob(x[:1])
    np.testing.assert_allclose(alone, stats.norm.logpdf(x[0], x.mean(), x.std()), atol=1e-3)


# ---------------------------------------------------------------------------------------------- events


@dataclass(frozen=True)
class Swap(StatelessBijector):
    """(a, b) → (b, a), of any shapes."""

    def forward_and_log_det(self, params, x, context):
        return {"a": x["b"], "b": x["a"]}, zero_log_det(x)

    def inverse_and_log_det(self, params, y, context):
        return {"a": y["b"], "b": y["a"]}, zero_log_det(y)


def test_events_that_are_trees_are_sampled():
    flow = Flow(Chain((Swap(), OnLeaf(Triangular(), "a"))))
    x = {"a": jnp.zeros((1, 3)), "b": jnp.zeros((1, 2))}
    params, state = flow.init(KEY, x)
    density = flow.at(moved_from_start(jax.random.key(1), params), state)
    draws, claimed = density.sample_and_log_prob(KEY, 7)
    assert jax.tree.map(jnp.shape, draws) == {"a": (7, 3), "b": (7, 2)}
    assert density.event_shape == {"a": (3,), "b": (2,)}
    np.testing.assert_allclose(claimed, density.log_prob(draws), rtol=1e-4)
    with pytest.raises(ValueError, match="expected event_shape for events that are one array"):
        flow.sample(KEY, density.params, state, 7, event_shape=(3,))


def test_event_shape_takes_the_place_of_the_remembered_one_where_the_flow_allows_it():
    flow = Flow(Squeeze())
    params, state = flow.init(KEY, jnp.zeros((1, 4, 4, 1)))
    assert flow.sample(KEY, params, state, 2).shape == (2, 4, 4, 1)
    assert flow.sample(KEY, params, state, 2, event_shape=(8, 6, 1)).shape == (2, 8, 6, 1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_samples_have_the_dtype_of_the_data(dtype):
    flow = Flow(Chain((Squeeze(),)))
    params, state = flow.init(KEY, jnp.zeros((1, 2, 2, 1), dtype))
    x, log_prob = flow.sample_and_log_prob(KEY, params, state, 3)
    assert x.dtype == dtype and log_prob.dtype == jnp.float32


def test_numpys_float64_is_taken_as_jax_takes_it():
    """As float32 where float64 is off, without the warnings of what asks for float64 there: they would be errors."""
    flow, x = (
        Flow(Chain((Coupling(ChannelMask(), Affine(), MLP((4,))), Triangular()))),
        np.random.default_rng(0).normal(size=(5, 2)),
    )
    assert x.dtype == np.float64
    params, state = flow.init(KEY, x)
    density = flow.at(params, state)
    for result in (flow.log_prob(params, state, x)[0], density.log_prob(x), density.sample(KEY, 3)):
        assert result.dtype == jnp.float32
    np.testing.assert_array_equal(density.log_prob(x), density.log_prob(jnp.asarray(x)))
    y, log_det, _ = flow.bijector.forward(params["bijector"], state["bijector"], x)
    assert y.dtype == log_det.dtype == flow.bijector.inverse(params["bijector"], state["bijector"], x)[1].dtype


def test_samples_are_float64_where_the_data_is():
    with jax.enable_x64(True):
        flow = Flow(Triangular())
        params, state = flow.init(KEY, jnp.zeros((1, 2), jnp.float64))
        x, log_prob = flow.sample_and_log_prob(KEY, params, state, 3)
        assert x.dtype == log_prob.dtype == jnp.float64
        np.testing.assert_allclose(log_prob, flow.log_prob(params, state, x)[0], rtol=1e-12)

"""Log-densities of one event: against the density of rows, against closed forms, and inside BlackJAX's NUTS."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nvpjax import Chain, Flow, Log, MultiScale, Reshape
from nvpjax.ecosystem.samplers import among_latents, log_density
from tests.ecosystem import conditional, contexts, normal


def of_normal(mean, covariance):
    def log_density(x):
        return jax.scipy.stats.multivariate_normal.logpdf(x, mean, covariance)

    return log_density


def test_log_density_is_that_of_one_row():
    density, mean, covariance = normal()
    x = jax.random.normal(jax.random.key(3), (5, 2))
    found = jax.vmap(log_density(density))(x)
    np.testing.assert_allclose(found, jax.vmap(of_normal(mean, covariance))(x), rtol=1e-5)
    assert jax.grad(log_density(density))(x[0]).shape == (2,)


def test_log_density_with_a_context():
    context = contexts(1)
    x = jnp.array([0.3, -0.2])
    found = log_density(conditional(), context)(x)
    np.testing.assert_allclose(found, conditional().log_prob(x[None], context)[0], rtol=1e-6)
    walk = among_latents(conditional(), log_density(conditional(), context), context)
    z = jnp.array([0.5, 1.0])
    np.testing.assert_allclose(walk.log_density(z), jax.scipy.stats.norm.logpdf(z).sum(), rtol=1e-5)
    np.testing.assert_allclose(conditional().latents(walk.from_latents(z)[None], context)[0], z, rtol=1e-5)


def test_among_latents_of_its_own_density_is_the_base():
    density, mean, covariance = normal()
    walk = among_latents(density, of_normal(mean, covariance))
    z = jax.random.normal(jax.random.key(3), (5, 2))
    np.testing.assert_allclose(jax.vmap(walk.log_density)(z), jax.scipy.stats.norm.logpdf(z).sum(axis=1), rtol=1e-4)


def test_among_latents_has_the_volume_of_the_way_back():
    """Against numpy: z uniform to x = exp(z), whose volume is exp(Σz)."""
    flow = Flow(Log())
    density = flow.at(*flow.init(jax.random.key(0), jnp.ones((1, 3))))
    walk = among_latents(density, lambda x: -(x**2).sum())
    z = np.array([0.1, -0.4, 0.7], np.float32)
    np.testing.assert_allclose(walk.log_density(z), -np.exp(2 * z).sum() + z.sum(), rtol=1e-6)


@pytest.mark.parametrize("axes", [(), (4,), (3, 4), (2, 3, 4)])
def test_from_latents_takes_any_axes(axes):
    density, _, _ = normal()
    walk = among_latents(density, lambda x: x.sum())
    z = jax.random.normal(jax.random.key(3), (*axes, 2))
    x = walk.from_latents(z)
    assert x.shape == z.shape
    np.testing.assert_allclose(density.latents(x.reshape(-1, 2)), z.reshape(-1, 2), rtol=1e-4, atol=1e-5)


def test_latents_and_events_may_be_of_other_shapes_and_trees():
    flow = Flow(Chain((Reshape((4,), (2, 2)), MultiScale((Chain(()), Chain(()))))))
    density = flow.at(*flow.init(jax.random.key(0), jnp.zeros((1, 4))))
    z = jax.tree.map(lambda leaf: leaf[0], density.latents(jnp.arange(4.0)[None]))
    walk = among_latents(density, lambda x: -(x**2).sum())
    assert len(z) == 2 and walk.log_density(z) == -14
    assert walk.from_latents(jax.tree.map(lambda leaf: jnp.stack([leaf] * 5), z)).shape == (5, 4)


def test_errors_say_what_is_wrong():
    density, _, _ = normal()
    with pytest.raises(TypeError, match="expected a Density"):
        log_density(density.flow)
    with pytest.raises(TypeError, match="expected a Density"):
        among_latents(density.flow, lambda x: x.sum())
    with pytest.raises(ValueError, match="one number for an x"):
        among_latents(density, lambda x: x).log_density(jnp.zeros(2))
    with pytest.raises(ValueError, match="last axes"):
        among_latents(density, lambda x: x.sum()).from_latents(jnp.zeros(()))


def draws(log_density, start, number=2000):
    blackjax = pytest.importorskip("blackjax")
    sampler = blackjax.nuts(log_density, step_size=0.5, inverse_mass_matrix=jnp.ones(2))

    def draw(state, key):
        state, _ = sampler.step(key, state)
        return state, state.position

    keys = jax.random.split(jax.random.key(4), number)
    return jax.jit(lambda start: jax.lax.scan(draw, sampler.init(start), keys)[1])(start)


def test_blackjax_draws_a_density():
    density, mean, covariance = normal()
    x = draws(log_density(density), mean)
    np.testing.assert_allclose(x.mean(axis=0), mean, atol=0.15)
    np.testing.assert_allclose(np.cov(x.T), covariance, atol=0.25 * covariance.max())


def test_blackjax_draws_among_latents_of_a_flow_that_is_wrong():
    """The target is Gamma(3) in each entry; the flow a lognormal: what is drawn is the target all the same."""
    flow = Flow(Log())
    density = flow.at(*flow.init(jax.random.key(0), jnp.ones((1, 2))))
    walk = among_latents(density, lambda x: jax.scipy.stats.gamma.logpdf(x, 3).sum())
    x = walk.from_latents(draws(walk.log_density, jnp.ones(2)))
    np.testing.assert_allclose(x.mean(), 3, atol=0.2)
    np.testing.assert_allclose(x.std(), 3**0.5, atol=0.25)
    assert (x > 0).all()

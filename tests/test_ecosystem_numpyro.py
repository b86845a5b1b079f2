"""Densities as numpyro's distributions, flows as its guides: against numpyro's own distributions and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nvpjax import IAF, MAF, BatchNorm, Chain, Flow, Logit, LULinear, MultiScale, NormalMixture, Shift, Uniform
from tests.ecosystem import conditional, contexts, moved, normal

pytest.importorskip("numpyro", reason="make ecosystem-test installs it")

import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.distributions import constraints
from numpyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from numpyro.infer.reparam import NeuTraReparam
from numpyro.infer.util import log_density as log_density_of_model

from nvpjax.ecosystem.numpyro import FlowDistribution, FlowGuide, FlowTransform

KEY = jax.random.key(3)


def of_numpyro():
    _, mean, covariance = normal()
    return dist.MultivariateNormal(mean, covariance)


@pytest.mark.parametrize("axes", [(), (5,), (5, 4)])
def test_log_prob_is_that_of_numpyros_normal(axes):
    x = jax.random.normal(KEY, (*axes, 2))
    found = FlowDistribution(normal()[0]).log_prob(x)
    assert found.shape == axes
    np.testing.assert_allclose(found, of_numpyro().log_prob(x), rtol=1e-5)


def test_samples_are_those_of_numpyros_normal():
    flow = FlowDistribution(normal()[0])
    x, (log_prob,) = flow.sample_with_intermediates(KEY, (4000,))
    assert x.shape == flow.shape((4000,)) == (4000, 2)
    np.testing.assert_allclose(x.mean(axis=0), normal()[1], atol=0.15)
    np.testing.assert_allclose(np.cov(x.T), normal()[2], atol=0.2 * normal()[2].max())
    np.testing.assert_allclose(log_prob, of_numpyro().log_prob(x), rtol=1e-4)
    assert (flow.log_prob(x, [log_prob]) == log_prob).all()
    assert flow.rsample(KEY, (3, 2)).shape == (3, 2, 2)


def test_a_context_is_a_batch():
    context = contexts(4)
    flow = FlowDistribution(conditional(), context)
    assert (flow.batch_shape, flow.event_shape) == ((4,), (2,))
    x = flow.sample(KEY, (6, 5))
    assert x.shape == (6, 5, 4, 2)
    found = flow.log_prob(x)
    for row in range(4):
        np.testing.assert_allclose(
            found[..., row].ravel(), conditional().log_prob(x[:, :, row].reshape(-1, 2), context[row][None]), rtol=1e-4
        )
    one = flow.log_prob(x[0, 0, :1])  # one x against four densities
    np.testing.assert_allclose(one[0], found[0, 0, 0], rtol=1e-4)
    assert one.shape == (4,)


def test_a_context_of_one_row_is_for_all():
    context = contexts(1)
    flow = FlowDistribution(conditional(), context)
    assert flow.batch_shape == () and flow.sample(KEY).shape == (2,)
    x = flow.sample(KEY, (3,))
    np.testing.assert_allclose(flow.log_prob(x), conditional().log_prob(x, context), rtol=1e-5)


def test_numpyros_own_wrappers_take_it():
    flow, x = FlowDistribution(normal()[0]), jax.random.normal(KEY, (3, 2))
    assert flow.expand((3,)).sample(KEY).shape == (3, 2)
    np.testing.assert_allclose(flow.expand((3,)).to_event(1).log_prob(x), of_numpyro().log_prob(x).sum(), rtol=1e-5)
    assert FlowDistribution(conditional(), contexts(4)).expand((5, 4)).sample(KEY, (2,)).shape == (2, 5, 4, 2)
    mixture = dist.MixtureGeneral(
        dist.Categorical(jnp.array([0.5, 0.5])), [flow, dist.Normal(0.0, 1.0).expand((2,)).to_event(1)]
    )
    expected = jnp.logaddexp(of_numpyro().log_prob(x), dist.Normal(0.0, 1.0).log_prob(x).sum(axis=1)) - np.log(2)
    np.testing.assert_allclose(mixture.log_prob(x), expected, rtol=1e-5)


def test_it_is_a_pytree():
    flow, x = FlowDistribution(normal()[0]), jax.random.normal(KEY, (3, 2))
    expected = of_numpyro().log_prob(x)
    np.testing.assert_allclose(jax.jit(lambda flow, x: flow.log_prob(x))(flow, x), expected, rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(flow.log_prob)(x), expected, rtol=1e-5)
    twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), normal()[0])
    found = jax.vmap(lambda density: FlowDistribution(density).log_prob(x))(twice)
    np.testing.assert_allclose(found, np.stack([expected, expected]), rtol=1e-5)
    score = jax.grad(lambda x: flow.log_prob(x).sum())(x)
    np.testing.assert_allclose(score, -(x - normal()[1]) @ jnp.linalg.inv(normal()[2]), rtol=1e-3, atol=1e-4)


def test_has_rsample_where_the_base_has():
    flow = Flow(Chain(()), NormalMixture(2))
    mixture = FlowDistribution(flow.at(*flow.init(KEY, jnp.zeros((1, 2)))))
    assert FlowDistribution(normal()[0]).has_rsample and not mixture.has_rsample
    with pytest.raises(NotImplementedError):
        mixture.rsample(KEY)


def test_errors_say_what_is_wrong():
    flow = Flow(MultiScale((Chain(()), Chain(()))))
    several = flow.at(*flow.init(KEY, jnp.zeros((1, 2, 2, 2))))
    with pytest.raises(TypeError, match="expected a Density"):
        FlowDistribution(flow)
    with pytest.raises(TypeError, match="latents are one array"):
        FlowTransform(several)
    with pytest.raises(ValueError, match="context of rows"):
        FlowDistribution(conditional(), jnp.zeros(()))
    with pytest.raises(ValueError, match="support of events of 1 axes"):
        FlowDistribution(normal()[0], support=constraints.unit_interval)
    with pytest.raises(ValueError, match=r"expected events of \(2,\)"):
        FlowDistribution(normal()[0]).log_prob(jnp.zeros((4, 3)))
    with pytest.raises(TypeError, match="expected a Flow, or a Model"):
        FlowGuide(lambda: None, normal()[0])


def nuts(model, *args, number=1500):
    sampler = MCMC(NUTS(model), num_warmup=300, num_samples=number, progress_bar=False)
    sampler.run(KEY, *args)
    return sampler.get_samples()


def test_nuts_draws_a_prior_that_is_a_flow():
    """With a normal likelihood the posterior of a normal is known."""
    y, noise = jnp.array([0.5, -1.0]), 0.7

    def model(y):
        x = numpyro.sample("x", FlowDistribution(normal()[0]))
        numpyro.sample("y", dist.Normal(x, noise).to_event(1), obs=y)

    _, mean, covariance = normal()
    precision = jnp.linalg.inv(covariance) + jnp.eye(2) / noise**2
    expected = jnp.linalg.solve(precision, jnp.linalg.solve(covariance, mean) + y / noise**2)
    x = nuts(model, y)["x"]
    np.testing.assert_allclose(x.mean(axis=0), expected, atol=0.08)
    np.testing.assert_allclose(np.cov(x.T), jnp.linalg.inv(precision), atol=0.08)


def test_nuts_walks_within_a_support():
    """A Beta(2, 2), as a flow whose latents are logits, learned by hand: x = sigmoid(z), z logistic of that Beta."""
    flow = Flow(Logit(alpha=0.0), Uniform(-30.0, 30.0))
    density = flow.at(*flow.init(KEY, jnp.full((1, 1), 0.5)))
    support = constraints.independent(constraints.unit_interval, 1)

    def model():
        x = numpyro.sample("x", FlowDistribution(density, support=support))
        numpyro.factor("beta", 3 * jnp.log(x * (1 - x)).sum())  # the flow's own density is 1 / (60·x·(1 − x))

    x = nuts(model)["x"]
    assert ((x > 0) & (x < 1)).all()
    np.testing.assert_allclose([x.mean(), x.std()], [0.5, np.sqrt(1 / 28)], atol=0.03)  # Beta(3, 3)


def test_plates_of_contexts():
    context = contexts(4)
    x = conditional().sample(KEY, 4, context)

    def model(x):
        with numpyro.plate("rows", 4):
            numpyro.sample("x", FlowDistribution(conditional(), context), obs=x)

    found, _ = log_density_of_model(model, (x,), {}, {})
    np.testing.assert_allclose(found, conditional().log_prob(x, context).sum(), rtol=1e-5)

    def alike():
        with numpyro.plate("rows", 5):
            return numpyro.sample("x", FlowDistribution(normal()[0]))

    assert handlers.seed(alike, KEY)().shape == (5, 2)


def test_transform_is_the_flow():
    density, _, _ = normal()
    transform = FlowTransform(density)
    base = dist.Normal(jnp.zeros(2), 1.0).to_event(1)
    x = jax.random.normal(KEY, (5, 4, 2))
    np.testing.assert_allclose(
        dist.TransformedDistribution(base, transform).log_prob(x), of_numpyro().log_prob(x), rtol=1e-4
    )
    z = transform.inv(x)
    np.testing.assert_allclose(transform(z), x, rtol=1e-4, atol=1e-5)
    jacobian = jax.jacobian(transform)(z[0, 0])
    np.testing.assert_allclose(
        transform.log_abs_det_jacobian(z, x)[0, 0], jnp.linalg.slogdet(jacobian)[1], rtol=1e-4, atol=1e-5
    )
    assert transform.forward_shape((5, 4, 2)) == transform.inverse_shape((5, 4, 2)) == (5, 4, 2)
    np.testing.assert_allclose(jax.jit(lambda transform, z: transform(z))(transform, z), transform(z), rtol=1e-5)


def regression(x, y=None):
    """A normal posterior of two weights, with evidence in closed form; σ is known."""
    with numpyro.plate("columns", 2):
        weights = numpyro.sample("weights", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(x @ weights, 0.5).to_event(1), obs=y)


COLUMNS = jnp.array([[1.0, 0.2], [0.3, -1.0], [0.8, 0.9]])
Y = jnp.array([0.7, 1.1, -0.4])
AFFINE = Flow(Chain((Shift(), LULinear())))


@pytest.fixture(scope="module")
def fitted():
    guide = FlowGuide(regression, AFFINE)
    svi = SVI(regression, guide, optax.adam(optax.cosine_decay_schedule(0.03, 1500)), Trace_ELBO(num_particles=4))
    return guide, svi.run(KEY, 1500, COLUMNS, Y, progress_bar=False)


def test_a_guide_finds_the_posterior_and_the_evidence(fitted):
    guide, result = fitted
    precision = jnp.eye(2) + COLUMNS.T @ COLUMNS / 0.25
    mean, covariance = jnp.linalg.solve(precision, COLUMNS.T @ Y / 0.25), jnp.linalg.inv(precision)
    draws = guide.sample_posterior(KEY, result.params, sample_shape=(4000,))["weights"]
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=0.05)
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=0.05)
    evidence = dist.MultivariateNormal(jnp.zeros(3), COLUMNS @ COLUMNS.T + 0.25 * jnp.eye(3)).log_prob(Y)
    elbo = -Trace_ELBO(num_particles=500).loss(KEY, result.params, regression, guide, COLUMNS, Y)
    np.testing.assert_allclose(elbo, evidence, atol=0.01)
    found = guide.density(result.params)
    np.testing.assert_allclose(
        found.log_prob(draws[:9]), dist.MultivariateNormal(mean, covariance).log_prob(draws[:9]), atol=0.1
    )


def test_elbo_is_that_by_hand():
    """A guide that is far from the posterior, one of its latents constrained: log p by scipy, q by itself."""

    def model(y):
        scale = numpyro.sample("scale", dist.LogNormal(0.0, 1.0))
        shift = numpyro.sample("shift", dist.Normal(0.0, 2.0))
        numpyro.sample("y", dist.Normal(shift, 1 + scale), obs=y)

    guide, y = FlowGuide(model, MAF(layers=1, hidden=(4,))), 1.3
    svi = SVI(model, guide, optax.adam(1e-3), Trace_ELBO())
    params = svi.get_params(svi.init(KEY, y))
    params = {"auto_flow": moved(params["auto_flow"], jax.random.key(5))}
    normal_of = jax.scipy.stats.norm.logpdf

    def by_hand(key):
        x = guide.density(params).sample(key, 1)
        log_scale, shift = x[0]  # numpyro ravels in the order of names; log-normal in log(scale) is a normal
        log_p = normal_of(log_scale) + normal_of(shift, 0, 2) + normal_of(y, shift, 1 + jnp.exp(log_scale))
        return log_p - guide.density(params).log_prob(x)[0]

    each = jax.jit(jax.vmap(by_hand))(jax.random.split(KEY, 3000))
    loss = Trace_ELBO(num_particles=3000).loss(jax.random.key(6), params, model, guide, y)
    error = each.std() * np.sqrt(2 / 3000)
    assert abs(each.mean() + loss) < 4 * error < 0.5


def test_a_guide_draws_without_computing_log_prob_again():
    """The log q of the trace is that of the draw: of an IAF, log_prob would go entry by entry."""
    guide = FlowGuide(regression, IAF(layers=1, hidden=(4,)))
    seeded = handlers.seed(guide, KEY)
    trace = handlers.trace(seeded).get_trace(COLUMNS, Y)
    site = trace["_auto_latent"]
    np.testing.assert_allclose(
        site["fn"].log_prob(site["value"], site["intermediates"]), site["fn"].log_prob(site["value"]), rtol=1e-4
    )
    assert len(site["intermediates"]) == 1


def test_numpyros_tools_take_the_guide(fitted):
    guide, result = fitted
    predictive = Predictive(regression, guide=guide, params=result.params, num_samples=20)
    assert predictive(KEY, COLUMNS)["y"].shape == (20, 3)
    neutra = NeuTraReparam(guide, result.params)
    draws = nuts(neutra.reparam(regression), COLUMNS, Y, number=800)["auto_shared_latent"]
    np.testing.assert_allclose(draws.mean(axis=0), 0, atol=0.2)  # the guide is exact: among latents all is N(0, I)
    np.testing.assert_allclose(draws.std(axis=0), 1, atol=0.2)
    assert neutra.transform_sample(draws)["weights"].shape == (800, 2)


def test_a_guide_may_start_inside_jit():
    guide = FlowGuide(regression, AFFINE)
    svi = SVI(regression, guide, optax.adam(1e-3), Trace_ELBO())
    state = jax.jit(svi.init)(KEY, COLUMNS, Y)
    state, loss = jax.jit(svi.update)(state, COLUMNS, Y)
    assert np.isfinite(loss)
    assert guide.sample_posterior(KEY, svi.get_params(state))["weights"].shape == (2,)


def test_what_a_guide_cannot_be():
    with pytest.raises(ValueError, match="measures nothing"):
        handlers.seed(FlowGuide(regression, Flow(BatchNorm())), KEY)(COLUMNS, Y)
    guide = FlowGuide(regression, Flow(Chain(()), Uniform()))
    handlers.seed(guide, KEY)(COLUMNS, Y)
    with pytest.raises(ValueError, match="over which NUTS can walk"):
        guide.get_base_dist()

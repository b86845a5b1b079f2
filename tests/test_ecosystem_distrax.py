"""Densities and bijectors as distrax's, and the other way: against distrax's own, closed forms and autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nvpjax import BatchNorm, Chain, Coupling, Flow, MultiScale, Scale, Squeeze, load, save
from nvpjax.testing import check_bijector
from tests.ecosystem import conditional, contexts, normal

pytest.importorskip("distrax", reason="make ecosystem-test installs it")

import distrax

from nvpjax.ecosystem.distrax import FlowBijector, FlowDistribution, ForeignBijector

KEY = jax.random.key(3)


def of_distrax():
    _, mean, covariance = normal()
    return distrax.MultivariateNormalFullCovariance(mean, covariance)


def ours(density, event_shape=(2,), context=None):
    return FlowBijector(
        density.flow.bijector, density.params["bijector"], density.state["bijector"], event_shape, context
    )


@pytest.mark.parametrize("axes", [(), (5,), (5, 4)])
def test_log_prob_is_that_of_distraxs_normal(axes):
    x = jax.random.normal(KEY, (*axes, 2))
    found = FlowDistribution(normal()[0]).log_prob(x)
    assert found.shape == axes
    np.testing.assert_allclose(found, of_distrax().log_prob(x), rtol=1e-4)


def test_samples_are_those_of_distraxs_normal():
    flow = FlowDistribution(normal()[0])
    x, log_prob = flow.sample_and_log_prob(seed=KEY, sample_shape=(2, 2000))
    assert x.shape == (2, 2000, 2) and flow.sample(seed=0).shape == (2,) and flow.dtype == jnp.float32
    np.testing.assert_allclose(log_prob, of_distrax().log_prob(x), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(x.mean(axis=(0, 1)), normal()[1], atol=0.15)
    np.testing.assert_allclose(np.cov(x.reshape(-1, 2).T), normal()[2], atol=0.2 * normal()[2].max())


def test_a_context_is_a_batch():
    context = contexts(4)
    flow = FlowDistribution(conditional(), context)
    assert (flow.batch_shape, flow.event_shape) == ((4,), (2,))
    x = flow.sample(seed=KEY, sample_shape=(3,))
    assert x.shape == (3, 4, 2)
    expected = jnp.stack([conditional().log_prob(one, context) for one in x])
    np.testing.assert_allclose(flow.log_prob(x), expected, rtol=1e-5)
    np.testing.assert_allclose(distrax.Independent(flow, 1).log_prob(x), expected.sum(axis=1), rtol=1e-5)


def test_it_is_a_pytree():
    x = jax.random.normal(KEY, (3, 2))
    found = jax.jit(lambda flow, x: flow.log_prob(x))(FlowDistribution(normal()[0]), x)
    np.testing.assert_allclose(found, of_distrax().log_prob(x), rtol=1e-4)
    y = jax.jit(lambda bijector, x: bijector.forward(x))(ours(normal()[0]), x)
    np.testing.assert_allclose(y, normal()[0].latents(x), rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(ours(normal()[0]).forward)(x), y, rtol=1e-5)
    score = jax.grad(lambda x: FlowDistribution(normal()[0]).log_prob(x).sum())(x)
    np.testing.assert_allclose(score, -(x - normal()[1]) @ jnp.linalg.inv(normal()[2]), rtol=1e-3, atol=1e-4)


def test_transformed_by_a_flow_is_the_flow():
    base = distrax.MultivariateNormalDiag(jnp.zeros(2), jnp.ones(2))
    transformed = distrax.Transformed(base, distrax.Inverse(ours(normal()[0])))
    x, log_prob = transformed.sample_and_log_prob(seed=KEY, sample_shape=(5, 4))
    np.testing.assert_allclose(log_prob, of_distrax().log_prob(x), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(transformed.log_prob(x), of_distrax().log_prob(x), rtol=1e-4, atol=1e-4)


def jacobian_of(function, x):
    return jnp.linalg.slogdet(jax.jacobian(function)(x))[1]


@pytest.mark.parametrize("axes", [(), (5,), (5, 4)])
def test_a_chain_of_ours_and_theirs(axes):
    chain = distrax.Chain([distrax.Block(distrax.Tanh(), 1), ours(normal()[0])])
    x = 0.3 * jax.random.normal(KEY, (*axes, 2))
    y, log_det = chain.forward_and_log_det(x)
    assert log_det.shape == axes
    expected = np.vectorize(lambda x: jacobian_of(chain.forward, x), signature="(n)->()")(np.asarray(x))
    np.testing.assert_allclose(log_det, expected, rtol=1e-3, atol=1e-4)
    back, log_det_back = chain.inverse_and_log_det(y)
    np.testing.assert_allclose(back, x, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(log_det_back, -log_det, rtol=1e-3, atol=1e-4)


def test_a_bijector_with_contexts():
    context, x = contexts(4), jax.random.normal(KEY, (3, 4, 2))
    y, log_det = ours(conditional(), context=context).forward_and_log_det(x)
    np.testing.assert_allclose(y[1], conditional().latents(x[1], context), rtol=1e-5)
    assert log_det.shape == (3, 4)


def test_events_may_change_their_axes():
    squeeze = FlowBijector(Squeeze(), (), (), (4, 4, 1))
    assert (squeeze.event_ndims_in, squeeze.event_ndims_out) == (3, 3)
    x = jnp.arange(32.0).reshape(2, 1, 4, 4, 1)
    np.testing.assert_array_equal(squeeze.inverse(squeeze.forward(x)), x)


def make(params):
    return distrax.Block(distrax.ScalarAffine(shift=params["shift"], log_scale=params["log_scale"]), 1)


def start(key):
    return {"shift": jax.random.normal(key, (2,)), "log_scale": jnp.zeros(2)}


def test_theirs_is_learned_as_ours_is():
    flow = Flow(Chain((ForeignBijector(make, start), Scale())))
    x = jnp.array([1.0, 2.0]) + jnp.array([0.5, 3.0]) * jax.random.normal(KEY, (2000, 2))
    params, state = flow.init(KEY, x)
    assert jax.tree.map(jnp.shape, params["bijector"][0]) == {"shift": (2,), "log_scale": (2,)}

    def nats(params):
        return -flow.log_prob(params, state, x)[0].mean()

    rate = 0.1  # gradient descent to the normal of largest likelihood, whose nats are those of its deviations
    step = jax.jit(lambda params: jax.tree.map(lambda p, g: p - rate * g, params, jax.grad(nats)(params)))
    for _ in range(300):
        params = step(params)
    expected = jnp.log(x.std(axis=0)).sum() + 1 + jnp.log(2 * jnp.pi)
    np.testing.assert_allclose(nats(params), expected, rtol=2e-3)


def test_what_is_made_by_functions_can_be_saved(tmp_path):
    flow = Flow(ForeignBijector(make, start))
    density = flow.at(*flow.init(KEY, jnp.zeros((1, 2))))
    save(tmp_path / "density.npz", density, known=(make, start))
    again = load(tmp_path / "density.npz", known=(make, start))
    assert again.flow == flow and hash(again.flow) == hash(flow)
    np.testing.assert_array_equal(again.log_prob(jnp.ones((1, 2))), density.log_prob(jnp.ones((1, 2))))


THEIRS = {
    "scalar, summed": (lambda: distrax.Tanh(), (2,)),
    "block": (lambda: distrax.Block(distrax.Sigmoid(), 1), (2,)),
    "constant": (lambda: distrax.ScalarAffine(shift=1.0, scale=2.0), (2, 3)),
    "vector": (lambda: distrax.TriangularLinear(jnp.array([[2.0, 0.0], [1.0, -0.5]])), (2,)),
}


@pytest.mark.parametrize("name", THEIRS)
def test_theirs_there_and_back(name):
    """Log-dets against autodiff; and as distrax's again, it is what it was."""
    make, event_shape = THEIRS[name]
    theirs, x = make(), 0.5 * jax.random.normal(KEY, (3, *event_shape))
    bijector = ForeignBijector(theirs)
    params, state = bijector.init(KEY, x)
    y, log_det, _ = bijector.forward(params, state, x)
    expected = [jacobian_of(lambda v: theirs.forward(v.reshape(event_shape)).ravel(), one.ravel()) for one in x]
    np.testing.assert_allclose(log_det, expected, rtol=1e-4)
    back, log_det_back = bijector.inverse(params, state, y)
    np.testing.assert_allclose(back, x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(log_det_back, -log_det, rtol=1e-4)
    again = FlowBijector(bijector, params, state, event_shape)
    np.testing.assert_allclose(again.forward(x[:, None]), theirs.forward(x[:, None]), rtol=1e-6)
    assert y.shape == (3, *event_shape)


def test_theirs_passes_the_kit():
    check_bijector(ForeignBijector(make, start), jnp.array([[0.3, -0.2], [1.0, 2.0]]), cases=1)


def test_their_distribution_is_a_base():
    flow = Flow(Scale(), distrax.MultivariateNormalDiag(jnp.ones(2), 2 * jnp.ones(2)))
    density = flow.at(*flow.init(KEY, jnp.zeros((1, 2))))
    x = jax.random.normal(KEY, (3, 2))
    found = FlowDistribution(density)  # and back
    np.testing.assert_allclose(found.log_prob(x), flow.base.distribution.log_prob(x), rtol=1e-5)
    assert found.sample(seed=KEY, sample_shape=(7,)).shape == (7, 2)


def test_equal_where_they_hold_the_same():
    tanh = distrax.Tanh()
    assert ForeignBijector(tanh) == ForeignBijector(tanh) and ForeignBijector(tanh) != ForeignBijector(distrax.Tanh())
    assert len({ForeignBijector(make, start), ForeignBijector(make, start)}) == 1


def test_errors_say_what_is_wrong():
    with pytest.raises(TypeError, match="expected a Density"):
        FlowDistribution(normal()[0].flow)
    with pytest.raises(TypeError, match="expected a Bijector"):
        FlowBijector(distrax.Tanh(), (), (), (2,))
    scales = MultiScale((Chain(()), Chain(())))
    with pytest.raises(TypeError, match="several"):
        FlowBijector(scales, *scales.init(KEY, jnp.zeros((1, 2, 2, 2))), (2, 2, 2))
    with pytest.raises(ValueError, match="BatchNorm: expected"):
        FlowBijector(BatchNorm(), *BatchNorm().init(KEY, jnp.zeros((4, 3))), (2,))
    with pytest.raises(TypeError, match="with start"):
        ForeignBijector(make)
    with pytest.raises(TypeError, match="of distrax alone"):
        ForeignBijector(distrax.Tanh(), start)
    with pytest.raises(TypeError, match="of distrax alone"):
        ForeignBijector(Coupling)
    with pytest.raises(TypeError, match="a bijector of distrax from"):
        ForeignBijector(dict, start).init(KEY, jnp.zeros((1, 2)))
    with pytest.raises(ValueError, match="at least 1 axes"):
        ForeignBijector(make, start).init(KEY, jnp.zeros((3,)))
    rows = ForeignBijector(distrax.ScalarAffine(shift=jnp.zeros((3, 2))))
    with pytest.raises(ValueError, match="ForeignBijector: expected"):
        rows.init(KEY, jnp.zeros((3, 2)))

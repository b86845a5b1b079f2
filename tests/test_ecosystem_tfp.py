"""Densities and bijectors as those of TFP on JAX, and the other way: against TFP's own, closed forms and autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nvpjax import Chain, Flow, NormalMixture, Scale, Squeeze, load, save
from nvpjax.testing import check_bijector
from tests.ecosystem import conditional, contexts, normal

pytest.importorskip("tensorflow_probability.substrates.jax", reason="make ecosystem-test installs it")

from tensorflow_probability.substrates import jax as tfp

from nvpjax.ecosystem.tfp import FlowBijector, FlowDistribution, ForeignBijector

tfb, tfd = tfp.bijectors, tfp.distributions
KEY = jax.random.key(3)


def of_tfp():
    _, mean, covariance = normal()
    return tfd.MultivariateNormalFullCovariance(mean, covariance)


def ours(density, event_shape=(2,), context=None):
    params, state = density.params["bijector"], density.state["bijector"]
    return FlowBijector(density.flow.bijector, params, state, event_shape, context)


@pytest.mark.parametrize("axes", [(), (5,), (5, 4)])
def test_log_prob_is_that_of_tfps_normal(axes):
    x = jax.random.normal(KEY, (*axes, 2))
    found = FlowDistribution(normal()[0]).log_prob(x)
    assert found.shape == axes
    np.testing.assert_allclose(found, of_tfp().log_prob(x), rtol=1e-4)


def test_samples_are_those_of_tfps_normal():
    flow = FlowDistribution(normal()[0])
    x, log_prob = flow.experimental_sample_and_log_prob((2, 2000), seed=KEY)
    assert x.shape == (2, 2000, 2) and flow.sample(seed=KEY).shape == (2,) and flow.sample(3, seed=KEY).shape == (3, 2)
    np.testing.assert_allclose(log_prob, of_tfp().log_prob(x), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(x.mean(axis=(0, 1)), normal()[1], atol=0.15)
    np.testing.assert_allclose(np.cov(x.reshape(-1, 2).T), normal()[2], atol=0.2 * normal()[2].max())


def test_what_tfp_asks_of_a_distribution():
    flow = FlowDistribution(conditional(), contexts(4))
    assert (tuple(flow.batch_shape), tuple(flow.event_shape), flow.dtype) == ((4,), (2,), jnp.float32)
    assert (list(flow.batch_shape_tensor()), list(flow.event_shape_tensor())) == ([4], [2])
    assert flow.reparameterization_type == tfd.FULLY_REPARAMETERIZED
    mixture = Flow(Chain(()), NormalMixture(2))
    mixture = FlowDistribution(mixture.at(*mixture.init(KEY, jnp.zeros((1, 2)))))
    assert mixture.reparameterization_type == tfd.NOT_REPARAMETERIZED
    assert flow.copy().event_shape == flow.event_shape


def test_a_context_is_a_batch():
    context = contexts(4)
    flow = FlowDistribution(conditional(), context)
    x = flow.sample(3, seed=KEY)
    assert x.shape == (3, 4, 2)
    expected = jnp.stack([conditional().log_prob(one, context) for one in x])
    np.testing.assert_allclose(flow.log_prob(x), expected, rtol=1e-5)
    np.testing.assert_allclose(tfd.Independent(flow, 1).log_prob(x), expected.sum(axis=1), rtol=1e-5)


def test_within_jit_vmap_and_grad():
    x = jax.random.normal(KEY, (3, 2))
    found = jax.jit(lambda density, x: FlowDistribution(density).log_prob(x))(normal()[0], x)
    np.testing.assert_allclose(found, of_tfp().log_prob(x), rtol=1e-4)
    np.testing.assert_allclose(jax.vmap(ours(normal()[0]).forward)(x), normal()[0].latents(x), rtol=1e-5)
    score = jax.grad(lambda x: FlowDistribution(normal()[0]).log_prob(x).sum())(x)
    np.testing.assert_allclose(score, -(x - normal()[1]) @ jnp.linalg.inv(normal()[2]), rtol=1e-3, atol=1e-4)


def test_transformed_by_a_flow_is_the_flow():
    base = tfd.MultivariateNormalDiag(jnp.zeros(2), jnp.ones(2))
    transformed = tfd.TransformedDistribution(base, tfb.Invert(ours(normal()[0])))
    x = transformed.sample((5, 4), seed=KEY)
    np.testing.assert_allclose(transformed.log_prob(x), of_tfp().log_prob(x), rtol=1e-4, atol=1e-4)
    x = jax.random.normal(KEY, (5, 4, 2))  # not in TFP's cache
    np.testing.assert_allclose(transformed.log_prob(x), of_tfp().log_prob(x), rtol=1e-4, atol=1e-4)


def jacobian_of(function, x):
    return jnp.linalg.slogdet(jax.jacobian(function)(x))[1]


@pytest.mark.parametrize("axes", [(), (5,), (5, 4)])
def test_a_chain_of_ours_and_theirs(axes):
    chain = tfb.Chain([tfb.Tanh(), ours(normal()[0])])
    x = 0.3 * jax.random.normal(KEY, (*axes, 2))
    log_det = chain.forward_log_det_jacobian(x, event_ndims=1)
    assert log_det.shape == axes
    expected = np.vectorize(lambda x: jacobian_of(chain.forward, x), signature="(n)->()")(np.asarray(x))
    np.testing.assert_allclose(log_det, expected, rtol=1e-3, atol=1e-4)
    y = jnp.array(chain.forward(x), copy=True)  # TFP would give back what it remembers
    np.testing.assert_allclose(chain.inverse(y), x, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(chain.inverse_log_det_jacobian(y, event_ndims=1), -log_det, rtol=1e-3, atol=1e-4)


def test_two_bijectors_share_nothing_in_tfps_cache():
    one, other = ours(normal()[0]), FlowBijector(Scale(), {"log_scale": jnp.ones(2)}, (), (2,))
    x = jnp.ones((1, 2))
    y = one.forward(x)
    np.testing.assert_allclose(other.forward(x), np.exp(1) * x, rtol=1e-5)
    again = FlowBijector(Scale(), {"log_scale": jnp.zeros(2)}, (), (2,))
    np.testing.assert_allclose(again.forward(x), x, rtol=1e-6)
    assert one != other and other != again and y.shape == (1, 2)


def test_a_bijector_with_contexts():
    context, x = contexts(4), jax.random.normal(KEY, (3, 4, 2))
    bijector = ours(conditional(), context=context)
    np.testing.assert_allclose(bijector.forward(x)[1], conditional().latents(x[1], context), rtol=1e-5)
    assert bijector.forward_log_det_jacobian(x).shape == (3, 4)


def test_events_may_change_their_shape():
    squeeze = FlowBijector(Squeeze(), (), (), (4, 4, 1))
    x = jnp.arange(32.0).reshape(2, 1, 4, 4, 1)
    np.testing.assert_array_equal(squeeze.inverse(jnp.array(squeeze.forward(x), copy=True)), x)
    assert tuple(squeeze.forward_event_shape((5, 4, 4, 1))) == (5, 2, 2, 4)
    assert tuple(squeeze.inverse_event_shape((5, 2, 2, 4))) == (5, 4, 4, 1)
    assert list(squeeze.forward_event_shape_tensor(jnp.array([5, 4, 4, 1]))) == [5, 2, 2, 4]
    assert list(squeeze.inverse_event_shape_tensor(jnp.array([5, 2, 2, 4]))) == [5, 4, 4, 1]


def make(params):
    return tfb.Chain([tfb.Shift(params["shift"]), tfb.Scale(log_scale=params["log_scale"])])


def start(key):
    return {"shift": jax.random.normal(key, (2,)), "log_scale": jnp.zeros(2)}


def test_theirs_is_learned_and_saved(tmp_path):
    flow = Flow(ForeignBijector(make, start))
    x = jax.random.normal(KEY, (5, 2))
    params, state = flow.init(KEY, x)

    def log_prob(params):
        return flow.log_prob(params, state, x)[0].sum()

    shift, log_scale = (params["bijector"][name] for name in ("shift", "log_scale"))
    z = x * jnp.exp(log_scale) + shift
    gradient = jax.grad(log_prob)(params)["bijector"]
    np.testing.assert_allclose(gradient["shift"], -z.sum(axis=0), rtol=1e-4)
    np.testing.assert_allclose(gradient["log_scale"], 5 - (z * x * jnp.exp(log_scale)).sum(axis=0), rtol=1e-4)
    save(tmp_path / "density.npz", flow.at(params, state), known=(make, start))
    again = load(tmp_path / "density.npz", known=(make, start))
    np.testing.assert_array_equal(again.log_prob(x), flow.at(params, state).log_prob(x))


THEIRS = {
    "scalar, summed": (lambda: tfb.Tanh(), (2,)),
    "constant": (lambda: tfb.Scale(2.0), (2, 3)),
    "a row's": (lambda: tfb.Scale(jnp.array([2.0, -3.0])), (2,)),
    "vector": (lambda: tfb.ScaleMatvecTriL(jnp.array([[2.0, 0.0], [1.0, 0.5]])), (2,)),
    "permutation": (lambda: tfb.Permute([1, 0]), (2,)),
}


@pytest.mark.parametrize("name", THEIRS)
def test_theirs_there_and_back(name):
    """Log-dets against autodiff; and as TFP's again, it is what it was."""
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


def test_theirs_of_another_shape():
    bijector = ForeignBijector(tfb.FillTriangular())  # 3 numbers to a triangle of 2x2: of the inverse side, too
    x = jnp.arange(6.0).reshape(2, 3)
    y, _, _ = bijector.forward(*bijector.init(KEY, x), x)
    assert y.shape == (2, 2, 2)
    np.testing.assert_array_equal(bijector.inverse(*bijector.init_inverse(KEY, y), y)[0], x)


def test_theirs_passes_the_kit():
    example = jnp.array([[0.3, -0.2], [1.0, 2.0]])
    check_bijector(ForeignBijector(make, start), example, cases=1, dtypes=("float32",))  # TFP refuses to mix dtypes


def test_their_distribution_is_a_base():
    flow = Flow(Scale(), tfd.MultivariateNormalDiag(jnp.ones(2), 2 * jnp.ones(2)))
    found = FlowDistribution(flow.at(*flow.init(KEY, jnp.zeros((1, 2)))))
    x = jax.random.normal(KEY, (3, 2))
    np.testing.assert_allclose(found.log_prob(x), flow.base.distribution.log_prob(x), rtol=1e-5)
    assert found.sample(7, seed=KEY).shape == (7, 2)


def test_errors_say_what_is_wrong():
    with pytest.raises(TypeError, match="expected a Density"):
        FlowDistribution(normal()[0].flow)
    with pytest.raises(TypeError, match="expected a Bijector"):
        FlowBijector(tfb.Tanh(), (), (), (2,))
    with pytest.raises(TypeError, match="with start"):
        ForeignBijector(make)
    with pytest.raises(TypeError, match="of TFP alone"):
        ForeignBijector(tfb.Tanh(), start)
    rows = ForeignBijector(tfb.Scale(jnp.ones((3, 2))))
    with pytest.raises(ValueError, match="ForeignBijector: expected"):
        rows.init(KEY, jnp.zeros((3, 2)))

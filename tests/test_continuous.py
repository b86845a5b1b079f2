"""Continuous flows against matrix exponentials, exact traces, and what their tolerance states."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

from nvpjax import FFJORD, Affine, ChannelMask, Coupling, FFJORDVectors, Flow
from nvpjax.continuous import Continuous, ExactTrace, FlowMatching, HutchinsonTrace
from nvpjax.convolves import convolves
from nvpjax.nets import MLP, ConcatSquash, FieldOfImages
from nvpjax.testing import CHECKS, moved_from_start

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
A = np.array([[0.3, -1.2, 0.0], [0.8, -0.5, 0.4], [0.1, 0.0, 0.7]])


@dataclasses.dataclass(frozen=True)
class LinearField:
    """f(z, t) = A·z·(1 + t)."""

    def init(self, key, x, context=None, *, outputs):
        return jnp.asarray(A, x.dtype), ()

    def apply(self, params, state, x, context=None, *, outputs, train=False):
        return x[..., :-1] @ params.T * (1 + x[..., -1:]), state


def test_a_linear_field_is_a_matrix_exponential():
    flow = Continuous(LinearField(), tolerance=1e-8)
    with jax.enable_x64(True):
        x = jnp.asarray(X, "float64")
        params, state = flow.init(KEY, x)
        y, log_det, _ = flow.forward(params, state, x)
        again, back = flow.inverse(params, state, y)
    np.testing.assert_allclose(y, X.astype(float) @ linalg.expm(1.5 * A).T, atol=1e-6)
    np.testing.assert_allclose(log_det, 1.5 * np.trace(A), atol=1e-6)  # ∫ (1 + t) dt = 3/2
    np.testing.assert_allclose(again, X, atol=1e-6)
    np.testing.assert_allclose(back, -log_det, atol=1e-6)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-7])
def test_errors_are_about_the_tolerance(tolerance):
    flow = Continuous(ConcatSquash((16,), final_scale=1.0), tolerance=tolerance)
    with jax.enable_x64(True):
        x = jnp.asarray(X, "float64")
        params, state = jax.tree.map(lambda a: a.astype("float64"), flow.init(KEY, x))
        exactly = dataclasses.replace(flow, tolerance=1e-11)
        y, log_det, _ = jax.jit(flow.forward)(params, state, x)
        expected, exact_log_det, _ = jax.jit(exactly.forward)(params, state, x)
        again, _ = jax.jit(flow.inverse)(params, state, y)
        jacobians = jax.vmap(jax.jacrev(lambda x: exactly.forward(params, state, x[None])[0][0]))(x)
    y, log_det, expected, exact_log_det, again = map(np.asarray, (y, log_det, expected, exact_log_det, again))
    np.testing.assert_allclose(exact_log_det, np.linalg.slogdet(jacobians)[1], atol=1e-8)
    assert abs(exact_log_det).max() > 0.1
    for error in (y - expected, log_det - exact_log_det, again - np.asarray(x)):
        assert np.abs(error).max() < 20 * tolerance


def test_no_example_depends_on_the_others():
    """In float64: a product of one row is not rounded as one of many, and in float32 that moves the steps' sizes."""
    flow = Continuous(ConcatSquash((16,), final_scale=3.0), HutchinsonTrace(), tolerance=1e-3)
    with jax.enable_x64(True):
        first, others = jnp.asarray(X[:1], "float64"), jnp.asarray(30 * X[1:], "float64")
        x = jnp.concatenate([first, others])
        params, state = flow.init(KEY, x)
        evaluations = flow.evaluations(params, state, x)
        assert len(set(evaluations.tolist())) > 1  # else steps of all together would be the same
        together, log_det, _ = flow.forward(params, state, x)
        alone, own, _ = flow.forward(params, state, first)
    np.testing.assert_allclose(alone, together[:1], atol=1e-9)
    np.testing.assert_allclose(own, log_det[:1], atol=1e-9)


def test_the_kit_takes_what_it_states(check_bijector):
    # Far from the start the field is stiff, and errors grow beyond what a tolerance of each step says.
    checks = [check for check in CHECKS if check != "far parameters"]
    x = np.random.default_rng(0).uniform(-3, 3, size=(4, 2)).astype(np.float32)
    check_bijector(Continuous(ConcatSquash((4,))), x, dtypes=("float32", "float64"), checks=checks)


def test_a_field_of_images_holds_no_convolution_on_a_cpu():
    """Solves are loops."""
    field, x = FieldOfImages((3,)), jnp.ones((2, 4, 4, 2))
    params, state = field.init(KEY, x, outputs=1)
    gradient = jax.grad(lambda params: field.apply(params, state, x, outputs=1)[0].sum())
    assert not convolves(jax.make_jaxpr(gradient)(params).jaxpr)


@pytest.mark.parametrize("kind", ["rademacher", "normal"])
def test_hutchinsons_trace_is_unbiased(kind):
    exact = Continuous(ConcatSquash((8,), final_scale=2.0), steps=8)
    flow = dataclasses.replace(exact, trace=HutchinsonTrace(kind))
    params, state = flow.init(KEY, X)
    _, expected, _ = exact.forward(params, {**state, "noise": ()}, X)
    keys = jax.vmap(jax.random.key_data)(jax.random.split(jax.random.key(3), 1000))
    draws = jax.jit(jax.vmap(lambda noise: flow.forward(params, {**state, "noise": noise}, X)[1]))(keys)
    draws = np.asarray(draws, float)
    assert np.all(np.abs(draws.mean(axis=0) - expected) < 5 * draws.std(axis=0) / np.sqrt(1000) + 1e-5)
    assert draws.std(axis=0).min() > 1e-2
    _, _, moved = flow.forward(params, state, X, train=True)
    assert np.any(moved["noise"] != state["noise"])


def test_a_solve_that_fails_is_no_number():
    flow = Continuous(ConcatSquash((16,), final_scale=1.0), tolerance=1e-6, most_steps=4)
    params, state = flow.init(KEY, X)
    params = moved_from_start(KEY, params, 3.0)
    y, log_det, _ = flow.forward(params, state, X)
    assert np.isnan(y).all() and np.isnan(log_det).all()
    enough = dataclasses.replace(flow, most_steps=4096, tolerance=1e-4)
    assert np.isfinite(enough.forward(params, state, X)[0]).all()


def test_adjoints_agree():
    def gradient(adjoint):
        flow = Continuous(ConcatSquash((8,), final_scale=1.0), tolerance=1e-6, most_steps=64, adjoint=adjoint)
        params, state = flow.init(KEY, X)
        total = jax.jit(jax.grad(lambda params: flow.forward(params, state, X)[1].sum()))
        return jax.flatten_util.ravel_pytree(total(params))[0]

    expected = gradient("checkpointed")
    assert np.abs(expected).max() > 0.1
    for adjoint in ("backsolve", "direct"):
        np.testing.assert_allclose(gradient(adjoint), expected, atol=1e-3 * np.abs(expected).max())


def test_images():
    flow, x = (
        Continuous(FieldOfImages((3,), final_scale=1.0), HutchinsonTrace(), steps=10),
        X[:, :2].reshape(5, 2, 1, 1),
    )
    params, state = flow.init(KEY, x)
    y, log_det, _ = flow.forward(params, state, x)
    np.testing.assert_allclose(flow.inverse(params, state, y)[0], x, atol=1e-4)
    assert log_det.shape == (5,)


def test_matching_brings_the_field_to_that_of_a_normal():
    # Of x ~ N(0, 4) on straight ways to N(0, 1) the mean velocity is z·(t − 4(1 − t))/(t² + 4(1 − t)²).
    objective = FlowMatching(Flow(Continuous(LinearInTime())))
    x = 2 * jax.random.normal(KEY, (20_000, 1))
    params, state = objective.init(KEY, {"x": x})
    time = jax.random.uniform(jax.random.split(jax.random.key(1))[0], (20_000,))

    def cost(slope):
        return objective({**params, "bijector": slope}, state, jax.random.key(1), {"x": x}, train=True)[0].mean()

    slope = jnp.zeros(())
    best = slope - jax.grad(cost)(slope) / jax.grad(jax.grad(cost))(slope)  # a parabola
    spread = time**2 + 4 * (1 - time) ** 2
    expected = float(jnp.sum(time - 4 * (1 - time)) / jnp.sum(spread))  # least squares: Σ z·velocity / Σ z²
    assert abs(best - expected) < 0.03
    nats, _ = objective({**params, "bijector": slope}, state, KEY, {"x": x})
    np.testing.assert_allclose(nats, 0.5 * (x[:, 0] ** 2 + np.log(2 * np.pi)), rtol=1e-4)


@dataclasses.dataclass(frozen=True)
class LinearInTime:
    """f(z, t) = a·z."""

    def init(self, key, x, context=None, *, outputs):
        return jnp.zeros(()), ()

    def apply(self, params, state, x, context=None, *, outputs, train=False):
        return params * x[..., :-1], state


def test_without_diffrax_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffrax", None)
    flow = Continuous(MLP((4,), jnp.tanh))
    with pytest.raises(ImportError, match="pip install diffrax"):
        flow.forward(*flow.init(KEY, X), X)


def test_what_does_not_fit_is_refused():
    with pytest.raises(TypeError, match="expected a flow whose bijector is a Continuous"):
        FlowMatching(Flow(Coupling(ChannelMask(), Affine(), MLP())))
    with pytest.raises(ValueError, match="tolerance > 0"):
        Continuous(ConcatSquash(), tolerance=0.0)
    with pytest.raises(ValueError, match="adjoint"):
        Continuous(ConcatSquash(), adjoint="none")
    with pytest.raises(TypeError, match="trace"):
        Continuous(ConcatSquash(), "exact")
    assert ExactTrace().noise((), X) is None


@pytest.mark.parametrize("adjoint", ["checkpointed", "backsolve", "direct"])
def test_gradients_on_several_devices_are_those_on_one(adjoint):
    flow = Flow(Continuous(ConcatSquash((4,)), HutchinsonTrace(), adjoint=adjoint))
    x, context = X[:4], jnp.arange(4) % 2  # a context of integers, which has no gradient
    params, state = flow.init(KEY, x, context[:, None])

    def cost(params, x, context):
        return jnp.sum(flow.log_prob(params, state, x, context[:, None])[0])

    expected = jax.value_and_grad(cost)(params, x, context)
    halves = x.reshape(2, 2, 3), context.reshape(2, 2)
    on_each = jax.pmap(jax.value_and_grad(cost), in_axes=(None, 0, 0))(params, *halves)
    for ours, theirs in zip(jax.tree.leaves(on_each), jax.tree.leaves(expected)):
        np.testing.assert_allclose(np.sum(ours, axis=0), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "model, shape",
    [
        (FFJORDVectors(blocks=2, hidden=(8,), tolerance=1e-11), (3,)),
        (FFJORD(scales=2, blocks=1, features=(3,), classes=3, trace="exact", tolerance=1e-11), (2, 2, 1)),
    ],
    ids=["vectors", "images"],
)
def test_densities_of_models_are_those_of_differences_of_latents(model, shape):
    flow = model.build(shape)
    context = jnp.array([0, 2, 1]) if getattr(model, "classes", 0) else None
    with jax.enable_x64(True):
        x = jax.random.uniform(KEY, (3, *shape), "float64", 0.1, 0.9)
        params, state = flow.init(KEY, x, context)
        params = jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(KEY, leaf.shape, leaf.dtype), params)

        @jax.jit
        def latents(x, context):
            z = flow.bijector.forward(params["bijector"], state["bijector"], x, context)[0]
            return jnp.concatenate([leaf.reshape(len(x), -1) for leaf in jax.tree.leaves(z)], axis=1)

        log_prob, _ = jax.jit(flow.log_prob)(params, state, x, context)
        z = np.asarray(latents(x, context))
        units = 1e-4 * np.eye(z.shape[1]).reshape(-1, 1, *shape)  # differences, of solves that are exact to 1e-11
        jacobians = np.stack([latents(x + unit, context) - latents(x - unit, context) for unit in units], -1) / 2e-4
        expected = -0.5 * np.sum(z**2 + np.log(2 * np.pi), axis=1) + np.linalg.slogdet(jacobians)[1]
        np.testing.assert_allclose(log_prob, expected, atol=1e-6)


@pytest.mark.parametrize("model, shape", [(FFJORDVectors(), (4,)), (FFJORD(), (8, 8, 1))], ids=["vectors", "images"])
def test_networks_in_a_coarse_dtype_are_refused(model, shape):
    with pytest.raises(ValueError, match="float32 or wider"):
        model.build(shape, network_dtype="bfloat16")
    assert model.build(shape, network_dtype="float64") != model.build(shape)  # what is no coarser is taken


def test_evaluations_are_counted_by_example():
    flow = Continuous(ConcatSquash((16,), final_scale=2.0), steps=8)
    params, state = flow.init(KEY, X)
    np.testing.assert_array_equal(flow.evaluations(params, state, X), 1 + 6 * 8)
    coarse, fine = (
        np.asarray(dataclasses.replace(flow, steps=None, tolerance=tolerance).evaluations(params, state, X))
        for tolerance in (1e-3, 1e-6)
    )
    assert coarse.shape == (5,) and np.all(coarse < fine) and np.all(coarse % 6 == 1)

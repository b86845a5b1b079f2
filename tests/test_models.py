"""Fidelity of the ready-made models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nvpjax
from nvpjax.testing import moved_from_start


@pytest.mark.parametrize(
    ("scales", "features", "blocks", "side", "expected"),
    [(2, 64, 8, 32, 19_609_545), (4, 32, 4, 32, 46_220_359), (5, 32, 2, 64, 96_363_237)],
    ids=["CIFAR-10", "ImageNet 32", "ImageNet 64"],
)
def test_published_models_have_the_published_number_of_parameters(scales, features, blocks, side, expected):
    flow = nvpjax.real_nvp(channels=3, scales=scales, features=features, blocks=blocks)
    x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    params, _ = jax.eval_shape(flow.init, jax.random.key(0), x)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


def test_loops_and_layers_written_out_are_the_same_model():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.uniform(size=(4, 8, 8, 1)), jnp.float32)
    flows = [nvpjax.real_nvp(1, features=3, blocks=2, scan=scan, learned_prior=True) for scan in (False, True)]
    variables = [jax.jit(flow.init)(jax.random.key(0), x) for flow in flows]
    jax.tree.map(np.testing.assert_array_equal, *variables)
    params, state = variables[0]
    params = moved_from_start(jax.random.key(1), params, 0.1)

    def bits(flow):
        def loss(params):
            log_prob, after = flow.log_prob(params, state, x, train=True)
            return -jnp.mean(log_prob) / 64, after

        return jax.jit(jax.value_and_grad(loss, has_aux=True))

    (written_out, after), gradients = bits(flows[0])(params)
    (looped, after_loop), gradients_of_loop = bits(flows[1])(params)
    np.testing.assert_allclose(written_out, looped, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), after, after_loop)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), gradients, gradients_of_loop)


def test_models_are_values():
    assert nvpjax.real_nvp(3) == nvpjax.real_nvp(3) and hash(nvpjax.real_nvp(3)) == hash(nvpjax.real_nvp(3))
    assert nvpjax.real_nvp(3) != nvpjax.real_nvp(3, learned_prior=True)


def test_sizes_out_of_range_are_refused():
    with pytest.raises(ValueError, match="scales=0"):
        nvpjax.real_nvp(3, scales=0)


def test_learned_prior_adds_one_coupling_to_every_scale_but_the_last():
    x = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
    sizes = []
    for learned_prior in (False, True):
        flow = nvpjax.real_nvp(channels=1, scales=3, features=4, blocks=1, learned_prior=learned_prior)
        params, state = jax.eval_shape(flow.init, jax.random.key(0), x)
        log_prob, _ = jax.eval_shape(flow.log_prob, params, state, x)
        assert log_prob.shape == (2,) and log_prob.dtype == jnp.float32
        assert [z.shape[1:] for z in flow.latents_like(params, state, x.shape)] == [(4, 4, 2), (2, 2, 4), (2, 2, 4)]
        sizes.append(sum(leaf.size for leaf in jax.tree.leaves(params)))

    def network(i, d, o, n=1):  # parameters of a channel coupling with its network
        return 9 * i * d + d + d**2 + 2 * d + n * (19 * d**2 + 6 * d) + d + d * o + 2 * o + i // 2 + 1

    assert sizes[1] - sizes[0] == network(4, 8, 4) + network(8, 16, 8)


@pytest.mark.parametrize(
    ("flow", "event"),
    [
        (nvpjax.nice(3, hidden=(8,)), (3,)),
        (nvpjax.maf(layers=2, hidden=(8,)), (3,)),
        (nvpjax.iaf(layers=2, hidden=(8,)), (3,)),
    ],
    ids=["nice", "maf", "iaf"],
)
def test_samples_of_a_model_have_the_density_it_claims(flow, event):
    example = jax.random.uniform(jax.random.key(1), (16, *event))
    params, state = jax.jit(flow.init)(jax.random.key(0), example)
    params = moved_from_start(jax.random.key(2), params, 0.1)
    draw = jax.jit(lambda key: flow.sample_and_log_prob(key, params, state, (4, *event)))
    x, claimed = draw(jax.random.key(3))
    log_prob, _ = jax.jit(flow.log_prob)(params, state, x)
    assert x.shape == (4, *event)
    np.testing.assert_allclose(log_prob, claimed, atol=2e-3)


@pytest.mark.parametrize(
    "build",
    [
        lambda: nvpjax.nice(1),
        lambda: nvpjax.glow(0),
        lambda: nvpjax.spline_coupling(1),
        lambda: nvpjax.maf(layers=0),
    ],
)
def test_sizes_that_make_no_model_are_refused(build):
    with pytest.raises(ValueError, match="expected"):
        build()

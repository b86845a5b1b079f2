"""A flow is a density: it integrates to one, and its samples have the density it claims."""

import jax
import jax.numpy as jnp
import numpy as np

from nvpjax import Affine, Chain, ChannelMask, Coupling, Flow, PaperAffine, StandardNormal
from nvpjax.nets import MLP, FlaxConditioner
from nvpjax.testing import moved_from_start


def flow_in_the_plane():
    def network():
        return FlaxConditioner(MLP(hidden=(16,), outputs=2, activation=jnp.tanh))

    first, second = ChannelMask("first"), ChannelMask("second")
    couplings = [Coupling(first, Affine(), network()), Coupling(second, PaperAffine(), network())] * 2
    flow = Flow(Chain(couplings), StandardNormal())
    params, state = flow.init(jax.random.key(0), jnp.zeros((1, 2)))
    return flow, moved_from_start(jax.random.key(1), params), state


def test_density_integrates_to_one_on_a_grid():
    flow, params, state = flow_in_the_plane()
    side = np.linspace(-25, 25, 1001)
    grid = jnp.asarray(np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2), jnp.float32)
    log_prob, _ = jax.jit(flow.log_prob)(params, state, grid)
    integral = np.exp(np.asarray(log_prob, np.float64)).sum() * (side[1] - side[0]) ** 2
    assert abs(integral - 1) < 1e-3


def test_samples_have_the_density_that_is_claimed():
    flow, params, state = flow_in_the_plane()
    x, claimed = flow.sample_and_log_prob(jax.random.key(2), params, state, (512, 2))
    np.testing.assert_allclose(claimed, flow.log_prob(params, state, x)[0], atol=1e-3)
    np.testing.assert_array_equal(x, flow.sample(jax.random.key(2), params, state, (512, 2)))


def test_context_reaches_the_networks():
    flow = Flow(Coupling(ChannelMask(), Affine(), FlaxConditioner(MLP(hidden=(8,), outputs=2))))
    x, context = jnp.ones((3, 2)), jnp.arange(3.0)[:, None]
    params, state = flow.init(jax.random.key(0), x, context)
    log_prob, _ = flow.log_prob(params, state, x, context)
    assert len(set(np.asarray(log_prob).tolist())) == 3

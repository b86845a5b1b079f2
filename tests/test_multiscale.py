"""Where latents come from, and how a learned prior sits in a flow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from nvpjax import Affine, Chain, ChannelMask, Coupling, MultiScale, OrderedSqueeze, Squeeze, StandardNormal
from nvpjax.nets import MLP, FlaxConditioner


def test_ordered_squeezes_factor_out_the_colours_of_checkerboards():
    position = np.arange(16.0).reshape(1, 4, 4, 1)
    (fine, coarse), _, _ = MultiScale((OrderedSqueeze(), Chain(()))).forward(((), ()), ((), ()), jnp.asarray(position))
    i, j = np.divmod(np.arange(16), 4)
    assert set(np.ravel(coarse)) == set(np.flatnonzero((i + j) % 2 == 0))
    assert set(np.ravel(fine)) == set(np.flatnonzero((i + j) % 2 == 1))


def test_squeeze_keeps_the_values_of_one_channel_adjacent():
    x = jnp.stack([jnp.arange(4.0).reshape(2, 2), 10 + jnp.arange(4.0).reshape(2, 2)], axis=-1)[None]
    assert np.ravel(Squeeze().forward((), (), x)[0]).tolist() == [0, 1, 2, 3, 10, 11, 12, 13]


def test_learned_prior_is_a_normal_given_the_half_that_goes_on():
    # (h, z) ↦ (h, (z − μ(h))/σ(h)) under N(0, I) is N(h; 0, I)·N(z; μ(h), σ(h)²), written out in numpy.
    prior = Coupling(ChannelMask("first"), Affine(), MLP(hidden=(8,)))
    x = jax.random.normal(jax.random.key(0), (5, 4))
    params, state = prior.init(jax.random.key(1), x)
    latents, log_det, _ = MultiScale((prior, Chain(()))).forward((params, ()), (state, ()), x)
    theta = np.asarray(prior.conditioner.apply(params["conditioner"], state, x[:, :2], outputs=4)[0])
    mean, log_deviation = -theta[:, :2], -np.tanh(theta[:, 2:]) * float(params["transform"]["scale"])
    h, z = np.asarray(x[:, :2]), np.asarray(x[:, 2:])
    expected = -0.5 * (h**2 + ((z - mean) / np.exp(log_deviation)) ** 2) - log_deviation - np.log(2 * np.pi)
    np.testing.assert_allclose(StandardNormal().log_prob((), latents) + log_det, expected.sum(axis=1), rtol=1e-5)


def test_errors_name_what_was_expected():
    with pytest.raises(ValueError, match=r"MultiScale: expected an even number of channels"):
        MultiScale((Chain(()), Chain(()))).forward(((), ()), ((), ()), jnp.zeros((1, 4, 4, 3)))
    with pytest.raises(ValueError, match=r"MultiScale: expected latents as a tuple of 2"):
        MultiScale((Chain(()), Chain(()))).inverse(((), ()), ((), ()), (jnp.zeros((1, 2)),))
    with pytest.raises(ValueError, match=r"Squeeze: expected .* height and width divisible by 2, got \(1, 3, 4, 1\)"):
        Squeeze().init(jax.random.key(0), jnp.zeros((1, 3, 4, 1)))
    with pytest.raises(ValueError, match=r"Chain: expected params an empty tuple"):
        Chain(()).forward(((),), (), jnp.zeros((1, 2)))
    wrong = Coupling(ChannelMask(), Affine(), FlaxConditioner(linen.Dense(3)))
    with pytest.raises(ValueError, match="give the outputs that it is told, 4 here"):
        wrong.init(jax.random.key(0), jnp.zeros((1, 4)))

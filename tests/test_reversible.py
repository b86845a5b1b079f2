"""Gradients at activations that were rebuilt, against plain ones; and that a wrong one is never given."""

import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import nvpjax
from nvpjax import (
    Affine,
    BatchNorm,
    Chain,
    ChannelMask,
    Coupling,
    Flow,
    MultiScale,
    OrderedSqueeze,
    Permutation,
    PixelLikelihood,
    Repeat,
    Reverse,
    Reversible,
    Scale,
    Squeeze,
    StatelessBijector,
)
from nvpjax.bijector import zero_log_det
from nvpjax.nets import MLP, ResidualNet
from nvpjax.places import ERROR
from nvpjax.reversible import layers_between_stored
from nvpjax.testing import moved_from_start
from nvpjax.training import create_train_state, make_train_step

ENTRIES = 4


def coupling(passes="first"):
    return Coupling(ChannelMask(passes), Affine(), MLP((8,), activation=jax.nn.silu))


def image_coupling(channels=4):
    return Chain((Coupling(ChannelMask(), Affine(), ResidualNet(2, blocks=1)), BatchNorm(), Reverse()))


LAYER = Chain((coupling(), BatchNorm(), coupling("second"), Reverse()))
FLOWS = {
    "chain": (Chain((LAYER,) * 4), (ENTRIES,), None),
    "repeat": (Repeat(LAYER, 4), (ENTRIES,), None),
    "repeat, written out": (Repeat(LAYER, 4, scan=False), (ENTRIES,), None),
    "repeat, masks in turns": (Repeat(coupling(), 6, alternate=True), (ENTRIES,), None),
    "context, whole numbers in the state": (
        Chain((Repeat(Chain((coupling(), Permutation((2, 0, 3, 1)))), 4), coupling("second"), Repeat(Scale(), 2))),
        (ENTRIES,),
        2,
    ),
    "multi-scale of convolutions": (
        Chain((Squeeze(), MultiScale((Chain((image_coupling(), OrderedSqueeze())), Repeat(image_coupling(8), 2))))),
        (8, 8, 1),
        None,
    ),
}


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree) if leaf.dtype != jax.dtypes.float0]


def gradients(bijector, params, state, x, context, train):
    """Of a number that depends on all that forward gives, with respect to all that goes in."""

    def number(params, state, x, context):
        y, log_det, after = bijector.forward(params, state, x, context, train=train)
        floats = [leaf for leaf in jax.tree.leaves(after) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        of_y = sum(jnp.sum(jnp.sin(leaf) * (1 + position)) for position, leaf in enumerate(jax.tree.leaves(y)))
        return of_y - jnp.sum(log_det * jnp.arange(len(log_det))) + sum(jnp.sum(leaf**2) for leaf in floats)

    return jax.jit(jax.grad(number, argnums=(0, 1, 2, 3), allow_int=True))(params, state, x, context)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("name", "every"), [*itertools.product(FLOWS, [None, 2]), ("repeat, masks in turns", 3)])
def test_gradients_are_those_of_the_plain_flow(name, every, train):
    plain, event, width = FLOWS[name]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(6, *event)), jnp.float32)
    context = None if width is None else jnp.asarray(rng.normal(size=(6, width)), jnp.float32)
    reversible = Reversible(plain, every=every)
    params, state = jax.jit(reversible.init)(jax.random.key(0), x, context)
    params = moved_from_start(jax.random.key(1), params, 0.2)
    expected = gradients(plain, params, state["bijector"], x, context, train)
    found = gradients(reversible, params, state, x, context, train)
    error = found[1].pop(ERROR)
    found = (found[0], found[1]["bijector"], *found[2:])
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    size = max(np.abs(leaf).max() for leaf in leaves(expected))
    for ours, theirs in zip(leaves(found), leaves(expected)):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * size)
    assert 0 < error < 1e-3
    assert any(np.any(leaf) for leaf in leaves(found[1])) == any(np.any(leaf) for leaf in leaves(expected[1]))


@dataclass(frozen=True)
class Inexact(StatelessBijector):
    """An inverse that is off by a share of x."""

    share: float

    def forward_and_log_det(self, params, x, context):
        return 2 * x, zero_log_det(x) + x.shape[1] * jnp.log(2.0)

    def inverse_and_log_det(self, params, y, context):
        return y / 2 * (1 + self.share), zero_log_det(y) - y.shape[1] * jnp.log(2.0)


@pytest.mark.parametrize("share", [0.0, 1e-4, 0.1])
def test_error_is_measured_and_above_the_bound_gradients_are_no_numbers(share):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(500, 3)), jnp.float32)
    for bijector in (Chain((Scale(), Inexact(share), Scale())), Chain((Scale(), Repeat(Inexact(share), 1)))):
        reversible = Reversible(bijector, bound=1e-3)
        params, state = reversible.init(jax.random.key(0), x)
        of_params, of_state, of_x, _ = gradients(reversible, params, state, x, None, False)
        # Over 500 examples the largest projection is some three times its standard deviation.
        assert share / 2 <= of_state[ERROR] <= 5 * share + 1e-6
        assert all(np.all(np.isfinite(leaf)) == (share < 1e-3) for leaf in leaves((of_params, of_x)))


def test_error_of_a_layer_in_the_middle_is_seen_where_later_layers_hide_it():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(50, 3)), jnp.float32)
    chain = Chain((Scale(), Inexact(0.1), Inexact(-0.1 / 1.1), Scale()))  # walked back, the second undoes the first
    reversible = Reversible(chain)
    params, state = reversible.init(jax.random.key(0), x)
    assert gradients(reversible, params, state, x, None, False)[1][ERROR] > 0.03


def test_memory_does_not_grow_with_depth():
    x = jnp.zeros((256, ENTRIES))

    def temporary(wrap, times):
        deep = wrap(Repeat(LAYER, times))
        params, state = jax.eval_shape(deep.init, jax.random.key(0), x)

        def loss(params, state, x):
            y, log_det, _ = deep.forward(params, state, x)
            return jnp.sum(y**2) - jnp.sum(log_det)

        compiled = jax.jit(jax.grad(loss)).lower(params, state, x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    few, many = (temporary(Reversible, times) for times in (8, 64))
    plain_few, plain_many = (temporary(lambda bijector: bijector, times) for times in (8, 64))
    assert plain_many > 5 * plain_few
    # What is kept of a layer is one number an example.
    assert many - few < 1.5 * (64 - 8) * 4 * len(x) * 4 + 64 * 4 * 1024 and many < plain_many / 4


def test_train_step_tells_the_error_and_skips_where_it_is_too_large():
    batch = {"image": np.random.default_rng(0).integers(0, 17, (8, 4, 4, 1)).astype(np.uint8)}
    optimizer = optax.sgd(1e-3)
    for bound, skipped in ((1e-2, 0), (1e-12, 1)):
        flow = Flow(Chain((Squeeze(), Reversible(Repeat(image_coupling(), 2, scan=True), bound=bound))))
        objective = PixelLikelihood(flow, levels=17)
        train_state = create_train_state(objective, optimizer, jax.random.key(0), batch)
        after, metrics = jax.jit(make_train_step(objective, optimizer))(train_state, jax.random.key(1), batch)
        assert 0 < metrics["reconstruction_error"] < 1e-3 and after.skipped == skipped
    assert "reconstruction_error" not in metrics_of_a_plain_flow(batch)


def metrics_of_a_plain_flow(batch):
    flow, optimizer = nvpjax.RealNVP(scales=1, features=2, blocks=0).build((4, 4, 1)), optax.sgd(1e-3)
    objective, key = PixelLikelihood(flow, levels=17), jax.random.key(0)
    train_state = jax.eval_shape(lambda: create_train_state(objective, optimizer, key, batch))
    return jax.eval_shape(make_train_step(objective, optimizer), train_state, key, batch)[1]


def test_layers_between_stored_shrink_with_the_error():
    assert layers_between_stored(1e-6, 64) == 64
    chosen = [layers_between_stored(error, 64) for error in (1e-3, 1e-1, 1.0, float("nan"))]
    assert chosen == sorted(chosen, reverse=True) and chosen[-1] == chosen[-2] >= 1


@pytest.mark.parametrize(
    "act, error, message",
    [
        (lambda: Reversible(Scale), TypeError, "Reversible: expected a Bijector"),
        (lambda: Reversible(Scale(), every=0), ValueError, "every >= 1, got every=0"),
        (lambda: Reversible(Scale(), bound=float("nan")), ValueError, "bound to be a finite number, got nan"),
        (
            lambda: gradients(
                Reversible(Repeat(Scale(), 4), every=3),
                *Reversible(Repeat(Scale(), 4)).init(jax.random.key(0), jnp.ones((2, 2))),
                jnp.ones((2, 2)),
                None,
                False,
            ),
            ValueError,
            "expected every to divide the 4 layers of a Repeat, got 3",
        ),
    ],
)
def test_what_does_not_fit_is_refused(act, error, message):
    with pytest.raises(error, match=message):
        act()


def test_each_example_is_measured_by_its_own_scale():
    """Seven rows of scale 30 and one of 0.05 through shifts by ±30,000: of the small one few digits come back."""
    flow = Reversible(Chain((nvpjax.Shift(), nvpjax.Triangular(), nvpjax.Shift())))
    x = 30 * jax.random.normal(jax.random.key(0), (8, 6))
    params, state = flow.init(jax.random.key(1), x)
    params[0]["shift"], params[2]["shift"] = jnp.full(6, 3e4), jnp.full(6, -3e4)

    def loss(params, state, x):
        return jnp.sum(jnp.sin(20 * flow.forward(params, state, x)[0]))

    error = jax.grad(loss, argnums=1)(params, state, x)["reconstruction_error"]
    assert error < 1e-3
    gradients, of_state = jax.grad(loss, argnums=(0, 1))(params, state, x.at[3].multiply(0.05 / 30))
    assert of_state["reconstruction_error"] > 1e-3
    assert np.all(np.isnan(gradients[0]["shift"]))

"""Depth by repetition, and acting on a part of an event, against loops and numpy."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nvpjax import (
    Affine,
    BatchNorm,
    Chain,
    ChannelMask,
    Checkerboard,
    Coupling,
    Exp,
    FixedAffine,
    Linear,
    OnAxes,
    OnColumns,
    OnLeaf,
    Repeat,
    Reshape,
    Reverse,
    Scale,
    Squeeze,
    StatelessBijector,
)
from nvpjax.bijector import zero_log_det
from nvpjax.nets import MLP, ResidualNet
from nvpjax.testing import moved_from_start

LAYER = Chain((Coupling(ChannelMask(), Affine(), MLP((4,))), BatchNorm(), Reverse()))


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def equal(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)

    def close(a, b):  # of sums that nearly cancel, the rounding is that of their terms, which are as large as others
        rounding = 16 * np.finfo(np.float32).eps * np.max(np.abs(b), initial=0)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=max(1e-5, rounding))

    jax.tree.map(close, tree, other)


@pytest.mark.parametrize("train", [False, True])
def test_repeat_is_the_chain_of_its_layers(train):
    times, x = 3, numbers(6, 4)
    deep, chain = Repeat(LAYER, times), Chain([LAYER] * times)
    params, state = jax.jit(deep.init)(jax.random.key(0), x)
    kernels = params[0]["conditioner"]["Dense_0"]["kernel"]
    assert kernels.shape[0] == times and not np.array_equal(kernels[0], kernels[1])
    params = moved_from_start(jax.random.key(1), params)
    layers = [tuple(jax.tree.map(lambda a, k=k: a[k], tree) for k in range(times)) for tree in (params, state)]

    y, log_det, after = jax.jit(deep.forward, static_argnames="train")(params, state, x, train=train)
    expected_y, expected_log_det, after_layers = chain.forward(*layers, x, train=train)
    equal((y, log_det), (expected_y, expected_log_det))
    equal(after, jax.tree.map(lambda *leaves: jnp.stack(leaves), *after_layers))
    assert train != np.array_equal(after[1]["mean"], state[1]["mean"])
    inverse = jax.jit(deep.inverse, static_argnames="train")
    equal(inverse(params, after, y, train=train), chain.inverse(layers[0], after_layers, y, train=train))


MASK = Checkerboard()
IMAGE_LAYER = Chain(
    (
        Coupling(MASK, Affine(), ResidualNet(features=3, blocks=3, mask_channel=True)),
        BatchNorm(MASK),
    )
)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("layer", "event"), [(LAYER.bijectors[0], (4,)), (IMAGE_LAYER, (4, 4, 2))])
@pytest.mark.parametrize("scan", [False, True])
def test_masks_in_turns_are_a_chain_of_layers_with_complemented_masks(scan, layer, event, train):
    times, x = 3, numbers(6, *event)
    deep = Repeat(layer, times, scan, alternate=True)
    params, state = jax.jit(deep.init)(jax.random.key(0), x)
    params = moved_from_start(jax.random.key(1), params)

    def complemented(layer):
        if isinstance(layer, Chain):
            return Chain(complemented(inner) for inner in layer.bijectors)
        return dataclasses.replace(layer, mask=layer.mask.complement())

    chain = Chain((layer, complemented(layer), layer))
    layers = [tuple(jax.tree.map(lambda a, k=k: a[k], tree) for k in range(times)) for tree in (params, state)]

    def loss(bijector):
        def of_params(params, state):
            y, log_det, after = bijector.forward(params, state, x, train=train)
            return jnp.sum(jnp.sin(y)) + jnp.sum(log_det), (y, log_det, after)

        return jax.jit(jax.value_and_grad(of_params, has_aux=True))

    (_, (y, log_det, after)), gradients = loss(deep)(params, state)
    (_, (expected_y, expected_log_det, after_layers)), gradients_of_layers = loss(chain)(*layers)
    equal((y, log_det), (expected_y, expected_log_det))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *zip(after_layers, gradients_of_layers))
    equal((after, gradients), stacked)
    equal(jax.jit(lambda params, after, y: deep.inverse(params, after, y, train=train))(params, after, y)[0], x)


def test_masks_that_do_not_halve_cannot_take_turns():
    coupling = Coupling(ChannelMask(), Affine(), MLP((4,)))
    with pytest.raises(ValueError, match=r"ChannelMask.*take turns with its complement.*even number of entries"):
        Repeat(coupling, 2, alternate=True).init(jax.random.key(0), numbers(2, 5))


def test_programs_do_not_grow_with_the_number_of_layers():
    x = jnp.zeros((2, 4))

    def lines(times):
        deep = Repeat(LAYER, times, alternate=True)
        params, state = jax.eval_shape(deep.init, jax.random.key(0), x)

        def loss(params, state, x):
            return jnp.sum(deep.forward(params, state, x)[1])

        programs = [
            jax.jit(deep.init).lower(jax.random.key(0), x),
            jax.jit(deep.forward).lower(params, state, x),
            jax.jit(deep.inverse).lower(params, state, x),
            jax.jit(jax.grad(loss)).lower(params, state, x),
        ]
        return [program.as_text().count("\n") for program in programs]

    assert lines(8) == lines(64)


@pytest.mark.parametrize("scan", [None, False, True])
@pytest.mark.parametrize("times", [1, 2, 3, 4])
def test_layers_without_parameters_are_as_many_as_asked_for(times, scan):
    deep = Repeat(FixedAffine(shift=1.0), times, scan=scan)
    x = numbers(2, 3)
    params, state = deep.init(jax.random.key(0), x)
    equal(deep.forward(params, state, x)[0], x + times)
    equal(deep.inverse(params, state, x)[0], x - times)


@pytest.mark.parametrize("backend", ["cpu", "gpu", "tpu"])
def test_layers_that_convolve_are_a_loop_on_tpus_alone(backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    for layer, event, passes in ((LAYER.bijectors[0], (4,), 3), (IMAGE_LAYER, (4, 4, 2), 6)):
        deep, x = Repeat(layer, 6, alternate=True), jnp.zeros((2, *event))
        params, state = jax.eval_shape(deep.init, jax.random.key(0), x)
        program = str(jax.make_jaxpr(deep.forward)(params, state, x))
        assert (f"length={passes}" in program) == (backend == "tpu" or layer is not IMAGE_LAYER)


DEEP = Repeat(Coupling(ChannelMask(), Affine(), MLP((16, 24))), 8, alternate=True)


def test_samples_read_no_bias_inside_a_loop_over_entries():
    x = jnp.zeros((64, 8))
    params, state = jax.eval_shape(DEEP.init, jax.random.key(0), x)
    program = jax.jit(lambda *args: DEEP.inverse(*args)[0]).lower(params, state, x).compile().as_text()
    loops = [computation for computation in program.split("\n}") if "exponential(" in computation]
    assert loops and not any("dynamic-slice(" in loop for loop in loops)


def test_on_axes_is_a_matrix_along_these_axes():
    x, linear = numbers(2, 3, 4, 5), Linear()
    params, _ = OnAxes(linear, (1,)).init(jax.random.key(0), x)
    w = moved_from_start(jax.random.key(1), params)["matrix"]
    for axes in ((1,), (-2,)):
        y, log_det, _ = OnAxes(linear, axes).forward({"matrix": w}, (), x)
        np.testing.assert_allclose(y, np.einsum("pj,bijk->bipk", w, x), atol=1e-5)
        np.testing.assert_allclose(log_det, [15 * np.linalg.slogdet(w)[1]] * 2, rtol=1e-5)


def test_on_axes_takes_axes_in_the_order_that_is_written():
    x, log_scale = numbers(2, 3, 4, 5), numbers(5, 3, seed=1)
    on_axes = OnAxes(Scale(), (2, 0))
    assert jax.tree.map(jnp.shape, on_axes.init(jax.random.key(0), x)[0]) == {"log_scale": (5, 3)}
    y, log_det, _ = on_axes.forward({"log_scale": log_scale}, (), x)
    np.testing.assert_allclose(y, x * np.exp(log_scale.T)[:, None, :], rtol=1e-5)
    np.testing.assert_allclose(log_det, [4 * log_scale.sum()] * 2, rtol=1e-4)


@dataclass(frozen=True)
class TimesContext(StatelessBijector):
    """y = x·exp(context)."""

    def forward_and_log_det(self, params, x, context):
        return x * jnp.exp(context), jnp.sum(jnp.broadcast_to(context, x.shape), axis=1)

    def inverse_and_log_det(self, params, y, context):
        return y * jnp.exp(-context), -jnp.sum(jnp.broadcast_to(context, y.shape), axis=1)


def test_on_axes_gives_every_position_the_context_of_its_own_example():
    x, context = numbers(3, 2, 4), numbers(3, 1, seed=1)
    y, log_det, _ = OnAxes(TimesContext(), (1,)).forward((), (), x, context)
    np.testing.assert_allclose(y, x * np.exp(context)[:, None], rtol=1e-5)
    np.testing.assert_allclose(log_det, 8 * context[:, 0], rtol=1e-5)


@pytest.mark.parametrize("leaf, others", [(1, (0, 2)), ("b", ("a", "c"))])
def test_on_leaf_acts_on_one_and_leaves_the_others(leaf, others):
    a, b, c = map(jnp.asarray, (numbers(2, 3), numbers(2, 2, 2), numbers(2, 1)))
    x = {"a": a, "b": b, "c": c} if leaf == "b" else (a, b, c)
    params, _ = OnLeaf(Scale(), leaf).init(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, params) == {"log_scale": (2, 2)}
    log_scale = numbers(2, 2, seed=1)
    y, log_det, _ = OnLeaf(Scale(), leaf).forward({"log_scale": log_scale}, (), x)
    assert type(y) is type(x) and len(y) == 3 and all(y[other] is x[other] for other in others)
    np.testing.assert_allclose(y[leaf], b * np.exp(log_scale), rtol=1e-5)
    np.testing.assert_allclose(log_det, [log_scale.sum()] * 2, rtol=1e-5)


@pytest.mark.parametrize("columns", [(2, 0), (-1, 0)])
def test_on_columns_acts_on_some_and_leaves_the_others(columns):
    x = jnp.asarray(numbers(2, 4, 3))
    log_scale = numbers(4, 2, seed=1)
    bijector = OnColumns(Chain((Scale(), Exp())), columns)
    assert jax.tree.map(jnp.shape, bijector.init(jax.random.key(0), x)[0]) == ({"log_scale": (4, 2)}, ())
    y, log_det, _ = bijector.forward(({"log_scale": log_scale}, ()), ((), ()), x)
    expected = np.array(x)
    scaled = expected[..., [2, 0]] * np.exp(log_scale)
    expected[..., [2, 0]] = np.exp(scaled)
    np.testing.assert_allclose(y, expected, rtol=1e-5)
    np.testing.assert_allclose(log_det, log_scale.sum() + scaled.sum(axis=(1, 2)), rtol=1e-5)


def test_reshape_is_numpys():
    x = numbers(2, 3, 4)
    y, log_det, _ = Reshape((3, 4), (2, 6)).forward((), (), x)
    assert np.array_equal(y, np.reshape(x, (2, 2, 6))) and np.array_equal(log_det, np.zeros(2))
    assert np.array_equal(Reshape((3, 4), (2, 6)).inverse((), (), y)[0], x)


@dataclass(frozen=True)
class ToFloat16(StatelessBijector):
    """Changes the dtype of events, as no bijector should."""

    def forward_and_log_det(self, params, x, context):
        return x.astype(jnp.float16), zero_log_det(x)

    def inverse_and_log_det(self, params, y, context):
        return y, zero_log_det(y)


def init(bijector, x):
    return lambda: bijector.init(jax.random.key(0), x)


@pytest.mark.parametrize(
    "act, error, message",
    [
        (lambda: Repeat(Exp, 2), TypeError, "Repeat: expected a Bijector"),
        (lambda: Repeat(Exp(), 0), ValueError, "Repeat: expected whole numbers times >= 1, got times=0"),
        (init(Repeat(Squeeze(), 2), jnp.zeros((1, 4, 4, 1))), ValueError, r"keeps shape and dtype.*4.*Use Chain"),
        (init(Repeat(ToFloat16(), 2), jnp.zeros((1, 2))), ValueError, "keeps shape and dtype.*float32.*float16"),
        (init(OnAxes(Exp(), (2,)), jnp.zeros((1, 3, 4))), ValueError, r"different axes .* \(3, 4\), got \(2,\)"),
        (init(OnAxes(Exp(), (1, -1)), jnp.zeros((1, 3, 4))), ValueError, r"different axes .* \(3, 4\), got \(1, -1\)"),
        (
            init(OnAxes(Squeeze(), (0, 1, 2)), jnp.zeros((1, 4, 4, 1))),
            ValueError,
            "OnAxes: expected a bijector that keeps",
        ),
        (init(OnColumns(Exp(), (3,)), jnp.zeros((1, 3))), ValueError, r"different columns of 3, got \(3,\)"),
        (init(OnColumns(Exp(), (2, -1)), jnp.zeros((1, 3))), ValueError, r"different columns of 3, got \(2, -1\)"),
        (init(OnColumns(Exp(), (0,)), (jnp.zeros((1, 3)),)), TypeError, "OnColumns: expected one array as x"),
        (init(OnColumns(Squeeze(), (0,)), jnp.zeros((1, 4, 4, 2))), ValueError, "OnColumns: expected a bijector that"),
        (init(OnLeaf(Exp(), 2), (jnp.zeros((1, 1)),) * 2), ValueError, r"one of \[0, 1\], got leaf=2"),
        (init(OnLeaf(Exp(), "b"), {"a": jnp.zeros((1, 1))}), ValueError, r"one of \['a'\], got leaf='b'"),
        (init(OnLeaf(Exp(), 0), jnp.zeros((1, 1))), TypeError, "OnLeaf: expected a tuple or a dict of arrays"),
        (lambda: Reshape((2, 3), (5,)), ValueError, r"shapes of the same size, got \(2, 3\) and \(5,\)"),
        (
            lambda: Reshape((2, 3), (6,)).forward((), (), jnp.zeros((4, 3, 2))),
            ValueError,
            r"events of shape \(2, 3\), got \(3, 2\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(act, error, message):
    with pytest.raises(error, match=message):
        act()

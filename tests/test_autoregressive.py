"""Masked networks, and the layers that transform entry by entry."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nvpjax import Affine, Autoregressive, BlockAutoregressive
from nvpjax.nets import MADE
from nvpjax.testing import moved_from_start


def network(hidden):
    return MADE(hidden, activation=jnp.tanh)


@pytest.mark.parametrize("hidden, context_entries", [((9,), 0), ((8, 7), 2), ((2,), 2)], ids=str)
def test_made_sees_the_entries_before_and_no_others(hidden, context_entries):
    entries, numbers = 4, 3
    made, outputs = network(hidden), numbers * entries
    x = jax.random.normal(jax.random.key(0), (1, entries))
    context = jax.random.normal(jax.random.key(1), (1, context_entries)) if context_entries else None
    params, state = made.init(jax.random.key(2), x, context, outputs=outputs)
    params = moved_from_start(jax.random.key(3), params, 1.0)

    def theta(x, context):
        return made.apply(params, state, x, context, outputs=outputs)[0].reshape(numbers, entries)

    jacobian = np.asarray(jax.jit(jax.jacobian(theta))(x, context))[:, :, 0]
    assert np.all(jacobian[:, ~np.tri(entries, k=-1, dtype=bool)] == 0)
    if hidden != (2,):  # two hidden units of degrees 1 and 2 cannot tell entry 4 of entry 3
        assert np.all(jacobian[:, np.tri(entries, k=-1, dtype=bool)] != 0)
    if context_entries:
        assert np.all(np.asarray(jax.jit(jax.jacobian(theta, argnums=1))(x, context)) != 0)


@dataclass(frozen=True)
class Measuring:
    """A conditioner with state."""

    def init(self, key, x, context=None, *, outputs):
        return (), {"mean": jnp.mean(x)}

    def apply(self, params, state, x, context=None, *, outputs, train=False):
        return jnp.zeros((len(x), outputs)), state


@dataclass(frozen=True)
class Deaf:
    """A conditioner that gives a number an entry, whatever it is told."""

    def init(self, key, x, context=None, *, outputs):
        return (), ()

    def apply(self, params, state, x, context=None, *, outputs, train=False):
        return x, state


@pytest.mark.parametrize(
    "conditioner, shape, message",
    [
        (Measuring(), (2, 3), r"expected a conditioner without state, got Measuring\(\)"),
        (
            Deaf(),
            (2, 3),
            r"give \(2, 6\) for x \(2, 3\), got \(2, 3\): Affine takes 2 numbers for each entry",
        ),
        (
            network((4,)),
            (2, 3, 3, 1),
            r"expected shape \(batch, entries\) or \(batch, positions, entries\), got \(2, 3, 3, 1\). Put Reshape",
        ),
    ],
)
def test_unfit_conditioners_and_events_are_refused(conditioner, shape, message):
    with pytest.raises(ValueError, match=f"Autoregressive: .*{message}"):
        Autoregressive(Affine(), conditioner).init(jax.random.key(0), jnp.zeros(shape))


def test_inverse_takes_a_program_that_does_not_grow_with_the_entries():
    layer = Autoregressive(Affine(), network((4,)))

    def lines(entries):
        y = jnp.zeros((2, entries))
        params, state = jax.eval_shape(layer.init, jax.random.key(0), y)
        text = jax.jit(layer.inverse).lower(params, state, y).as_text()
        assert "while" in text
        return text.count("\n")

    assert lines(3) == lines(40)


def test_inverse_is_the_paper_s_loop_over_entries():
    layer = Autoregressive(Affine(), network((6,)))
    y = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    params, state = layer.init(jax.random.key(0), y)
    params = moved_from_start(jax.random.key(1), params)
    x, log_det = np.zeros_like(y), np.zeros(3)
    for i in range(4):
        theta, _ = layer.conditioner.apply(params["conditioner"], state, jnp.asarray(x), outputs=8)
        t, s = theta[:, i], params["transform"]["scale"] * np.tanh(theta[:, 4 + i])
        x[:, i], log_det = y[:, i] * np.exp(-s) - t, log_det - s
    found, claimed = jax.jit(layer.inverse)(params, state, y)
    np.testing.assert_allclose(found, x, atol=1e-5)
    np.testing.assert_allclose(claimed, log_det, atol=1e-5)


def test_block_autoregressive_is_numpys_masked_network():
    layer = BlockAutoregressive((3, 2), slope=0.1)
    x, context = np.random.default_rng(0).normal(size=(2, 5, 3))
    context = context[:, :2]
    with jax.enable_x64(True):
        params, state = layer.init(jax.random.key(0), x, context)
        params = moved_from_start(jax.random.key(1), params, 1.0)
        y, _, _ = layer.forward(params, state, x, context)
    h = x
    for number, numbers in enumerate(params):
        weight, log_norm, bias = (np.asarray(numbers[name]) for name in ("weight", "log_norm", "bias"))
        entries, outputs, _, inputs = weight.shape
        block_of_row, block_of_column = np.repeat(range(entries), outputs), np.repeat(range(entries), inputs)
        own = block_of_row[:, None] == block_of_column
        matrix = weight.reshape(entries * outputs, entries * inputs)
        matrix = np.where(own, np.exp(matrix), matrix) * (block_of_row[:, None] >= block_of_column)
        matrix *= np.exp(log_norm.ravel())[:, None] / np.linalg.norm(matrix, axis=1, keepdims=True)
        h = (np.tanh(h) + 0.1 * h if number else h) @ matrix.T + bias.ravel()
        if number == 0:
            h += context @ np.asarray(numbers["context"]).reshape(entries * outputs, -1).T
    np.testing.assert_allclose(y, h, rtol=1e-12)


def test_block_autoregressive_refuses_what_it_cannot_take():
    with pytest.raises(ValueError, match=r"expected shape \(batch, entries\), got \(2, 3, 4\)"):
        BlockAutoregressive().init(jax.random.key(0), jnp.ones((2, 3, 4)))
    with pytest.raises(ValueError, match="slope between 0 and 1"):
        BlockAutoregressive(slope=0.0)
    with pytest.raises(ValueError, match="hidden"):
        BlockAutoregressive(hidden=(0,))

"""What the benches count and how they time: against sums made by hand."""

import jax
import jax.numpy as jnp
import optax
import pytest

from experiments.bench.depth import couplings, train_step
from experiments.bench.profile import instructions, shares
from experiments.bench.timing import compiled_anew, medians_in_turns
from nvpjax import Flow, Reversible


def test_time_of_what_runs_at_once_is_divided():
    assert shares([("a", 0.0, 10.0), ("b", 5.0, 15.0)]) == {"a": 7.5, "b": 7.5}
    assert shares([("a", 0.0, 4.0), ("a", 6.0, 8.0), ("b", 1.0, 2.0)]) == {"a": 5.5, "b": 0.5}


def test_operations_and_bytes_are_those_of_the_convolution():
    x, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 4))

    def convolution(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    compiled, seconds = compiled_anew(convolution, x, kernel, times=2)
    found = [one for one in instructions(compiled.as_text()).values() if one.operations]
    assert {one.part for one in found} == {"convolutions, forward"} and seconds > 0
    assert found[0].operations == 2 * (2 * 8 * 8 * 4) * (3 * 3 * 3)
    assert max(one.bytes_moved for one in found) == 4 * (2 * 8 * 8 * 3 + 3 * 3 * 3 * 4 + 2 * 8 * 8 * 4)


def test_each_turn_runs_once_untimed_and_once_timed():
    calls = []
    medians = medians_in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3)
    assert calls == ["a", "a", "b", "b"] * 3 and set(medians) == {"a", "b"} and min(medians.values()) >= 0


@pytest.mark.parametrize("name", ["accelerator", "compilation", "contenders", "depth", "image", "precision", "vectors"])
def test_benches_can_be_imported_without_the_peers(name):
    __import__(f"experiments.bench.{name}")


def test_memory_of_a_reversible_step_does_not_grow_though_parameters_do():
    x, optimizer = jnp.zeros((64, 8)), optax.adam(1e-3)

    def temporary(layers):
        flow = Flow(Reversible(couplings(layers, entries=8, hidden=64)))
        params, state = jax.eval_shape(flow.init, jax.random.key(0), x)
        variables = params, jax.eval_shape(optimizer.init, params), state, x
        return compiled_anew(train_step(flow, optimizer), *variables)[0].memory_analysis().temp_size_in_bytes

    assert temporary(64) < 1.3 * temporary(8)

"""What the benches count and how they time: against sums made by hand."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from experiments.bench import plane
from experiments.bench.configs import rows
from experiments.bench.depth import couplings, gradient
from experiments.bench.posterior import TASKS, two_moons_log_likelihood, two_moons_log_total
from experiments.bench.profile import instructions, shares
from experiments.bench.programs import operations
from experiments.bench.timing import compiled_anew, medians_in_turns
from experiments.errors import UserError
from nvpjax import Flow, Likelihood, Reversible
from nvpjax.models import MODELS, RealNVPVectors


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


BENCHES = (
    "accelerator compilation contenders continuous depth fit image inversion normflows_glow parts plane posterior "
    "precision real_nvp tables tails transformer vectors"
)


@pytest.mark.parametrize("name", BENCHES.split())
def test_benches_can_be_imported_without_the_peers(name):
    __import__(f"experiments.bench.{name}")


@pytest.mark.parametrize("x", [(0.0, 0.0), (-1.0, 0.2), (0.3, 0.1), (-0.5, 0.7), (-0.5, -0.7)])
def test_posterior_of_two_moons_integrates_to_one(x):
    middles = (np.arange(1500) - 749.5) / 750
    square = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2)
    by_grid = np.exp(two_moons_log_likelihood(square, np.array([x]))).sum() / 750**2
    assert two_moons_log_total(np.array([x]))[0] == pytest.approx(np.log(by_grid), abs=0.01)


def test_posterior_of_gaussian_linear_is_prior_times_likelihood_over_evidence():
    theta, x = TASKS["gaussian_linear"].simulate(np.random.default_rng(0), 20)
    logs = norm.logpdf(theta, 0, 0.1**0.5) + norm.logpdf(x, theta, 0.1**0.5) - norm.logpdf(x, 0, 0.2**0.5)
    np.testing.assert_allclose(TASKS["gaussian_linear"].log_posterior(theta, x), logs.sum(axis=1))


def test_table_of_configs_holds_every_model_and_all_that_two_cores_train():
    assert {type(config.model) for config in rows().values()} == set(MODELS.values())
    assert {"digits", "patches", "mnist_fast", "mnist_tarflow", "mnist", "breast_cancer"} <= set(rows())


def test_operations_count_every_layer_of_a_loop():
    config = rows()["breast_cancer"]

    def of(layers):
        return operations(dataclasses.replace(config, model=RealNVPVectors(layers=layers)))

    hidden, half, batch = 64, 15, config.training.batch_size
    of_products = 3 * 2 * batch * (half * hidden + hidden * hidden + hidden * 2 * half)  # forward, and two gradients
    assert of_products < (of(24) - of(8)) / 16 < 2 * of_products


def test_of_a_reversible_gradient_nothing_grows_with_depth_but_itself():
    batch, key = {"x": jnp.zeros((512, 8))}, jax.random.key(0)

    def temporary_and_parameters(layers):
        objective = Likelihood(Flow(Reversible(couplings(layers, entries=8, hidden=64))))
        params, state = jax.eval_shape(objective.init, key, batch)
        compiled, _ = compiled_anew(partial(gradient, objective), params, state, batch)
        return compiled.memory_analysis().temp_size_in_bytes, sum(4 * leaf.size for leaf in jax.tree.leaves(params))

    (few, parameters), (many, more_parameters) = map(temporary_and_parameters, (8, 64))
    assert many - few < 1.2 * (more_parameters - parameters)  # an event a layer would make it 1.8


def test_families_of_the_plane_that_are_through_are_not_trained_again(tmp_path):
    options = plane.Arguments(seconds=1.0, out=tmp_path / "new" / "plane.png")
    row = {"density": "torus", "family": "Möbius maps", "parameters": 9, "steps": [2], "nats": [3.0], "entropy": 1.0}
    plane.Kept(options).add(row, np.full(plane.SIDE**2, 0.5))
    again = plane.Kept(options)
    assert again.row("torus", "Möbius maps") == row and again.row("torus", "circular splines") is None
    plane.draw(options.out, again)
    assert options.out.stat().st_size > 10_000 and "2.000" in plane.line(row)
    options.out.with_suffix(".npz").unlink()
    assert plane.Kept(options).row("torus", "Möbius maps") is None  # it could not be drawn
    with pytest.raises(UserError, match="name another file"):
        plane.Kept(dataclasses.replace(options, seeds=1))

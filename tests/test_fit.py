"""fit, against closed forms: entropies, a posterior and its evidence; and what it promises about rows and steps."""

import math
import sys
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from nvpjax import (
    Affine,
    Autoregressive,
    BatchNorm,
    Chain,
    ChannelMask,
    Checkerboard,
    Coupling,
    Flow,
    Inverse,
    Likelihood,
    Log,
    Logit,
    PixelLikelihood,
    Reverse,
    ReverseKL,
    Shift,
    StatelessBijector,
    Triangular,
    fit,
)
from nvpjax.bijectors import TanhBound
from nvpjax.nets import MADE, MLP, ConvolutionNet

KEY = jax.random.key(0)
MODULE = sys.modules["nvpjax.fit"]  # the function has the same name
MEAN, COVARIANCE = np.array([1.0, -2.0]), np.array([[2.0, 0.9], [0.9, 0.6]])


def autoregressive(hidden=(32, 32)):
    """The second entry first."""
    network = MADE(hidden)
    return Chain((Reverse(), Autoregressive(Affine(TanhBound(2.0)), network)))


def gaussian(number, seed=0):
    return np.random.default_rng(seed).multivariate_normal(MEAN, COVARIANCE, number)


def known_rows(monkeypatch, held_out):
    """Hold out these rows."""

    def divided(rng, number, validation):
        return np.setdiff1d(np.arange(number), held_out), np.asarray(held_out)

    monkeypatch.setattr(MODULE, "_divided", divided)


def test_a_gaussian_is_found():
    density, history = fit(KEY, Flow(Triangular()), gaussian(4000), learning_rate=0.1, steps=1500, patience=None)
    fresh = gaussian(20_000, seed=1)
    closed_form = stats.multivariate_normal(MEAN, COVARIANCE).logpdf(fresh)
    assert abs(np.mean(closed_form - density.log_prob(jnp.asarray(fresh, jnp.float32)))) < 0.02
    entropy = 0.5 * math.log((2 * math.pi * math.e) ** 2 * np.linalg.det(COVARIANCE))
    assert abs(history.validation.min() - entropy) < 0.2 and abs(history.training[-1] - entropy) < 0.1
    assert density.event_dtype == jnp.float32 and density.event_shape == (2,)


def test_a_conditional_density_is_found():
    rng = np.random.default_rng(0)
    c = rng.uniform(-1, 1, (6000, 1))
    x = np.concatenate([2 * c, -c], axis=1) + 0.5 * rng.standard_normal((6000, 2))
    density, _ = fit(KEY, Flow(autoregressive()), x[:4000], c[:4000], learning_rate=5e-3, steps=800)
    log_prob = density.log_prob(*(jnp.asarray(a[4000:], jnp.float32) for a in (x, c)))
    entropy = 2 * (0.5 * math.log(2 * math.pi * math.e) + math.log(0.5))
    assert abs(np.mean(log_prob) + entropy) < 0.06
    draws = density.sample(KEY, 4000, jnp.full((4000, 1), 0.8))
    np.testing.assert_allclose(draws.mean(axis=0), [1.6, -0.8], atol=0.08)


def test_a_banana_is_found():
    def banana(seed, number):
        rng = np.random.default_rng(seed)
        x2 = 2 * rng.standard_normal(number)
        return np.stack([x2**2 / 4 + rng.standard_normal(number), x2], axis=1)

    density, history = fit(KEY, Flow(autoregressive()), banana(0, 10_000), learning_rate=5e-3, steps=1000)
    x = banana(1, 20_000)
    closed_form = stats.norm.logpdf(x[:, 0], x[:, 1] ** 2 / 4) + stats.norm.logpdf(x[:, 1], scale=2)
    divergence = np.mean(closed_form - density.log_prob(jnp.asarray(x, jnp.float32)))
    assert -0.005 < divergence < 0.04
    assert abs(history.validation.min() - 3.5310) < 0.1


def test_the_best_parameters_are_given_back_and_patience_ends_the_fit():
    there_and_back = optax.sgd(lambda step: jnp.where(step < 50, 0.05, -0.05))
    options = {"optimizer": there_and_back, "evaluate_every": 10, "batch_size": 64}
    x = 5 + np.random.default_rng(0).standard_normal((2000, 2))
    density, history = fit(KEY, Flow(Shift()), x, steps=200, patience=3, **options)
    assert history.best == 50 and history.steps.tolist() == [10, 20, 30, 40, 50, 60, 70, 80]
    assert history.validation[4] == history.validation.min()
    until_then, _ = fit(KEY, Flow(Shift()), x, steps=50, patience=None, **options)
    np.testing.assert_array_equal(density.params["bijector"]["shift"], until_then.params["bijector"]["shift"])
    _, to_the_end = fit(KEY, Flow(Shift()), x, steps=200, patience=None, **options)
    assert to_the_end.best == 50 and to_the_end.steps[-1] == 200


def test_without_rows_held_out_the_last_parameters_are_given_back():
    rate = optax.sgd(lambda step: jnp.where(step < 5, 0.1, -0.1))
    _, history = fit(KEY, Flow(Shift()), gaussian(50), optimizer=rate, validation=0, steps=20, evaluate_every=5)
    assert history.best == 20 and np.all(np.isnan(history.validation)) and np.all(np.isfinite(history.training))


def test_equal_keys_give_equal_results():
    def run(key):
        return fit(key, Flow(Triangular()), gaussian(300), steps=50)

    one, again, other = run(KEY), run(KEY), run(jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, (one.density, one.history), (again.density, again.history))
    assert np.any(one.history.training != other.history.training)


def test_averages_are_those_of_the_parameters_after_each_step():
    options = {"validation": 0, "optimizer": optax.sgd(0.3), "batch_size": 16}
    flow, x = Flow(Shift()), gaussian(64)
    after = [fit(KEY, flow, x, steps=steps, **options)[0].params["bijector"]["shift"] for steps in range(1, 6)]
    average = np.zeros(2)
    for number, params in enumerate(after):
        decay = min(0.25, (1 + number) / (10 + number))
        average = decay * average + (1 - decay) * np.asarray(params)
    averaged = fit(KEY, flow, x, steps=5, average_decay=0.25, **options)[0].params["bijector"]["shift"]
    np.testing.assert_allclose(averaged, average, rtol=1e-5)
    assert np.abs(average - np.asarray(after[-1])).max() > 0.01


def gaussian_up_to_a_factor(x):
    standard = jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(jnp.asarray(COVARIANCE)), (x - MEAN).T, lower=True)
    return -0.5 * jnp.sum(standard**2, axis=0)


def test_a_posterior_and_its_evidence_are_found_without_data():
    objective = ReverseKL(Flow(Inverse(Triangular())), gaussian_up_to_a_factor, event_shape=(2,))
    density, history = fit(KEY, objective, learning_rate=0.1, steps=1500, patience=None)
    log_evidence = 0.5 * math.log((2 * math.pi) ** 2 * np.linalg.det(COVARIANCE))
    assert abs(history.validation[-1] + log_evidence) < 0.01
    draws = np.asarray(density.sample(jax.random.key(1), 100_000))
    np.testing.assert_allclose(draws.mean(axis=0), MEAN, atol=0.03)
    np.testing.assert_allclose(np.cov(draws.T), COVARIANCE, rtol=0.08)  # the best for 5,120 draws


def test_moments_of_batch_normalisation_are_those_of_the_rows():
    x = gaussian(3000)
    density, _ = fit(KEY, Flow(Chain((BatchNorm(), Triangular()))), x, steps=25, batch_size=512)
    _, variables = density.params["bijector"], density.state["bijector"][0]
    np.testing.assert_allclose(variables["mean"], x.mean(axis=0), atol=0.05)
    np.testing.assert_allclose(variables["variance"], x.var(axis=0), rtol=0.05)


def test_moments_are_measured_with_the_parameters_that_are_evaluated():
    """Moments of the steps would be those of other shifts: they move by two a step here."""
    x = np.random.default_rng(0).standard_normal((400, 1))
    flow, falling = Flow(Chain((Shift(), BatchNorm()))), optax.stateless(_two_less)
    density, _ = fit(KEY, flow, x, steps=25, optimizer=falling, batch_size=100)
    shift, measured = density.params["bijector"][0]["shift"], density.state["bijector"][1]
    np.testing.assert_allclose(np.asarray(measured["mean"]) - shift, x.mean(), atol=1)  # unmeasured: 18


def _two_less(updates, params):
    return jax.tree.map(lambda leaf: jnp.full_like(leaf, -2.0), updates)


def images():
    return {"image": np.random.default_rng(0).integers(0, 16, (60, 4, 4, 1)).astype(np.uint8)}


def image_objective():
    network = ConvolutionNet(features=4)
    return PixelLikelihood(
        Flow(Chain((Logit(0.05), Coupling(Checkerboard(), Affine(TanhBound(0.5)), network)))), levels=16
    )


def test_what_convolves_is_trained_step_by_step_on_the_cpu_with_the_same_numbers(monkeypatch):
    loops, loop = [], MODULE._loop

    def noted(step, *, scan):
        loops.append(scan)
        return loop(step, scan=scan)

    monkeypatch.setattr(MODULE, "_loop", noted)
    options = {"steps": 30, "evaluate_every": 15, "batch_size": 8, "learning_rate": 1e-2}
    one_by_one = fit(KEY, image_objective(), images(), **options)
    assert loops == 3 * [False]
    monkeypatch.setattr(MODULE, "is_slow_in_a_loop", lambda jaxpr: False)
    MODULE._kept_programs.cache_clear()
    scanned = fit(KEY, image_objective(), images(), **options)
    assert loops == 3 * [False] + 3 * [True]
    for a, b in zip(jax.tree.leaves(one_by_one), jax.tree.leaves(scanned)):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    monkeypatch.undo()
    MODULE._kept_programs.cache_clear()
    monkeypatch.setattr(MODULE, "_loop", noted)
    fit(KEY, Flow(Shift()), gaussian(30), steps=2)
    assert loops[6:] == 3 * [True]


@pytest.mark.parametrize(("steps", "evaluate_every"), [(100, 30), (101, 30), (7, 100), (5000, 26), (60, 20)])
def test_all_steps_are_done(steps, evaluate_every):
    rounds = MODULE._rounds(steps, evaluate_every)
    assert sum(rounds) == steps and len(set(rounds)) <= 2
    assert steps == 101 or len(set(rounds)) == 1  # 101 is prime


def test_the_last_steps_are_done_too():
    fitted = fit(KEY, Flow(Shift()), gaussian(20), steps=11, evaluate_every=4, validation=0)
    assert fitted.history.steps.tolist()[-1] == fitted.history.best == 11


def test_all_rounds_are_one_compilation():
    traces = []

    def log_density(x):
        traces.append(x.shape)
        return -0.5 * jnp.sum(x**2, axis=1)

    objective = ReverseKL(Flow(Inverse(Triangular())), log_density, event_shape=(2,))
    fit(KEY, objective, steps=5, evaluate_every=5)
    once = len(traces)
    traces.clear()
    objective = ReverseKL(Flow(Inverse(Triangular())), log_density, event_shape=(2,))
    fit(KEY, objective, steps=40, evaluate_every=5, patience=None)
    assert 0 < len(traces) <= once


def test_rows_held_out_are_evaluated_once_each_and_never_trained_on(monkeypatch):
    held_out = [3, 4, 10, 11, 12, 20, 29]  # of batches of 5: padded
    known_rows(monkeypatch, held_out)
    x = np.arange(30.0)[:, None] / 10
    _, history = fit(KEY, Flow(Chain(())), x, optimizer=optax.set_to_zero(), steps=10, evaluate_every=5, batch_size=5)
    nats = 0.5 * x[:, 0] ** 2 + 0.5 * math.log(2 * math.pi)
    np.testing.assert_allclose(history.validation, nats[held_out].mean(), rtol=1e-5)
    rest = np.setdiff1d(np.arange(30), held_out)
    _, one_pass = fit(KEY, Flow(Chain(())), x, optimizer=optax.set_to_zero(), steps=1, batch_size=23)
    np.testing.assert_allclose(one_pass.training, nats[rest].mean(), rtol=1e-5)


def test_context_stays_with_its_row():
    x, context = gaussian(200), gaussian(200)[:, :1]
    flow = Flow(Coupling(ChannelMask(), Affine(), MLP((4,))))
    options = {"optimizer": optax.set_to_zero(), "steps": 1, "validation": 0, "batch_size": 200}
    (density, history), other = fit(KEY, flow, x, context, **options), context[::-1]
    rows, others = (density.log_prob(*(jnp.asarray(a, jnp.float32) for a in (x, c))) for c in (context, other))
    np.testing.assert_allclose(history.training[0], -np.mean(rows), rtol=1e-5)
    assert abs(history.training[0] + np.mean(others)) > 1e-3


def test_steps_that_are_not_finite_are_skipped_and_counted():
    x = gaussian(500)
    x[7] = 1e30  # its square is no float32
    density, history = fit(KEY, Flow(Triangular()), x, steps=40, batch_size=50, validation=0)
    assert history.skipped > 0 and np.all(np.isfinite(history.training))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(density))
    with pytest.raises(FloatingPointError, match="steps in a row"):
        fit(KEY, Flow(Triangular()), np.full((50, 2), 1e30), steps=50)


def test_rows_held_out_whose_nats_are_never_finite_are_told(monkeypatch):
    known_rows(monkeypatch, [0, 1])
    x = gaussian(50)
    x[0] = 1e30
    with pytest.raises(FloatingPointError, match="finite nats on the rows held out"):
        fit(KEY, Flow(Shift()), x, steps=5)


@pytest.mark.parametrize("is_held_out", [False, True])
def test_rows_that_the_flow_does_not_take_are_named(monkeypatch, is_held_out):
    known_rows(monkeypatch, [7, 8] if is_held_out else [0, 1])
    x = np.exp(gaussian(50))
    x[7, 1] = 0.0
    with pytest.raises(ValueError, match="1 of 50 whose log p is NaN before any step, the first is row 7"):
        fit(KEY, Flow(Chain((Log(), Triangular()))), x, steps=20, batch_size=5)


def test_no_bar_where_there_is_no_terminal(capsys):
    fit(KEY, Flow(Shift()), gaussian(30), steps=2)
    assert capsys.readouterr() == ("", "")


def test_trees_and_batches_as_dicts():
    tree = {"a": gaussian(40), "b": gaussian(40)[:, :1]}
    density, _ = fit(KEY, Flow(Chain(())), tree, steps=2)
    assert density.event_shape == {"a": (2,), "b": (1,)}
    as_flow = fit(KEY, Flow(Triangular()), gaussian(40), steps=5)
    as_objective = fit(KEY, Likelihood(Flow(Triangular())), {"x": gaussian(40)}, steps=5)
    jax.tree.map(np.testing.assert_array_equal, as_flow.density, as_objective.density)


WITH_A_NAN = gaussian(20)
WITH_A_NAN[13, 1] = np.nan
WRONG = {
    "whole numbers": (lambda: fit(KEY, Flow(Shift()), np.arange(20).reshape(10, 2)), TypeError, "floating dtype"),
    "a NaN": (lambda: fit(KEY, Flow(Shift()), WITH_A_NAN), ValueError, "1 of 20 rows, the first is row 13"),
    "a NaN in the context": (lambda: fit(KEY, Flow(Shift()), gaussian(20), WITH_A_NAN), ValueError, "row 13"),
    "too few rows": (lambda: fit(KEY, Flow(Shift()), gaussian(4)), ValueError, "rows enough for a validation share"),
    "all held out": (lambda: fit(KEY, Flow(Shift()), gaussian(1), validation=0.9), ValueError, "rows enough"),
    "no data": (lambda: fit(KEY, Flow(Shift())), ValueError, "expected data x"),
    "no flow": (lambda: fit(KEY, Shift(), gaussian(20)), TypeError, "expected a Flow or an Objective"),
    "unequal rows": (lambda: fit(KEY, Flow(Shift()), gaussian(20), gaussian(19)), ValueError, "each of the 20 rows"),
    "a list": (lambda: fit(KEY, Flow(Shift()), [[1.0, 2.0], [3.0, 4.0]]), ValueError, "expected x of shape"),
    "an array": (lambda: fit(KEY, Likelihood(Flow(Shift())), gaussian(20)), TypeError, "one dict of arrays"),
    "two rates": (
        lambda: fit(KEY, Flow(Shift()), gaussian(20), optimizer=optax.sgd(1.0), learning_rate=0.1),
        ValueError,
        "got both",
    ),
    "no steps": (lambda: fit(KEY, Flow(Shift()), gaussian(20), steps=0), ValueError, "steps, batch_size"),
    "no patience": (
        lambda: fit(KEY, Flow(Shift()), gaussian(20), patience=0),
        ValueError,
        "whole numbers >= 1 as .*patience",
    ),
    "half a step": (
        lambda: fit(KEY, Flow(Shift()), gaussian(20), steps=5.5),
        ValueError,
        "whole numbers >= 1 as steps",
    ),
    "a rate below 0": (
        lambda: fit(KEY, Flow(Shift()), gaussian(20), learning_rate=-1.0),
        ValueError,
        "learning_rate above 0",
    ),
    "a decay of 1": (
        lambda: fit(KEY, Flow(Shift()), gaussian(20), average_decay=1.0),
        ValueError,
        "average_decay of at least 0",
    ),
    "a share of 1": (lambda: fit(KEY, Flow(Shift()), gaussian(20), validation=1.0), ValueError, "below 1"),
    "measured moments, sampled": (
        lambda: fit(KEY, ReverseKL(Flow(BatchNorm()), gaussian_up_to_a_factor, (2,))),
        ValueError,
        "measures nothing",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors(name):
    call, kind, words = WRONG[name]
    with pytest.raises(kind, match=words):
        call()


def test_a_notebook_without_widgets_is_not_warned(monkeypatch):
    """rich warns of the missing ipywidgets where it would draw; warnings are errors here."""
    import rich.console

    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    fit(KEY, Flow(Shift()), gaussian(20), steps=2)


TRACED = []


@dataclass(frozen=True)
class Traced(StatelessBijector):
    """Notes each time that Python goes through it, which is when something is traced to be compiled."""

    def forward_and_log_det(self, params, x, context):
        TRACED.append(x.shape)
        return x, jnp.zeros(len(x))

    inverse_and_log_det = forward_and_log_det


def test_a_fit_like_one_before_traces_nothing():
    """And gives what it gave alone: nothing but programs is kept."""
    x, options = gaussian(64), {"steps": 4, "progress": False}

    def fitted(key, **others):
        return fit(key, Flow(Chain((Traced(), Triangular()))), x, **options, **others)[0]

    alone = fitted(KEY)
    fitted(jax.random.key(8))
    number = len(TRACED)
    assert number > 0
    again = fitted(KEY)
    assert len(TRACED) == number
    jax.tree.map(np.testing.assert_array_equal, again.params, alone.params)
    other = fitted(KEY, learning_rate=0.02)
    assert len(TRACED) > number and not np.array_equal(*(jax.tree.leaves(each.params)[0] for each in (other, alone)))


def test_what_does_not_hash_is_fitted():
    class LogDensity:
        __hash__ = None

        def __call__(self, x):
            return -jnp.sum(x**2, axis=1) / 2

    fit(KEY, ReverseKL(Flow(Shift()), LogDensity(), (2,)), steps=2)

"""What Real NVP's training adds to the nats: the sum that the authors' program makes, by the names of parameters."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bench.batches import random_batch
from experiments.configs import all_configs
from experiments.runs.build import build_train_state, build_train_step
from nvpjax import RealNVP
from nvpjax.models import MODELS
from nvpjax.training import make_train_step

MODEL, SHAPE = RealNVP(scales=2, features=4, blocks=2), (8, 8, 3)


def moved_params(model, shape=SHAPE):
    """The flow, and params of a shape that init has, away from where they start."""
    flow = model.build(shape)
    labels = jnp.zeros(2, jnp.int32) if model.classes else None
    params, _ = jax.eval_shape(flow.init, jax.random.key(0), jnp.zeros((2, *shape)), labels)
    rng = np.random.default_rng(0)
    return flow, jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params)


def sum_by_names(params):
    """Of leaves by their paths: bijector → (logit, scales) → scale → its parts, the checkerboards first."""
    total, leaves = 0.0, jax.tree_util.tree_leaves_with_path(params["bijector"][1])
    for path, leaf in leaves:
        names = [str(getattr(entry, "key", getattr(entry, "idx", None))) for entry in path]
        is_last_scale = names[0] == str(len(params["bijector"][1]) - 1)
        in_checkerboards = is_last_scale or names[1] == "0"
        if names[-1] == "magnitude" or (names[-2:] == ["transform", "scale"] and in_checkerboards):
            total += np.sum(np.square(np.asarray(leaf, np.float64)))
    return total


def network(features, blocks, outputs):
    """Σ magnitude² of a residual network as it starts: √(k²/6) for each of the maps of a k x k convolution."""
    return features / 6 + blocks * (features * 9 / 6 + features / 6) + outputs / 6


def test_at_the_start_it_is_the_sum_over_the_layers_of_the_paper():
    flow = MODEL.build(SHAPE)
    params, _ = jax.jit(flow.init)(jax.random.key(0), jnp.full((2, *SHAPE), 0.5))
    by_hand = 3 * network(4, 2, 2 * 3) + 3 * network(8, 2, 2 * 6) + 4 * network(8, 2, 2 * 6)
    assert by_hand == pytest.approx(255)  # checkerboards' scales start at 0, those of channels are not counted
    assert float(MODEL.penalty(flow, params)) == pytest.approx(255, rel=1e-6)


@pytest.mark.parametrize(
    "options", [{}, {"scales": 3}, {"learned_prior": True}, {"classes": 3}, {"scales": 1}, {"blocks": 0}], ids=str
)
def test_away_from_the_start_it_is_the_sum_by_names(options):
    model = dataclasses.replace(MODEL, **options)
    flow, params = moved_params(model)
    assert float(model.penalty(flow, params)) == pytest.approx(sum_by_names(params), rel=1e-5)


def test_its_gradient_reaches_what_it_names_and_nothing_else():
    flow, params = moved_params(MODEL)
    gradient = jax.grad(lambda params: MODEL.penalty(flow, params))(params)
    board, channels = gradient["bijector"][1][0][0][0], gradient["bijector"][1][0][2][0]
    assert np.all(board["transform"]["scale"]) and not np.any(channels["transform"]["scale"])
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.all(leaf) if path[-1].key == "magnitude" else path[-1].key == "scale" or not np.any(leaf), path


def test_other_models_have_none():
    for name, model in MODELS.items():
        if name != "real_nvp":
            assert float(model().penalty(None, {"bijector": {"scale": jnp.ones(3)}})) == 0


@pytest.mark.parametrize("memory", ["stored", "reversible"])
def test_a_configs_train_step_adds_it_by_its_weight(memory, monkeypatch):
    config = all_configs()["digits"][1]
    training = dataclasses.replace(config.training, batch_size=2, memory=memory, scale_penalty=0.25)
    config = dataclasses.replace(config, model=RealNVP(2, 2, 1, alpha=0.1), training=training)
    given = {}

    def kept(objective, optimizer, *, penalty, **options):
        given["penalty"] = penalty
        return make_train_step(objective, optimizer, penalty=penalty, **options)

    monkeypatch.setattr("experiments.runs.build.make_train_step", kept)
    build_train_step(config, axis_name=None)
    params = jax.eval_shape(lambda: build_train_state(config, random_batch(config), axis_name=None)).params
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params)
    assert float(given["penalty"](params)) == pytest.approx(0.25 * sum_by_names(params["flow"]), rel=1e-5)

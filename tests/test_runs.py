"""Every model through the programs: trained, stopped, gone on with, evaluated, sampled; labels, averages, noise."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import evaluate, sample, train
from experiments.data.noise import Gaussian, Uniform
from experiments.errors import UserError
from experiments.runs import validation
from experiments.runs.build import build_objective, build_optimizer, train_state_like
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.config_file import read_config
from experiments.runs.metrics import read_metrics
from experiments.runs.trained import density_of, restore_run
from nvpjax import checked
from nvpjax.models import (
    FFJORD,
    IAF,
    MAF,
    MODELS,
    NICE,
    FFJORDVectors,
    FlowPlusPlus,
    Glow,
    Jet,
    RealNVP,
    RealNVPVectors,
    ResidualFlow,
    ResidualFlowVectors,
    SplineCoupling,
    TarFlow,
)
from tests.runs import changed, config_of, final_state, picture
from tests.zoo import ONLY_OF_IMAGES

# One process runs them all: they share the data.
pytestmark = pytest.mark.xdist_group("runs")

ROOT = Path(__file__).parent.parent
STEPS = 6
SMALL = {
    "real_nvp": RealNVP(scales=1, features=2, blocks=0),
    "real_nvp_vectors": RealNVPVectors(layers=2, hidden=(4,)),
    "nice": NICE(layers=2, hidden=(4,)),
    "glow": Glow(levels=1, depth=1, features=2),
    "flow_plus_plus": FlowPlusPlus(couplings=(1, 1, 1), features=2, blocks=1, heads=1, components=2),
    "maf": MAF(layers=2, hidden=(8,)),
    "iaf": IAF(layers=2, hidden=(8,)),
    "spline_coupling": SplineCoupling(layers=2, hidden=(4,), bins=2),
    "tarflow": TarFlow(patch=2, width=4, layers=2, depth=1, head_width=2),
    "jet": Jet(patch=2, width=4, couplings=5, depth=1, head_width=2),
    "residual_flow": ResidualFlow(scales=1, blocks=1, features=2, dense_blocks=1, dense_features=4, coefficient=0.5),
    "residual_flow_vectors": ResidualFlowVectors(blocks=2, hidden=(4,), coefficient=0.5),
    "ffjord": FFJORD(scales=1, blocks=1, features=(2,), tolerance=1e-3),
    "ffjord_vectors": FFJORDVectors(hidden=(4,), tolerance=1e-3),
}
OF_IMAGES = (*ONLY_OF_IMAGES, "tarflow")  # of which tarflow takes vectors too
TRAINING = {"steps": STEPS, "eval_every": 3, "batch_size": 64, "measure_batches": 1, "average_decay": 0.9}


def small(name, data_dir, **parts):
    """The small model on digits, or on a table where it is one of vectors."""
    config = (
        config_of("digits", data={"data_dir": data_dir, "noise": Uniform()})
        if name in OF_IMAGES
        else config_of("breast_cancer")
    )
    config = dataclasses.replace(config, model=SMALL[name])
    return changed(config, training={**TRAINING, **parts.pop("training", {})}, **parts)


def without_long(names):
    """Parameters of a test, of which those that take a minute are left to ``make test-long``."""
    long = ("flow_plus_plus", "ffjord")
    return [pytest.param(name, marks=pytest.mark.long if name in long else ()) for name in names]


class Stopped(Exception):
    pass


def stopped_at(step, monkeypatch, config, run_dir):
    """Train until an error comes within a step, as it would from outside."""
    tell = train.Steps._tell

    def stopping(self, number, metrics, is_first):
        if number == step:
            raise Stopped
        tell(self, number, metrics, is_first)

    with monkeypatch.context() as context, pytest.raises(Stopped):
        context.setattr(train.Steps, "_tell", stopping)
        train.train(config, run_dir)


def evaluated(capsys, run_dir, *options) -> dict:
    capsys.readouterr()
    evaluate.main([str(run_dir), "--json", *options])
    return json.loads(capsys.readouterr().out)["result"]


@pytest.mark.parametrize("name", without_long(MODELS))
def test_every_model_trains_goes_on_bit_for_bit_and_is_evaluated_and_sampled(
    name, data_dir, tmp_path, capsys, monkeypatch
):
    config = small(name, data_dir)
    line = train.train(config, tmp_path / "calm")
    assert f"of {STEPS})" in line and config.data.said_unit in line and "given their labels" not in line

    shutil.copytree(tmp_path / "calm", tmp_path / "stopped")  # as it was after step 3
    shutil.rmtree(tmp_path / "stopped" / "checkpoints" / str(STEPS))
    train.train(config, tmp_path / "stopped")
    assert "going on from step 3" in capsys.readouterr().out
    state = final_state(tmp_path / "calm", STEPS)
    chex.assert_trees_all_equal(final_state(tmp_path / "stopped", STEPS), state)
    scores = [
        [line[config.data.unit] for line in read_metrics(tmp_path / run) if line["split"] == "validation"]
        for run in ("calm", "stopped")
    ]
    assert scores[0] == scores[1] and len(scores[0]) == 2 and scores[0][0] != scores[0][1]

    # The optimiser has moved, and averages lie behind the parameters that they are of.
    with Checkpoints(tmp_path / "calm") as saved:
        earlier = saved.restore(3, train_state_like(config))
    for then, now in ((earlier.optimizer_state, state.optimizer_state), (state.params, state.averages.params)):
        assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(then), jax.tree.leaves(now)))

    monkeypatch.setattr(checked, "_memory", {})  # as in a process that has not trained it
    result = evaluated(capsys, tmp_path / "calm", "--checkpoint", "latest")
    assert result["examples"] == len(config.data.examples("test")) and np.isfinite(result[config.data.unit])
    assert result["round_trip_error"] < 1e-3
    sample.main([str(tmp_path / "calm"), "--num", "4", "--out", str(tmp_path / "samples.png")])
    assert "4 samples" in capsys.readouterr().out and min(picture(tmp_path / "samples.png").size) > 20


@pytest.mark.long  # tests/test_programs.py kills a Real NVP
@pytest.mark.parametrize("name", ["glow", "spline_coupling"])
def test_a_killed_process_goes_on_bit_for_bit(name, data_dir, tmp_path):
    """As a user has it: the process ends by SIGKILL, and the same command goes on."""
    on = ["digits"] if name in OF_IMAGES else ["breast_cancer"]
    data = ["--data-dir", data_dir] if name in OF_IMAGES else []
    sizes = {"glow": "--levels 1 --depth 1 --features 2", "spline_coupling": "--layers 2 --hidden 4 --bins 2"}[name]
    options = "--steps 40 --eval-every 10 --batch-size 32 --measure-batches 1 --average-decay 0.9"
    arguments = [*on, "--model", name, *sizes.split(), *options.split(), *data, "--run-dir"]
    command = [sys.executable, "-m", "experiments.train", *map(str, arguments)]

    def start(run_dir):
        quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([*command, str(run_dir)], cwd=ROOT, **quiet)

    killed = start(tmp_path / "killed")
    while not (tmp_path / "killed" / "checkpoints" / "10").exists():
        assert killed.poll() is None, killed.stdout.read()
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    again, calm = start(tmp_path / "killed").communicate()[0], start(tmp_path / "calm").communicate()[0]
    assert "going on from step" in again and "test" in again.splitlines()[-1], again
    assert "test" in calm.splitlines()[-1], calm
    chex.assert_trees_all_equal(final_state(tmp_path / "killed", 40), final_state(tmp_path / "calm", 40))


@pytest.mark.parametrize("name", ["real_nvp", "flow_plus_plus"])
def test_noise_that_leaves_the_range_is_refused_where_a_logit_comes_first(name, data_dir, tmp_path):
    config = small(name, data_dir, data={"noise": Gaussian()})
    with pytest.raises(UserError, match=r"gives values outside of \[0, 1\], and .* begins with a logit"):
        train.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_optimizer_is_what_numpy_says():
    options = {"learning_rate": 0.1, "final_learning_rate": 0.1, "warmup_steps": 2, "gradient_clip": 2.0}
    config = changed(config_of("digits"), training={**options, "weight_decay": 0.2, "second_moment_decay": 0.6})
    optimizer, x = build_optimizer(config), np.array([1.0, -2.0])
    params, first, second = jnp.asarray(x), np.zeros(2), np.zeros(2)
    state = optimizer.init(params)
    for step, gradient in enumerate([np.array([0.3, 0.4]), np.array([-3.0, 4.0]), np.array([1.0, 0.0])]):
        updates, state = optimizer.update(jnp.asarray(gradient), state, params)
        params = params + updates
        gradient = gradient * min(1, 2 / np.linalg.norm(gradient))
        first, second = 0.9 * first + 0.1 * gradient, 0.6 * second + 0.4 * gradient**2
        direction = first / (1 - 0.9 ** (step + 1)) / (np.sqrt(second / (1 - 0.6 ** (step + 1))) + 1e-8)
        x = x - 0.1 * min(1, step / 2) * (direction + 0.2 * x)
    np.testing.assert_allclose(params, x, rtol=1e-5)


def test_a_table_has_no_place_of_its_own(tmp_path, capsys):
    config = small("nice", None, training={"steps": 1})
    train.train(config, tmp_path / "run")
    with pytest.raises(UserError, match="breast_cancer ships inside scikit-learn"):
        evaluate.main([str(tmp_path / "run"), "--data-dir", "elsewhere"])


@pytest.mark.parametrize("name", without_long(OF_IMAGES))
def test_models_that_are_given_labels(name, data_dir, tmp_path, capsys):
    config = small(name, data_dir, model={"classes": 10}, training={"steps": 2, "eval_every": 2, "learning_rate": 0.1})
    run_dir = tmp_path / "run"
    assert "299 examples given their labels" in train.train(config, run_dir)
    evaluate.main([str(run_dir)])
    assert "299 examples given their labels" in capsys.readouterr().out

    # The number depends on the labels that are given, and on nothing else of them.
    objective, (_, _, state) = build_objective(config, None), restore_run(run_dir, "latest")
    images = config.data.examples("test").arrays
    batch = {name: array[:4] for name, array in images.items()} | {"index": np.arange(4)}

    @jax.jit
    def nats(label):
        return objective(*state.evaluated, jax.random.key(0), {**batch, "label": label})[0]

    there, other = nats(batch["label"]), nats((batch["label"] + 1) % 10)
    assert np.all(there != other) and np.all(np.isfinite(there))

    # Ten of each label, a row for each; or of one label alone.
    sample.main([str(run_dir), "--out", str(tmp_path / "grid.png")])
    assert "100 samples" in capsys.readouterr().out
    width, height = picture(tmp_path / "grid.png").size
    assert height > 10 * 8 * 3 and width > 10 * 8 * 3
    sample.main([str(run_dir), "--label", "3", "--num", "5", "--out", str(tmp_path / "threes.png")])
    assert "5 samples of label 3" in capsys.readouterr().out
    density, sampler = density_of(config, state), sample.make_sampler(4)
    threes, fours = (sampler(jax.random.key(0), density, jnp.full(4, label), 1.0) for label in (3, 4))
    assert np.any(threes != fours)


def test_number_and_rows_of_samples_with_labels(data_dir):
    config = small("real_nvp", data_dir, model={"classes": 10})
    number, labels, titles = sample.draws_of(config, None, None)
    assert number == 100 and labels.tolist() == [label for label in range(10) for _ in range(10)]
    assert titles == [str(label) for label in range(10)]
    number, labels, titles = sample.draws_of(config, 12, None)  # a row has equally many of each
    assert number == 20 and labels.tolist() == [label for label in range(10) for _ in range(2)]
    number, labels, titles = sample.draws_of(config, 3, 7)
    assert (number, labels.tolist(), titles) == (3, [7, 7, 7], [])
    assert sample.draws_of(small("real_nvp", data_dir), None, None) == (64, None, [])


def test_averages_are_what_is_evaluated_and_sampled(data_dir, tmp_path, capsys):
    config = small("real_nvp", data_dir, training={"steps": 3})
    run_dir = tmp_path / "run"
    train.train(config, run_dir)
    evaluate.main([str(run_dir)])
    assert "averages of parameters" in capsys.readouterr().out
    original = final_state(run_dir, 3)

    def moved(tree):
        return jax.tree.map(lambda leaf: (leaf * 1.1 + 0.01).astype(leaf.dtype), tree)

    def after(train_state):
        """The score and the samples of the run once this state is its latest."""
        with Checkpoints(run_dir, keep=9, going_on=True) as saved:
            step, _, position = saved.restore_latest(train_state_like(config))
            saved.save(step + 1, train_state, position, 1.0)
        result = evaluated(capsys, run_dir, "--checkpoint", "latest")
        density = density_of(config, restore_run(run_dir, "latest")[2])
        return result["bits_per_dim"], np.asarray(sample.make_sampler(4)(jax.random.key(0), density, None, 1.0))

    score, x = after(original)
    same_score, same_x = after(original._replace(params=moved(original.params)))
    assert same_score == score and np.array_equal(same_x, x)
    averages = original.averages._replace(params=moved(original.averages.params))
    other_score, other_x = after(original._replace(averages=averages))
    assert other_score != score and np.any(other_x != x)

    own = evaluated(capsys, run_dir, "--checkpoint", "latest", "--no-averages")["bits_per_dim"]
    after(original._replace(averages=original.averages._replace(params=original.params, state=original.state)))
    assert own == evaluated(capsys, run_dir, "--checkpoint", "latest")["bits_per_dim"] != other_score
    assert (run_dir / "evaluation_test_without_averages.json").exists()
    with pytest.raises(UserError, match="drop --ledger"):
        evaluate.main([str(run_dir), "--no-averages", "--ledger"])


def test_averages_have_moments_of_their_own(data_dir, tmp_path, monkeypatch):
    config, measured = small("real_nvp", data_dir, training={"steps": 3}), []
    measure = validation.measure_anew

    def noted(measure_step, params, state, key, batches):
        after, nats = measure(measure_step, params, state, key, batches)
        measured.append(jax.device_get((params, after)))
        return after, nats

    monkeypatch.setattr(validation, "measure_anew", noted)
    train.train(config, tmp_path / "run")
    state = final_state(tmp_path / "run", 3)
    (params, moments), (averages, moments_of_averages) = (jax.tree.map(lambda leaf: leaf[0], pair) for pair in measured)
    chex.assert_trees_all_equal((params, moments), (state.params, state.state))
    chex.assert_trees_all_equal((averages, moments_of_averages), tuple(state.averages))
    pairs = zip(jax.tree.leaves(moments), jax.tree.leaves(moments_of_averages))
    assert any(np.any(one != other) for one, other in pairs)


NOISES = {
    "learned": "--noise learned --noise-layers 1 --noise-features 2 --noise-blocks 0 --noise-components 1",
    "learned_affine": "--noise learned_affine --noise-depth 1 --noise-features 2",
    "gaussian": "--noise gaussian --noise-deviation 0.1",
}


@pytest.mark.parametrize("noise", NOISES)
def test_noise(noise, data_dir, tmp_path, monkeypatch, capsys):
    run_dir, sizes = tmp_path / "run", "--model nice --layers 2 --hidden 4 --batch-size 32 --eval-every 2 --steps 2"
    options = [*sizes.split(), *NOISES[noise].split(), "--data-dir", str(data_dir), "--run-dir", str(run_dir)]
    train.main(["digits", *options])
    no_bound = "bits/dim of noisy images (no bound for the images themselves)"
    assert (no_bound in capsys.readouterr().out) == (noise == "gaussian")
    evaluate.main([str(run_dir)])
    assert (no_bound in capsys.readouterr().out) == (noise == "gaussian")
    config = read_config(run_dir)
    with Checkpoints(run_dir) as saved:
        params = saved.restore(2, train_state_like(config)).params["dequantization"]
    assert bool(jax.tree.leaves(params)) == (noise != "gaussian")
    stopped_at(4, monkeypatch, changed(config, training={"steps": 4}), run_dir)
    train.train(changed(config, training={"steps": 4}), run_dir)
    with Checkpoints(run_dir, keep=9) as saved:
        after = saved.restore(4, train_state_like(config)).params["dequantization"]
    assert all(np.any(a != b) for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(after)))

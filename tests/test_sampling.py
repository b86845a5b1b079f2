"""Guidance against products of normals on a grid, denoising against an integral, labels that training does not tell."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from experiments import evaluate, sample, train
from experiments.config import Config
from experiments.data.noise import Gaussian
from experiments.errors import UserError
from nvpjax import (
    MAF,
    Affine,
    Autoregressive,
    Chain,
    Flow,
    Guided,
    NormalMixture,
    PixelLikelihood,
    Scale,
    StepByStep,
    TanhBound,
    TarFlow,
    WholePasses,
    denoised,
    guided,
)
from nvpjax.nets import CausalTransformer
from nvpjax.testing import moved_from_start
from tests.runs import changed, config_of, picture

NETWORK = CausalTransformer(width=8, depth=2, head_width=4, classes=3, final_scale=1.0)
LABELS = jnp.array([0, 2, 1])


def made(length=6, entries=2, dtype=jnp.float32):
    x = jax.random.normal(jax.random.key(0), (3, length, entries), dtype)
    params, _ = NETWORK.init(jax.random.key(1), x, LABELS, outputs=2 * entries)
    return moved_from_start(jax.random.key(2), params, 0.1), x


def thetas(params, x, network=NETWORK, context=LABELS):
    return np.asarray(network.apply(params, (), x, context, outputs=2 * x.shape[-1])[0], np.float64)


@pytest.mark.parametrize("temperature", [None, 1.7])
@pytest.mark.parametrize("ramp", [False, True])
def test_a_difference_goes_beyond_what_the_label_says(temperature, ramp):
    params, x = made()
    guiding = Guided(NETWORK, 1.5, temperature=temperature, ramp=ramp)
    told = thetas(params, x)
    if temperature is None:
        untold = thetas(params, x, context=jnp.full(3, -1))
    else:  # queries and keys of a network whose logits are smaller by that
        untold = thetas(_with_cooler_queries(params, temperature), x)
    w = 1.5 * (np.arange(6) / 5 if ramp else np.ones(6))[:, None]
    np.testing.assert_allclose(thetas(params, x, guiding), told + w * (told - untold), rtol=2e-4, atol=2e-5)
    assert abs(told - untold)[:, 1:].max() > 0.05


def _with_cooler_queries(params, temperature):
    def cooler(block):
        scale = jnp.repeat(jnp.array([1 / temperature, 1, 1]), 8)
        return {**block, "query_key_value": jax.tree.map(lambda leaf: leaf * scale, block["query_key_value"])}

    return {**params, "blocks": tuple(map(cooler, params["blocks"]))}


def test_a_product_is_that_of_the_normals():
    params, x = made(entries=1)
    w, grid = 1.5, np.linspace(-60, 60, 240_001)
    told, untold = thetas(params, x), thetas(params, x, context=jnp.full(3, -1))
    product = thetas(params, x, Guided(NETWORK, w, "product"))
    seen = set()
    for place in np.ndindex(3, 6):
        (t_c, s_c), (t_u, s_u) = told[place], untold[place]
        seen.add(bool(s_u < s_c))
        s_u = min(s_u, s_c)  # σ = exp(−s): a σ_u below σ_c counts as σ_c
        log_p = (1 + w) * norm.logpdf(grid, -t_c, np.exp(-s_c)) - w * norm.logpdf(grid, -t_u, np.exp(-s_u))
        p = np.exp(log_p - log_p.max())
        mean = np.sum(grid * p) / np.sum(p)
        deviation = np.sqrt(np.sum((grid - mean) ** 2 * p) / np.sum(p))
        np.testing.assert_allclose(product[place], [-mean, -np.log(deviation)], rtol=1e-3, atol=1e-4)
    assert seen == {False, True}


@pytest.mark.parametrize("form", ["difference", "product"])
@pytest.mark.parametrize("options", [{}, {"temperature": 1.5}, {"ramp": True}])
@pytest.mark.parametrize("inside", [(), (6,)])
def test_a_guided_flow_is_exact_and_goes_back_step_by_step(form, options, inside):
    flow = guided(TarFlow(2, 8, 3, 2, 4, classes=3, inside=inside).build((4, 4, 1)), 1.2, form=form, **options)
    x = jax.random.uniform(jax.random.key(0), (3, 4, 4, 1))
    params, state = flow.init(jax.random.key(1), x, LABELS)
    density = flow.at(moved_from_start(jax.random.key(2), params, 0.07), state)
    z = density.latents(x, LABELS)
    back, log_prob = density.from_latents(z, LABELS)
    np.testing.assert_allclose(back, x, atol=1e-4)
    np.testing.assert_allclose(log_prob, density.log_prob(x, LABELS), rtol=1e-4, atol=1e-3)


def test_a_guided_layer_goes_back_by_whole_passes_too():
    params, x = made()
    layers = [Autoregressive(Affine(), Guided(NETWORK, 2.0, ramp=True), way) for way in (StepByStep(), WholePasses())]
    params = {"transform": layers[0].transform.init(jax.random.key(0)), "conditioner": params}
    ways = [layer.inverse(params, (), x, LABELS) for layer in layers]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), *ways)


def test_weight_zero_is_the_flow_itself():
    flow = TarFlow(2, 8, 2, 1, 4, classes=3).build((4, 4, 1))
    x = jax.random.uniform(jax.random.key(0), (3, 4, 4, 1))
    params, state = flow.init(jax.random.key(1), x, LABELS)
    params = moved_from_start(jax.random.key(2), params, 0.2)
    plain, of_zero, of_one = (
        flow.log_prob(params, state, x, LABELS)[0] for flow in (flow, guided(flow, 0.0), guided(flow, 1.0))
    )
    np.testing.assert_array_equal(plain, of_zero)
    assert np.all(abs(plain - of_one) > 1e-3)


@pytest.mark.parametrize(
    "wrong, said",
    [
        (lambda: guided(MAF().build((3,)), 1.0), "told by a CausalTransformer"),
        (lambda: guided(TarFlow().build((4,)), 1.0), "expected a network of classes"),
        (lambda: guided(TarFlow(classes=3).build((4,)), -1.0), "weight of at least 0, got -1.0"),
        (lambda: guided(TarFlow(classes=3).build((4,)), 1.0, form="sum"), "form to be one of"),
        (
            lambda: guided(Flow(Autoregressive(Affine(TanhBound()), NETWORK)), 1.0, form="product"),
            "expected layers of Affine",
        ),
        (lambda: CausalTransformer(temperature=0.0), "temperature > 0, got 0.0"),
        (lambda: denoised(None, jnp.zeros((1, 2)), 0.0), "deviation > 0, got 0.0"),
        (lambda: PixelLikelihood(Flow(Chain(())), unknown_labels=0.1), "0 without labels"),
    ],
)
def test_what_cannot_be_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        wrong()


def test_denoised_is_the_mean_of_what_there_may_have_been():
    flow, deviation = Flow(Scale(), NormalMixture(3)), 0.4
    params, state = flow.init(jax.random.key(0), jnp.zeros((1, 1)))
    density = flow.at(moved_from_start(jax.random.key(1), params, 0.3), state)  # of x; below it is spread further

    grid = np.linspace(-12, 12, 4001)
    p_x = np.exp(np.asarray(density.log_prob(jnp.asarray(grid[:, None], jnp.float32)), np.float64))

    class Noisy:
        """The density of x + σ ε, by an integral: what a flow would have learned."""

        def log_prob(self, y, context):
            kernel = jnp.exp(-0.5 * ((y - grid) / deviation) ** 2)
            return jnp.log(jnp.sum(kernel * p_x, axis=1))

    y = np.array([[-2.0], [-0.3], [0.0], [1.1], [3.0]], np.float32)
    weights = p_x * norm.pdf(y, grid, deviation)
    expected = (weights * grid).sum(axis=1) / weights.sum(axis=1)
    np.testing.assert_allclose(denoised(Noisy(), jnp.asarray(y), deviation)[:, 0], expected, rtol=1e-3, atol=1e-3)


def test_training_does_not_tell_a_share_of_the_labels():
    @dataclasses.dataclass(frozen=True)
    class Seeing(Flow):
        """A flow whose density is the label that it is told."""

        def init(self, key, x, context=None):
            return {"bijector": (), "base": ()}, ()

        def log_prob(self, params, state, x, context=None, *, train=False):
            return context.astype(jnp.float32), state

    number, share = 2000, 0.1
    batch = {"image": np.zeros((number, 1, 1, 1), np.uint8), "index": np.arange(number), "label": np.full(number, 7)}
    objective = PixelLikelihood(Seeing(Chain(())), labels=True, unknown_labels=share)
    params, state = objective.init(jax.random.key(0), batch)
    offset = np.log(256)

    def told(key, train):
        nats, _ = objective(params, state, jax.random.key(key), batch, train=train)
        return np.round(offset - np.asarray(nats)).astype(int)

    unknown = told(1, True) == -1
    assert np.all(told(1, False) == 7) and np.all(told(1, True)[~unknown] == 7)
    assert abs(unknown.mean() - share) < 4 * np.sqrt(share * (1 - share) / number)
    assert np.any(unknown != (told(2, True) == -1))


SMALL = TarFlow(patch=2, width=4, layers=2, depth=1, head_width=2, classes=10)
TRAINING = {"steps": 4, "eval_every": 2, "batch_size": 32, "unknown_labels": 0.2, "learning_rate": 0.01}


def small(data_dir, model=SMALL, **training) -> Config:
    config = config_of("digits", data={"data_dir": data_dir, "noise": Gaussian(0.1)})
    return changed(dataclasses.replace(config, model=model), training=TRAINING | training)


@pytest.mark.xdist_group("runs")
def test_samples_are_guided_and_denoised_as_they_are_asked(data_dir, tmp_path, capsys):
    run_dir = tmp_path / "run"
    train.train(small(data_dir), run_dir)
    grids = {}
    for name, options in {
        "plain": [],
        "guided": ["--guidance", "2"],
        "product": ["--guidance", "2", "--guidance-form", "product", "--guidance-ramp"],
        "by temperature": ["--guidance", "2", "--guidance-temperature", "3"],
        "denoised": ["--denoise"],
    }.items():
        out = tmp_path / f"{name}.png"
        sample.main([str(run_dir), "--num", "10", *options, "--out", str(out)])
        said = capsys.readouterr().out
        assert ("guided by 2" in said) == ("--guidance" in options) and ("denoised" in said.lower()) == (
            name == "denoised"
        )
        grids[name] = np.asarray(picture(out))
    for name in set(grids) - {"plain"}:
        assert grids[name].shape != grids["plain"].shape or np.any(grids[name] != grids["plain"]), name
    evaluate.main([str(run_dir)])
    assert "given their labels" in capsys.readouterr().out


@pytest.mark.xdist_group("runs")
def test_what_a_run_cannot_be_sampled_by_is_refused(data_dir, tmp_path):
    plain = dataclasses.replace(small(data_dir, unknown_labels=0.0), data=config_of("digits").data)
    run_dir = tmp_path / "run"
    train.train(changed(plain, data={"data_dir": data_dir}), run_dir)
    for options, said in {
        ("--guidance", "2"): "trained with every label",
        ("--guidance", "-1"): "expected --guidance >= 0",
        ("--guidance", "1", "--guidance-temperature", "0"): "expected temperature > 0, got 0.0",
        ("--guidance-ramp",): "expected --guidance above 0",
        ("--denoise",): "was not trained with --noise gaussian",
    }.items():
        with pytest.raises(UserError, match=said):
            sample.main([str(run_dir), *options])
    with pytest.raises(UserError, match="expected a model that takes labels which are not known"):
        small(data_dir, model=dataclasses.replace(SMALL, classes=0))

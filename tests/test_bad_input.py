"""Wrong input, from the command line to the library: one clear error each, and nothing lost.

Each row: what is wrong, what is done, and words that the error must hold: what came, or what to do.
"""

import contextlib
import dataclasses
import io
import json
import re
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import nvpjax
import tests.conftest  # noqa: F401 (before jax is used: its devices)
from experiments import (
    command_line,
    compress,
    cost,
    curves,
    evaluate,
    ledger,
    manifold,
    reconstruct,
    sample,
    search,
    toy2d,
    train,
    within,
)
from experiments.configs import all_configs, configs_to_train
from experiments.data import TableFile
from experiments.data.columns import Column
from experiments.data.table_file import FoundTable
from experiments.runs.config_file import to_json
from nvpjax import objectives
from nvpjax.bijectors import bounds
from nvpjax.nets import MADE, MLP, FlaxConditioner, GatedNet, LabelEmbedding, NestedTransformer, NNXConditioner
from nvpjax.parallel import shard
from nvpjax.training import create_train_state, make_eval_step, make_train_step

KEY = jax.random.key(0)
VECTORS = jnp.linspace(-1.0, 1.0, 8).reshape(2, 4)
IMAGES = jnp.linspace(0.1, 0.9, 2 * 4 * 4 * 2).reshape(2, 4, 4, 2)
PIXELS = np.zeros((2, 4, 4, 1), np.uint8)


NETWORK = MLP(hidden=(4,))


def affine(conditioner=NETWORK):
    return nvpjax.Coupling(nvpjax.ChannelMask("first"), nvpjax.Affine(), conditioner)


def small_flow():
    return nvpjax.RealNVP(scales=2, features=2, blocks=0).build((4, 4, 1))


def start_of(flow, x):
    return flow.init(KEY, x)


def train_step_on(batch):
    objective, optimizer = nvpjax.PixelLikelihood(small_flow()), optax.sgd(0.1)
    train_state = create_train_state(objective, optimizer, KEY, {"image": PIXELS})
    return make_train_step(objective, optimizer)(train_state, KEY, batch)


def step_with_averages_on_a_state_without():
    objective, optimizer = nvpjax.PixelLikelihood(small_flow()), optax.sgd(0.1)
    train_state = create_train_state(objective, optimizer, KEY, {"image": PIXELS})
    return make_train_step(objective, optimizer, average_decay=0.9)(train_state, KEY, {"image": PIXELS})


def no_variables():
    return {"flow": (), "dequantization": ()}, {"flow": (), "dequantization": ()}


def forward_of(bijector, x):
    """The forward pass of x, with params that were made for VECTORS."""
    return bijector.forward(*bijector.init(KEY, VECTORS), x)


def with_params_of(other, flow, x):
    params, state = other.init(KEY, x)
    return flow.forward(params, state, x)


TABLE = Path(__file__).parent.parent / "docs" / "errors.md"
LONGEST = 300
HEAD = """# Wrong inputs, and what is said to them

Made by `make errors` from `tests/test_bad_input.py`, which tries each of them. Library functions raise ValueError or
TypeError; programs end with one line on stderr and exit code 2, and no file is lost or changed. RUN is a run directory.
Every call of a bijector, a distribution or a flow is held against its `init` (`nvpjax/checked.py`): what `init` would
not take, or would give other shapes for, is refused. `tests/test_wrong_calls.py` makes wrong calls at random.

| wrong | what is said |
|---|---|
"""
CHAIN = nvpjax.Chain((affine(), nvpjax.Reverse()))
LIBRARY = {
    # shapes
    "squeeze of an odd height": (
        lambda: nvpjax.Squeeze().init(KEY, jnp.zeros((1, 3, 4, 1))),
        ["(1, 3, 4, 1)", "divisible by 2"],
    ),
    "squeeze of an odd width": (
        lambda: nvpjax.Squeeze().init(KEY, jnp.zeros((1, 4, 5, 1))),
        ["(1, 4, 5, 1)", "Pad or crop"],
    ),
    "squeeze of vectors": (lambda: nvpjax.Squeeze().init(KEY, VECTORS), ["(batch, height, width, channels)", "(2, 4)"]),
    "ordered squeeze of an odd height": (
        lambda: nvpjax.OrderedSqueeze().init(KEY, jnp.zeros((1, 3, 4, 1))),
        ["(1, 3, 4, 1)"],
    ),
    "squeeze back of too few channels": (
        lambda: nvpjax.Squeeze().inverse((), (), jnp.zeros((1, 2, 2, 3))),
        ["channels", "divisible by 4", "(1, 2, 2, 3)"],
    ),
    "squeeze by 0": (lambda: nvpjax.Squeeze(factor=0), ["factor >= 1", "factor=0"]),
    "halves of one channel": (lambda: affine().init(KEY, jnp.zeros((2, 1))), ["channels >= 2", "(2, 1)"]),
    "checkerboard of vectors": (
        lambda: nvpjax.Coupling(nvpjax.Checkerboard("even"), nvpjax.Affine(), NETWORK).init(KEY, VECTORS),
        ["ChannelMask", "(2, 4)"],
    ),
    "mask of the wrong length": (
        lambda: nvpjax.Coupling(nvpjax.BooleanMask((True, False, True)), nvpjax.Affine(), NETWORK).init(KEY, VECTORS),
        ["3 entries", "(2, 4)"],
    ),
    "mask that passes everything": (lambda: nvpjax.BooleanMask((True, True)), ["at least one False"]),
    "mask of an unknown half": (lambda: nvpjax.ChannelMask("frist"), ["'frist'", "first"]),
    "alternating mask of one entry": (
        lambda: nvpjax.Coupling(nvpjax.AlternatingMask("even"), nvpjax.Affine(), NETWORK).init(KEY, jnp.zeros((2, 1))),
        ["at least 2", "got 1"],
    ),
    "network of too few outputs": (
        lambda: affine(FlaxConditioner(linen.Dense(3))).init(KEY, VECTORS),
        ["(2, 4)", "told, 4 here"],
    ),
    "permutation of another length": (lambda: nvpjax.Permutation((1, 0)).init(KEY, VECTORS), ["2 entries", "(2, 4)"]),
    "permutation that is none": (lambda: nvpjax.Permutation((0, 0, 1)), ["each of 0 … 2 once", "(0, 0, 1)"]),
    "reshape to another size": (lambda: nvpjax.Reshape((4,), (5,)), ["same size", "(4,)", "(5,)"]),
    "reshape of other events": (lambda: nvpjax.Reshape((6,), (2, 3)).forward((), (), VECTORS), ["(6,)", "(4,)"]),
    "autoregressive of images": (lambda: nvpjax.MAF().build((4,)).init(KEY, IMAGES), ["(batch, entries)", "Reshape"]),
    "planar of images": (lambda: nvpjax.Planar().init(KEY, IMAGES), ["(batch, entries)"]),
    "sylvester of a rank above the entries": (
        lambda: nvpjax.Sylvester(rank=5).init(KEY, VECTORS),
        ["rank = 5", "(2, 4)"],
    ),
    "multi-scale of odd channels": (
        lambda: nvpjax.MultiScale((nvpjax.Reverse(), nvpjax.Reverse())).init(KEY, jnp.zeros((1, 4, 4, 3))),
        ["even number of channels", "got 3"],
    ),
    "multi-scale of no scale": (lambda: nvpjax.MultiScale(()), ["at least one scale"]),
    "latents of fewer scales": (lambda: latents_of_one_scale(), ["tuple of 2", "finest first"]),
    "images too small for the scales": (
        lambda: nvpjax.RealNVP(scales=4, features=2, blocks=0).build((4, 4, 1)),
        ["divisible by 8", "(4, 4, 1)", "fewer scales"],
    ),
    # arguments
    "chain of a function": (lambda: nvpjax.Chain((jnp.tanh,)), ["expected a Bijector at position 0"]),
    "inverse of a class": (lambda: nvpjax.Inverse(nvpjax.Reverse), ["Inverse: expected a Bijector"]),
    "repeat of 0 times": (lambda: nvpjax.Repeat(affine(), 0), ["times >= 1", "times=0"]),
    "repeat of a squeeze": (lambda: nvpjax.Repeat(nvpjax.Squeeze(), 2).init(KEY, IMAGES), ["keeps shape", "Use Chain"]),
    "flow of a number": (lambda: nvpjax.Flow(3, nvpjax.StandardNormal()), ["Flow: expected a Bijector, got 3"]),
    "flow of a base that is none": (lambda: nvpjax.Flow(affine(), "normal"), ["'normal'", "lacks"]),
    "params of another chain": (
        lambda: with_params_of(nvpjax.Chain((affine(),)), CHAIN, VECTORS),
        ["Chain: expected params[1]", "by another bijector"],
    ),
    "logit with alpha 0.5": (lambda: nvpjax.Logit(alpha=0.5), ["0 <= alpha < 0.5", "0.5"]),
    "scale of 0": (lambda: nvpjax.FixedAffine(scale=0.0), ["cannot be inverted"]),
    "power of 0": (lambda: nvpjax.Power(0.0), ["cannot be inverted"]),
    "leaky relu of slope 0": (lambda: nvpjax.LeakyReLU(slope=0.0), ["slope > 0", "got 0.0"]),
    "batch norm of lag 1": (lambda: nvpjax.BatchNorm(lag=1.0), ["lag", "1.0"]),
    "spline of no bins": (lambda: nvpjax.RationalQuadraticSpline(bins=0), ["bins >= 1"]),
    "mixture of no components": (lambda: nvpjax.LogisticMixture(components=0), ["components >= 1", "components=0"]),
    "householder of no reflections": (lambda: nvpjax.Householder(reflections=0), ["reflections >= 1"]),
    "soft clip to nothing": (lambda: bounds.SoftClipBound(limit=0.0), ["limit > 0", "got 0.0"]),
    "uniform upside down": (lambda: nvpjax.Uniform(1.0, 0.0), ["low < high"]),
    "a linen module as a conditioner": (
        lambda: affine(linen.Dense(4)),
        ["Coupling: expected a conditioner", "FlaxConditioner(module)"],
    ),
    "an nnx module as a conditioner": (
        lambda: affine(nnx.Linear(2, 4, rngs=nnx.Rngs(0))),
        ["Coupling: expected a conditioner", "NNXConditioner(make)"],
    ),
    "a function as a conditioner": (lambda: affine(jnp.tanh), ["Coupling: expected a conditioner", "MLP((64, 64))"]),
    "the class of a network": (
        lambda: nvpjax.Autoregressive(nvpjax.Affine(), MADE),
        ["Autoregressive: expected a conditioner"],
    ),
    "an nnx module for a linen one": (
        lambda: FlaxConditioner(nnx.Linear(2, 4, rngs=nnx.Rngs(0))),
        ["FlaxConditioner: expected a Flax Linen module", "NNXConditioner(make)"],
    ),
    "a linen module for an nnx one": (
        lambda: NNXConditioner(linen.Dense(4)),
        ["make(rngs, inputs, outputs)", "FlaxConditioner(module)"],
    ),
    "a coupling of MADE": (
        lambda: affine(MADE((4,))).init(KEY, jnp.zeros((2, 7))),
        ["MADE: expected outputs", "use MLP"],
    ),
    "a forgotten label": (
        lambda: affine(LabelEmbedding(NETWORK, 10)).init(KEY, VECTORS),
        ["LabelEmbedding: expected one label an example", "(2,)", "none"],
    ),
    "labels that are real numbers": (
        lambda: affine(LabelEmbedding(NETWORK, 10)).init(KEY, VECTORS, jnp.zeros(2)),
        ["integer dtype", "float32"],
    ),
    "labels of one-hot vectors": (
        lambda: affine(LabelEmbedding(NETWORK, 10)).init(KEY, VECTORS, jnp.zeros((2, 10), int)),
        ["(2,)", "(2, 10)"],
    ),
    "heads that do not divide": (lambda: GatedNet(4, 1, heads=3), ["heads=3", "features=4"]),
    "RealNVP of no scales": (lambda: nvpjax.RealNVP(scales=0), ["scales=0"]),
    "RealNVP of vectors": (lambda: nvpjax.RealNVP().build((4,)), ["(height, width, channels)", "(4,)"]),
    "RealNVP down to one position": (
        lambda: nvpjax.RealNVP(scales=3).build((4, 4, 1)),
        ["two positions", "fewer scales"],
    ),
    "NICE of one entry": (lambda: nvpjax.NICE().build((1,)), ["entries >= 2", "(1,)"]),
    "NICE of half a layer": (lambda: nvpjax.NICE(layers=0.5), ["whole numbers", "layers=0.5"]),
    "Glow of no depth": (lambda: nvpjax.Glow(depth=0), ["depth=0"]),
    "Glow of no logit": (lambda: nvpjax.Glow(alpha=0.5), ["0 <= alpha < 0.5", "0.5"]),
    "Glow of odd images": (
        lambda: nvpjax.Glow(levels=1).build((4, 5, 3)),
        ["divisible by 2", "(4, 5, 3)", "fewer levels"],
    ),
    "MAF of images": (lambda: nvpjax.MAF().build((4, 4, 1)), ["(entries,)", "(4, 4, 1)", "Reshape"]),
    "MAF of an unknown transform": (lambda: nvpjax.MAF(transform="cubic"), ["'affine' or 'spline'", "'cubic'"]),
    "Flow++ of two kinds": (lambda: nvpjax.FlowPlusPlus(couplings=(4, 2)), ["three", "(4, 2)"]),
    "TarFlow of no layers": (lambda: nvpjax.TarFlow(layers=0), ["layers=0"]),
    "TarFlow of other heads": (lambda: nvpjax.TarFlow(width=96), ["width=96", "head_width=64"]),
    "TarFlow of no logit": (lambda: nvpjax.TarFlow(alpha=0.0), ["0 < alpha < 0.5", "0.0"]),
    "TarFlow of no entries inside": (lambda: nvpjax.TarFlow(inside=(8, 0)), ["inside", "(8, 0)"]),
    "NestedTransformer of vectors": (
        lambda: NestedTransformer(4).init(jax.random.key(0), jnp.zeros((2, 8, 3)), outputs=2),
        ["(batch, positions, 1)", "divisible by 4", "(2, 8, 3)"],
    ),
    "NestedTransformer of a part of a patch": (
        lambda: NestedTransformer(4).init(jax.random.key(0), jnp.zeros((2, 6, 1)), outputs=2),
        ["divisible by 4", "(2, 6, 1)"],
    ),
    "TarFlow of cut patches": (lambda: nvpjax.TarFlow(patch=4).build((6, 4, 1)), ["divisible by 4", "(6, 4, 1)"]),
    "Jet of odd rows": (lambda: nvpjax.Jet(patch=4).build((28, 28, 1)), ["divisible by 8", "other patches"]),
    "Jet of odd patches": (lambda: nvpjax.Jet(patch=1).build((4, 4, 3)), ["even number of entries, got 3"]),
    "a token mask of diagonals": (lambda: nvpjax.TokenMask("diagonals", 4), ["pattern to be one of", "'diagonals'"]),
    "a token mask of odd columns": (
        lambda: nvpjax.TokenMask("columns", 3).split(jnp.zeros((2, 6, 4))),
        ["columns pass half", "(2, 6, 4)"],
    ),
    # calls
    "one event in place of a batch": (lambda: forward_of(affine(), VECTORS[0]), ["(batch, ..., entries)", "x[None]"]),
    "an empty batch": (lambda: forward_of(affine(), VECTORS[:0]), ["nothing empty", "(0, 4)"]),
    "an event of another size": (lambda: forward_of(affine(), VECTORS[:, :3]), ["expected params", "(2, 3)"]),
    "params of fewer columns": (
        lambda: nvpjax.ActNorm().forward(*nvpjax.ActNorm().init(KEY, VECTORS), VECTORS[:, :1]),
        ["ActNorm: expected params['log_scale'] numbers of shape (1,)", "got numbers of shape (4,)"],
    ),
    "a list in place of an array": (lambda: forward_of(affine(), VECTORS.tolist()), ["arrays", "float", "jnp.asarray"]),
    "params and state that changed places": (
        lambda: nvpjax.BatchNorm().forward(*nvpjax.BatchNorm().init(KEY, VECTORS)[::-1], VECTORS),
        ["BatchNorm: expected params", "changed places"],
    ),
    "a density of params and state that changed places": (
        lambda: small_flow().at(*small_flow_variables()[::-1]),
        ["Flow: expected params and state", "in this order"],
    ),
    "one event for a density": (
        lambda: nvpjax.Flow(nvpjax.Scale()).at(*nvpjax.Flow(nvpjax.Scale()).init(KEY, VECTORS)).log_prob(VECTORS[0]),
        ["expected x of", "x[None]"],
    ),
    "a column that is no tuple": (lambda: nvpjax.OnColumns(nvpjax.Log(), 0), ["columns as a tuple, such as (0,)"]),
    "an event_shape that is none": (lambda: nvpjax.MAF().build(4), ["expected an event_shape, such as (4,)"]),
    "a forgotten context": (
        lambda: affine().forward(*affine().init(KEY, VECTORS, VECTORS), VECTORS),
        ["Coupling: expected params", "without context"],
    ),
    "a context of one row": (
        lambda: affine().init(KEY, VECTORS, VECTORS[:1]),
        ["a row for each of the 2 rows", "jnp.repeat"],
    ),
    "a context that nothing reads": (
        lambda: nvpjax.Scale().init(KEY, VECTORS, VECTORS),
        ["Scale: expected no context", "nothing in it reads one"],
    ),
    "data where the key is due": (lambda: affine().init(VECTORS, KEY), ["Coupling: expected a key first"]),
    "a scale that is no number": (lambda: nvpjax.FixedAffine(float("nan")), ["scale to be a finite number, got nan"]),
    "a network of too many features": (lambda: MLP((2**31,)), ["hidden >= 1, at most 1048576"]),
    # images and batches
    "pixels outside the range": (
        lambda: nvpjax.UniformDequantization().spread((), (), jax.random.split(KEY, 1), jnp.array([[300, -5]]), 256),
        ["expected pixels 0 to 255", "got -5 to 300"],
    ),
    "one key for two images": (
        lambda: nvpjax.UniformDequantization().spread((), (), KEY, PIXELS, 256),
        ["a key for each of 2 images", "jax.random.split"],
    ),
    "floats where pixels are due": (lambda: train_step_on({"image": IMAGES[..., :1]}), ["integer dtype", "float32"]),
    "floats in evaluation": (
        lambda: make_eval_step(nvpjax.PixelLikelihood(small_flow()))(
            *no_variables(), KEY, {"image": IMAGES[..., :1], "index": jnp.arange(2)}
        ),
        ["integer dtype", "float32"],
    ),
    "pixels where floats are due": (
        lambda: small_flow().log_prob(*small_flow_variables(), PIXELS),
        ["floating", "uint8", "dequantize"],
    ),
    "pixels to a coupling": (lambda: affine().init(KEY, jnp.zeros((2, 4), jnp.int32)), ["floating", "int32"]),
    "no images": (lambda: train_step_on({"image": PIXELS[:0]}), ["at least one image", "(0, 4, 4, 1)"]),
    "a batch that devices do not divide": (lambda: shard(PIXELS, 3), ["multiple of 3", "got 2"]),
    "bits per dimension of 0 dimensions": (lambda: objectives.bits_per_dim(jnp.zeros(2), 0, 256), ["dimensions", "0"]),
    "one grey level": (
        lambda: nvpjax.UniformDequantization().spread((), (), jax.random.split(KEY, 2), PIXELS, 0),
        ["levels", "0"],
    ),
    "a batch that is no dict": (
        lambda: nvpjax.Likelihood(small_flow()).init(KEY, IMAGES),
        ["Likelihood: expected a batch with 'x'", "dict of arrays", "ArrayImpl"],
    ),
    "a batch without its images": (lambda: train_step_on({"x": PIXELS}), ["expected a batch with 'image'", "'x'"]),
    "a batch without its labels": (
        lambda: nvpjax.PixelLikelihood(small_flow(), labels=True).init(KEY, {"image": PIXELS}),
        ["expected a batch with 'label'", "'image'"],
    ),
    "noise of no deviation": (lambda: nvpjax.GaussianDequantization(0.0), ["deviation > 0", "got 0.0"]),
    "a train step for averages that are not there": (
        lambda: step_with_averages_on_a_state_without(),
        ["average_decay=0.9", "without averages", "averages=True"],
    ),
}


def latents_of_one_scale():
    params, state = small_flow_variables()
    return small_flow().bijector.inverse(params["bijector"], state["bijector"], (IMAGES[..., :1],))


def small_flow_variables():
    return small_flow().init(KEY, IMAGES[..., :1])


def library_error(wrong) -> str:
    do, _ = LIBRARY[wrong]
    with pytest.raises((ValueError, TypeError)) as error:
        do()
    return str(error.value)


@pytest.mark.parametrize("wrong", LIBRARY)
def test_library(wrong):
    said = library_error(wrong)
    assert all(word in said for word in LIBRARY[wrong][1]), said
    assert row(wrong, said) in TABLE.read_text(), f"make errors writes {TABLE.name} anew"


SAVED = to_json(all_configs()["digits"][1])
OLD = {"name": "digits", "dataset": "digits", "image_shape": [8, 8, 1], "levels": 17, "scales": 2, "features": 16}
"""Of version 0.1, whose fields had no groups."""


def saved(**parts) -> dict:
    """config.json of digits with some fields of its parts replaced."""
    return {**SAVED, **{part: {**SAVED[part], **fields} for part, fields in parts.items()}}


TABLE_SAVED = to_json(all_configs()["breast_cancer"][1])
NICE_SAVED = {**SAVED, "model": {"kind": "nice", "hidden": [4]}}

PAIRS = "".join(f"{row},{row * row % 7}\n" for row in range(20))
"""A table of two columns."""


def own(*columns: Column, **options) -> dict:
    """config.json of a run on a table of one's own with these columns."""
    data = TableFile(Path("a.csv"), found=FoundTable(columns, 20, 64 * "0"), **options)
    return to_json(dataclasses.replace(configs_to_train()["table"][1], data=data))


ON_PAIRS = own(Column("0", 0.0, 1.0), Column("1", 0.0, 1.0))


def with_found(**found) -> dict:
    """The same with something else that was found."""
    data = ON_PAIRS["data"]
    return {**ON_PAIRS, "data": {**data, "found": {**data["found"], **found}}}


GIVEN_THE_FIRST = own(Column("0", 0.0, 1.0, in_context=True), Column("1", 0.0, 1.0), context=("0",))


class Trap:
    """What a pickle would run."""

    def __reduce__(self):
        return print, ("unpickled",)


def saved_array(array, **how) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **how)
    return file.getvalue()


def table(text: str | bytes, *options: str, name: str = "a.csv") -> tuple:
    """train on a table of these contents."""
    return (train, "table", "--data", f"{RUN}/{name}", "--run-dir", f"{RUN}/run", *options), {name: text}


def images(name: str, content: str | bytes, *options: str, at: str = "") -> tuple:
    """train on images at a place that holds a file of these contents."""
    return (train, "images", "--images", f"{RUN}/{at or name}", "--run-dir", f"{RUN}/run", *options), {name: content}


# Files are written under the folder that RUN stands for.
RUN = "RUN"
COMMANDS = {
    "no config": ((train,), {}, ["digits", "mnist"]),
    "unknown config": ((train, "cifar"), {}, ["cifar", "cifar10"]),
    "unknown option": ((train, "digits", "--bath-size", "4"), {}, ["bath-size", "--help"]),
    "words where a number is due": ((train, "digits", "--steps", "many"), {}, ["many"]),
    "negative steps": ((train, "digits", "--steps", "-1"), {}, ["--steps -1: expected at least 0"]),
    "seed below 0": ((train, "digits", "--seed", "-1"), {}, ["--seed -1"]),
    "seed that no key holds": ((train, "digits", "--seed", "4294967296"), {}, ["--seed 4294967296"]),
    "warm-up of too many steps": ((train, "digits", "--warmup-steps", str(2**40)), {}, ["--warmup-steps"]),
    "batch of 0": ((train, "digits", "--batch-size", "0"), {}, ["--batch-size 0"]),
    "batch that the devices do not divide": (
        (train, "digits", "--batch-size", "6", "--run-dir", RUN),
        {},
        ["6", "4 devices"],
    ),
    "learning rate of 0": ((train, "digits", "--learning-rate", "0"), {}, ["--learning-rate 0"]),
    "learning rate below 0": ((train, "digits", "--learning-rate", "-1"), {}, ["--learning-rate -1"]),
    "learning rate that is no number": ((train, "digits", "--learning-rate", "nan"), {}, ["--learning-rate nan"]),
    "clipping to 0": ((train, "digits", "--gradient-clip", "0"), {}, ["--gradient-clip 0"]),
    "alpha of one half": ((train, "digits", "--alpha", "0.5"), {}, ["Logit: expected 0 <= alpha < 0.5, got 0.5"]),
    "lag of 1": ((train, "digits", "--lag", "1"), {}, ["0 <= lag", "lag=1.0"]),
    "unknown way back": ((train, "digits", "--memory", "little"), {}, ["little", "stored", "checkpointed"]),
    "unknown precision": ((train, "digits", "--precision", "float8"), {}, ["float8", "float32", "bfloat16"]),
    "no scales": ((train, "digits", "--scales", "0"), {}, ["scales, features >= 1, got scales=0"]),
    "more scales than the images allow": (
        (train, "digits", "--scales", "5"),
        {},
        ["divisible by 16, got (8, 8, 1)", "fewer scales"],
    ),
    "no features": ((train, "digits", "--features", "0"), {}, ["scales, features >= 1, got features=0"]),
    "blocks below 0": ((train, "digits", "--blocks", "-1"), {}, ["blocks, classes >= 0, got blocks=-1"]),
    "classes of labels that the data do not have": (
        (train, "digits", "--classes", "9"),
        {},
        ["--classes 9", "digits has 10 classes"],
    ),
    "labels of data that have none": ((train, "patches", "--classes", "10"), {}, ["--classes 10", "0 classes"]),
    "unknown model": ((train, "digits", "--model", "glowing"), {}, ["--model", "real_nvp", "got glowing"]),
    "model of no name": ((train, "digits", "--model"), {}, ["--model", "got nothing"]),
    "unknown noise": (
        (train, "digits", "--noise", "pink"),
        {},
        ["--noise", "learned_affine, gaussian", "got pink"],
    ),
    "noise for a table": ((train, "breast_cancer", "--noise", "gaussian"), {}, ["--noise is for images", "table"]),
    "noise of no deviation from the command line": (
        (train, "digits", "--noise", "gaussian", "--noise-deviation", "0"),
        {},
        ["--noise", "deviation > 0", "got 0.0"],
    ),
    "a model of vectors on images": (
        (train, "digits", "--model", "maf"),
        {},
        ["digits: MAF", "(entries,)", "(8, 8, 1)"],
    ),
    "a model of images on a table": (
        (train, "breast_cancer", "--model", "glow"),
        {},
        ["breast_cancer: Glow", "(height, width, channels)", "(30,)"],
    ),
    "another model's option": (
        (train, "digits", "--model", "glow", "--scales", "2"),
        {},
        ["--scales", "--help"],
    ),
    "averages that never move": ((train, "digits", "--average-decay", "1"), {}, ["--average-decay 1", "below 1"]),
    "no rows for the test": (
        (train, "breast_cancer", "--test-percent", "0"),
        {},
        ["--validation-percent and --test-percent", "at least 1"],
    ),
    "all images for validation": ((train, "digits", "--validation-percent", "100"), {}, ["--validation-percent 100"]),
    "evaluations every 0 steps": ((train, "digits", "--eval-every", "0"), {}, ["--eval-every 0"]),
    "no checkpoints to keep": ((train, "digits", "--keep", "0"), {}, ["--keep >= 1"]),
    "skipped steps below 0": ((train, "digits", "--max-skipped", "-1"), {}, ["--max-skipped >= 0"]),
    "data that is not there": (
        (train, "mnist", "--data-dir", RUN, "--run-dir", RUN),
        {},
        ["mnist is not prepared", "--data-dir"],
    ),
    "run directory that is a file": ((train, "digits", "--run-dir", f"{RUN}/a"), {"a": ""}, ["is not a run directory"]),
    "run directory with other files": (
        (train, "digits", "--run-dir", RUN),
        {"thesis.tex": ""},
        ["is not a run directory", "--run-dir"],
    ),
    "run directory of another seed": (
        (train, "digits", "--run-dir", RUN),
        {"config.json": saved(training={"seed": 3})},
        ["seed 3 there, 0 asked"],
    ),
    "config cut short": (
        (train, "digits", "--run-dir", RUN),
        {"config.json": '{"name": "dig'},
        ["config.json cannot be read"],
    ),
    "config of an older program": (
        (evaluate, RUN),
        {"config.json": {"name": "digits"}},
        ["fields data, model are missing", "restore it"],
    ),
    "config of version 0.1": ((evaluate, RUN), {"config.json": OLD}, ["before version 0.2", "train anew"]),
    "config of words for numbers": (
        (evaluate, RUN),
        {"config.json": saved(model={"features": "many"})},
        ["config.json cannot be read"],
    ),
    "config of an image without height": (
        (evaluate, RUN),
        {"config.json": saved(data={"image_shape": [0, 8, 1]})},
        ["(0, 8, 1)", "sizes above 0"],
    ),
    "config of a crop of words": ((evaluate, RUN), {"config.json": saved(data={"crop": "abcd"})}, ["crop", "abcd"]),
    "config of true steps": ((evaluate, RUN), {"config.json": saved(training={"steps": True})}, ["steps", "True"]),
    "config of an unknown way back": (
        (evaluate, RUN),
        {"config.json": saved(training={"memory": "little"})},
        ["training.memory", "'little'", "stored, checkpointed, reversible"],
    ),
    "config of an unknown precision": (
        (evaluate, RUN),
        {"config.json": saved(training={"precision": 16})},
        ["training.precision", "16", "float32, bfloat16"],
    ),
    "config of an unknown kind of model": (
        (evaluate, RUN),
        {"config.json": {**SAVED, "model": {"kind": "vae"}}},
        ["config.model", "real_nvp", "'vae'"],
    ),
    "config of a field that is not known": (
        (evaluate, RUN),
        {"config.json": saved(model={"depth": 3})},
        ["config.model", "depth", "not known"],
    ),
    "config of a number that is none": (
        (evaluate, RUN),
        {"config.json": saved(training={"learning_rate": float("nan")})},
        ["--learning-rate nan"],
    ),
    "config of 200,000 brackets": ((evaluate, RUN), {"config.json": "[" * 200_000}, ["config.json cannot be read"]),
    "config of an empty crop": ((evaluate, RUN), {"config.json": saved(data={"crop": [0, 0, 0, 0]})}, ["crop"]),
    "config of a size below 0": ((evaluate, RUN), {"config.json": saved(data={"resize": -5})}, ["resize", "-5"]),
    "config of a name that is a path": (
        (evaluate, RUN),
        {"config.json": {**SAVED, "name": "../../x"}},
        ["config.json cannot be read", "../../x", "letters, digits"],
    ),
    "config that is a list": ((evaluate, RUN), {"config.json": [1]}, ["config.json cannot be read"]),
    "a table without a file": ((train, "table"), {}, ["no data are named: expected where they lie (--data FILE)"]),
    "a table that is not there": ((train, "table", "--data", f"{RUN}/a.csv"), {}, ["a.csv is not there"]),
    "a table of another kind": (*table(PAIRS, name="a.xlsx"), ["a file that ends in .csv, .tsv, .txt, .npy"]),
    "a table of nothing": (*table(""), ["is empty", "lines of numbers"]),
    "a table of one row": (*table("1,2\n"), ["at least 10 rows with all values, got 1"]),
    "a table of words": (*table(20 * "x,y\n"), ["a column of numbers to model, found none", "begins with 'x'"]),
    "a table with a ragged row": (*table(PAIRS + "1,2,3\n"), ["line 21", "expected 2 cells", "got 3"]),
    "a table with a value missing": (*table(PAIRS + "1,\n"), ["line 21, column 1", "--drop-missing", "--leave-out"]),
    "a table with an infinity": (*table(PAIRS + "1,inf\n"), ["line 21, column 1", "a finite number, got inf"]),
    "a table with a word among numbers": (*table(PAIRS + "1,two\n"), ["line 21, column 1", "got 'two' (1 of 21"]),
    "a table with a column of one value": (*table(20 * "1,2\n"), ["column 0", "density of one value has no end"]),
    "a table with a name twice": (*table("a,a\n" + PAIRS), ["columns 0 and 1 are both called 'a'"]),
    "a table with numbers that float64 merges": (
        *table("".join(f"{2**60 + row}\n" for row in range(20))),
        ["column 0", "beyond 2⁵³", "--leave-out 0"],
    ),
    "a table in another encoding": (*table(b"\xff\xfe1"), ["no text in UTF-8"]),
    "a table of pickles": (
        *table(saved_array(np.array([[Trap()]], object), allow_pickle=True), name="a.npy"),
        ["holds no array that can be read", "numpy.save"],
    ),
    "a table of one axis": (*table(saved_array(np.zeros(20)), name="a.npy"), ["(rows, columns), got shape (20,)"]),
    "a table of complex numbers": (*table(saved_array(np.zeros((20, 2), complex)), name="a.npy"), ["complex128"]),
    "a context of no column": (*table(PAIRS, "--context", "age"), ["--context age", "no such column", "0, 1"]),
    "a context of all columns": (*table(PAIRS, "--context", "0", "1"), ["a column of numbers to model, found none"]),
    "a context that is left out": (
        *table(PAIRS, "--context", "0", "--leave-out", "0"),
        ["0: expected a column in one of --context, --leave-out and --dequantize"],
    ),
    "one column for a model that wants two": (
        *table(PAIRS, "--context", "0", "--model", "real_nvp_vectors"),
        ["table: RealNVPVectors", "entries >= 2, got (1,)"],
    ),
    "noise in a column that is on no grid": (
        *table("".join(f"{row**0.5}\n" for row in range(20)), "--dequantize", "0"),
        ["--dequantize 0", "no even grid"],
    ),
    "a table that changed since the run began": (
        (train, "table", "--data", f"{RUN}/a.csv", "--run-dir", RUN),
        {"config.json": ON_PAIRS, "a.csv": PAIRS},
        ["began with other data than", "sha256 00000000… there", "restore the file"],
    ),
    "config of a table of no columns": (
        (evaluate, RUN),
        {"config.json": with_found(columns=[])},
        ["config.json cannot be read", "nothing to train on"],
    ),
    "config of a table of no deviation": (
        (evaluate, RUN),
        {"config.json": with_found(columns=[{"name": "0", "mean": 0, "deviation": 0}])},
        ["config.json cannot be read", "column 0: numbers of this size"],
    ),
    "config of data that nobody opened": (
        (evaluate, RUN),
        {"config.json": {**ON_PAIRS, "data": {**ON_PAIRS["data"], "found": None}}},
        ["config.data.found", "got nothing"],
    ),
    "samples given columns of a run without": (
        (sample, RUN, "--context", "1"),
        {"config.json": ON_PAIRS},
        ["--context", "trained without columns"],
    ),
    "samples given too many columns": (
        (sample, RUN, "--context", "1", "2"),
        {"config.json": GIVEN_THE_FIRST},
        ["expected 1 finite numbers, of 0, got 2"],
    ),
    "samples given columns of other names": (
        (sample, RUN, "--context-from", f"{RUN}/a.csv"),
        {"config.json": GIVEN_THE_FIRST, "a.csv": "age,income\n1,2\n"},
        ["expected the columns 0 by name", "got age, income"],
    ),
    "samples written over what they are given": (
        (sample, RUN, "--context-from", f"{RUN}/a.csv", "--out", f"{RUN}/a.csv"),
        {"config.json": GIVEN_THE_FIRST, "a.csv": "1\n2\n"},
        ["data are read from there"],
    ),
    "images without a place": (
        (train, "images"),
        {},
        ["no data are named: expected where they lie (--images FOLDER or FILE"],
    ),
    "images in a folder without pictures": (
        *images("a/b.txt", "", at="a"),
        ["a holds no picture", ".png, .jpg, .jpeg"],
    ),
    "a picture that is none": (*images("a/b.png", "hello", at="a"), ["a/b.png cannot be read as a picture"]),
    "images as real numbers": (*images("a.npy", saved_array(np.zeros((20, 4, 4)))), ["a uint8 array", "float64"]),
    "images with channels first": (
        *images("a.npy", saved_array(np.zeros((20, 3, 8, 8), np.uint8))),
        ["(number, height, width, 1 or 3), got uint8 (20, 3, 8, 8)"],
    ),
    "images of pickles": (
        *images("a.npy", saved_array(np.array([Trap()], object), allow_pickle=True)),
        ["holds no array that can be read"],
    ),
    "nine images": (*images("a.npy", saved_array(np.zeros((9, 8, 8), np.uint8))), ["at least 10 images, got 9"]),
    "images of no size": (*images("a.npy", "", "--size", "0"), ["--size 0: expected above 0"]),
    "images that the levels do not halve": (
        *images("a.npy", saved_array(np.zeros((20, 28, 28), np.uint8))),
        ["images: Glow", "divisible by 8, got (28, 28, 1)", "fewer levels"],
    ),
    "labels of images that have none": (
        *images("a.npy", saved_array(np.zeros((20, 8, 8), np.uint8)), "--classes", "2"),
        ["--classes 2", "a.npy has 0 classes"],
    ),
    "processes without a coordinator": (
        (train, "digits", "--multihost", "--num-processes", "2"),
        {},
        ["--coordinator", "go together"],
    ),
    "a coordinator for one process": ((train, "digits", "--coordinator", "a:1"), {}, ["--multihost"]),
    "a process too many": (
        (train, "digits", "--multihost", "--coordinator", "a:1", "--num-processes", "2", "--process-id", "2"),
        {},
        ["--process-id 2", "0 to 1"],
    ),
    "a coordinator without a port": (
        (train, "digits", "--multihost", "--coordinator", "a", "--num-processes", "2", "--process-id", "1"),
        {},
        ["HOST:PORT"],
    ),
    "no pod around": ((train, "digits", "--multihost", "--run-dir", RUN), {}, ["no pod was found", "--coordinator"]),
    "a timeout of 0": ((train, "digits", "--timeout", "0"), {}, ["--timeout 0"]),
    "evaluation of nothing": ((evaluate,), {}, ["Directory that train wrote"]),
    "evaluation of a folder that is not there": ((evaluate, f"{RUN}/b"), {}, ["is not a run directory"]),
    "evaluation of a run without a checkpoint": (
        (evaluate, RUN),
        {"config.json": SAVED},
        ["no checkpoint that was evaluated yet"],
    ),
    "unknown split": ((evaluate, RUN, "--split", "tset"), {}, ["tset", "test"]),
    "unknown checkpoint": ((sample, RUN, "--checkpoint", "first"), {}, ["first", "latest"]),
    "temperature that is no number": (
        (sample, RUN, "--temperature", "nan"),
        {"config.json": SAVED},
        ["--temperature", "nan"],
    ),
    "seed of samples below 0": ((sample, RUN, "--seed", "-1"), {"config.json": SAVED}, ["--seed", "-1"]),
    "metrics of a line that is none": (
        (curves, RUN),
        {"config.json": SAVED, "metrics.jsonl": '{"step": 1}\n'},
        ["line 1", "metrics"],
    ),
    "seconds of a step that are a word": (
        (curves, RUN),
        {"config.json": SAVED, "metrics.jsonl": '{"step": 1, "split": "train", "training_seconds": "long"}\n'},
        ["line 1", "metrics"],
    ),
    "no samples": ((sample, RUN, "--num", "0"), {"config.json": SAVED}, ["--num >= 1"]),
    "temperature below 0": ((sample, RUN, "--temperature", "-1"), {"config.json": SAVED}, ["--temperature >= 0"]),
    "samples of a label that there is not": (
        (sample, RUN, "--label", "10"),
        {"config.json": saved(model={"classes": 10})},
        ["--label 10", "0 to 9"],
    ),
    "samples of a label of a run without": (
        (sample, RUN, "--label", "3"),
        {"config.json": SAVED},
        ["--label 3", "trained without labels", "--classes"],
    ),
    "size of samples that the scales do not halve": (
        (sample, RUN, "--size", "9"),
        {"config.json": SAVED},
        ["--size 9", "divisible by 2, got (9, 9, 1)"],
    ),
    "size of samples of a table": (
        (sample, RUN, "--size", "16"),
        {"config.json": TABLE_SAVED},
        ["--size is for runs on images", "table breast_cancer"],
    ),
    "size of samples of a model of one size": (
        (sample, RUN, "--size", "16"),
        {"config.json": NICE_SAVED},
        ["--size 16", "made for one size"],
    ),
    "manifold of three images": ((manifold, RUN, "--images", "0", "1", "2"), {}, ["images"]),
    "manifold of no angles": ((manifold, RUN, "--steps", "0"), {"config.json": SAVED}, ["--steps"]),
    "compression of nothing": ((compress, f"{RUN}/b"), {}, ["is not a run directory"]),
    "reconstruction of nothing": ((reconstruct, f"{RUN}/b"), {}, ["is not a run directory"]),
    "curves of a run without evaluations": ((curves, RUN), {"config.json": SAVED}, ["no evaluation yet"]),
    "unknown density": ((toy2d, "bananas"), {}, ["bananas", "banana"]),
    "toy of no layers": ((toy2d, "banana", "--layers", "0"), {}, ["--layers"]),
    "cost of no images": ((cost, "digits", "--batch-size", "0"), {}, ["--batch-size"]),
    "a family that is none": ((search, "runs", "--only", "glowing"), {}, ["--only glowing", "glow, real_nvp"]),
    "minutes for another number of configs": (
        (within, "out", "--configs", "digits", "mnist"),
        {},
        ["as many --minutes"],
    ),
    "nothing to unpack": ((within, "out", "--unpack", "digits"), {}, ["holds no packed run"]),
    "cost of an unknown config": ((cost, "digit"), {}, ["digit", "digits"]),
    "ledger of arguments": ((ledger, "--all"), {}, ["--all"]),
}


def snapshot(folder: Path) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def command_error(wrong, folder: Path) -> str:
    """What a program says on stderr. It ends with exit code 2, and no file is lost or changed."""
    (program, *arguments), files, _ = COMMANDS[wrong]
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        content = content if isinstance(content, str | bytes) else json.dumps(content)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    before, said = snapshot(folder), io.StringIO()
    with pytest.raises(SystemExit) as ending, contextlib.redirect_stderr(said):
        command_line.run(program.main, [argument.replace(RUN, str(folder)) for argument in arguments])
    assert ending.value.code == 2 and snapshot(folder) == before, said.getvalue()
    return said.getvalue().replace(str(folder), RUN)


@pytest.mark.parametrize("wrong", COMMANDS)
def test_command(wrong, tmp_path):
    said = command_error(wrong, tmp_path)
    assert said.startswith("error: ") and said.count("\n") == 1, said
    assert all(word in said for word in COMMANDS[wrong][2]), said
    assert row(wrong, said) in TABLE.read_text(), f"make errors writes {TABLE.name} anew"


def row(wrong, said) -> str:
    """A line of the table in docs/. Long lists of choices are cut, and so is what depends on the system."""
    said = re.sub("0x[0-9a-f]+", "0x…", " ".join(said.split())).replace("|", "\\|")
    return f"| {wrong} | {said if len(said) <= LONGEST else said[:LONGEST] + ' …'} |\n"


def main():
    """Write the table: make errors."""
    rows = [row(wrong, library_error(wrong)) for wrong in LIBRARY]
    for wrong in COMMANDS:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(row(wrong, command_error(wrong, Path(folder))))
    TABLE.write_text(HEAD + "".join(rows))
    print(f"{len(rows)} wrong inputs and what is said to them: {TABLE}")


if __name__ == "__main__":
    main()

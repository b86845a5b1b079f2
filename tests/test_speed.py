"""Convolutions stay outside of loops on the CPU: its compiler runs them 6 to 12 times slower inside.

A loop of one pass is taken away by the compiler, but only after it has put convolutions into the order of axes that its
fast path takes: those of the loop stay in another.
"""

import re
from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import pytest

from experiments.bench.batches import random_batch
from experiments.config import Config
from experiments.configs import all_configs
from experiments.data import ImageData
from experiments.data.noise import Learned
from experiments.errors import UserError
from experiments.runs.build import build_train_step, train_state_like
from nvpjax import RealNVP
from nvpjax.models import MODELS

FAST = "dim_labels=b01f_01io->b01f"
LARGEST = {
    "features": 2,
    "heads": 1,
    "components": 2,
    "blocks": 2,
    "layers": 3,
    "depth": 3,
    "couplings": 3,
    "hidden": 4,
    "scales": 3,
}
"""Of what a model is made of. A ``Repeat`` of two is never a loop; one block must stay one; scales between the first
and the last are alike."""


def slow_convolutions(program: str) -> list[str]:
    """Of a compiled program's text, the convolutions that a loop reaches, however deep, and those of another order."""
    bodies = dict(re.findall(r"^%(\S+) \(.*?\{\n(.*?)^\}", program, re.MULTILINE | re.DOTALL))
    reached, inside = re.findall(r"body=%([^\s,})]+)", program), set()
    while reached:
        name = reached.pop()
        if name not in inside:
            inside.add(name)
            reached += re.findall(r"(?:calls|to_apply|body|condition)=%([^\s,})]+)", bodies[name])
    in_loops = [line for name in inside for line in bodies[name].splitlines() if " convolution(" in line]
    return in_loops + [line for line in program.splitlines() if " convolution(" in line and FAST not in line]


def small(config: Config) -> Config:
    """With each kind of scale, and with one block where it has one, but little else that a compiler takes long for."""
    model = _small(config.model)
    if hasattr(model, "alpha"):
        model = replace(model, alpha=0.05)
    config = replace(config, model=model, published=None, published_by="")
    if not isinstance(config.data, ImageData):
        return config
    # Below 4x4, convolutions of 3x3 become others.
    side = 4 * 2 ** (getattr(model, "scales", getattr(model, "levels", 1) + 1) - 1)
    data = replace(config.data, noise=_small(config.data.noise, "noise_"), image_shape=(side, side, 1))
    return replace(config, data=data)


def _small(value, prefix=""):
    def at_most(size, largest):
        return tuple(min(one, largest) for one in size) if isinstance(size, tuple) else min(size, largest)

    names = {field.name for field in fields(value)}
    shrunk = {prefix + name: largest for name, largest in LARGEST.items() if prefix + name in names}
    return replace(value, **{name: at_most(getattr(value, name), largest) for name, largest in shrunk.items()})


def trained_programs() -> dict[str, Config]:
    """Of every config, every model for images, and every way to train one: those that differ when they are small."""
    configs = {name: config for name, (_, config) in all_configs().items()}
    digits, there = configs["digits"], {type(config.model) for config in configs.values()}
    for name, model in MODELS.items():
        if model not in there and name != "residual_flow":  # whose series is a loop by nature
            try:
                configs[name] = replace(digits, model=_small(model()), published=None, published_by="")
            except UserError:  # a model for vectors
                continue
    configs["learned noise"] = replace(digits, data=replace(digits.data, noise=Learned()))
    for memory in ("checkpointed", "reversible"):
        configs[memory] = replace(digits, training=replace(digits.training, memory=memory))
    distinct = {}
    for name, config in configs.items():
        config = small(config)
        noise, memory = getattr(config.data, "noise", None), config.training.memory
        distinct.setdefault((config.data.event_shape, config.model, noise, memory), (name, config))
    return dict(distinct.values())


LONG = {"learned noise", "patches", "checkpointed", "ffjord"}
"""Left to ``make test-long``: their networks are those of other programs, or looked at by themselves, as a field's."""


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(config, id=name, marks=pytest.mark.long if name in LONG else ())
        for name, config in trained_programs().items()
    ],
)
def test_no_train_step_holds_a_slow_convolution(config):
    arguments = train_state_like(config), jax.random.key(0), random_batch(config, 2)
    lowered = jax.jit(build_train_step(config, axis_name=None)).lower(*arguments)
    program = lowered.compile().as_text()
    assert slow_convolutions(program) == []
    # What the compiler makes something else of is not looked at.
    assert (" convolution(" in program) == ("stablehlo.convolution" in lowered.as_text())


@pytest.mark.parametrize("blocks", [1, 2])
def test_those_that_are_asked_for_are_found(blocks):
    flow = RealNVP(features=2, blocks=blocks).build((8, 8, 1), scan=True)
    x = jnp.full((2, 8, 8, 1), 0.5)
    params, state = jax.eval_shape(flow.init, jax.random.key(0), x)

    def loss(params, state, x):
        return flow.log_prob(params, state, x, train=True)[0].sum()

    assert slow_convolutions(jax.jit(jax.grad(loss)).lower(params, state, x).compile().as_text())

"""From a config to the objects of the library: the objective, its optimiser, its steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.config import Config
from experiments.errors import UserError
from experiments.machine.memory import memory
from nvpjax import Bijector, Chain, Checkpointed, Flow, Logit, Reversible
from nvpjax.objectives import Objective
from nvpjax.parallel import AXIS, parallel_init, shard, unreplicate
from nvpjax.places import ERROR
from nvpjax.training import TrainState, create_train_state, make_measure_step, make_train_step


def build_flow(config: Config, axis_name: str | None = AXIS, **how: Any) -> Flow:
    """The model; ``how`` it is computed are the options of its ``build``."""
    return config.model.build(config.data.event_shape, axis_name=axis_name, **how)


def build_objective(config: Config, axis_name: str | None = AXIS) -> Objective:
    """What evaluation and sampling use, and what training means, however it computes it."""
    flow = build_flow(config, axis_name)
    if config.data.leaves_range and _begins_with_logit(flow.bijector):
        raise UserError(
            f"{config.name}: this noise gives values outside of [0, 1], and {type(config.model).__name__} begins with "
            "a logit: choose another --noise, or a model that has none (--model glow, --model jet, or --alpha None)"
        )
    return config.data.objective(flow, labels=config.classes > 0)


def _begins_with_logit(bijector: Bijector) -> bool:
    if isinstance(bijector, Chain):
        return any(map(_begins_with_logit, bijector.bijectors[:1]))
    return isinstance(bijector, Logit)


def build_optimizer(config: Config) -> optax.GradientTransformation:
    """Adam as in the paper's sec. 4.1, with a warm-up and a cosine where the config asks for them.

    Optax adds ε after the bias correction, the authors' program (TensorFlow's Adam) before it: the first steps differ
    by that.
    """
    training = config.training
    cosine = optax.cosine_decay_schedule(
        training.learning_rate,
        decay_steps=max(1, training.steps - training.warmup_steps),
        alpha=training.final_learning_rate / training.learning_rate,
    )
    warmup = optax.linear_schedule(0.0, training.learning_rate, max(1, training.warmup_steps))
    schedule = optax.join_schedules([warmup, cosine], [training.warmup_steps])
    return optax.chain(
        optax.clip_by_global_norm(training.gradient_clip),
        optax.adamw(schedule, b1=0.9, b2=training.second_moment_decay, eps=1e-8, weight_decay=training.weight_decay),
    )


def build_train_step(config: Config, axis_name: str | None = AXIS, *, scan: bool | None = None) -> Callable:
    training = config.training
    network_dtype = jnp.bfloat16 if training.precision == "bfloat16" else None
    flow = build_flow(config, axis_name, scan=scan, network_dtype=network_dtype)

    def objective_of(bijector) -> Objective:
        flow_of_it = Flow(bijector, flow.base)
        objective = config.data.objective(flow_of_it, labels=config.classes > 0, network_dtype=network_dtype)
        return replace(objective, unknown_labels=training.unknown_labels) if training.unknown_labels else objective

    def penalty(params):
        return training.scale_penalty * config.model.penalty(flow, objective.flow_params(params))

    options = {"penalty": penalty, "average_decay": training.average_decay or None, "axis_name": axis_name}
    optimizer, objective = build_optimizer(config), objective_of(flow.bijector)
    match training.memory:
        case "checkpointed":
            objective = objective_of(Checkpointed(flow.bijector))
        case "reversible":
            objective = objective_of(Reversible(flow.bijector, bound=training.reconstruction_bound))
            return _with_plain_state(objective, make_train_step(objective, optimizer, **options))
    return make_train_step(objective, optimizer, **options)


def _with_plain_state(objective: Objective, reversible_step: Callable) -> Callable:
    """The step of a ``Reversible`` on a train state of the plain flow: a run may change from one to the other."""

    def step(train_state: TrainState, key, batch):
        plain = objective.flow_state(train_state.state)
        wrapped = {**plain, "bijector": {"bijector": plain["bijector"], ERROR: jnp.float32(0)}}
        state = objective.with_flow_state(train_state.state, wrapped)
        train_state, metrics = reversible_step(train_state._replace(state=state), key, batch)
        wrapped = objective.flow_state(train_state.state)
        plain = {**wrapped, "bijector": wrapped["bijector"]["bijector"]}
        return train_state._replace(state=objective.with_flow_state(train_state.state, plain)), metrics

    return step


def build_measure_step(config: Config) -> Callable:
    return make_measure_step(build_objective(config), axis_name=AXIS)


def build_train_state(config: Config, batch: dict[str, np.ndarray], axis_name: str | None = AXIS) -> TrainState:
    """Initialise from a batch of the first step, since some flows measure it; by all devices together."""
    init, key = _init(config, axis_name), jax.random.key(config.training.seed)
    if axis_name is None:
        return jax.jit(init)(key, batch)
    return unreplicate(parallel_init(init)(key, shard(batch, jax.local_device_count())))


def expect_room(config: Config, like: TrainState) -> None:
    """Raise UserError where a train state of these shapes would fill this machine: the system would end the program."""
    needed = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(like))
    if needed > memory():
        raise UserError(
            f"{config.name}: parameters and moments take {needed / 2**30:.1f} GiB, this machine has "
            f"{memory() / 2**30:.1f}: choose a smaller model"
        )


def train_state_like(config: Config) -> TrainState:
    """The shapes and dtypes of a config's train state, for restoring one: nothing is computed."""
    return jax.eval_shape(_init(config, None), jax.random.key(0), config.data.blank_batch(2))


def number_of_parameters(config: Config) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(train_state_like(config).params))


def _init(config: Config, axis_name: str | None) -> Callable:
    objective, optimizer = build_objective(config, axis_name), build_optimizer(config)
    averages = config.training.average_decay > 0
    return lambda key, batch: create_train_state(objective, optimizer, key, batch, averages=averages)

"""From a config to the objects of the library: the flow, its optimiser, its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.runs.config import Config
from nvpjax import Checkpointed, Flow, Reversible, real_nvp
from nvpjax.objectives import sum_of_squares
from nvpjax.parallel import AXIS
from nvpjax.reversible import ERROR
from nvpjax.training import TrainState, create_train_state, make_measure_step, make_train_step


def build_flow(config: Config, axis_name: str | None = AXIS, **options: Any) -> Flow:
    """The model; ``options`` are those of ``real_nvp`` that a config does not tell."""
    return real_nvp(
        channels=config.image_shape[-1],
        scales=config.scales,
        features=config.features,
        blocks=config.blocks,
        alpha=config.alpha,
        learned_prior=config.learned_prior,
        lag=config.lag,
        axis_name=axis_name,
        **options,
    )


def build_optimizer(config: Config) -> optax.GradientTransformation:
    """Adam as in the paper's sec. 4.1, with a warm-up and a cosine where the config asks for them."""
    cosine = optax.cosine_decay_schedule(
        config.learning_rate,
        decay_steps=max(1, config.steps - config.warmup_steps),
        alpha=config.final_learning_rate / config.learning_rate,
    )
    warmup = optax.linear_schedule(0.0, config.learning_rate, max(1, config.warmup_steps))
    schedule = optax.join_schedules([warmup, cosine], [config.warmup_steps])
    return optax.chain(
        optax.clip_by_global_norm(config.gradient_clip),
        optax.adamw(schedule, b1=0.9, b2=0.999, eps=1e-8, weight_decay=config.weight_decay),
    )


def build_train_step(config: Config, axis_name: str | None = AXIS, *, scan: bool | None = None) -> Callable:
    def penalty(params):
        return config.scale_penalty * sum_of_squares(params, names=("scale",))

    network_dtype = jnp.bfloat16 if config.precision == "bfloat16" else None
    flow, optimizer = build_flow(config, axis_name, scan=scan, network_dtype=network_dtype), build_optimizer(config)
    options = {"levels": config.levels, "penalty": penalty, "axis_name": axis_name}
    match config.memory:
        case "checkpointed":
            flow = Flow(Checkpointed(flow.bijector), flow.base)
        case "reversible":
            flow = Flow(Reversible(flow.bijector, bound=config.reconstruction_bound), flow.base)
            return _with_plain_state(make_train_step(flow, optimizer, **options))
    return make_train_step(flow, optimizer, **options)


def _with_plain_state(reversible_step: Callable) -> Callable:
    """The step of a ``Reversible`` on a train state of the plain flow: a run may change from one to the other."""

    def step(train_state: TrainState, key, images):
        state = {"bijector": train_state.state, ERROR: jnp.float32(0)}
        train_state, metrics = reversible_step(train_state._replace(state=state), key, images)
        return train_state._replace(state=train_state.state["bijector"]), metrics

    return step


def build_measure_step(config: Config) -> Callable:
    return make_measure_step(build_flow(config), levels=config.levels, axis_name=AXIS)


def build_train_state(config: Config) -> TrainState:
    flow, optimizer, key = build_flow(config), build_optimizer(config), jax.random.key(config.seed)
    x = jnp.full((2, *config.image_shape), 0.5)  # its shape only: nothing in real_nvp measures in init
    return jax.jit(lambda key: create_train_state(flow, optimizer, key, x))(key)


def train_state_like(config: Config) -> TrainState:
    """The shapes and dtypes of a config's train state, for restoring one: nothing is computed."""
    return jax.eval_shape(lambda: build_train_state(config))

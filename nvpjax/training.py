"""Training and evaluation as pure functions: what one step does, on one device or on many.

Nothing here touches files, prints, or knows a model or a kind of data: an ``Objective`` says what a batch costs, and
the loop is the caller's (``nvpjax.fit`` is one, ``experiments/train.py`` another). A batch is a dict of arrays with
axis 0 the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from nvpjax.bijector import PyTree
from nvpjax.objectives import Batch, Objective
from nvpjax.places import error_places, with_places

Metrics = dict[str, jax.Array]


class Averages(NamedTuple):
    """Averages of parameters over the steps, and a state of moments that are measured with them."""

    params: PyTree
    state: PyTree


class TrainState(NamedTuple):
    """All that a run changes: the next step depends on this, the key of the run and the step's batch alone."""

    step: jax.Array
    params: PyTree
    state: PyTree
    optimizer_state: PyTree
    skipped: jax.Array
    """Steps in all whose loss or gradients were not finite."""
    skipped_in_a_row: jax.Array
    """Those since the last step that was taken."""
    averages: Averages | None = None
    """None where no averages are kept."""

    @property
    def evaluated(self) -> tuple[PyTree, PyTree]:
        """The params and state to evaluate and sample with: the averages, where they are kept."""
        return (self.params, self.state) if self.averages is None else tuple(self.averages)

    def with_measured(self, state: PyTree, *, of_averages: bool = False) -> TrainState:
        """With a state that was measured anew: of the parameters, or of their averages."""
        if not of_averages:
            return self._replace(state=state)
        if self.averages is None:
            raise ValueError("with_measured: expected a train state that keeps averages, got one without.")
        return self._replace(averages=self.averages._replace(state=state))


def create_train_state(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    batch: Batch,
    *,
    averages: bool = False,
) -> TrainState:
    """Initialise an objective for data like the batch, its optimiser, and averages where they are to be kept.

    Flows that measure in ``init`` (``ActNorm``) want a real batch here; all others look at the shape only.
    """
    params, state = jax.jit(objective.init)(key, batch)  # operation by operation a large model would take minutes
    start = Averages(*jax.tree.map(jnp.copy, (params, state))) if averages else None  # no buffer is donated twice
    return TrainState(jnp.int32(0), params, state, optimizer.init(params), jnp.int32(0), jnp.int32(0), start)


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    penalty: Callable[[PyTree], jax.Array] = lambda params: jnp.float32(0),
    average_decay: float | Callable[[jax.Array], jax.Array] | None = None,
    axis_name: str | None = None,
) -> Callable[[TrainState, jax.Array, Batch], tuple[TrainState, Metrics]]:
    """Build ``step(train_state, key, batch) -> (train_state, metrics)``.

        loss = mean over examples of the objective's nats  + penalty(params)
        averages ← decay·averages + (1 − decay)·params,     decay = min(average_decay, (1 + t)/(10 + t)) after t steps

    The noise of an example is keyed by the step and by its position in the global batch (the entry ``"index"`` that the
    objective sees). With ``axis_name`` the step runs inside pmap: gradients are averaged over devices in one
    collective, and since the flow's own statistics are those of the global batch (give the flow the same
    ``axis_name``), any number of devices computes the same step. Without it, under ``jax.jit`` with a batch that is
    sharded over a mesh, a mean is the global one by itself.

    A step whose loss, gradient norm or norm of new parameters is not finite is skipped: parameters, state, averages and
    optimiser stay as they were, and ``TrainState`` counts it. Its metrics tell the loss as it was. How many are too
    many the caller says.

    Args: ``penalty``: of all the objective's params. ``average_decay``: a number below 1, or a schedule
    ``step -> decay`` that is taken as it is; None keeps no averages. The train state must have been made accordingly.
    ``key`` is the run's and the same at every step.

    Metrics are scalars: ``loss``, ``nats`` (an example), ``gradient_norm``, ``skipped_in_a_row``, and with a
    ``Reversible`` inside the largest ``reconstruction_error`` of its backward pass.

    Reference: Real NVP, sec. 4.1; averages: Polyak, Juditsky, 1992; the ramp of the decay is TensorFlow's.
    """

    def step(train_state: TrainState, key: jax.Array, batch: Batch) -> tuple[TrainState, Metrics]:
        if (train_state.averages is None) != (average_decay is None):
            made = "without" if train_state.averages is None else "with"
            raise ValueError(
                f"make_train_step: expected a train state made for average_decay={average_decay}, got one {made} "
                "averages: give create_train_state averages=True, or leave both out."
            )
        noise_key = jax.random.fold_in(key, train_state.step)
        batch = _numbered(batch, axis_name)

        def loss_function(params, places):
            state = with_places(train_state.state, places)
            nats, state = objective(params, state, noise_key, batch, train=True)
            mean = jnp.mean(nats)
            return mean + penalty(params), (mean, state)

        value_and_grad = jax.value_and_grad(loss_function, argnums=(0, 1), has_aux=True)
        arguments = (train_state.params, error_places(train_state.state))
        (loss, (nats, state)), (gradients, errors) = value_and_grad(*arguments)
        loss, nats, gradients = _mean_over_devices((loss, nats, gradients), axis_name)
        gradient_norm = optax.tree.norm(gradients)
        updates, optimizer_state = optimizer.update(gradients, train_state.optimizer_state, train_state.params)
        params = optax.apply_updates(train_state.params, updates)
        good = jnp.isfinite(loss) & jnp.isfinite(gradient_norm) & jnp.isfinite(optax.tree.norm(params))

        def if_good(new, old):
            return jax.tree.map(lambda new_leaf, old_leaf: jnp.where(good, new_leaf, old_leaf), new, old)

        averages = train_state.averages
        if averages is not None and average_decay is not None:
            rate = 1 - _decay(average_decay, train_state.step)
            moved = optax.incremental_update(params, averages.params, rate)
            averages = averages._replace(params=if_good(moved, averages.params))
        new_train_state = TrainState(
            train_state.step + 1,
            if_good(params, train_state.params),
            if_good(state, train_state.state),
            if_good(optimizer_state, train_state.optimizer_state),
            train_state.skipped + ~good,
            jnp.where(good, 0, train_state.skipped_in_a_row + 1),
            averages,
        )
        metrics = {
            "loss": loss,
            "nats": nats,
            "gradient_norm": gradient_norm,
            "skipped_in_a_row": new_train_state.skipped_in_a_row,
        }
        if errors:
            error = jnp.max(jnp.stack([jnp.max(error) for error in errors]))
            metrics["reconstruction_error"] = error if axis_name is None else jax.lax.pmax(error, axis_name)
        return new_train_state, metrics

    return step


def make_measure_step(
    objective: Objective, *, axis_name: str | None = None
) -> Callable[[PyTree, PyTree, jax.Array, Batch], tuple[PyTree, jax.Array]]:
    """Build ``measure(params, state, key, batch) -> (state, nats)``: running averages go on, parameters stay.

    Running averages of batch normalisation hold the moments of some ten past steps, made with the parameters of those
    steps. Where parameters move fast, evaluation and sampling then use moments that belong to no parameters: test
    numbers jump while training goes well. Some thirty batches measured with the parameters of now (0.9³⁰ = 4 % of the
    old averages remain) mend it. Averages of parameters want moments of their own in the same way.

    ``nats`` is the mean over the batch with its own moments: what training sees at these parameters. With
    ``axis_name`` it runs inside pmap and measures the global batch.

    Reference: Wu, Johnson, *Rethinking "batch" in batchnorm*, 2021, sec. 3 (there called precise batch normalisation).
    """

    def measure(params, state, key, batch) -> tuple[PyTree, jax.Array]:
        nats, state = objective(params, state, key, _numbered(batch, axis_name), train=True)
        return state, _mean_over_devices(jnp.mean(nats), axis_name)

    return measure


def make_eval_step(
    objective: Objective, *, train: bool = False
) -> Callable[[PyTree, PyTree, jax.Array, Batch], jax.Array]:
    """Build ``evaluate(params, state, key, batch)``: the nats of each example by one draw of noise, ``(batch,)``.

    The noise of an example is keyed by its ``"index"``, its number in the data set, and running averages are used
    throughout, so what comes out for an example does not depend on the batch that it is in: pad the last batch as you
    like and drop those entries. For several draws, call it with several keys; ``objectives.importance_weighted`` puts
    them together.

    With ``train=True`` the batch's own statistics are used. Beside the other on the same batch and key it shows whether
    running averages stand for the batches: the gap between training mode and evaluation mode that batch-norm flows are
    known to open.
    """

    def evaluate(params, state, key, batch) -> jax.Array:
        return objective(params, state, key, batch, train=train)[0]

    return evaluate


def make_round_trip(objective: Objective) -> Callable[[PyTree, PyTree, jax.Array, Batch], jax.Array]:
    """Build ``error(params, state, key, batch)``: max |x − f⁻¹(f(x))| over each example, ``(batch,)``.

    In units of x (of the pixel range [0, 1], for images), with running averages and noise as in ``make_eval_step``.
    """

    def error(params, state, key, batch) -> jax.Array:
        x, context = objective.data(params, state, key, batch)
        bijector = objective.flow.bijector
        params, state = objective.flow_params(params)["bijector"], objective.flow_state(state)["bijector"]
        z, _, _ = bijector.forward(params, state, x, context)
        restored, _ = bijector.inverse(params, state, z, context)

        def largest(a, b):
            return jnp.max(jnp.abs(a - b).reshape(len(a), -1), axis=1)

        return jnp.max(jnp.stack(jax.tree.leaves(jax.tree.map(largest, x, restored))), axis=0)

    return error


def _numbered(batch: Batch, axis_name: str | None) -> Batch:
    """The batch with the position of each example in the global batch as its ``"index"``."""
    number = len(jax.tree.leaves(batch)[0])
    device = 0 if axis_name is None else jax.lax.axis_index(axis_name)
    return {**batch, "index": device * number + jnp.arange(number)}


def _decay(average_decay: float | Callable, step: jax.Array) -> jax.Array:
    if callable(average_decay):
        return average_decay(step)
    return jnp.minimum(average_decay, (1 + step) / (10 + step))


def _mean_over_devices(tree: Any, axis_name: str | None) -> Any:
    if axis_name is None:
        return tree
    flat, restore = ravel_pytree(tree)  # one collective for all: each has a cost of its own
    return restore(jax.lax.pmean(flat, axis_name))

"""Training and evaluation as pure functions: what one step does, on one device or on many.

Nothing here touches files, prints, or knows a model: the loop is the caller's (``experiments/train.py`` is one).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from nvpjax.bijector import PyTree
from nvpjax.flow import Flow
from nvpjax.objectives import bits_per_dim, dequantize, image_keys
from nvpjax.reversible import error_places, with_places

Metrics = dict[str, jax.Array]


class TrainState(NamedTuple):
    """All that a run changes: the next step depends on this, the key of the run and the step's images alone."""

    step: jax.Array
    params: PyTree
    state: PyTree
    optimizer_state: PyTree
    skipped: jax.Array
    """Steps in all whose loss or gradients were not finite."""
    skipped_in_a_row: jax.Array
    """Those since the last step that was taken."""


def create_train_state(flow: Flow, optimizer: optax.GradientTransformation, key: jax.Array, x: jax.Array) -> TrainState:
    """Initialise a flow for data shaped like x ``(batch, *event)``, and its optimiser.

    Flows that measure in ``init`` (``ActNorm``) want a real batch here; all others look at the shape only.
    """
    params, state = flow.init(key, x)
    return TrainState(jnp.int32(0), params, state, optimizer.init(params), jnp.int32(0), jnp.int32(0))


def make_train_step(
    flow: Flow,
    optimizer: optax.GradientTransformation,
    *,
    levels: int = 256,
    penalty: Callable[[PyTree], jax.Array] = lambda params: jnp.float32(0),
    axis_name: str | None = None,
) -> Callable[[TrainState, jax.Array, jax.Array], tuple[TrainState, Metrics]]:
    """Build ``step(train_state, key, images) -> (train_state, metrics)``.

        loss = mean over images of −log p(dequantised image), in nats,  + penalty(params)

    The noise of an image is keyed by the step and by its position in the global batch. With ``axis_name`` the step runs
    inside pmap: gradients are averaged over devices in one collective, and since the flow's own statistics are those of
    the global batch (give the flow the same ``axis_name``), any number of devices computes the same step.

    A step whose loss, gradient norm or norm of new parameters is not finite is skipped: parameters, state and optimiser
    stay as they were, and ``TrainState`` counts it. Its metrics tell the loss as it was. How many are too
    many the caller says.

    Shapes: images ``(batch, height, width, channels)``, whole pixels 0 … levels − 1 of an integer dtype; ``key`` is the
    run's and the same at every step. Metrics are scalars: ``loss`` (nats/image), ``bits_per_dim``, ``gradient_norm``,
    ``skipped_in_a_row``, and with a ``Reversible`` inside the largest ``reconstruction_error`` of its backward pass.

    Reference: Real NVP, sec. 4.1.
    """

    def step(train_state: TrainState, key: jax.Array, images: jax.Array) -> tuple[TrainState, Metrics]:
        x = dequantize(_noise_keys(jax.random.fold_in(key, train_state.step), images, axis_name), images, levels)

        def loss_function(params, places):
            log_prob, state = flow.log_prob(params, with_places(train_state.state, places), x, train=True)
            negative_log_likelihood = -jnp.mean(log_prob)
            return negative_log_likelihood + penalty(params), (negative_log_likelihood, state)

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

        new_train_state = TrainState(
            train_state.step + 1,
            if_good(params, train_state.params),
            if_good(state, train_state.state),
            if_good(optimizer_state, train_state.optimizer_state),
            train_state.skipped + ~good,
            jnp.where(good, 0, train_state.skipped_in_a_row + 1),
        )
        metrics = {
            "loss": loss,
            "bits_per_dim": bits_per_dim(-nats, x[0].size, levels),
            "gradient_norm": gradient_norm,
            "skipped_in_a_row": new_train_state.skipped_in_a_row,
        }
        if errors:
            error = jnp.max(jnp.stack([jnp.max(error) for error in errors]))
            metrics["reconstruction_error"] = error if axis_name is None else jax.lax.pmax(error, axis_name)
        return new_train_state, metrics

    return step


def make_measure_step(
    flow: Flow, *, levels: int = 256, axis_name: str | None = None
) -> Callable[[PyTree, PyTree, jax.Array, jax.Array], tuple[PyTree, jax.Array]]:
    """Build ``measure(params, state, key, images) -> (state, bits)``: running averages go on, parameters stay.

    Running averages of batch normalisation hold the moments of some ten past steps, made with the parameters of those
    steps. Where parameters move fast, evaluation and sampling then use moments that belong to no parameters: test
    bits/dim jump while training goes well. Some thirty batches measured with the parameters of now (0.9³⁰ = 4 % of the
    old averages remain) mend it.

    ``bits`` is bits/dim of the images with the batch's own moments: what training sees at these parameters.

    Shapes: images ``(batch, height, width, channels)`` of an integer dtype, bits a scalar; with ``axis_name`` it runs
    inside pmap and measures the global batch.

    Reference: Wu, Johnson, *Rethinking "batch" in batchnorm*, 2021, sec. 3 (there called precise batch normalisation).
    """

    def measure(params, state, key, images) -> tuple[PyTree, jax.Array]:
        x = dequantize(_noise_keys(key, images, axis_name), images, levels)
        log_prob, state = flow.log_prob(params, state, x, train=True)
        bits = jnp.mean(bits_per_dim(log_prob, x[0].size, levels))
        return state, _mean_over_devices(bits, axis_name)

    return measure


def make_eval_step(
    flow: Flow, *, levels: int = 256
) -> Callable[[PyTree, PyTree, jax.Array, jax.Array, jax.Array], jax.Array]:
    """Build ``evaluate(params, state, key, images, indices)``: bits/dim of each image by one draw of noise.

    The noise of an image is keyed by its index in the data set, and running averages are used throughout, so what comes
    out for an image does not depend on the batch that it is in: pad the last batch as you like and drop those entries.
    For several draws an image, call it with several keys; ``objectives.importance_weighted`` puts them together.

    Shapes: images ``(batch, height, width, channels)`` of an integer dtype; indices and result ``(batch,)``.
    """

    def evaluate(params, state, key, images, indices) -> jax.Array:
        x = dequantize(image_keys(key, indices), images, levels)
        log_prob, _ = flow.log_prob(params, state, x)
        return bits_per_dim(log_prob, x[0].size, levels)

    return evaluate


def make_round_trip(
    flow: Flow, *, levels: int = 256
) -> Callable[[PyTree, PyTree, jax.Array, jax.Array, jax.Array], jax.Array]:
    """Build ``error(params, state, key, images, indices)``: max |x − f⁻¹(f(x))| over each image.

    In units of the pixel range [0, 1], with running averages and noise as in ``make_eval_step``.
    """

    def error(params, state, key, images, indices) -> jax.Array:
        x = dequantize(image_keys(key, indices), images, levels)
        z, _, _ = flow.bijector.forward(params["bijector"], state, x)
        restored, _ = flow.bijector.inverse(params["bijector"], state, z)
        return jnp.max(jnp.abs(x - restored), axis=tuple(range(1, x.ndim)))

    return error


def make_train_mode_bits(
    flow: Flow, *, levels: int = 256
) -> Callable[[PyTree, PyTree, jax.Array, jax.Array, jax.Array], jax.Array]:
    """Build ``bits(params, state, key, images, indices)``: bits/dim of each image with the batch's own statistics.

    Beside ``make_eval_step`` on the same images and key it shows whether running averages stand for the batches: the
    gap between training mode and evaluation mode that batch-norm flows are known to open. All of the batch counts.
    """

    def bits(params, state, key, images, indices) -> jax.Array:
        x = dequantize(image_keys(key, indices), images, levels)
        log_prob, _ = flow.log_prob(params, state, x, train=True)
        return bits_per_dim(log_prob, x[0].size, levels)

    return bits


def _noise_keys(step_key: jax.Array, images: jax.Array, axis_name: str | None) -> jax.Array:
    device = 0 if axis_name is None else jax.lax.axis_index(axis_name)
    return image_keys(step_key, device * images.shape[0] + jnp.arange(images.shape[0]))


def _mean_over_devices(tree: Any, axis_name: str | None) -> Any:
    if axis_name is None:
        return tree
    flat, restore = ravel_pytree(tree)  # one collective for all: each has a cost of its own
    return restore(jax.lax.pmean(flat, axis_name))

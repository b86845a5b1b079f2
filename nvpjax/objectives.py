"""Objectives: what a batch costs. Values that the steps of ``training`` take, whatever the model and the data.

A batch is a dict of arrays with axis 0 the batch: ``"x"`` or ``"image"``, ``"context"`` or ``"label"``, and
``"index"``, whole numbers that tell the examples apart: the noise of an example is keyed by them.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from nvpjax.bijector import PyTree
from nvpjax.dequantization import Dequantization, UniformDequantization, example_keys
from nvpjax.flow import Flow
from nvpjax.places import is_measured
from nvpjax.values import expect_at_least

Batch = dict[str, PyTree]
_Numbers = TypeVar("_Numbers", float, np.ndarray, jax.Array)

OF_LABELS = 2**31 - 1
"""The stream of an example's key that says whether its label is told. A key that is split gives the streams 0, 1, …:
noise that splits would have drawn from a small one."""


class Objective(abc.ABC):
    """What a batch costs: a frozen value, as bijectors are.

        (params, state, key, batch, train) → (nats of each example, state)

    The mean of the nats is what training makes small. ``params`` and ``state`` are those of all that is learned, of
    which the flow's own are ``flow_params(params)`` and ``flow_state(state)``.
    """

    flow: Flow

    @abc.abstractmethod
    def init(self, key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        """Give ``(params, state)``. Flows that measure in ``init`` (``ActNorm``) want a real batch."""

    @abc.abstractmethod
    def __call__(
        self, params: PyTree, state: PyTree, key: jax.Array, batch: Batch, *, train: bool = False
    ) -> tuple[jax.Array, PyTree]:
        """Give ``(nats, state)``, nats ``(batch,)``; with ``train=True`` by the batch's own statistics."""

    @abc.abstractmethod
    def data(self, params: PyTree, state: PyTree, key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        """Give ``(x, context)``: what the flow is asked about."""

    def flow_params(self, params: PyTree) -> PyTree:
        """Of all that is learned, the flow's."""
        return params

    def flow_state(self, state: PyTree) -> PyTree:
        """Of all that is measured, the flow's."""
        return state

    def with_flow_state(self, state: PyTree, of_flow: PyTree) -> PyTree:
        """All that is measured, with another state of the flow."""
        return of_flow


@dataclass(frozen=True)
class Likelihood(Objective):
    """Maximum likelihood:  nats = −log p(x), or −log p(x | context) where the batch has ``"context"``.

    Batch: ``"x"``, floating; ``"context"`` where there is one.

    Reference: Real NVP, eq. 2 and 3.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Chain, Flow
    >>> objective, batch = Likelihood(Flow(Chain(()))), {"x": jnp.zeros((4, 2))}
    >>> params, state = objective.init(jax.random.key(0), batch)
    >>> bool(jnp.allclose(objective(params, state, jax.random.key(1), batch)[0], jnp.log(2 * jnp.pi)))
    True
    """

    flow: Flow

    def init(self, key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        return self.flow.init(key, *self.data((), (), key, batch))

    def __call__(
        self, params: PyTree, state: PyTree, key: jax.Array, batch: Batch, *, train: bool = False
    ) -> tuple[jax.Array, PyTree]:
        x, context = self.data(params, state, key, batch)
        log_prob, state = self.flow.log_prob(params, state, x, context, train=train)
        return -log_prob, state

    def data(self, params: PyTree, state: PyTree, key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        return _entry(self, batch, "x"), batch.get("context")


@dataclass(frozen=True)
class PixelLikelihood(Objective):
    """Maximum likelihood of images of whole pixels, through noise that makes numbers with a density of them.

        x = (pixel + u) / levels,     u ~ q(u | image)
        nats = log q(u | image) − log p(x) + D·log levels     ≥ −log P(image) on average
        bits/dim = nats / (D·ln 2)

    A flow that knows nothing (log p = 0 on [0, 1]) costs exactly D·log levels nats: 8 bits/dim for bytes.

    Batch: ``"image"``, ``(batch, height, width, channels)`` of an integer dtype, 0 … levels − 1; ``"index"``; and
    ``"label"``, whole numbers, the flow's context, where ``labels``.

    Args: ``flow``: over x in [0, 1]. ``levels``: of grey. ``dequantization``: ``UniformDequantization()``,
    ``LearnedDequantization(flow)`` or ``GaussianDequantization(σ)``, which gives no bound. ``labels``: whether the
    density is p(image | label). ``unknown_labels``: the share of labels that training tells as −1, not known, so that
    the model knows p(image) too; for models that take −1 (``TarFlow``, ``Jet``). Params and state: ``{"flow": …,
    "dequantization": …}``.

    Errors: ValueError for a batch without images, or labels where they are asked for; TypeError for pixels that are no
    whole numbers.

    Reference: Real NVP, sec. 4.1; Theis et al., 2016, sec. 3.1; Ho et al., *Flow++*, 2019, eq. 9-11.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Chain, Flow, Uniform
    >>> objective = PixelLikelihood(Flow(Chain(()), Uniform()))
    >>> batch = {"image": jnp.zeros((2, 4, 4, 3), jnp.uint8), "index": jnp.arange(2)}
    >>> params, state = objective.init(jax.random.key(0), batch)
    >>> nats, state = objective(params, state, jax.random.key(1), batch)
    >>> (nats / (48 * jnp.log(2))).round(4).tolist()
    [8.0, 8.0]
    """

    flow: Flow
    levels: int = 256
    dequantization: Dequantization = UniformDequantization()
    labels: bool = False
    unknown_labels: float = 0.0

    def __post_init__(self):
        expect_at_least(self, 1, "levels")
        if not 0 <= self.unknown_labels <= 1 or (self.unknown_labels and not self.labels):
            raise ValueError(
                f"PixelLikelihood: expected unknown_labels between 0 and 1, and 0 without labels, got "
                f"{self.unknown_labels} with labels={self.labels}."
            )

    def init(self, key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        flow_key, noise_key, draw_key = jax.random.split(key, 3)
        noise = self.dequantization.init(noise_key, _entry(self, batch, "image"), self.levels)
        x, _, context = self._spread(*noise, draw_key, batch)
        flow = self.flow.init(flow_key, x, context)
        params, state = ({"flow": of_flow, "dequantization": of_noise} for of_flow, of_noise in zip(flow, noise))
        return params, state

    def __call__(
        self, params: PyTree, state: PyTree, key: jax.Array, batch: Batch, *, train: bool = False
    ) -> tuple[jax.Array, PyTree]:
        x, log_q, context = self._spread(params["dequantization"], state["dequantization"], key, batch)
        if train and self.unknown_labels:
            context = _partly_unknown(context, _keys(key, batch, len(x)), self.unknown_labels)
        log_prob, of_flow = self.flow.log_prob(params["flow"], state["flow"], x, context, train=train)
        nats = log_q - log_prob + math.log(self.levels) * x[0].size
        return nats, {**state, "flow": of_flow}

    def data(self, params: PyTree, state: PyTree, key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        x, _, context = self._spread(params["dequantization"], state["dequantization"], key, batch)
        return x, context

    def flow_params(self, params: PyTree) -> PyTree:
        return params["flow"]

    def flow_state(self, state: PyTree) -> PyTree:
        return state["flow"]

    def with_flow_state(self, state: PyTree, of_flow: PyTree) -> PyTree:
        return {**state, "flow": of_flow}

    def _spread(self, params, state, key, batch):
        images = _entry(self, batch, "image")
        x, log_q = self.dequantization.spread(params, state, _keys(key, batch, len(images)), images, self.levels)
        return x, log_q, _entry(self, batch, "label") if self.labels else None


@dataclass(frozen=True)
class ReverseKL(Objective):
    """Variational inference: the flow is fitted to a density that is known up to a factor, by samples of its own.

        x ~ q,     nats = log q(x) − log p̃(x)
        its mean is KL(q ‖ p) − log Z, where p = p̃ / Z: minus the evidence lower bound

    Each draw needs the flow's inverse and its gradient, so use one whose inverse is the fast direction: ``IAF``, or an
    ``Inverse`` of what is fast forward (a spline coupling takes a third of the time that way).

    Batch: ``"index"``, ``(batch,)``, as many draws; ``"context"`` where the flow has one (amortised inference).

    Args: ``log_density``: log p̃, ``x (batch, *event) -> (batch,)`` in nats, a function that hashes (no lambda made
    anew each time); with a context ``(x, context) -> (batch,)``. ``event_shape``: of x.

    Errors: ValueError for a ``log_density`` that gives another shape than ``(batch,)``, or a flow that measures;
    TypeError for an ``event_shape`` that is no tuple.

    Reference: Rezende, Mohamed, *Variational inference with normalizing flows*, 2015, eq. 15.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Chain, Flow
    >>> def log_density(x):
    ...     return -0.5 * jnp.sum(x**2, axis=1)
    >>> objective, batch = ReverseKL(Flow(Chain(())), log_density, (2,)), {"index": jnp.arange(3)}
    >>> params, state = objective.init(jax.random.key(0), batch)
    >>> nats, state = objective(params, state, jax.random.key(1), batch)  # −log Z = −log 2π
    >>> bool(jnp.allclose(nats, -jnp.log(2 * jnp.pi)))
    True
    """

    flow: Flow
    log_density: Callable[..., jax.Array]
    event_shape: tuple[int, ...]

    def __post_init__(self):
        if isinstance(self.event_shape, int):
            raise TypeError(f"ReverseKL: expected event_shape, a tuple such as (2,), got {self.event_shape}.")
        object.__setattr__(self, "event_shape", tuple(self.event_shape))
        expect_at_least(self, 1, "event_shape")

    def init(self, key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        x = jnp.zeros((len(_entry(self, batch, "index")), *self.event_shape))
        return self.flow.init(key, x, batch.get("context"))

    def __call__(
        self, params: PyTree, state: PyTree, key: jax.Array, batch: Batch, *, train: bool = False
    ) -> tuple[jax.Array, PyTree]:
        if train and is_measured(state):
            raise ValueError(
                "ReverseKL: expected a flow that measures nothing, since sampling measures no batch: leave BatchNorm "
                "out, or use ActNorm."
            )
        x, log_q, context = self._draw(params, state, key, batch)
        log_density = self.log_density(x, *(() if context is None else (context,)))
        if jnp.shape(log_density) != log_q.shape:
            raise ValueError(
                f"ReverseKL: expected from log_density a number for each draw, shape {log_q.shape}, got "
                f"{jnp.shape(log_density)} for x of shape {jnp.shape(x)}. Sum over the event's axes alone (axis=1)."
            )
        return log_q - log_density, state

    def data(self, params: PyTree, state: PyTree, key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        x, _, context = self._draw(params, state, key, batch)
        return x, context

    def _draw(self, params, state, key, batch):
        keys, context = example_keys(key, _entry(self, batch, "index")), batch.get("context")
        z = self.flow.latents_by_keys(keys, params, state, context)
        return *self.flow.from_latents(params, state, z, context), context


def bits_per_dim(log_prob: _Numbers, dimensions: int, levels: int = 256) -> _Numbers:
    """Turn a log-density over [0, 1] into bits per dimension of the discrete data.

        bits/dim = log₂ levels − log p(x) / (D·ln 2) = −(log p(x) − D·ln levels) / (D·ln 2)

    A uniform density (log p = 0) gives exactly log₂ levels: 8 for bytes.

    Args: ``log_prob`` in nats, ``dimensions`` D = height·width·channels. Errors: ValueError for D < 1 or levels < 1.

    Reference: Real NVP, sec. 4.1.

    >>> float(bits_per_dim(0.0, 3072))
    8.0
    """
    if dimensions < 1 or levels < 1:
        raise ValueError(f"bits_per_dim: expected dimensions and levels >= 1, got {dimensions} and {levels}.")
    return math.log2(levels) - log_prob / (dimensions * math.log(2))


def importance_weighted(nats: ArrayLike) -> np.ndarray:
    """Put k draws of noise an example together to one number, nearer to −log P than their mean.

        P = E_u[p(x + u) / q(u)]  ≥  exp E_u[log p(x + u) − log q(u)]
        nats = −log (1/k Σᵢ exp(−natsᵢ))

    Its expectation falls with k, towards the exact number; with k = 1 it is the bound of one draw.

    Args: ``nats`` of the draws, ``(draws, examples)``. Computed in float64 on the host: the exponents are in the
    thousands. Result ``(examples,)``.

    Reference: Burda, Grosse, Salakhutdinov, *Importance weighted autoencoders*, 2016, eq. 8, with u as the latent.

    >>> importance_weighted(np.array([[700.0], [700.0]])).tolist()
    [700.0]
    """
    log_weights = -np.asarray(nats, np.float64)
    largest = log_weights.max(axis=0)
    return -(largest + np.log(np.mean(np.exp(log_weights - largest), axis=0)))


def _entry(objective: Objective, batch: Batch, name: str) -> PyTree:
    if not isinstance(batch, dict) or name not in batch:
        there = sorted(batch) if isinstance(batch, dict) else type(batch).__name__
        raise ValueError(f"{type(objective).__name__}: expected a batch with {name!r}, a dict of arrays, got {there}.")
    return batch[name]


def _partly_unknown(labels: PyTree, keys: jax.Array, share: float) -> jax.Array:
    """The labels, −1 in place of this share of them, by streams of the examples' own keys that no noise comes from."""
    unknown = jax.vmap(lambda key: jax.random.bernoulli(jax.random.fold_in(key, OF_LABELS), share))(keys)
    return jnp.where(unknown, -1, labels.astype(jnp.int32))


def _keys(key: jax.Array, batch: Batch, number: int) -> jax.Array:
    return example_keys(key, batch["index"] if "index" in batch else jnp.arange(number))

"""A flow: a bijector and the distribution of its latents, together a density over data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from nvpjax.bijector import Bijector, PyTree
from nvpjax.checked import Call, Checked, expect_batch, expect_key, expect_made_for
from nvpjax.distributions import Distribution, ForeignDistribution, StandardNormal
from nvpjax.event import Event


@dataclass(frozen=True)
class Flow(Checked):
    """A normalizing flow: the density of x whose latents z = f(x) follow ``base``.

        log p(x) = log p_Z(f(x)) + log|det ∂f(x)/∂x|
        x ~ p:  z ~ p_Z,  x = f⁻¹(z)

    ``base`` is a ``Distribution``, or any object with ``log_prob`` and ``sample`` as distrax and TFP have them.

    ``init`` gives ``params = {"bijector": …, "base": …}`` and ``state = {"bijector": …, "event": …}``: the bijector's
    own, the base's, and the ``Event`` that x was made of, so that samples need no shape. Every method is pure and can
    be jitted; ``init`` of a large model wants to be. All results are in nats. ``at`` puts numbers and flow together.

    Reference: Real NVP, eq. 2 and 3.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Chain, Flow, StandardNormal
    >>> flow = Flow(Chain(()), StandardNormal())
    >>> params, state = flow.init(jax.random.key(0), jnp.zeros((1, 2)))
    >>> log_prob, state = flow.log_prob(params, state, jnp.zeros((4, 2)))
    >>> flow.sample(jax.random.key(1), params, state, 5).shape, log_prob.shape
    ((5, 2), (4,))
    """

    CALLS = {"init": Call(("key", "x", "context")), "log_prob": Call(("params", "state", "x", "context"))}
    READS_CONTEXT = "log_prob"

    bijector: Bijector
    base: Distribution | Any = StandardNormal()

    def __post_init__(self):
        if not isinstance(self.bijector, Bijector):
            raise TypeError(f"Flow: expected a Bijector, got {self.bijector!r}.")
        if not isinstance(self.base, Distribution):
            object.__setattr__(self, "base", ForeignDistribution(self.base))

    def init(self, key: jax.Array, x: PyTree, context: PyTree = None) -> tuple[PyTree, PyTree]:
        """Give ``(params, state)`` for data shaped like ``x``."""
        bijector_key, base_key = jax.random.split(key)
        params, state = self.bijector.init(bijector_key, x, context)
        z, _, _ = self.bijector.forward(params, state, x, context)
        params = {"bijector": params, "base": self.base.init(base_key, z, context)}
        return params, {"bijector": state, "event": Event.of(x)}

    def log_prob(
        self, params: PyTree, state: PyTree, x: PyTree, context: PyTree = None, *, train: bool = False
    ) -> tuple[jax.Array, PyTree]:
        """Give ``(log p(x), state)``; log p(x) in nats, shape ``(batch,)``."""
        z, log_det, after = self.bijector.forward(params["bijector"], state["bijector"], x, context, train=train)
        return self.base.log_prob(params["base"], z, context) + log_det, {**state, "bijector": after}

    def sample(
        self,
        key: jax.Array,
        params: PyTree,
        state: PyTree,
        number: int,
        context: PyTree = None,
        *,
        event_shape: tuple[int, ...] | None = None,
    ) -> PyTree:
        """Draw ``number`` events x, with one row of the context each; of ``event_shape`` in place of ``init``'s."""
        return self.sample_and_log_prob(key, params, state, number, context, event_shape=event_shape)[0]

    def sample_and_log_prob(
        self,
        key: jax.Array,
        params: PyTree,
        state: PyTree,
        number: int,
        context: PyTree = None,
        *,
        event_shape: tuple[int, ...] | None = None,
    ) -> tuple[PyTree, jax.Array]:
        """Draw ``number`` events x and give ``(x, log p(x))``; log p(x) in nats, ``(number,)``."""
        expect_key("Flow", key)
        like = self.latents_like(params, state, number, context, event_shape=event_shape)
        return self.from_latents(params, state, self.base.sample(key, params["base"], like, context), context)

    def from_latents(
        self, params: PyTree, state: PyTree, z: PyTree, context: PyTree = None
    ) -> tuple[PyTree, jax.Array]:
        """Give ``(x, log p(x))`` of latents z: x = f⁻¹(z)."""
        x, log_det = self.bijector.inverse(params["bijector"], state["bijector"], z, context)
        return x, self.base.log_prob(params["base"], z, context) - log_det

    def latents_by_keys(
        self,
        keys: jax.Array,
        params: PyTree,
        state: PyTree,
        context: PyTree = None,
        *,
        event_shape: tuple[int, ...] | None = None,
    ) -> PyTree:
        """Draw the latents of one event by each of the keys ``(number,)``: none depends on what else is drawn."""

        def one(key, context):
            row = jax.tree.map(lambda a: a[None], context)
            like = self.latents_like(params, state, 1, row, event_shape=event_shape)
            return jax.tree.map(lambda z: z[0], self.base.sample(key, params["base"], like, row))

        return jax.vmap(one)(keys, context)

    def latents_like(
        self,
        params: PyTree,
        state: PyTree,
        number: int,
        context: PyTree = None,
        *,
        event_shape: tuple[int, ...] | None = None,
    ) -> PyTree:
        """Give the shapes and dtypes of the latents of ``number`` events, without computing anything."""
        event = state.get("event") if isinstance(state, dict) else None
        if not isinstance(event, Event):
            raise TypeError(
                f"Flow: expected a flow's state, as init gives it, got {jax.tree.map(jnp.shape, state)}: the order is "
                "(key, params, state, number, context)."
            )
        x = event.like(number, event_shape)
        expect_batch(self, x, context)
        expect_made_for(self, "init", {"params": params, "state": state}, x, context)
        return jax.eval_shape(self.bijector.forward, params["bijector"], state["bijector"], x, context)[0]

    def at(self, params: PyTree, state: PyTree) -> Density:
        """Give the flow with its numbers: a ``Density`` to pass on. Errors: TypeError where they changed places."""
        if not ("base" in params and "event" in state):
            raise TypeError(
                "Flow: expected params and state, as init gives them, in this order, got "
                f"{jax.tree.map(jnp.shape, params)} and {jax.tree.map(jnp.shape, state)}."
            )
        return Density(self, params, state)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Density:
    """A flow with its numbers: log p(x), and draws from it, for code that need not know flows.

    A pytree whose leaves are ``params`` and ``state``: jit, vmap (an ensemble), scan and grad take it whole. It adds no
    second way to learn: train the flow by its ``params``, and put them together for use.

    A context has a row for each event, or one row for all: ``density.sample(key, 1000, context[:1])`` draws from one
    posterior. Errors: ValueError for another number of rows, or events of another shape.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Chain, Flow
    >>> flow = Flow(Chain(()))
    >>> density = flow.at(*flow.init(jax.random.key(0), jnp.zeros((1, 2))))
    >>> jax.jit(lambda density, x: density.log_prob(x))(density, jnp.zeros((4, 2))).shape
    (4,)
    >>> density.sample(jax.random.key(1), 5).shape, density.event_shape
    ((5, 2), (2,))
    >>> density.from_latents(density.latents(jnp.ones((1, 2))))[0].tolist()
    [[1.0, 1.0]]
    """

    flow: Flow = field(metadata={"static": True})
    params: PyTree
    state: PyTree

    @property
    def event_shape(self) -> PyTree:
        """Of one x, ``(*event,)``, or a tree of such."""
        return self.state["event"].shape

    @property
    def event_dtype(self) -> PyTree:
        return self.state["event"].dtype

    def log_prob(self, x: PyTree, context: PyTree = None) -> jax.Array:
        """Give log p(x | context) in nats, ``(batch,)``."""
        context = _for_all(context, x)
        expect_batch(self.flow, x, context)
        if Event.of(x).shape != self.event_shape:
            raise ValueError(
                f"Density: expected x of events {self.event_shape}, got {Event.of(x).shape}. A single event is x[None]."
            )
        return self.flow.log_prob(self.params, self.state, x, context)[0]

    def sample(self, key: jax.Array, number: int, context: PyTree = None) -> PyTree:
        """Draw ``number`` events."""
        return self.sample_and_log_prob(key, number, context)[0]

    def sample_and_log_prob(self, key: jax.Array, number: int, context: PyTree = None) -> tuple[PyTree, jax.Array]:
        """Draw ``number`` events and give ``(x, log p(x | context))``."""
        context = _for_all(context, self.state["event"].like(number))
        return self.flow.sample_and_log_prob(key, self.params, self.state, number, context)

    def latents(self, x: PyTree, context: PyTree = None) -> PyTree:
        """Give z = f(x)."""
        context = _for_all(context, x)
        return self.flow.bijector.forward(self.params["bijector"], self.state["bijector"], x, context)[0]

    def from_latents(self, z: PyTree, context: PyTree = None) -> tuple[PyTree, jax.Array]:
        """Give ``(x, log p(x | context))`` of latents z: x = f⁻¹(z)."""
        return self.flow.from_latents(self.params, self.state, z, _for_all(context, z))


def _for_all(context: PyTree, x: PyTree) -> PyTree:
    """A context of one row as one of as many rows as x has; any other is left to those who look at it."""
    batch = [jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(x)][:1]
    if not batch or any(jnp.shape(leaf)[:1] != (1,) for leaf in jax.tree.leaves(context)):
        return context
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*batch[0], *jnp.shape(leaf)[1:])), context)

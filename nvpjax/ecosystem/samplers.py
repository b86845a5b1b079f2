"""Log-densities of one event, for BlackJAX and all that takes such a function; this module imports none of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree
from nvpjax.ecosystem.leading_axes import expect_density
from nvpjax.flow import Density


def log_density(density: Density, context: PyTree = None) -> Callable[[PyTree], jax.Array]:
    """Give log p of one event, without a batch axis: what ``blackjax.nuts`` and its like take.

        x ``(*event,)`` or a tree of such  →  log p(x), a scalar in nats

    Args: ``context``: one row, ``(1, ...)``, where the density has one. Errors: those of ``Density.log_prob``.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Chain, Flow
    >>> flow = Flow(Chain(()))
    >>> density = flow.at(*flow.init(jax.random.key(0), jnp.zeros((1, 2))))
    >>> round(float(log_density(density)(jnp.zeros(2))), 4)
    -1.8379
    """
    expect_density("log_density", density)

    def of_one(x):
        return density.log_prob(_with_batch(x), context)[0]

    return of_one


class AmongLatents(NamedTuple):
    """A density moved to a flow's latents, for a sampler to walk in, and the way back of what it drew."""

    log_density: Callable[[PyTree], jax.Array]
    """log p̃ of one z, without a batch axis."""
    from_latents: Callable[[PyTree], PyTree]
    """x of z, with any axes before the event's: ``(chains, draws, *event)``."""


def among_latents(density: Density, log_density: Callable[[PyTree], jax.Array], context: PyTree = None) -> AmongLatents:
    """Move a log-density of x to the latents of a density, where it is the rounder the nearer the two are.

        log p̃(z) = log p̃(x) + log|det ∂f⁻¹(z)/∂z|,     x = f⁻¹(z)

    A sampler of log p̃(z) is exact whatever the flow has learned: draws of z, carried back, are draws of x.

    Args: ``density``: its flow is the change of variables; its base plays no part. ``log_density``: log p̃ of one x,
    without a batch axis, in nats, up to a constant. ``context``: one row, ``(1, ...)``, where the density has one.

    Gives ``AmongLatents(log_density, from_latents)``. Errors: TypeError for what is no density, ValueError for a
    ``log_density`` that gives no scalar.

    Reference: Hoffman et al., *NeuTra-lizing bad geometry in Hamiltonian Monte Carlo using neural transport*, 2019.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Flow, Log
    >>> flow = Flow(Log())  # x = exp(z)
    >>> density = flow.at(*flow.init(jax.random.key(0), jnp.ones((1, 2))))
    >>> walk = among_latents(density, lambda x: -jnp.sum(x))
    >>> z = jnp.array([0.0, 1.0])
    >>> float(walk.log_density(z)), float(-jnp.sum(jnp.exp(z)) + jnp.sum(z))
    (-2.7182817459106445, -2.7182817459106445)
    >>> walk.from_latents(jnp.zeros((4, 100, 2))).shape
    (4, 100, 2)
    """
    expect_density("among_latents", density)
    bijector, params, state = density.flow.bijector, density.params["bijector"], density.state["bijector"]
    one = density.flow.latents_like(density.params, density.state, 1, context)

    def of_latents(z):
        x, log_det = bijector.inverse(params, state, _with_batch(z), context)
        of_x = log_density(jax.tree.map(lambda leaf: leaf[0], x))
        if jnp.shape(of_x) != ():
            raise ValueError(
                f"among_latents: expected from log_density one number for an x without a batch axis, got shape "
                f"{jnp.shape(of_x)}. Of a function of rows: lambda x: log_density(x[None])[0]."
            )
        return of_x + log_det[0]

    def from_latents(z):
        def back(z):
            x, _ = bijector.inverse(params, state, _with_batch(z), context)
            return jax.tree.map(lambda leaf: leaf[0], x)

        for _ in range(_leading_axes(z, one)):
            back = jax.vmap(back)
        return back(z)

    return AmongLatents(of_latents, from_latents)


def _with_batch(x):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], x)


def _leading_axes(z, one):
    """How many axes latents have before those of one event; ``one`` has a batch axis."""
    ranks = {jnp.ndim(leaf) - (like.ndim - 1) for leaf, like in zip(jax.tree.leaves(z), jax.tree.leaves(one))}
    if len(ranks) != 1 or min(ranks) < 0:
        raise ValueError(
            f"among_latents: expected latents whose last axes are those of one event, "
            f"{jax.tree.map(lambda like: like.shape[1:], one)}, got {jax.tree.map(jnp.shape, z)}."
        )
    return ranks.pop()

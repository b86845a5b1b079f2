"""How an autoregressive layer is inverted: three ways to the same numbers.

Position i of x is known once those before it are. A conditioner that can go step by step says so, ``stepwise``, and has

    begin(params, x, context, *, outputs)                         -> (θ at the first position, cache)
    step(params, cache, position, entry, context, *, outputs)     -> (θ at the next position, cache)

of which only the shape of x is looked at; ``entry`` is x at that position, ``(batch, channels)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from nvpjax.bijector import Conditioner, PyTree, sum_over_event
from nvpjax.values import expect_at_least, expect_finite

Element = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""A transform's inverse: θ and y to x and log|∂x/∂y| of each element."""


class Told(NamedTuple):
    """A conditioner with all that it is given but x."""

    conditioner: Conditioner
    params: PyTree
    state: PyTree
    context: PyTree
    outputs: int

    def theta(self, x: jax.Array) -> jax.Array:
        return self.conditioner.apply(self.params, self.state, x, self.context, outputs=self.outputs)[0].astype(x.dtype)


class Inversion(Protocol):
    """A way to invert."""

    def undo(self, told: Told, element: Element, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Give ``(x, log_det)`` for y ``(batch, positions)`` or ``(batch, positions, channels)``."""
        ...


@dataclass(frozen=True)
class WholePasses:
    """The definition: at each position the whole network, of whose output one position is new.

    One ``lax.scan`` over the positions; with T positions T times the operations of forward.
    """

    def undo(self, told: Told, element: Element, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        def next_position(x, position):
            # This position is right in this pass, as those before it were before; the others are passed over.
            inverted, log_derivative = element(told.theta(x), y)
            return x.at[:, position].set(inverted[:, position]), sum_over_event(log_derivative[:, position])

        x, log_derivatives = jax.lax.scan(next_position, jnp.zeros_like(y), jnp.arange(y.shape[1]))
        return x, log_derivatives.sum(axis=0)


@dataclass(frozen=True)
class StepByStep:
    """With what the conditioner keeps of the positions before: the operations of one pass forward, and of attention to
    what is kept.

    One ``lax.scan`` over the positions. A conditioner that cannot go step by step is asked as ``WholePasses`` asks it.
    """

    def undo(self, told: Told, element: Element, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        conditioner: Any = told.conditioner
        if not getattr(conditioner, "stepwise", False):
            return WholePasses().undo(told, element, y)
        options = {"outputs": told.outputs}

        def next_position(carry, numbered):
            (theta, cache), (position, of_y) = carry, numbered
            x, log_derivative = element(theta.astype(y.dtype), of_y)
            carry = conditioner.step(told.params, cache, position, x, told.context, **options)
            return carry, (x, sum_over_event(log_derivative))

        begin = conditioner.begin(told.params, y, told.context, **options)
        numbered = jnp.arange(y.shape[1]), jnp.moveaxis(y, 1, 0)
        _, (x, log_derivatives) = jax.lax.scan(next_position, begin, numbered)
        return jnp.moveaxis(x, 0, 1), log_derivatives.sum(axis=0)


@dataclass(frozen=True)
class Rounds:
    """All positions of a block at once, again and again until they stand still (Jacobi's rounds).

        x ← T_θ(x)⁻¹(y)  on positions b … b + block − 1, until max|x' − x| ≤ tolerance · max|x'|, at most block rounds

    After r rounds the first r positions of a block are what they must be: so a tolerance of 0 ends in the numbers of
    ``WholePasses``, usually long before the last round. With another one the last rounds are spared, and x is off by
    about as much. Gradients do not go back through it, which jax says: those of a few rounds would not be those of the
    inverse. Where they are wanted, take ``StepByStep``.

    Args: ``block``: positions; all of them where there are fewer. ``tolerance``: see above.

    Reference: Song et al., *Accelerating feedforward computation via parallel nonlinear equation solving*, 2021;
    in blocks of a sequence: Gu et al., *STARFlow*, 2025.
    """

    block: int = 32
    tolerance: float = 0.0

    def __post_init__(self):
        expect_at_least(self, 1, "block")
        expect_finite(self)
        if self.tolerance < 0:
            raise ValueError(f"Rounds: expected a tolerance of at least 0, got {self.tolerance}.")

    def undo(self, told: Told, element: Element, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        places = jnp.arange(y.shape[1]).reshape(-1, *[1] * (y.ndim - 2))

        def of_block(x, start):
            inside = (places >= start) & (places < start + self.block)

            def one_round(carry):
                number, x, _ = carry
                new, _ = element(told.theta(x), y)
                # Beyond what is proven, numbers are guesses: one that overflowed is not taken, since 0 · NaN in
                # attention would reach the positions before it. What is proven is taken whatever it is.
                proven = places <= start + number
                new = jnp.where(inside & (proven | jnp.isfinite(new)), new, x)
                moved = jnp.max(jnp.abs(new - x)) > self.tolerance * jnp.max(jnp.where(inside, jnp.abs(new), 0))
                return number + 1, new, moved

            def goes_on(carry):
                number, _, moved = carry
                return moved & (number < self.block)

            return jax.lax.while_loop(goes_on, one_round, (0, x, jnp.array(True)))[1], None

        x, _ = jax.lax.scan(of_block, jnp.zeros_like(y), jnp.arange(0, y.shape[1], self.block))
        x, log_derivative = element(told.theta(x), y)
        return x, sum_over_event(log_derivative)

"""The trace of a field's Jacobian along a solve: exact, or an estimate whose noise is kept for all times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree
from nvpjax.bijectors.residual_log_det import noise_of
from nvpjax.values import expect_choice


class Trace(Protocol):
    """How tr(∂f/∂z) is found beside f(z), for one example."""

    def init(self, key: jax.Array) -> PyTree:
        """Give the state of its noise."""
        ...

    def next(self, state: PyTree) -> PyTree:
        """Move it on: in training, once a step."""
        ...

    def noise(self, state: PyTree, x: jax.Array) -> PyTree:
        """Draw what a solve that begins at x keeps, a row an example; None for none."""
        ...

    def value_and_trace(
        self, f: Callable[[jax.Array], jax.Array], z: jax.Array, noise: PyTree
    ) -> tuple[jax.Array, jax.Array]:
        """Give ``(f(z), tr(∂f/∂z))`` of one example."""
        ...


@dataclass(frozen=True)
class ExactTrace:
    """tr(∂f/∂z), by one derivative an entry: for events of up to some hundred entries."""

    def init(self, key: jax.Array) -> PyTree:
        return ()

    def next(self, state: PyTree) -> PyTree:
        return state

    def noise(self, state: PyTree, x: jax.Array) -> PyTree:
        return None

    def value_and_trace(
        self, f: Callable[[jax.Array], jax.Array], z: jax.Array, noise: PyTree
    ) -> tuple[jax.Array, jax.Array]:
        value, along = jax.linearize(f, z)
        units = jnp.eye(z.size, dtype=z.dtype).reshape(z.size, *z.shape)
        return value, jnp.trace(jax.vmap(along)(units).reshape(z.size, z.size))


@dataclass(frozen=True)
class HutchinsonTrace:
    """An unbiased estimate of the trace by one derivative: εᵀ(∂f/∂z)ε, with noise ε that is kept for all of a solve.

    Noise that changed within a solve would make the field no function. It is not hidden: its key is in the state, where
    training moves it on once a step, and every example's ε is drawn by this key and the bits of the point at which its
    solve begins. So the log-det is a function of params, state and x, the same whatever else is in the batch; another
    draw is another key in the state. The way back begins elsewhere: its log-det is an estimate of its own.

    Args: ``kind``: of noise, "rademacher" (±1) or "normal".

    Reference: Grathwohl et al., *FFJORD*, 2019, eq. 7-9; Hutchinson, 1989.
    """

    kind: Literal["rademacher", "normal"] = "rademacher"

    def __post_init__(self):
        expect_choice(self, "kind", ("rademacher", "normal"))

    def init(self, key: jax.Array) -> PyTree:
        return jax.random.key_data(key)

    def next(self, state: PyTree) -> PyTree:
        return jax.random.key_data(jax.random.split(jax.random.wrap_key_data(state), 1)[0])

    def noise(self, state: PyTree, x: jax.Array) -> PyTree:
        normal = noise_of(jax.random.wrap_key_data(state), jax.lax.stop_gradient(x))
        return jnp.where(normal < 0, -1, 1).astype(x.dtype) if self.kind == "rademacher" else normal

    def value_and_trace(
        self, f: Callable[[jax.Array], jax.Array], z: jax.Array, noise: PyTree
    ) -> tuple[jax.Array, jax.Array]:
        value, moved = jax.jvp(f, (z,), (noise,))
        return value, jnp.sum(noise * moved)

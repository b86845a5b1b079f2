"""The identity plus a contraction: invertible residual blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from nvpjax.bijector import Bijector, PyTree, expect_part, log_det_dtype
from nvpjax.bijectors.residual_log_det import ExactLogDet
from nvpjax.values import expect_at_least


class ResidualLogDet(Protocol):
    """How log|det(I + ∂g/∂x)| is found: exactly, or by an estimate with noise of its own."""

    def init(self, key: jax.Array) -> PyTree:
        """Give the state of its noise."""
        ...

    def next(self, state: PyTree) -> PyTree:
        """Move it on: in training, once a step."""
        ...

    def log_det(
        self, g: Any, weights: PyTree, x: jax.Array, context: PyTree, state: PyTree, *, train: bool
    ) -> jax.Array:
        """Give log|det(I + ∂g/∂x)|, shape ``(batch,)``, for ``g(weights, x, context)``."""
        ...


@dataclass(frozen=True)
class InvertibleResidual(Bijector):
    """A residual block that is invertible, since what it adds is a contraction.

        forward:  y = x + g(x),     log_det = log|det(I + ∂g/∂x)|,     ‖∂g/∂x‖ ≤ coefficient < 1
        inverse:  x ← y − g(x) again and again, to the fixed point

    Every entry of y depends on every entry of x. Inverse: the rounds end when no entry moves by more than four
    roundings of the largest; |x − x*| is then at most 4ε·max(|x|, |y|)/(1 − coefficient). An example that has not come
    to rest after ``rounds`` is NaN, never a number that is not the inverse. Derivatives of the inverse are those of the
    fixed point, by the same rounds, in both modes.

    Args: ``network``: a contraction, such as ``ContractiveMLP()`` of ``nvpjax.nets``. ``log_det_by``: ``ExactLogDet()``
    for small events, or ``SeriesLogDet()``, an unbiased estimate in constant memory. ``rounds``: at most.

    State: what the network keeps for its singular values, which training moves; and the estimate's noise.

    Reference: Behrmann et al., *Invertible residual networks*, 2019, eq. 1, theorem 1, algorithm 1; Chen et al.,
    *Residual flows for invertible generative modeling*, 2019.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax.nets import ContractiveMLP
    >>> block, x = InvertibleResidual(ContractiveMLP((16,))), jnp.array([[0.3, -1.0]])
    >>> params, state = block.init(jax.random.key(0), x)
    >>> y, log_det, state = block.forward(params, state, x)
    >>> bool(jnp.allclose(block.inverse(params, state, y)[0], x, atol=1e-5))
    True
    """

    network: Any
    log_det_by: ResidualLogDet = ExactLogDet()
    rounds: int = 2000

    def __post_init__(self):
        expect_part("InvertibleResidual", self.network, "network", "ContractiveMLP()", "weights")
        expect_part("InvertibleResidual", self.log_det_by, "log_det_by", "ExactLogDet()", "log_det")
        expect_at_least(self, 1, "rounds")

    def init(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> tuple[PyTree, PyTree]:
        network_key, noise_key = jax.random.split(key)
        params, vectors = self.network.init(network_key, x, context)
        return params, {"network": vectors, "noise": self.log_det_by.init(noise_key)}

    def forward(
        self, params: PyTree, state: PyTree, x: jax.Array, context: PyTree = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array, PyTree]:
        wide = x.astype(log_det_dtype(x))
        vectors = self.network.settle(params, state["network"])
        weights = self.network.weights(params, vectors)
        y = wide + self.network.apply(weights, wide, context)
        noise = self.log_det_by.next(state["noise"]) if train else state["noise"]
        log_det = self.log_det_by.log_det(self.network.apply, weights, wide, context, noise, train=train)
        if train:
            state = {"network": vectors, "noise": noise}
        return y.astype(x.dtype), log_det, state

    def inverse(
        self, params: PyTree, state: PyTree, y: jax.Array, context: PyTree = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        wide = y.astype(log_det_dtype(y))
        # Where it trains, forward has put in the state the vectors and the noise that it used.
        vectors = state["network"] if train else self.network.settle(params, state["network"])
        weights = self.network.weights(params, vectors)
        x = fixed_point(lambda weights, x: self.network.apply(weights, x, context), weights, wide, self.rounds)
        log_det = self.log_det_by.log_det(self.network.apply, weights, x, context, state["noise"], train=train)
        return x.astype(y.dtype), -log_det


def fixed_point(g: Callable[[PyTree, jax.Array], jax.Array], weights: PyTree, y: jax.Array, rounds: int) -> jax.Array:
    """Solve x + g(weights, x) = y for a contraction g; NaN where it does not come to rest. Has derivatives."""

    def at_rest(step, start):
        """Repeat a step until nothing moves: ``(x, which examples are at rest)``."""
        epsilon = 4 * jnp.finfo(start.dtype).eps
        axes = tuple(range(1, start.ndim))

        def moving(x, new):
            largest = jnp.max(jnp.maximum(jnp.abs(new), jnp.abs(start)), axis=axes, initial=0)
            return jnp.max(jnp.abs(new - x), axis=axes, initial=0) > epsilon * largest

        def one_round(carry):
            x, _, number = carry
            new = step(x)
            return new, moving(x, new), number + 1

        def goes_on(carry):
            _, moves, number = carry
            return jnp.any(moves) & (number < rounds)

        x, moves, _ = jax.lax.while_loop(goes_on, one_round, (start, jnp.ones(len(start), bool), 0))
        return jnp.where(moves.reshape(-1, *[1] * (x.ndim - 1)), jnp.nan, x)

    def solve(residual, start):
        return at_rest(lambda x: x - residual(x), start)

    def tangent_solve(linear, b):
        def solve_linear(matrix_times, b):
            return at_rest(lambda v: v - matrix_times(v) + b, b)

        return jax.lax.custom_linear_solve(linear, b, solve_linear, transpose_solve=solve_linear)

    return jax.lax.custom_root(lambda x: x + g(weights, x) - y, y, solve, tangent_solve)

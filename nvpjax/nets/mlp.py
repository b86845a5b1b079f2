"""A plain network for vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from flax import linen

from nvpjax.nets.conditioner import Network, with_context
from nvpjax.nets.initializers import last_kernel
from nvpjax.values import expect_at_least, expect_finite


@dataclass(frozen=True)
class MLP(Network):
    """Dense layers with an activation between them; a context, if there is one, is appended to the input.

    Args: ``hidden``: widths of the inner layers. ``final_scale``: the last layer's kernel starts as usual (normal,
    variance 1/fan-in) times this, and biases at zero, so that by default what a network says starts near zero, and a
    coupling near the identity; 0 starts there exactly.

    Shapes: x ``(batch, features)``, context ``(batch, anything)``, output ``(batch, outputs)``. Where x has no features
    the context says it all.

    >>> import jax, jax.numpy as jnp
    >>> network = MLP(hidden=(8,))
    >>> params, state = network.init(jax.random.key(0), jnp.zeros((1, 3)), outputs=2)
    >>> network.apply(params, state, jnp.zeros((4, 3)), outputs=2)[0].shape
    (4, 2)
    """

    hidden: tuple[int, ...] = (64, 64)
    activation: Callable[[jax.Array], jax.Array] = linen.relu
    final_scale: float = 0.01

    def __post_init__(self):
        object.__setattr__(self, "hidden", tuple(self.hidden))
        expect_at_least(self, 1, "hidden")
        expect_finite(self)

    def __call__(self, x: jax.Array, context: Any = None, *, outputs: int, train: bool = False) -> jax.Array:
        h = x if context is None else with_context(x, context)
        for features in self.hidden:
            h = self.activation(linen.Dense(features, kernel_init=last_kernel(1.0))(h))
        return linen.Dense(outputs, kernel_init=last_kernel(self.final_scale))(h)

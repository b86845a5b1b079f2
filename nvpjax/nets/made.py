"""A masked network for autoregressive bijectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

from nvpjax.nets.conditioner import Network
from nvpjax.nets.initializers import last_kernel
from nvpjax.values import expect_at_least, expect_finite


@dataclass(frozen=True)
class MADE(Network):
    """Dense layers with masked weights, so that outputs for entry i see the inputs before i, and the context, only.

        degrees: inputs 1 … D; hidden units 1 … D−1 in turn; a weight from degree a to degree b is kept where
        a ≤ b (into hidden units), a < b (into outputs)

    Args: ``hidden``: widths of the inner layers, D−1 or more. ``final_scale``: as of ``MLP``.

    Shapes: x ``(batch, D)``, context ``(batch, anything)`` or None, output ``(batch, outputs)``: all D entries' first
    number, then all second numbers, and so on. Errors: ValueError where ``outputs`` is no multiple of D.

    Reference: Germain, Gregor, Murray, Larochelle, *MADE*, 2015, eq. 12 and 13.

    >>> import jax, jax.numpy as jnp
    >>> network = MADE(hidden=(8,))
    >>> params, state = network.init(jax.random.key(0), jnp.zeros((1, 3)), outputs=6)
    >>> network.apply(params, state, jnp.ones((1, 3)), outputs=6)[0][0, 0].item()  # the first entry sees none
    0.0
    """

    X_AXES = 2
    hidden: tuple[int, ...] = (64, 64)
    activation: Callable[[jax.Array], jax.Array] = linen.relu
    final_scale: float = 0.01

    def __post_init__(self):
        object.__setattr__(self, "hidden", tuple(self.hidden))
        expect_at_least(self, 1, "hidden")
        expect_finite(self)

    def __call__(self, x: jax.Array, context: Any = None, *, outputs: int, train: bool = False) -> jax.Array:
        entries = x.shape[-1]
        if outputs % entries:
            raise ValueError(
                f"MADE: expected outputs that are a multiple of the {entries} entries of x, got {outputs}. A MADE "
                "serves Autoregressive; for a Coupling use MLP."
            )
        usual, small = last_kernel(1.0), last_kernel(self.final_scale)
        degrees = np.arange(1, entries + 1)
        h, h_degrees = x, degrees
        for layer, features in enumerate(self.hidden):
            next_degrees = np.arange(features) % max(1, entries - 1) + 1
            h = _MaskedDense(features, usual, name=f"hidden_{layer}")(h, h_degrees[:, None] <= next_degrees)
            if layer == 0 and context is not None:
                h = h + linen.Dense(features, use_bias=False, name="context")(context)
            h, h_degrees = self.activation(h), next_degrees
        out_degrees = np.tile(degrees, outputs // entries)
        output = _MaskedDense(outputs, small, name="output")(h, h_degrees[:, None] < out_degrees)
        if context is not None:  # the first entry sees no hidden unit: what it knows of the context it learns here
            output = output + linen.Dense(outputs, use_bias=False, kernel_init=small, name="context_output")(context)
        return output


class _MaskedDense(linen.Module):
    features: int
    kernel_init: Callable

    @linen.compact
    def __call__(self, x: jax.Array, mask: np.ndarray) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", linen.initializers.zeros, (self.features,))
        return x @ jnp.where(mask, kernel, 0).astype(x.dtype) + bias.astype(x.dtype)

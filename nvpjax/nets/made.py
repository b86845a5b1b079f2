"""A masked network for autoregressive bijectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen


class MADE(linen.Module):
    """Dense layers with masked weights, so that outputs for entry i see the inputs before i, and the context, only.

        degrees: inputs 1 … D; hidden units 1 … D−1 in turn; a weight from degree a to degree b is kept where
        a ≤ b (into hidden units), a < b (into outputs)

    Shapes: x ``(batch, D)``, context ``(batch, anything)`` or None, output ``(batch, outputs_per_input * D)``: all D
    entries' first number, then all second numbers, and so on.

    Reference: Germain, Gregor, Murray, Larochelle, *MADE*, 2015, eq. 12 and 13.
    """

    hidden: tuple[int, ...]
    outputs_per_input: int
    activation: Callable[[jax.Array], jax.Array] = linen.relu

    @linen.compact
    def __call__(self, x: jax.Array, context: Any = None, *, train: bool = False) -> jax.Array:
        entries = x.shape[-1]
        degrees = np.arange(1, entries + 1)
        h, h_degrees = x, degrees
        for layer, features in enumerate(self.hidden):
            next_degrees = np.arange(features) % max(1, entries - 1) + 1
            h = _MaskedDense(features, name=f"hidden_{layer}")(h, h_degrees[:, None] <= next_degrees)
            if layer == 0 and context is not None:
                h = h + linen.Dense(features, use_bias=False, name="context")(context)
            h, h_degrees = self.activation(h), next_degrees
        out_degrees = np.tile(degrees, self.outputs_per_input)
        output = _MaskedDense(len(out_degrees), name="output")(h, h_degrees[:, None] < out_degrees)
        if context is not None:  # the first entry sees no hidden unit: what it knows of the context it learns here
            output = output + linen.Dense(len(out_degrees), use_bias=False, name="context_output")(context)
        return output


class _MaskedDense(linen.Module):
    features: int

    @linen.compact
    def __call__(self, x: jax.Array, mask: np.ndarray) -> jax.Array:
        kernel = self.param("kernel", linen.initializers.lecun_normal(), (x.shape[-1], self.features))
        bias = self.param("bias", linen.initializers.zeros, (self.features,))
        return x @ jnp.where(mask, kernel, 0).astype(x.dtype) + bias.astype(x.dtype)

"""Random numbers that depend on what they are for: a seed out of the bits of an array."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def hashed(x: jax.Array) -> jax.Array:
    """Give a 32-bit number for each row, another in almost every case where a bit of its float32 differs.

    Shapes: x ``(rows, ...)``, result ``(rows,)``. Has no gradient.
    """
    bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(x).astype(jnp.float32), jnp.uint32).reshape(len(x), -1)
    # A polynomial modulo 2³²: it depends on the place of a bit too.
    factors = jnp.cumprod(jnp.full(bits.shape[1], 0x01000193, jnp.uint32))
    return jnp.sum((bits ^ bits >> 15) * factors, axis=1, dtype=jnp.uint32)

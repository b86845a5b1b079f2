"""What transformers are made of: dense layers, normalisation, and blocks of attention with a network after each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

EPSILON = 1e-5
"""Added to a variance before it divides."""
Attend = Callable[[int, jax.Array, jax.Array, jax.Array], jax.Array]
"""The number of the block, queries, keys and values, each ``(batch, positions, heads, channels)``: what is attended."""


def init_dense(key: jax.Array, inputs: int, outputs: int, scale: float = 1.0) -> Any:
    """A kernel of variance scale²/inputs, and a bias at zero."""
    kernel = jax.random.normal(key, (inputs, outputs)) * (scale / math.sqrt(max(1, inputs)))
    return {"kernel": kernel, "bias": jnp.zeros(outputs)}


def dense(params: Any, x: jax.Array) -> jax.Array:
    return x @ params["kernel"] + params["bias"]


def init_norm(width: int) -> Any:
    return {"scale": jnp.ones(width), "bias": jnp.zeros(width)}


def layer_norm(params: Any, h: jax.Array) -> jax.Array:
    """Each position's channels to mean 0 and variance 1, in at least float32, then scaled and shifted."""
    wide = h.astype(jnp.promote_types(h.dtype, jnp.float32))
    wide = wide - wide.mean(axis=-1, keepdims=True)
    normal = wide * jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + EPSILON)
    return (normal * params["scale"] + params["bias"]).astype(h.dtype)


def init_block(key: jax.Array, width: int) -> Any:
    """12·width² + 13·width numbers."""
    keys = jax.random.split(key, 4)
    return {
        "norm_attention": init_norm(width),
        "query_key_value": init_dense(keys[0], width, 3 * width),
        "attended": init_dense(keys[1], width, width),
        "norm_network": init_norm(width),
        "up": init_dense(keys[2], width, 4 * width),
        "down": init_dense(keys[3], 4 * width, width),
    }


def attention(
    query: jax.Array, key: jax.Array, value: jax.Array, seen: jax.Array | None = None, temperature: float = 1.0
) -> jax.Array:
    """Σₖ softmaxₖ(query · key / (√channels · temperature)) value, over the positions ``seen`` (queries, keys), or all.

    Weights are in at least float32. Not ``jax.nn.dot_product_attention``, whose are in float32 for float64 too: there
    an inverse would be off by that (JAX 0.10 and 0.12).
    """
    wide = jnp.promote_types(query.dtype, jnp.float32)
    logits = jnp.einsum("bqhc,bkhc->bhqk", query, key, preferred_element_type=wide)
    logits = logits / (math.sqrt(query.shape[-1]) * temperature)
    weights = jax.nn.softmax(logits if seen is None else jnp.where(seen, logits, -jnp.inf), axis=-1)
    return jnp.einsum("bhqk,bkhc->bqhc", weights.astype(value.dtype), value)


def through_blocks(blocks: Sequence[Any], h: jax.Array, heads: int, attend: Attend) -> jax.Array:
    """h += attention(norm(h)), then h += network(norm(h)), block by block. ``attend`` says who sees whom.

    Reference: Vaswani et al., *Attention is all you need*, 2017, sec. 3.2; normalisation before: Xiong et al., 2020.
    """
    for number, block in enumerate(blocks):
        mixed = dense(block["query_key_value"], layer_norm(block["norm_attention"], h))
        query, key, value = (part.reshape(*h.shape[:2], heads, -1) for part in jnp.split(mixed, 3, axis=-1))
        h = h + dense(block["attended"], attend(number, query, key, value).reshape(h.shape))
        inner = jax.nn.gelu(dense(block["up"], layer_norm(block["norm_network"], h)), approximate=False)
        h = h + dense(block["down"], inner)
    return h

"""A transformer in which a position of a sequence sees those before it: what tells an autoregressive layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from nvpjax.nets.attention import attention, dense, init_dense, through_blocks
from nvpjax.nets.sequence import SequenceNetwork


@dataclass(frozen=True)
class CausalTransformer(SequenceNetwork):
    """A transformer whose output at a position depends on the positions before it, and which can go step by step.

        h = W x + b + place (+ what the context says)
        h += attention(norm(h)) over the positions up to one's own,   h += network(norm(h)),     ``depth`` times
        output₀ = 0,     outputᵢ₊₁ = W' hᵢ + b'

    So whatever an ``Autoregressive`` does to the first position is what its transform does at zeros. Step by step, keys
    and values of the positions that have been are kept, and a position costs what it costs alone.

    Args, shapes and errors: as of ``Transformer``; ``temperature``, above 0: attention's logits are divided by it (see
    ``Guided``).

    Reference: Zhai et al., *Normalizing flows are capable generative models* (TarFlow), 2024, sec. 3.2. There W' starts
    at 0, as here, and b' as a dense layer's does; here at 0 too, so that a flow begins as the identity.

    >>> import jax, jax.numpy as jnp
    >>> network, x = CausalTransformer(width=8, depth=1, head_width=4, final_scale=1.0), jnp.ones((1, 5, 3))
    >>> params, state = network.init(jax.random.key(0), x, outputs=6)
    >>> output, _ = network.apply(params, state, x, outputs=6)
    >>> bool(jnp.all(output[:, 0] == 0)), bool(jnp.all(output[:, 1] == 0))
    (True, False)
    """

    temperature: float = 1.0
    stepwise = True

    def __post_init__(self):
        super().__post_init__()
        if self.temperature <= 0:
            raise ValueError(f"CausalTransformer: expected temperature > 0, got {self.temperature}.")

    def init(self, key: jax.Array, x: jax.Array, context: Any = None, *, outputs: int) -> tuple[Any, Any]:
        blocks_key, last_key = jax.random.split(key)
        last = {"output": init_dense(last_key, self.width, outputs, self.final_scale)}
        return self.init_to_blocks(blocks_key, x, context) | last, ()

    def apply(
        self, params: Any, state: Any, x: jax.Array, context: Any = None, *, outputs: int, train: bool = False
    ) -> tuple[jax.Array, Any]:
        def attend(number, query, key, value):
            return attention(query, key, value, before_and_here, self.temperature)

        before_and_here = jnp.tri(x.shape[1], dtype=bool)
        h = through_blocks(params["blocks"], self.enter(params, x, context, params["place"]), self.heads, attend)
        output = dense(params["output"], h)
        return jnp.concatenate([jnp.zeros_like(output[:, :1]), output[:, :-1]], axis=1), state

    def begin(self, params: Any, x: jax.Array, context: Any = None, *, outputs: int) -> tuple[jax.Array, Any]:
        """Give the output at the first position of sequences shaped like x, and a cache of no position."""
        dtype = jnp.promote_types(x.dtype, params["place"].dtype)
        kept = jnp.zeros((*x.shape[:2], self.heads, self.head_width), dtype)
        return jnp.zeros((len(x), outputs), dtype), tuple((kept, kept) for _ in params["blocks"])

    def step(
        self, params: Any, cache: Any, position: jax.Array, entry: jax.Array, context: Any = None, *, outputs: int
    ) -> tuple[jax.Array, Any]:
        """Take the entry ``(batch, channels)`` at a position; give the output at the next ``(batch, outputs)``."""
        new_cache = []

        def attend(number, query, key, value):
            kept = zip(cache[number], (key, value))
            keys, values = (jax.lax.dynamic_update_slice_in_dim(old, new, position, axis=1) for old, new in kept)
            new_cache.append((keys, values))
            seen = jnp.arange(keys.shape[1])[None] <= position
            return attention(query, keys, values, seen, self.temperature)

        place = jax.lax.dynamic_slice_in_dim(params["place"], position, 1)
        h = self.enter(params, entry[:, None], context, place)
        h = through_blocks(params["blocks"], h, self.heads, attend)
        return dense(params["output"], h[:, 0]), tuple(new_cache)

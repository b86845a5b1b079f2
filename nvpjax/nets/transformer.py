"""A transformer in which all positions of a sequence see each other: what tells a coupling of sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

from nvpjax.nets.attention import attention, dense, init_dense, init_norm, layer_norm, through_blocks
from nvpjax.nets.sequence import SequenceNetwork


@dataclass(frozen=True)
class Transformer(SequenceNetwork):
    """A transformer whose positions all see each other.

        h = W x + b + place (+ what the context says)
        h += attention(norm(h)),   h += network(norm(h)),     ``depth`` times
        output = W' norm(h) + b'

    Args: ``width``: channels of h. ``depth``: blocks. ``head_width``: channels of a head of attention. ``classes``: of
    labels as the context, where −1 is one that is not known and takes the mean of the classes' vectors; others outside
    of 0 … classes − 1 give NaN. ``final_scale``: W' starts as usual (normal, variance 1/width) times this, b' at zero:
    by default a coupling begins as its transform at zeros.

    Shapes: x ``(batch, positions, channels)``; context ``(batch, anything)``, labels ``(batch,)`` where there are
    classes, or None; output ``(batch, positions, outputs)``. Normalisation and the weights of attention are in at least
    float32, whatever ``Rounded`` makes of the rest. Errors: ValueError for other shapes, and for a width that
    ``head_width`` does not divide.

    Reference: Kolesnikov, Pinto, Tschannen, *Jet*, 2024, sec. 3: networks of this form in couplings.

    >>> import jax, jax.numpy as jnp
    >>> network, x = Transformer(width=8, depth=1, head_width=4), jnp.ones((2, 5, 3))
    >>> params, state = network.init(jax.random.key(0), x, outputs=6)
    >>> network.apply(params, state, x, outputs=6)[0].shape
    (2, 5, 6)
    """

    def init(self, key: jax.Array, x: jax.Array, context: Any = None, *, outputs: int) -> tuple[Any, Any]:
        blocks_key, last_key = jax.random.split(key)
        last = {"norm": init_norm(self.width), "output": init_dense(last_key, self.width, outputs, self.final_scale)}
        return self.init_to_blocks(blocks_key, x, context) | last, ()

    def apply(
        self, params: Any, state: Any, x: jax.Array, context: Any = None, *, outputs: int, train: bool = False
    ) -> tuple[jax.Array, Any]:
        def attend(number, query, key, value):
            return attention(query, key, value)

        h = through_blocks(params["blocks"], self.enter(params, x, context, params["place"]), self.heads, attend)
        return dense(params["output"], layer_norm(params["norm"], h)), state

"""Arithmetic in a coarser dtype."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


@dataclass(frozen=True)
class Rounded:
    """A conditioner whose arithmetic is in ``dtype``: fast training in ``jnp.bfloat16``.

    Its inputs and parameters are rounded to ``dtype`` before use (what it then gives, a coupling takes back to the
    dtype of x). Parameters and state are kept as they are, and log-dets stay what they were: exact for the map that is
    computed. The inverse is not: between forward and inverse a last bit of x may differ, which rounding can make a last
    bit of ``dtype``. For training, then, and not for what has to invert.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax.nets import MLP
    >>> network, x = Rounded(MLP(hidden=(8,)), jnp.bfloat16), jnp.zeros((1, 3))
    >>> params, state = network.init(jax.random.key(0), x, outputs=2)
    >>> network.apply(params, state, x, outputs=2)[0].dtype, params["Dense_0"]["kernel"].dtype
    (dtype(bfloat16), dtype('float32'))
    """

    network: Any
    dtype: DTypeLike

    def init(self, key: jax.Array, x: jax.Array, context: Any = None, *, outputs: int) -> tuple[Any, Any]:
        return self.network.init(key, x, context, outputs=outputs)

    def apply(
        self, params: Any, state: Any, x: jax.Array, context: Any = None, *, outputs: int, train: bool = False
    ) -> tuple[jax.Array, Any]:
        params, x, context = self._rounded((params, x, context))
        return self.network.apply(params, state, x, context, outputs=outputs, train=train)

    @property
    def stepwise(self) -> bool:
        """Whether the network can go step by step (see ``CausalTransformer``)."""
        return getattr(self.network, "stepwise", False)

    def begin(self, params: Any, x: jax.Array, context: Any = None, *, outputs: int) -> tuple[jax.Array, Any]:
        return self.network.begin(*self._rounded((params, x, context)), outputs=outputs)

    def step(
        self, params: Any, cache: Any, position: jax.Array, entry: jax.Array, context: Any = None, *, outputs: int
    ) -> tuple[jax.Array, Any]:
        params, entry, context = self._rounded((params, entry, context))
        return self.network.step(params, cache, position, entry, context, outputs=outputs)

    def _rounded(self, tree):
        def rounded(leaf):
            return leaf.astype(self.dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

        return jax.tree.map(rounded, tree)

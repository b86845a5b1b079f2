"""Labels as the context of a contraction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from nvpjax.nets.contraction import Contraction
from nvpjax.nets.label_embedding import expect_labels, rows_of
from nvpjax.values import expect_at_least


@dataclass(frozen=True)
class LabelledContraction(Contraction):
    """A contraction whose context is a label an example: each class has a learned bias in its first layer.

    Args: ``network``: a contraction that takes a vector as its context. ``classes``: labels are 0 … classes − 1.

    Shapes and errors: as of ``LabelEmbedding``: a label that is no class gives NaN.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax.nets import ContractiveMLP
    >>> network = LabelledContraction(ContractiveMLP((8,)), classes=10)
    >>> x, labels = jnp.zeros((2, 3)), jnp.array([7, 10])
    >>> params, state = network.init(jax.random.key(0), x, labels)
    >>> jnp.isnan(network.apply(network.weights(params, state), x, labels)).any(axis=1).tolist()
    [False, True]
    """

    network: Contraction
    classes: int

    def __post_init__(self):
        expect_at_least(self, 1, "classes")

    def init(self, key: jax.Array, x: jax.Array, context: Any = None) -> tuple[Any, Any]:
        return self.network.init(key, x, self._rows(x, context))

    def linear(self, kernel: jax.Array, vector: jax.Array) -> jax.Array:
        return self.network.linear(kernel, vector)

    def settle(self, params: Any, state: Any) -> Any:
        return self.network.settle(params, state)

    def weights(self, params: Any, state: Any) -> Any:
        return self.network.weights(params, state)

    def apply(self, weights: Any, x: jax.Array, context: Any = None) -> jax.Array:
        return self.network.apply(weights, x, self._rows(x, context))

    def _rows(self, x, labels):
        expect_labels(self, x, labels)
        return rows_of(jnp.eye(self.classes, dtype=x.dtype), labels)

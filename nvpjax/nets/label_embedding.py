"""Labels as a context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from nvpjax.values import expect_at_least


@dataclass(frozen=True)
class LabelEmbedding:
    """A conditioner whose context is a label an example: each class has a learned vector, which ``network`` is given.

        output = network(x, table[label]),     table (classes, features), N(0, 1) at the start

    Args: ``network``: any conditioner that takes a vector as its context. ``classes``: labels are 0 … classes − 1.
    ``features``: of a vector.

    Shapes: context ``(batch,)``, whole numbers; ``network`` sees ``(batch, features)``. What a label is cannot be
    checked while a program is traced: one outside of 0 … classes − 1 gives NaN, never the vector of another class.

    Errors: ValueError for no class, no label, or labels of another shape; TypeError for labels that are no whole
    numbers.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax.nets import MLP
    >>> network, x, labels = LabelEmbedding(MLP((8,)), classes=10), jnp.zeros((2, 3)), jnp.array([7, 10])
    >>> params, state = network.init(jax.random.key(0), x, labels, outputs=1)
    >>> jnp.isnan(network.apply(params, state, x, labels, outputs=1)[0]).tolist()
    [[False], [True]]
    """

    network: Any
    classes: int
    features: int = 32

    def __post_init__(self):
        expect_at_least(self, 1, "classes", "features")

    def init(self, key: jax.Array, x: jax.Array, context: Any = None, *, outputs: int) -> tuple[Any, Any]:
        table_key, network_key = jax.random.split(key)
        table = jax.random.normal(table_key, (self.classes, self.features))
        params, state = self.network.init(network_key, x, self._vectors(table, x, context), outputs=outputs)
        return {"table": table, "network": params}, state

    def apply(
        self, params: Any, state: Any, x: jax.Array, context: Any = None, *, outputs: int, train: bool = False
    ) -> tuple[jax.Array, Any]:
        vectors = self._vectors(params["table"], x, context)
        return self.network.apply(params["network"], state, x, vectors, outputs=outputs, train=train)

    def _vectors(self, table, x, labels):
        expect_labels(self, x, labels)
        return rows_of(table, labels)


def expect_labels(owner: Any, x: jax.Array, labels: Any) -> None:
    """Raise ValueError where there is not one label an example, TypeError where they are no whole numbers."""
    name = type(owner).__name__
    if labels is None or getattr(labels, "shape", None) != x.shape[:1]:
        got = "none" if labels is None else f"a context of shape {getattr(labels, 'shape', type(labels).__name__)}"
        raise ValueError(
            f"{name}: expected one label an example as the context, shape {x.shape[:1]}, got {got}. Give "
            "labels to every call: init, log_prob, sample."
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            f"{name}: expected labels of an integer dtype, got {labels.dtype}. A context of real numbers "
            f"goes to the network without a {name}."
        )


def rows_of(table: jax.Array, labels: jax.Array) -> jax.Array:
    """The row of a table ``(classes, features)`` of each label; NaN for what is no class."""
    labels = labels.astype(jnp.int32) if labels.dtype.itemsize < 4 else labels  # classes may be beyond int8
    is_class = (labels >= 0) & (labels < len(table))
    rows = jnp.take(table, jnp.where(is_class, labels, 0), axis=0)  # restored tables may be numpy's
    return jnp.where(is_class[:, None], rows, jnp.nan).astype(table.dtype)

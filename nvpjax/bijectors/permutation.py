"""Permutations of the last axis: of a vector's entries, or of an image's channels. Volume is kept."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from nvpjax.bijector import Bijector, PyTree, StatelessBijector, zero_log_det
from nvpjax.values import whole_numbers


@dataclass(frozen=True)
class Permutation(StatelessBijector):
    """A permutation that is written down:  yᵢ = x_order[i],  log_det = 0.

    Errors: ValueError where ``order`` is no permutation, or the last axis has another length.

    >>> import jax.numpy as jnp
    >>> Permutation((2, 0, 1)).forward((), (), jnp.array([[10.0, 11.0, 12.0]]))[0].tolist()
    [[12.0, 10.0, 11.0]]
    """

    EVENT_AXES = 1
    order: tuple[int, ...]

    def __post_init__(self):
        object.__setattr__(self, "order", whole_numbers(self, "order"))
        if sorted(self.order) != list(range(len(self.order))):
            raise ValueError(f"Permutation: expected each of 0 … {len(self.order) - 1} once, got {self.order}.")

    def init_params(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> PyTree:
        if x.shape[-1] != len(self.order):
            raise ValueError(f"Permutation: expected a last axis of {len(self.order)} entries, got shape {x.shape}.")
        return ()

    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        return x[..., np.array(self.order)], zero_log_det(x)

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        return y[..., np.argsort(self.order)], zero_log_det(y)


@dataclass(frozen=True)
class RandomPermutation(Bijector):
    """A permutation drawn in ``init`` and kept in ``state``, so that it is saved and restored with the model.

    State: ``{"order": (channels,) whole numbers}``.

    >>> import jax, jax.numpy as jnp
    >>> _, state = RandomPermutation().init(jax.random.key(0), jnp.zeros((1, 5)))
    >>> sorted(state["order"].tolist())
    [0, 1, 2, 3, 4]
    """

    EVENT_AXES = 1

    def init(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> tuple[PyTree, PyTree]:
        return (), {"order": jax.random.permutation(key, jnp.arange(x.shape[-1], dtype=jnp.int32))}

    def forward(
        self, params: PyTree, state: PyTree, x: jax.Array, context: PyTree = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array, PyTree]:
        return x[..., state["order"]], zero_log_det(x), state

    def inverse(
        self, params: PyTree, state: PyTree, y: jax.Array, context: PyTree = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        return y[..., jnp.argsort(state["order"])], zero_log_det(y)


@dataclass(frozen=True)
class Reverse(StatelessBijector):
    """The last axis in reverse order;  log_det = 0. It is its own inverse.

    >>> import jax.numpy as jnp
    >>> Reverse().forward((), (), jnp.array([[1.0, 2.0, 3.0]]))[0].tolist()
    [[3.0, 2.0, 1.0]]
    """

    EVENT_AXES = 1

    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        return x[..., ::-1], zero_log_det(x)

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        return y[..., ::-1], zero_log_det(y)

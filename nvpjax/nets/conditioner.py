"""Flax's variables as params and state: what all networks of this folder are made of."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
from flax import errors, linen


@dataclass(frozen=True)
class Network(abc.ABC):
    """The helper base of this folder's networks: a conditioner that is a value, with a body of Linen layers.

    A network implements ``__call__``, which Flax runs inside ``init`` and ``apply``. The collection ``"params"`` of its
    layers becomes params; all others (``"batch_stats"``) become state, and change with ``train=True`` only.

    Errors: ValueError for a context that does not have a row an example, one that was forgotten or was not there in
    ``init``, and for params and state that belong to other shapes or come in the wrong order.
    """

    @abc.abstractmethod
    def __call__(self, x: jax.Array, context: Any = None, *, outputs: int, train: bool = False) -> jax.Array:
        """The body: give an output whose last axis has ``outputs`` entries."""

    def init(self, key: jax.Array, x: jax.Array, context: Any = None, *, outputs: int) -> tuple[Any, Any]:
        self._check_context(x, context)
        return init_variables(_Body(self, outputs), key, x, context)

    def apply(
        self, params: Any, state: Any, x: jax.Array, context: Any = None, *, outputs: int, train: bool = False
    ) -> tuple[jax.Array, Any]:
        self._check_context(x, context)
        if context is None and any(name.startswith("context") for name in params):
            raise ValueError(f"{type(self).__name__}: expected a context, as init was given one, got none.")
        return apply_variables(_Body(self, outputs), params, state, x, context, train)

    def _check_context(self, x, context):
        shape = getattr(context, "shape", ())
        if context is not None and (len(shape) < 2 or shape[0] != x.shape[0]):
            raise ValueError(
                f"{type(self).__name__}: expected a context with a row an example, shape ({x.shape[0]}, ...), got "
                f"{shape if shape else type(context).__name__}. Repeat one row for all examples; labels go through "
                "LabelEmbedding."
            )


class _Body(linen.Module):
    """Where a network's layers live."""

    network: Network
    outputs: int

    @property
    def title(self) -> str:
        return type(self.network).__name__

    @linen.compact
    def __call__(self, x: jax.Array, context: Any, *, train: bool) -> jax.Array:
        return self.network(x, context, outputs=self.outputs, train=train)


# Networks compare by value, so jit traces equal networks on equal shapes once, however many couplings hold one.
# For the 20 networks of the published CIFAR-10 model that saves most of the tracing.


@partial(jax.jit, static_argnums=0)
def init_variables(module: linen.Module, key: jax.Array, x: jax.Array, context: Any) -> tuple[Any, Any]:
    """Give a module's ``(params, state)``."""
    variables = dict(module.init(key, x, context, train=False))
    return variables.pop("params", {}), variables


@partial(jax.jit, static_argnums=(0, 5))
def apply_variables(module: linen.Module, params: Any, state: Any, x: jax.Array, context: Any, train: bool):
    """Give a module's ``(output, state)``."""
    variables = {"params": params, **state}
    try:
        if train and state:
            return module.apply(variables, x, context, train=True, mutable=list(state))
        return module.apply(variables, x, context, train=train), state
    except (errors.ScopeParamShapeError, errors.ScopeParamNotFoundError, errors.ScopeCollectionNotFound) as error:
        shape = None if context is None else context.shape
        raise ValueError(
            f"{module.title}: expected params and state as init gives them for x {x.shape} and context {shape}, got "
            f"others. Was init given another context or event, or are params and state swapped? ({error})"
        ) from error

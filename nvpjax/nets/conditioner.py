"""Flax's variables as params and state: what all networks of this folder are made of."""

from __future__ import annotations

import abc
import contextlib
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import errors, linen


@dataclass(frozen=True)
class Network(abc.ABC):
    """The helper base of this folder's networks: a conditioner that is a value, with a body of Linen layers.

    A network implements ``__call__``, which Flax runs inside ``init`` and ``apply``. The collection ``"params"`` of its
    layers becomes params; all others (``"batch_stats"``) become state, and change with ``train=True`` only.

    Errors: ValueError for a context that does not have a row an example, one that was forgotten or was not there in
    ``init``, and for params and state that belong to other shapes or come in the wrong order.
    """

    X_AXES: ClassVar[int | None] = None
    """How many axes x has, batch and all, where it is one number: Flax takes an image without a batch for one image."""

    @abc.abstractmethod
    def __call__(self, x: jax.Array, context: Any = None, *, outputs: int, train: bool = False) -> jax.Array:
        """The body: give an output whose last axis has ``outputs`` entries."""

    def init(self, key: jax.Array, x: jax.Array, context: Any = None, *, outputs: int) -> tuple[Any, Any]:
        self._check(x, context)
        return init_variables(_Body(self, outputs), key, x, context)

    def apply(
        self, params: Any, state: Any, x: jax.Array, context: Any = None, *, outputs: int, train: bool = False
    ) -> tuple[jax.Array, Any]:
        self._check(x, context)
        if context is None and any(name.startswith("context") for name in params):
            raise ValueError(f"{type(self).__name__}: expected a context, as init was given one, got none.")
        return apply_variables(_Body(self, outputs), params, state, x, context, train)

    def __reduce__(self):
        return _rebuilt, (type(self), tuple(_referred(getattr(self, field.name)) for field in fields(self)))

    def _check(self, x, context):
        if self.X_AXES not in (None, x.ndim):
            raise ValueError(
                f"{type(self).__name__}: expected x of {self.X_AXES} axes, batch first, got shape {x.shape}."
            )
        shape = getattr(context, "shape", ())
        if context is not None and (len(shape) < 2 or shape[0] != x.shape[0]):
            raise ValueError(
                f"{type(self).__name__}: expected a context with a row an example, shape ({x.shape[0]}, ...), got "
                f"{shape if shape else type(context).__name__}. Repeat one row for all examples; labels go through "
                "LabelEmbedding."
            )


def with_context(x: jax.Array, context: jax.Array) -> jax.Array:
    """x with the context beside its last axis: vectors at every position, an image in blocks that x's positions have.

    Errors: ValueError for an image whose height and width are not as many times those of x.
    """
    if context.ndim == x.ndim == 4 and context.shape[1:3] != x.shape[1:3]:
        times = context.shape[1] // x.shape[1]
        if times < 1 or context.shape[1:3] != (times * x.shape[1], times * x.shape[2]):
            raise ValueError(
                f"expected a context image as high and wide as x {x.shape}, or a whole number of times so, got "
                f"{context.shape}"
            )
        blocks = context.reshape(len(context), x.shape[1], times, x.shape[2], times, -1)
        context = blocks.swapaxes(2, 3).reshape(*x.shape[:3], -1)
    if context.ndim == 2:
        context = context.reshape(len(context), *[1] * (x.ndim - 2), context.shape[-1])
        context = jnp.broadcast_to(context, (*x.shape[:-1], context.shape[-1]))
    return jnp.concatenate([x, context.astype(x.dtype)], axis=-1)


def _referred(value: Any) -> Any:
    """A function by where it is found: one that jax wraps, as it does those of jax.nn, cannot be copied otherwise."""
    module, name = getattr(value, "__module__", ""), getattr(value, "__qualname__", getattr(value, "__name__", ""))
    is_found = callable(value) and name and getattr(sys.modules.get(module or ""), name, None) is value
    return _Reference(module, name) if is_found else value


def _rebuilt(network: type, fields: tuple) -> Any:
    return network(*(field.found() if isinstance(field, _Reference) else field for field in fields))


class _Reference(NamedTuple):
    module: str
    name: str

    def found(self) -> Any:
        return getattr(importlib.import_module(self.module), self.name)


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
    with _told(module, x, context):
        variables = dict(module.init(key, x, context, train=False))
    return variables.pop("params", {}), variables


@partial(jax.jit, static_argnums=(0, 5))
def apply_variables(
    module: linen.Module, params: Any, state: Any, x: jax.Array, context: Any, train: bool
) -> tuple[Any, Any]:
    """Give a module's ``(output, state)``."""
    with _told(module, x, context):
        variables = {"params": params, **state}
        if train and state:
            return module.apply(variables, x, context, train=True, mutable=list(state))
        return module.apply(variables, x, context, train=train), state


@contextlib.contextmanager
def _told(module: linen.Module, x: jax.Array, context: Any) -> Iterator[None]:
    """Make one ValueError, with the shapes, of what layers say to shapes that they do not take."""
    try:
        yield
    except (TypeError, ValueError, errors.FlaxError) as error:
        if str(error).startswith(f"{module.title}: "):
            raise
        shapes = f"x {x.shape} and context {None if context is None else jnp.shape(context)}"
        if not isinstance(error, errors.FlaxError):
            raise ValueError(f"{module.title}: expected shapes that its layers take, got {shapes} ({error})") from error
        raise ValueError(
            f"{module.title}: expected params and state as init gives them for {shapes}, got others. Was init given "
            f"another context or event, or are params and state swapped? ({error})"
        ) from error

"""Flax modules as conditioners: the one place where Flax's variables become params and state."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
from flax import linen


@dataclass(frozen=True)
class FlaxConditioner:
    """A Flax (linen) module as a ``Conditioner``.

    The module is called as ``module(x, context, train=train)``. Its collection ``"params"`` becomes params; all its
    other collections (``"batch_stats"``) become state and are mutable with ``train=True`` only.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax.nets import MLP
    >>> network = FlaxConditioner(MLP(hidden=(8,), outputs=2))
    >>> params, state = network.init(jax.random.key(0), jnp.zeros((1, 3)))
    >>> network.apply(params, state, jnp.zeros((4, 3)))[0].shape
    (4, 2)
    """

    module: linen.Module

    def init(self, key: jax.Array, x: jax.Array, context: Any = None) -> tuple[Any, Any]:
        return _init(self.module, key, x, context)

    def apply(self, params: Any, state: Any, x: jax.Array, context: Any = None, *, train: bool = False):
        return _apply(self.module, params, state, x, context, train)


# Modules compare by value, so jit traces equal networks on equal shapes once, however many couplings hold one.
# For the 20 networks of the published CIFAR-10 model that saves most of the tracing.


@partial(jax.jit, static_argnums=0)
def _init(module, key, x, context):
    variables = dict(module.init(key, x, context, train=False))
    return variables.pop("params", {}), variables


@partial(jax.jit, static_argnums=(0, 5))
def _apply(module, params, state, x, context, train):
    variables = {"params": params, **state}
    if train and state:
        return module.apply(variables, x, context, train=True, mutable=list(state))
    return module.apply(variables, x, context, train=train), state

"""Flax modules as conditioners: the one place where Flax's variables become params and state."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen


@dataclass(frozen=True)
class FlaxConditioner:
    """A Flax (linen) module as a ``Conditioner``.

    The module is called as ``module(x, context, train=train)``. Its collection ``"params"`` becomes params; all its
    other collections (``"batch_stats"``) become state and are mutable with ``train=True`` only.

    ``dtype`` is that of the network's arithmetic: with ``jnp.bfloat16`` its inputs and parameters are rounded to it
    before use (what it then gives, a coupling takes back to the dtype of x). Parameters and state are kept as they
    are, and log-dets stay what they were: exact for the map that is computed. The inverse is not: between forward and
    inverse a last bit of x may differ, which rounding can make a last bit of ``dtype``. For training, then, and not for
    what has to invert.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax.nets import MLP
    >>> network = FlaxConditioner(MLP(hidden=(8,), outputs=2))
    >>> params, state = network.init(jax.random.key(0), jnp.zeros((1, 3)))
    >>> network.apply(params, state, jnp.zeros((4, 3)))[0].shape
    (4, 2)
    """

    module: linen.Module
    dtype: Any = None

    def init(self, key: jax.Array, x: jax.Array, context: Any = None) -> tuple[Any, Any]:
        return _init(self.module, key, x, context)

    def apply(self, params: Any, state: Any, x: jax.Array, context: Any = None, *, train: bool = False):
        if self.dtype is not None:
            params, x, context = _rounded((params, x, context), self.dtype)
        return _apply(self.module, params, state, x, context, train)


def _rounded(tree: Any, dtype: Any) -> Any:
    def leaf(a):
        return a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a

    return jax.tree.map(leaf, tree)


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

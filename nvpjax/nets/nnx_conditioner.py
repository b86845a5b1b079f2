"""One's own Flax NNX module as a conditioner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
from flax import linen, nnx


@dataclass(frozen=True)
class NNXConditioner:
    """A Flax NNX module as a ``Conditioner``, by the function that makes it.

    ``make(rngs, inputs, outputs)`` gives the module for x of ``inputs`` channels: a function, a class or a ``partial``,
    something that hashes. The module is called as ``module(x)``, or ``module(x, context)`` where there is a context, in
    NNX's training mode with ``train=True`` and in its evaluation mode otherwise. Its ``nnx.Param`` become params, all
    other variables state, which changes with ``train=True`` only.

    Errors: TypeError for a module in the place of the function, or a function that makes something else; ValueError in
    ``init`` for a module that keeps random state, as ``nnx.Dropout`` does: what it draws could not be undone.

    >>> import jax, jax.numpy as jnp
    >>> from flax import nnx
    >>> def make(rngs, inputs, outputs):
    ...     return nnx.Sequential(nnx.Linear(inputs, 8, rngs=rngs), nnx.relu, nnx.Linear(8, outputs, rngs=rngs))
    >>> conditioner = NNXConditioner(make)
    >>> params, state = conditioner.init(jax.random.key(0), jnp.zeros((1, 3)), outputs=2)
    >>> conditioner.apply(params, state, jnp.zeros((4, 3)), outputs=2)[0].shape
    (4, 2)
    """

    make: Callable[[nnx.Rngs, int, int], nnx.Module]

    def __post_init__(self):
        is_linen = isinstance(self.make, linen.Module) or (
            isinstance(self.make, type) and issubclass(self.make, linen.Module)
        )
        if is_linen or isinstance(self.make, nnx.Module) or not callable(self.make):
            got = getattr(self.make, "__name__", type(self.make).__name__)
            raise TypeError(
                f"NNXConditioner: expected a function make(rngs, inputs, outputs) that gives an NNX module, got {got}. "
                "A module that is made already holds arrays, and is no value; a Flax Linen module goes into "
                "FlaxConditioner(module)."
            )

    def init(self, key: jax.Array, x: jax.Array, context: Any = None, *, outputs: int) -> tuple[Any, Any]:
        return _init(self.make, x.shape[-1], outputs, key)

    def apply(
        self, params: Any, state: Any, x: jax.Array, context: Any = None, *, outputs: int, train: bool = False
    ) -> tuple[jax.Array, Any]:
        return _apply(self.make, outputs, train, params, state, x, context)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _init(make, inputs, outputs, key):
    _, params, state = _made(make, nnx.Rngs(key), inputs, outputs)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(state)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _apply(make, outputs, train, params, state, x, context):
    definition, of_params, of_state = nnx.eval_shape(lambda: _made(make, nnx.Rngs(0), x.shape[-1], outputs))
    nnx.replace_by_pure_dict(of_params, params)
    nnx.replace_by_pure_dict(of_state, state)
    module = nnx.merge(definition, of_params, of_state)
    if train:
        module.train()
    else:
        module.eval()
    output = module(x) if context is None else module(x, context)
    _, _, after = nnx.split(module, nnx.Param, ...)
    return output, nnx.to_pure_dict(after) if train else state


def _made(make, rngs, inputs, outputs):
    """What the function makes: ``(definition, params, all other variables)``."""
    module = make(rngs, inputs, outputs)
    if not isinstance(module, nnx.Module):
        raise TypeError(f"NNXConditioner: expected make to give an NNX module, got {type(module).__name__}.")
    definition, params, state = nnx.split(module, nnx.Param, ...)
    if jax.tree.leaves(nnx.filter_state(state, nnx.RngState)):
        raise ValueError(
            f"NNXConditioner: expected a module without random state, got {type(module).__name__} with some: what it "
            "draws going forward could not be undone. Leave out Dropout and its like."
        )
    return definition, params, state

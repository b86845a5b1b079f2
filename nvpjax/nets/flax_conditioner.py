"""One's own Flax Linen module as a conditioner."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import jax
from flax import linen

from nvpjax.nets.conditioner import apply_variables, init_variables

TOLD = ("context", "outputs", "train")


@dataclass(frozen=True)
class FlaxConditioner:
    """A Flax Linen module as a ``Conditioner``.

    The module is called as ``module(x, context=context, outputs=outputs, train=train)``, without those of the three
    that its ``__call__`` does not take. One that is not told ``outputs`` must give the right number by itself; a
    bijector checks it. Its collection ``"params"`` becomes params; all its other collections (``"batch_stats"``) become
    state and are mutable with ``train=True`` only. No random numbers are handed to it: a layer that draws some, as
    ``Dropout`` does, could not be undone.

    Errors: TypeError for what is no Linen module, or one that wants arguments beside these; ValueError for a context
    where the module takes none.

    >>> import jax, jax.numpy as jnp
    >>> from flax import linen
    >>> class Network(linen.Module):
    ...     @linen.compact
    ...     def __call__(self, x, *, outputs):
    ...         return linen.Dense(outputs)(linen.tanh(linen.Dense(8)(x)))
    >>> conditioner = FlaxConditioner(Network())
    >>> params, state = conditioner.init(jax.random.key(0), jnp.zeros((1, 3)), outputs=2)
    >>> conditioner.apply(params, state, jnp.zeros((4, 3)), outputs=2)[0].shape
    (4, 2)
    """

    module: linen.Module

    def __post_init__(self):
        if not isinstance(self.module, linen.Module):
            raise TypeError(
                f"FlaxConditioner: expected a Flax Linen module, got {type(self.module).__name__}. The networks of "
                "nvpjax.nets are conditioners without it; an NNX module goes by the function that makes it into "
                "NNXConditioner(make)."
            )
        parameters = list(inspect.signature(self.module.__call__).parameters.values())
        many = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        wanted = {p.name for p in parameters[1:] if p.default is p.empty and p.kind not in many}
        if not parameters or wanted - set(TOLD):
            raise TypeError(
                f"FlaxConditioner: expected a module called with x and some of {', '.join(TOLD)}, got "
                f"{type(self.module).__name__} with {', '.join(p.name for p in parameters)}. Give what else it wants "
                "to its fields."
            )

    def init(self, key: jax.Array, x: jax.Array, context: Any = None, *, outputs: int) -> tuple[Any, Any]:
        self._check_context(context)
        return init_variables(_Called(self.module, self._told(), outputs), key, x, context)

    def apply(
        self, params: Any, state: Any, x: jax.Array, context: Any = None, *, outputs: int, train: bool = False
    ) -> tuple[jax.Array, Any]:
        self._check_context(context)
        return apply_variables(_Called(self.module, self._told(), outputs), params, state, x, context, train)

    def _told(self) -> tuple[str, ...]:
        """What the module is told beside x."""
        parameters = inspect.signature(self.module.__call__).parameters
        takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        return tuple(name for name in TOLD if takes_all or name in parameters)

    def _check_context(self, context):
        if context is not None and "context" not in self._told():
            raise ValueError(
                f"FlaxConditioner: expected no context, since {type(self.module).__name__} takes none, got one. Give "
                "its __call__ an argument named context."
            )


class _Called(linen.Module):
    """The module, called as all of this folder are."""

    module: linen.Module
    told: tuple[str, ...]
    outputs: int

    @property
    def title(self) -> str:
        return type(self.module).__name__

    def setup(self):
        linen.share_scope(self, self.module)  # its variables keep their own names

    def __call__(self, x: jax.Array, context: Any, *, train: bool) -> jax.Array:
        all_told = {"context": context, "outputs": self.outputs, "train": train}
        return self.module(x, **{name: all_told[name] for name in self.told})

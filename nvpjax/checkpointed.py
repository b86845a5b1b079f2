"""Training memory against arithmetic: layers keep their inputs, and what lies between is computed again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax

from nvpjax.bijector import Bijector, PyTree
from nvpjax.combinator import Combinator, Composite


@dataclass(frozen=True)
class Checkpointed(Composite):
    """The same bijector with another backward pass: each layer's input is kept, all else is computed a second time.

    Layers are the bijectors in chains, scales and all other combinators; what a ``Repeat`` repeats is one layer.
    Results are those of ``bijector``, and so are params, state and gradients. Memory still grows with depth, by one
    event a layer, and no inverse is needed: where ``Reversible`` measures errors that are too large, use this.

    Reference: Chen et al., *Training deep nets with sublinear memory cost*, 2016, sec. 4; ``jax.checkpoint``.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Chain, Checkpointed, Repeat, Reverse, Triangular
    >>> deep = Checkpointed(Repeat(Chain((Triangular(), Reverse())), times=32))
    >>> params, state = deep.init(jax.random.key(0), jnp.ones((3, 2)))
    >>> jax.grad(lambda params: deep.forward(params, state, jnp.ones((3, 2)))[0].sum())(params)[0]["shift"].shape
    (32, 2)
    """

    bijector: Bijector

    def __post_init__(self):
        if not isinstance(self.bijector, Bijector):
            raise TypeError(f"Checkpointed: expected a Bijector, got {self.bijector!r}.")

    @property
    def parts(self) -> tuple[Bijector, ...]:
        return (self.bijector,)

    def with_parts(self, parts: Sequence[Bijector]) -> Checkpointed:
        return Checkpointed(*parts)

    def init(self, key: jax.Array, x: PyTree, context: PyTree = None) -> tuple[PyTree, PyTree]:
        return self.bijector.init(key, x, context)

    def init_inverse(self, key: jax.Array, y: PyTree, context: PyTree = None) -> tuple[PyTree, PyTree]:
        return self.bijector.init_inverse(key, y, context)

    def forward(
        self, params: PyTree, state: PyTree, x: PyTree, context: PyTree = None, *, train: bool = False
    ) -> tuple[PyTree, jax.Array, PyTree]:
        return _by_layer(self.bijector).forward(params, state, x, context, train=train)

    def inverse(
        self, params: PyTree, state: PyTree, y: PyTree, context: PyTree = None, *, train: bool = False
    ) -> tuple[PyTree, jax.Array]:
        return _by_layer(self.bijector).inverse(params, state, y, context, train=train)

    def log_det(self, params: PyTree, state: PyTree, x: PyTree, context: PyTree = None) -> jax.Array:
        return _by_layer(self.bijector).log_det(params, state, x, context)


def _by_layer(bijector: Bijector) -> Bijector:
    """The bijector with every layer in it wrapped; params and state stay as they are."""
    if not isinstance(bijector, Combinator):
        return _Layer(bijector)
    wrap = _Layer if bijector.times > 1 else _by_layer
    return bijector.with_parts([wrap(part) for part in bijector.parts])


@dataclass(frozen=True)
class _Layer(Composite):
    bijector: Bijector

    @property
    def parts(self) -> tuple[Bijector, ...]:
        return (self.bijector,)

    def with_parts(self, parts: Sequence[Bijector]) -> _Layer:
        return _Layer(*parts)

    def init(self, key: jax.Array, x: PyTree, context: PyTree = None) -> tuple[PyTree, PyTree]:
        return self.bijector.init(key, x, context)

    def forward(
        self, params: PyTree, state: PyTree, x: PyTree, context: PyTree = None, *, train: bool = False
    ) -> tuple[PyTree, jax.Array, PyTree]:
        def forward(params, state, x, context):
            return self.bijector.forward(params, state, x, context, train=train)

        return jax.checkpoint(forward)(params, state, x, context)

    def inverse(
        self, params: PyTree, state: PyTree, y: PyTree, context: PyTree = None, *, train: bool = False
    ) -> tuple[PyTree, jax.Array]:
        def inverse(params, state, y, context):
            return self.bijector.inverse(params, state, y, context, train=train)

        return jax.checkpoint(inverse)(params, state, y, context)

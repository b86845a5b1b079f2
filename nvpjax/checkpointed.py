"""Training memory against arithmetic: layers keep their inputs, and what lies between is computed again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax

from nvpjax.bijector import Bijector
from nvpjax.chain import Chain
from nvpjax.multiscale import MultiScale
from nvpjax.repeat import Repeat


@dataclass(frozen=True)
class Checkpointed(Bijector):
    """The same bijector with another backward pass: each layer's input is kept, all else is computed a second time.

    Layers are the bijectors of chains and of the scales of a ``MultiScale``; what a ``Repeat`` repeats is one layer.
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

    def init(self, key, x, context=None):
        return self.bijector.init(key, x, context)

    def init_inverse(self, key, y, context=None):
        return self.bijector.init_inverse(key, y, context)

    def forward(self, params, state, x, context=None, *, train=False):
        return _by_layer(self.bijector).forward(params, state, x, context, train=train)

    def inverse(self, params, state, y, context=None, *, train=False):
        return _by_layer(self.bijector).inverse(params, state, y, context, train=train)

    def log_det(self, params, state, x, context=None):
        return _by_layer(self.bijector).log_det(params, state, x, context)


def _by_layer(bijector: Bijector) -> Bijector:
    """The bijector with every layer in it wrapped; params and state stay as they are."""
    match bijector:
        case Chain(bijectors):
            return Chain(map(_by_layer, bijectors))
        case MultiScale(scales):
            return MultiScale(map(_by_layer, scales))
        case Repeat():
            return replace(bijector, bijector=_Layer(bijector.bijector))
    return _Layer(bijector)


@dataclass(frozen=True)
class _Layer(Bijector):
    bijector: Bijector

    def init(self, key, x, context=None):
        return self.bijector.init(key, x, context)

    def forward(self, params, state, x, context=None, *, train=False):
        def forward(params, state, x, context):
            return self.bijector.forward(params, state, x, context, train=train)

        return jax.checkpoint(forward)(params, state, x, context)

    def inverse(self, params, state, y, context=None, *, train=False):
        def inverse(params, state, y, context):
            return self.bijector.inverse(params, state, y, context, train=train)

        return jax.checkpoint(inverse)(params, state, y, context)

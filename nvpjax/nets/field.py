"""Fields: networks of a point and a time, which say how the point moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from nvpjax.nets.conditioner import Network, with_context
from nvpjax.nets.convolve import Conv, convolve_inside_a_loop
from nvpjax.nets.initializers import last_kernel
from nvpjax.values import expect_at_least, expect_finite


@dataclass(frozen=True)
class ConcatSquash(Network):
    """The field network of FFJORD: dense layers, each scaled and shifted by the time.

        layer(h, t) = (W·h + b)·sigmoid(a·t + c) + e·t,     with a smooth activation between layers

    x is a point with the time as its last entry, as ``Continuous`` shows it; a context is appended to the point.

    Args: ``hidden``; ``activation``, smooth; ``final_scale``: as of ``MLP``, so that the field starts near 0.

    Shapes: x ``(batch, entries + 1)``, context ``(batch, anything)``, output ``(batch, outputs)``.

    Reference: Grathwohl et al., *FFJORD*, 2019, app. B.1; the layer after the authors' program.

    >>> import jax, jax.numpy as jnp
    >>> network = ConcatSquash(hidden=(8,))
    >>> params, state = network.init(jax.random.key(0), jnp.zeros((1, 3)), outputs=2)
    >>> network.apply(params, state, jnp.zeros((4, 3)), outputs=2)[0].shape
    (4, 2)
    """

    hidden: tuple[int, ...] = (64, 64, 64)
    activation: Callable[[jax.Array], jax.Array] = jnp.tanh
    final_scale: float = 0.1

    def __post_init__(self):
        object.__setattr__(self, "hidden", tuple(self.hidden))
        expect_at_least(self, 1, "hidden")
        expect_finite(self)

    def __call__(self, x: jax.Array, context: Any = None, *, outputs: int, train: bool = False) -> jax.Array:
        h, time = x[..., :-1], x[..., -1:]
        if context is not None:
            h = with_context(h, context)
        for number, features in enumerate((*self.hidden, outputs)):
            is_last = number == len(self.hidden)
            kernel = last_kernel(self.final_scale if is_last else 1.0)
            gate = jax.nn.sigmoid(linen.Dense(features)(time))
            shift = linen.Dense(features, use_bias=False, kernel_init=kernel)(time)
            h = linen.Dense(features, kernel_init=kernel)(h) * gate + shift
            h = h if is_last else self.activation(h)
        return h


@dataclass(frozen=True)
class FieldOfImages(Network):
    """The field network of FFJORD on images: 3x3 convolutions, with the time as one more channel of each.

    Args: ``features`` of each inner layer; ``activation``, smooth; ``final_scale``: as of ``MLP``.

    Shapes: x ``(batch, height, width, channels + 1)``, the time last; context None, or ``(batch, features)``, which is
    added after the first convolution; output ``(batch, height, width, outputs)``.

    Reference: Grathwohl et al., *FFJORD*, 2019, app. B.1.

    >>> import jax, jax.numpy as jnp
    >>> network, x = FieldOfImages(features=(4,)), jnp.zeros((2, 4, 4, 3))
    >>> params, state = network.init(jax.random.key(0), x, outputs=2)
    >>> network.apply(params, state, x, outputs=2)[0].shape
    (2, 4, 4, 2)
    """

    X_AXES = 4
    features: tuple[int, ...] = (64, 64, 64)
    activation: Callable[[jax.Array], jax.Array] = jax.nn.softplus
    final_scale: float = 0.1

    def __post_init__(self):
        object.__setattr__(self, "features", tuple(self.features))
        expect_at_least(self, 1, "features")
        expect_finite(self)

    def __call__(self, x: jax.Array, context: Any = None, *, outputs: int, train: bool = False) -> jax.Array:
        h, time = x[..., :-1], x[..., -1:]
        for number, features in enumerate((*self.features, outputs)):
            is_last = number == len(self.features)
            kernel = last_kernel(self.final_scale if is_last else 1.0)
            h = Conv(features, 3, kernel, convolve_inside_a_loop)(jnp.concatenate([h, time], axis=-1))
            if number == 0 and context is not None:
                h = h + linen.Dense(features, name="context")(context)[:, None, None, :]
            h = h if is_last else self.activation(h)
        return h

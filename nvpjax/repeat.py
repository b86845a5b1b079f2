"""Depth without longer programs: one layer, many times."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from nvpjax.bijector import Bijector, zero_log_det


@dataclass(frozen=True)
class Repeat(Bijector):
    """A bijector applied ``times`` times, each time with parameters of its own, as one ``lax.scan``.

        forward:  y = f_θₙ(… f_θ₂(f_θ₁(x))),     log_det = Σₖ log_detₖ

    ``params`` and ``state`` are those of the bijector with a leading axis of ``times``. The program that is compiled
    does not grow with ``times``. What alternates belongs inside: ``Repeat(Chain((coupling, other, Reverse())), 16)``.

    On the CPU backend convolutions inside a scan run several times slower than outside: there, a ``Chain`` of
    convolutional layers is the better choice.

    Errors: ValueError where the bijector changes the shape of events, or ``times`` < 1.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Chain, Repeat, Reverse, Triangular
    >>> deep = Repeat(Chain((Triangular(), Reverse())), times=32)
    >>> params, state = deep.init(jax.random.key(0), jnp.ones((3, 2)))
    >>> y, log_det, _ = deep.forward(params, state, jnp.ones((3, 2)))
    >>> params[0]["shift"].shape, log_det.shape
    ((32, 2), (3,))
    """

    bijector: Bijector
    times: int

    def __post_init__(self):
        if not isinstance(self.bijector, Bijector):
            raise TypeError(f"Repeat: expected a Bijector, got {self.bijector!r}.")
        if self.times < 1:
            raise ValueError(f"Repeat: expected times >= 1, got {self.times}.")

    def init(self, key, x, context=None):
        # Layer after layer, not all at once: a layer that measures in init sees what the layers before it make of x.
        def layer(x, key):
            params, state = self.bijector.init(key, x, context)
            y, _, _ = self.bijector.forward(params, state, x, context)
            self._check_shape(x, y)
            return y, (params, state)

        return jax.lax.scan(layer, x, jax.random.split(key, self.times))[1]

    def init_inverse(self, key, y, context=None):
        def layer(y, key):
            params, state = self.bijector.init_inverse(key, y, context)
            x, _ = self.bijector.inverse(params, state, y, context)
            self._check_shape(y, x)
            return x, (params, state)

        return jax.lax.scan(layer, y, jax.random.split(key, self.times), reverse=True)[1]

    def forward(self, params, state, x, context=None, *, train=False):
        def layer(carry, variables):
            x, total = carry
            y, log_det, state = self.bijector.forward(*variables, x, context, train=train)
            return (y, total + log_det), state

        (y, log_det), state = jax.lax.scan(layer, (x, zero_log_det(x)), (params, state), length=self.times)
        return y, log_det, state

    def inverse(self, params, state, y, context=None, *, train=False):
        def layer(carry, variables):
            y, total = carry
            x, log_det = self.bijector.inverse(*variables, y, context, train=train)
            return (x, total + log_det), None

        start = (y, zero_log_det(y))
        (x, log_det), _ = jax.lax.scan(layer, start, (params, state), length=self.times, reverse=True)
        return x, log_det

    def _check_shape(self, before, after):
        before, after = jax.tree.map(lambda a: (a.shape, a.dtype), (before, after))
        if before != after:
            raise ValueError(
                f"Repeat: expected a bijector that keeps shape and dtype of events, got {before} → {after} from "
                f"{self.bijector!r}. Use Chain."
            )

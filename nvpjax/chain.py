"""Composition and inversion of bijectors."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from nvpjax.bijector import Bijector, zero_log_det


@dataclass(frozen=True)
class Chain(Bijector):
    """Bijectors applied one after the other, in reading order.

        forward:  y = fₖ(… f₂(f₁(x))),     log_det = Σₖ log_detₖ

    ``params`` and ``state`` are tuples, one entry a bijector. The empty chain is the identity.

    Errors: ValueError where ``params`` or ``state`` belong to a chain of another length, TypeError where an entry is
    not a bijector.

    Reference: Real NVP, sec. 3.4, eq. 10 and 11.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Chain, Logit, Squeeze
    >>> chain = Chain((Logit(alpha=0.05), Squeeze()))
    >>> x = jnp.full((3, 4, 4, 1), 0.5)
    >>> params, state = chain.init(jax.random.key(0), x)
    >>> y, log_det, state = chain.forward(params, state, x)
    >>> y.shape, log_det.shape
    ((3, 2, 2, 4), (3,))
    """

    bijectors: tuple[Bijector, ...]

    def __post_init__(self):
        object.__setattr__(self, "bijectors", tuple(self.bijectors))
        for position, bijector in enumerate(self.bijectors):
            if not isinstance(bijector, Bijector):
                raise TypeError(f"Chain: expected a Bijector at position {position}, got {bijector!r}.")

    def init(self, key, x, context=None):
        params, states = [], []
        for bijector, bijector_key in zip(self.bijectors, jax.random.split(key, max(1, len(self.bijectors)))):
            bijector_params, state = bijector.init(bijector_key, x, context)
            x, _, _ = bijector.forward(bijector_params, state, x, context)
            params.append(bijector_params)
            states.append(state)
        return tuple(params), tuple(states)

    def init_inverse(self, key, y, context=None):
        params, states = [], []
        keys = jax.random.split(key, max(1, len(self.bijectors)))
        for bijector, bijector_key in zip(reversed(self.bijectors), keys):
            bijector_params, state = bijector.init_inverse(bijector_key, y, context)
            y, _ = bijector.inverse(bijector_params, state, y, context)
            params.append(bijector_params)
            states.append(state)
        return tuple(reversed(params)), tuple(reversed(states))

    def forward(self, params, state, x, context=None, *, train=False):
        _check_lengths(self, params, state)
        total, states = zero_log_det(x), []
        for bijector, bijector_params, bijector_state in zip(self.bijectors, params, state):
            x, log_det, bijector_state = bijector.forward(bijector_params, bijector_state, x, context, train=train)
            total += log_det
            states.append(bijector_state)
        return x, total, tuple(states)

    def inverse(self, params, state, y, context=None, *, train=False):
        _check_lengths(self, params, state)
        total = zero_log_det(y)
        for bijector, bijector_params, bijector_state in zip(
            reversed(self.bijectors), reversed(params), reversed(state)
        ):
            y, log_det = bijector.inverse(bijector_params, bijector_state, y, context, train=train)
            total += log_det
        return y, total

    def log_det(self, params, state, x, context=None):
        _check_lengths(self, params, state)
        total = zero_log_det(x)
        for position, (bijector, bijector_params, bijector_state) in enumerate(zip(self.bijectors, params, state)):
            if position == len(self.bijectors) - 1:  # what the last one makes of x is not needed
                return total + bijector.log_det(bijector_params, bijector_state, x, context)
            x, log_det, _ = bijector.forward(bijector_params, bijector_state, x, context)
            total += log_det
        return total


@dataclass(frozen=True)
class Inverse(Bijector):
    """A bijector turned round: its forward is the other's inverse.

        forward:  y = f⁻¹(x),     inverse:  x = f(y)

    A bijector that measures the batch (batch normalisation) does so in its own forward only, so turning it round is
    of use with ``train=False``.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Inverse, Squeeze
    >>> unsqueeze = Inverse(Squeeze())
    >>> params, state = unsqueeze.init(jax.random.key(0), jnp.zeros((1, 2, 2, 4)))
    >>> unsqueeze.forward(params, state, jnp.zeros((1, 2, 2, 4)))[0].shape
    (1, 4, 4, 1)
    """

    bijector: Bijector

    def __post_init__(self):
        if not isinstance(self.bijector, Bijector):
            raise TypeError(f"Inverse: expected a Bijector, got {self.bijector!r}.")

    def init(self, key, x, context=None):
        return self.bijector.init_inverse(key, x, context)

    def init_inverse(self, key, y, context=None):
        return self.bijector.init(key, y, context)

    def forward(self, params, state, x, context=None, *, train=False):
        y, log_det = self.bijector.inverse(params, state, x, context, train=train)
        return y, log_det, state

    def inverse(self, params, state, y, context=None, *, train=False):
        x, log_det, _ = self.bijector.forward(params, state, y, context, train=train)
        return x, log_det


def _check_lengths(chain: Chain, params, state):
    if not len(params) == len(state) == len(chain.bijectors):
        raise ValueError(
            f"Chain: expected params and state of {len(chain.bijectors)} bijectors, got {len(params)} and "
            f"{len(state)}: they come from another chain's init, or were passed in another order: (params, state, x)."
        )

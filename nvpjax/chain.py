"""Composition and inversion of bijectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax

from nvpjax.bijector import Bijector, PyTree, zero_log_det
from nvpjax.combinator import Combinator, Visit, added


@dataclass(frozen=True)
class Chain(Combinator):
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

    @property
    def parts(self) -> tuple[Bijector, ...]:
        return self.bijectors

    def with_parts(self, parts: Sequence[Bijector]) -> Chain:
        return Chain(tuple(parts))

    def split(self, tree: PyTree) -> Sequence[PyTree]:
        return tree

    def join(self, trees: Sequence[PyTree]) -> PyTree:
        return tuple(trees)

    def keys(self, key: jax.Array, *, back: bool) -> PyTree:
        keys = jax.random.split(key, max(1, len(self.bijectors)))[: len(self.bijectors)]
        return keys[::-1] if back else keys

    def go(
        self, visit: Visit, variables: tuple[PyTree, ...], x: PyTree, context: PyTree, *, back: bool = False
    ) -> tuple[PyTree, PyTree, PyTree]:
        _check_lengths(self, *variables)
        sums, outputs = visit.zero(x, context), [None] * len(self.bijectors)
        for position in reversed(range(len(self.bijectors))) if back else range(len(self.bijectors)):
            of_one = tuple(tree[position] for tree in variables)
            x, more, outputs[position] = visit(self.bijectors[position], of_one, x, context, back)
            sums = added(sums, more)
        return x, sums, tuple(outputs)

    def log_det(self, params: PyTree, state: PyTree, x: PyTree, context: PyTree = None) -> jax.Array:
        _check_lengths(self, params, state)
        total = zero_log_det(x)
        for position, (bijector, bijector_params, bijector_state) in enumerate(zip(self.bijectors, params, state)):
            if position == len(self.bijectors) - 1:  # what the last one makes of x is not needed
                return total + bijector.log_det(bijector_params, bijector_state, x, context)
            x, log_det, _ = bijector.forward(bijector_params, bijector_state, x, context)
            total += log_det
        return total


@dataclass(frozen=True)
class Inverse(Combinator):
    """A bijector turned round: its forward is the other's inverse.

        forward:  y = f⁻¹(x),     inverse:  x = f(y)

    A bijector that measures the batch (batch normalisation) does so in its own forward only: turned round it is of use
    with ``train=False``, and with ``train=True`` both directions refuse it. What measures nothing, or whose state holds
    whole numbers alone, takes both modes.

    Errors: TypeError for what is no bijector; ValueError for a measured state with ``train=True``.

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

    @property
    def parts(self) -> tuple[Bijector, ...]:
        return (self.bijector,)

    def with_parts(self, parts: Sequence[Bijector]) -> Inverse:
        return Inverse(*parts)

    def go(
        self, visit: Visit, variables: tuple[PyTree, ...], x: PyTree, context: PyTree, *, back: bool = False
    ) -> tuple[PyTree, PyTree, PyTree]:
        return visit(self.bijector, variables, x, context, not back)


def _check_lengths(chain: Chain, *variables):
    lengths = [len(tree) for tree in variables]
    if any(length != len(chain.bijectors) for length in lengths):
        raise ValueError(
            f"Chain: expected params and state of {len(chain.bijectors)} bijectors, got "
            f"{' and '.join(map(str, lengths))}: they come from another chain's init, or were passed in another order: "
            "(params, state, x)."
        )

"""Elementwise maps whose parameters a network gives: what a coupling does to the part that changes.

A transform has ``parameters_per_element``, the numbers that it wants from the network for every element, and

    init(key)                  -> params: what it learns itself, beside what the network gives
    forward(params, theta, x)  -> (y, log|∂y/∂x| of each element)
    inverse(params, theta, y)  -> (x, log|∂x/∂y| of each element)

with ``theta`` of shape ``(*x.shape[:-1], parameters_per_element * channels)``, parameter by parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from nvpjax.bijector import Bijector, PyTree
from nvpjax.bijectors.bounds import Bound, TanhBound


class Transform(Protocol):
    """What a coupling asks of a transform; see the head of this file."""

    @property
    def parameters_per_element(self) -> int: ...

    def init(self, key: jax.Array) -> PyTree: ...

    def forward(self, params: PyTree, theta: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]: ...

    def inverse(self, params: PyTree, theta: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]: ...


@dataclass(frozen=True)
class Additive:
    """Shift each element; volume is kept.

        y = x + t,     x = y − t,     log|∂y/∂x| = 0

    Reference: Dinh, Krueger, Bengio, *NICE*, 2014, eq. 8.
    """

    parameters_per_element = 1

    def init(self, key: jax.Array) -> PyTree:
        return ()

    def forward(self, params: PyTree, theta: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return x + theta, jnp.zeros_like(x)

    def inverse(self, params: PyTree, theta: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return y - theta, jnp.zeros_like(y)


@dataclass(frozen=True)
class Affine:
    """Shift, then scale each element, as the authors' program does.

        y = (x + t)·exp(s),     x = y·exp(−s) − t,     log|∂y/∂x| = s
        (t, r) from the network,     s = bound(r)

    Args: ``bound``: keeps the scale in limits; ``TanhBound``, ``SigmoidBound``, ``SoftClipBound`` or ``NoBound``.

    Reference: Real NVP, sec. 3.2 and 4.1; order of shift and scale after the authors' program (the paper's is
    ``PaperAffine``).
    """

    bound: Bound = TanhBound()
    parameters_per_element = 2

    def init(self, key: jax.Array) -> PyTree:
        return self.bound.init(key)

    def forward(self, params: PyTree, theta: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        t, r = jnp.split(theta, 2, axis=-1)
        s = self.bound.apply(params, r)
        return (x + t) * jnp.exp(s), s

    def inverse(self, params: PyTree, theta: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        t, r = jnp.split(theta, 2, axis=-1)
        s = self.bound.apply(params, r)
        return y * jnp.exp(-s) - t, -s


@dataclass(frozen=True)
class PaperAffine:
    """Scale, then shift each element, as the paper prints it.

        y = x·exp(s) + t,     x = (y − t)·exp(−s),     log|∂y/∂x| = s
        (t, r) from the network,     s = bound(r)

    Args: ``bound``: as of ``Affine``.

    Reference: Real NVP, eq. 4-8.
    """

    bound: Bound = TanhBound()
    parameters_per_element = 2

    def init(self, key: jax.Array) -> PyTree:
        return self.bound.init(key)

    def forward(self, params: PyTree, theta: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        t, r = jnp.split(theta, 2, axis=-1)
        s = self.bound.apply(params, r)
        return x * jnp.exp(s) + t, s

    def inverse(self, params: PyTree, theta: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        t, r = jnp.split(theta, 2, axis=-1)
        s = self.bound.apply(params, r)
        return (y - t) * jnp.exp(-s), -s


@dataclass(frozen=True)
class ElementwiseTransform:
    """Any bijector as a transform: each element is an event of its own, with parameters of its own.

        φ = φ₀ + θ,     y = f_φ(x),     log|∂y/∂x| = f_φ's log-det

    φ₀ are the bijector's parameters as its ``init`` gives them for one number, learned and shared by all elements; the
    network gives what is added to them.

    Args: ``bijector``: maps events of shape ``()``, has parameters and no state. A chain will do.

    Errors: ValueError where the bijector has no parameters, or measures a state.

    >>> import jax.numpy as jnp
    >>> from nvpjax import Chain, Scale, Softplus
    >>> ElementwiseTransform(Chain((Scale(), Softplus(), Scale()))).parameters_per_element
    2
    """

    bijector: Bijector

    def __post_init__(self):
        params, state = jax.eval_shape(self.bijector.init, jax.random.key(0), jax.ShapeDtypeStruct((1,), jnp.float32))
        if not jax.tree.leaves(params) or jax.tree.leaves(state):
            raise ValueError(
                f"ElementwiseTransform: expected a bijector with parameters and without state, got {self.bijector!r} "
                f"with params {params} and state {state}."
            )

    @property
    def parameters_per_element(self) -> int:
        params, _ = jax.eval_shape(self.bijector.init, jax.random.key(0), jax.ShapeDtypeStruct((1,), jnp.float32))
        return sum(leaf.size for leaf in jax.tree.leaves(params))

    def init(self, key: jax.Array) -> PyTree:
        return self.bijector.init(key, jnp.zeros(1))[0]

    def forward(self, params: PyTree, theta: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self._each(params, theta, x, lambda params, x: self.bijector.forward(params, self._state(), x)[:2])

    def inverse(self, params: PyTree, theta: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self._each(params, theta, y, lambda params, y: self.bijector.inverse(params, self._state(), y))

    def _state(self):
        return jax.eval_shape(self.bijector.init, jax.random.key(0), jax.ShapeDtypeStruct((1,), jnp.float32))[1]

    def _each(self, params, theta, x, function):
        start, restore = ravel_pytree(params)
        rows = by_parameter(theta, self.parameters_per_element).reshape(self.parameters_per_element, -1).T

        def element(row, value):
            result, log_derivative = function(restore((start + row).astype(start.dtype)), value[None])
            return result[0], log_derivative[0]

        y, log_derivative = jax.vmap(element)(rows, x.ravel())
        return y.reshape(x.shape).astype(x.dtype), log_derivative.reshape(x.shape)


def by_parameter(theta: jax.Array, parameters: int) -> jax.Array:
    """Turn what the network gives, ``(*batch, parameters * channels)``, into ``(parameters, *batch, channels)``."""
    *batch, numbers = theta.shape
    return jnp.moveaxis(theta.reshape(*batch, parameters, numbers // parameters), -2, 0)

"""Transforms one after the other, all told by the same network."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree, expect_part, log_det_dtype
from nvpjax.bijectors.transforms import Transform


@dataclass(frozen=True)
class InTurn:
    """Several transforms of an element, one after the other, each with numbers of its own from the network.

        y = T_n(… T₂(T₁(x))),     log|∂y/∂x| = Σ of all,     inverse: the inverses in reverse order

    ``InTurn((LogisticMixture(8), LogisticMixture(8)))`` in an ``Autoregressive`` is a deep sigmoidal flow, a neural
    autoregressive flow; ``InTurn((CircularSpline(), Additive()))`` bends a circle, then turns it.

    Errors: ValueError for no transform, TypeError for what is none.

    Reference: Huang, Krueger, Lacoste, Courville, *Neural autoregressive flows*, 2018, sec. 3.1, eq. 8-10.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Additive, Affine
    >>> both = InTurn((Additive(), Affine()))
    >>> params, theta = both.init(jax.random.key(0)), jnp.array([[1.0, 2.0, 0.0]])
    >>> both.parameters_per_element, float(both.forward(params, theta, jnp.array([[0.5]]))[0][0, 0])
    (3, 3.5)
    """

    transforms: tuple[Transform, ...]

    def __post_init__(self):
        object.__setattr__(self, "transforms", tuple(self.transforms))
        if not self.transforms:
            raise ValueError("InTurn: expected at least one transform, got none.")
        for transform in self.transforms:
            expect_part("InTurn", transform, "transform", "Affine()", "parameters_per_element")

    @property
    def parameters_per_element(self) -> int:
        return sum(transform.parameters_per_element for transform in self.transforms)

    def init(self, key: jax.Array) -> PyTree:
        keys = jax.random.split(key, len(self.transforms))
        return tuple(transform.init(one) for transform, one in zip(self.transforms, keys))

    def forward(self, params: PyTree, theta: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        log_derivative = jnp.zeros(x.shape, log_det_dtype(theta))
        for transform, own, numbers in zip(self.transforms, params, self._split(theta)):
            x, more = transform.forward(own, numbers, x)
            log_derivative += more
        return x, log_derivative

    def inverse(self, params: PyTree, theta: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        log_derivative = jnp.zeros(y.shape, log_det_dtype(theta))
        for transform, own, numbers in reversed(list(zip(self.transforms, params, self._split(theta)))):
            y, more = transform.inverse(own, numbers, y)
            log_derivative += more
        return y, log_derivative

    def _split(self, theta):
        channels, ends, numbers = theta.shape[-1] // self.parameters_per_element, [], 0
        for transform in self.transforms[:-1]:
            numbers += transform.parameters_per_element * channels
            ends.append(numbers)
        return jnp.split(theta, ends, axis=-1)

"""A flow: a bijector and the distribution of its latents, together a density over data."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from nvpjax.bijector import Bijector, PyTree, expect_floating
from nvpjax.distributions import Distribution, ForeignDistribution, StandardNormal


@dataclass(frozen=True)
class Flow:
    """A normalizing flow: the density of x whose latents z = f(x) follow ``base``.

        log p(x) = log p_Z(f(x)) + log|det ∂f(x)/∂x|
        x ~ p:  z ~ p_Z,  x = f⁻¹(z)

    ``base`` is a ``Distribution``, or any object with ``log_prob`` and ``sample`` as distrax and TFP have them.

    All results are in nats. ``params`` and ``state`` are trees of arrays; every method is pure and can be jitted.

    Reference: Real NVP, eq. 2 and 3.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Chain, Flow, StandardNormal
    >>> flow = Flow(Chain(()), StandardNormal())
    >>> params, state = flow.init(jax.random.key(0), jnp.zeros((1, 2)))
    >>> log_prob, state = flow.log_prob(params, state, jnp.zeros((4, 2)))
    >>> flow.sample(jax.random.key(1), params, state, (5, 2)).shape, log_prob.shape
    ((5, 2), (4,))
    """

    bijector: Bijector
    base: Distribution = StandardNormal()

    def __post_init__(self):
        if not isinstance(self.bijector, Bijector):
            raise TypeError(f"Flow: expected a Bijector, got {self.bijector!r}.")
        if not isinstance(self.base, Distribution):
            object.__setattr__(self, "base", ForeignDistribution(self.base))

    def init(self, key: jax.Array, x: PyTree, context: PyTree = None) -> tuple[PyTree, PyTree]:
        """Give ``(params, state)`` for data shaped like ``x``."""
        expect_floating("Flow", x)
        bijector_key, base_key = jax.random.split(key)
        params, state = self.bijector.init(bijector_key, x, context)
        z, _, _ = self.bijector.forward(params, state, x, context)
        return {"bijector": params, "base": self.base.init(base_key, z, context)}, state

    def log_prob(
        self, params: PyTree, state: PyTree, x: PyTree, context: PyTree = None, *, train: bool = False
    ) -> tuple[jax.Array, PyTree]:
        """Give ``(log p(x), state)``; log p(x) in nats, shape ``(batch,)``."""
        expect_floating("Flow", x)
        z, log_det, state = self.bijector.forward(params["bijector"], state, x, context, train=train)
        return self.base.log_prob(params["base"], z, context) + log_det, state

    def sample(
        self,
        key: jax.Array,
        params: PyTree,
        state: PyTree,
        shape: tuple[int, ...],
        context: PyTree = None,
        dtype: jnp.dtype = jnp.float32,
    ) -> jax.Array:
        """Draw x of ``shape``, which is ``(number, *event)``."""
        return self.sample_and_log_prob(key, params, state, shape, context, dtype)[0]

    def sample_and_log_prob(
        self,
        key: jax.Array,
        params: PyTree,
        state: PyTree,
        shape: tuple[int, ...],
        context: PyTree = None,
        dtype: jnp.dtype = jnp.float32,
    ) -> tuple[jax.Array, jax.Array]:
        """Draw x of ``shape`` ``(number, *event)`` and give ``(x, log p(x))``; log p(x) in nats, ``(number,)``."""
        like = self.latents_like(params, state, shape, context, dtype)
        z = self.base.sample(key, params["base"], like, context)
        x, log_det = self.bijector.inverse(params["bijector"], state, z, context)
        return x, self.base.log_prob(params["base"], z, context) - log_det

    def latents_like(
        self,
        params: PyTree,
        state: PyTree,
        shape: tuple[int, ...],
        context: PyTree = None,
        dtype: jnp.dtype = jnp.float32,
    ) -> PyTree:
        """Give the shapes and dtypes of the latents of data of ``shape``, without computing anything."""
        x = jax.ShapeDtypeStruct(shape, dtype)
        return jax.eval_shape(self.bijector.forward, params["bijector"], state, x, context)[0]

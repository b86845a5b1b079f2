"""Samples without the noise that a density was trained with."""

from __future__ import annotations

import math

import jax

from nvpjax.bijector import PyTree
from nvpjax.flow import Density


def denoised(density: Density, y: jax.Array, deviation: float, context: PyTree = None) -> jax.Array:
    """The mean of what noisy y may have been without its noise, where the density is one of noisy data.

        E[x | y] = y + σ² ∇ log p(y),     y = x + σ ε,  ε ~ N(0, I)

    Args: ``density``: of y, as trained with ``GaussianDequantization(deviation)``. ``y``: ``(batch, *event)``.
    ``deviation``: σ. Errors: ValueError for a deviation that is not above 0.

    Reference: Robbins, 1956, and Miyasawa, 1961 (Tweedie's formula); for samples of flows: Zhai et al., *Normalizing
    flows are capable generative models* (TarFlow), 2024, sec. 3.4.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Chain, Flow
    >>> flow = Flow(Chain(()))  # N(0, 1): of x ~ N(0, 0.75) and σ = 0.5
    >>> density = flow.at(*flow.init(jax.random.key(0), jnp.zeros((1, 2))))
    >>> denoised(density, jnp.array([[1.0, -2.0]]), 0.5).tolist()
    [[0.75, -1.5]]
    """
    if not 0 < deviation < math.inf:
        raise ValueError(f"denoised: expected deviation > 0, got {deviation}.")
    score = jax.grad(lambda y: density.log_prob(y, context).sum())(y)
    return y + deviation**2 * score

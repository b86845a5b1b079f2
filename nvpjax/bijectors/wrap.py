"""Angles as numbers: which of the numbers that name one angle is taken."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from nvpjax.bijectors.elementwise import Elementwise


@dataclass(frozen=True)
class Wrap(Elementwise):
    """Angles, in radians, as numbers between −π and π: the identity of the circle.

        y = wrap(x),     x = wrap(y),     wrap(x) = x − 2π·⌊(x + π)/2π⌋,     log_det = 0

    x and x + 2π are one angle. The maps of circles here (``CircularSpline``, ``Moebius``, ``NonCompactProjection``,
    and ``Shift`` or ``Additive``, which turn) go on past π: f(x + 2π) = f(x) + 2π, so they take any of the numbers of
    an angle, have no seam, and can be composed; their bases (``UniformCircle``, ``VonMises``) have one density for
    all of them. Put Wrap first in a chain, and samples are numbers between −π and π, as data are.

    As a map of the line it is one to one between −π and π alone.

    >>> import jax.numpy as jnp
    >>> Wrap().forward((), (), jnp.array([[3.0, 4.0]]))[0].round(4).tolist()
    [[3.0, -2.2832000255584717]]
    """

    def function(self, x: jax.Array) -> jax.Array:
        return x - 2 * math.pi * whole_turns(x)

    def inverse_function(self, y: jax.Array) -> jax.Array:
        return self.function(y)

    def log_derivative(self, x: jax.Array) -> jax.Array:
        return jnp.zeros_like(x)


def whole_turns(x: jax.Array) -> jax.Array:
    """How often 2π is to be taken from an angle for a number between −π and π."""
    return jax.lax.stop_gradient(jnp.floor((x + math.pi) / (2 * math.pi)))

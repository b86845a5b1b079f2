"""A rational-quadratic spline on the circle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree, log_det_dtype
from nvpjax.bijectors.spline import Bin, bin_with, marked_slope, spline_forward, spline_inverse
from nvpjax.bijectors.wrap import whole_turns
from nvpjax.values import expect_at_least, expect_finite


@dataclass(frozen=True)
class CircularSpline:
    """A monotone rational-quadratic spline on a circle: of angles, in radians, with slopes that meet at the seam.

        y = spline(x − 2πn) + 2πn,     n = ⌊(x + π)/2π⌋,     with spline as of ``RationalQuadraticSpline`` on [−π, π]

    Its slope at π is that at −π, so it is smooth everywhere. −π, and so π, stays where it is: put ``Additive`` beside
    it (``InTurn((CircularSpline(), Additive()))``), and the network turns the circle too.

    The network gives, for each element, ``bins`` widths, heights (by softmax) and slopes (by softplus). All zeros give
    the identity.

    Args: ``bins``; ``minimum``: as of ``RationalQuadraticSpline``. x is any of the numbers of an angle (see ``Wrap``).
    Computed in at least float32, whatever the dtype of x.

    Reference: Rezende et al., *Normalizing flows on tori and spheres*, 2020, sec. 2.1.2.

    >>> import jax.numpy as jnp
    >>> spline = CircularSpline(bins=4)
    >>> theta = jnp.linspace(-2, 2, 12).reshape(1, 12)
    >>> here, _ = spline.forward((), theta, jnp.array([[0.5]]))
    >>> a_turn_later, _ = spline.forward((), theta, jnp.array([[0.5 + 2 * jnp.pi]]))
    >>> round(float((a_turn_later - here)[0, 0] / jnp.pi), 4)
    2.0
    """

    bins: int = 8
    minimum: float = 1e-3

    def __post_init__(self):
        expect_at_least(self, 1, "bins")
        expect_finite(self)
        if not 0 < self.minimum * self.bins < 1:
            raise ValueError(f"CircularSpline: expected 0 < minimum < 1/bins, got {self!r}.")

    @property
    def parameters_per_element(self) -> int:
        return 3 * self.bins

    def init(self, key: jax.Array) -> PyTree:
        return ()

    def forward(self, params: PyTree, theta: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self._map(spline_forward, "left", theta, x)

    def inverse(self, params: PyTree, theta: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self._map(spline_inverse, "bottom", theta, y)

    def _map(self, spline, searched, theta, value):
        dtype = log_det_dtype(theta)
        *batch, channels = value.shape
        numbers = theta.astype(dtype).reshape(*batch, self.parameters_per_element, channels)
        widths, heights, slopes = jnp.split(numbers, 3, axis=-2)
        turns = 2 * math.pi * whole_turns(value.astype(dtype))
        angle = value.astype(dtype) - turns
        edges, here = bin_with(widths, heights, angle, searched, math.pi, self.minimum)
        slope = marked_slope(here, slopes, self.minimum)
        next_slope = marked_slope(jnp.roll(here, 1, axis=-2), slopes, self.minimum)
        everywhere = jnp.ones_like(here[..., 0, :])
        result, log_derivative = jax.checkpoint(spline)(Bin(*edges, slope, next_slope, everywhere), angle)
        return (result + turns).astype(value.dtype), log_derivative

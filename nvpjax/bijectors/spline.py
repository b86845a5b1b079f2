"""Monotone splines as transforms: flexible, and invertible in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nvpjax.bijector import PyTree, log_det_dtype
from nvpjax.values import expect_at_least, expect_finite


@dataclass(frozen=True)
class RationalQuadraticSpline:
    """A monotone rational-quadratic spline on [−limit, limit], the identity outside of it.

    With knots (xₖ, yₖ), slopes δₖ at the knots, wₖ = xₖ₊₁ − xₖ, hₖ = yₖ₊₁ − yₖ, sₖ = hₖ/wₖ, ξ = (x − xₖ)/wₖ in bin k:

        y = yₖ + hₖ·(sₖξ² + δₖξ(1−ξ)) / d,     d = sₖ + (δₖ₊₁ + δₖ − 2sₖ)·ξ(1−ξ)
        ∂y/∂x = sₖ²·(δₖ₊₁ξ² + 2sₖξ(1−ξ) + δₖ(1−ξ)²) / d²
        inverse: the root of a quadratic in ξ, in the form that does not cancel

    The network gives, for each element, ``bins`` widths and heights (by softmax) and ``bins − 1`` inner slopes (by
    softplus); the outer slopes are 1, so that the tails join smoothly. All zeros give the identity.

    Args: ``bins``; ``limit``: half the width of the square that the spline bends; ``minimum``: the smallest share of a
    bin's width and height, and the smallest slope, which bounds how much the inverse can enlarge errors.

    Computed in at least float32, whatever the dtype of x: sums of widths would lose a coarser one.

    Reference: Durkan, Bekasov, Murray, Papamakarios, *Neural Spline Flows*, 2019, eq. 4-8; Gregory, Delbourgo, 1982.

    >>> import jax.numpy as jnp
    >>> spline = RationalQuadraticSpline(bins=4)
    >>> y, log_derivative = spline.forward((), jnp.zeros((1, 22)), jnp.array([[-0.5, 2.0]]))
    >>> y.round(4).tolist(), bool(jnp.all(jnp.abs(log_derivative) < 1e-6))
    ([[-0.5, 2.0]], True)
    """

    bins: int = 8
    limit: float = 4.0
    minimum: float = 1e-3

    def __post_init__(self):
        expect_at_least(self, 1, "bins")
        expect_finite(self)
        if not (self.limit > 0 and 0 < self.minimum * self.bins < 1):
            raise ValueError(f"RationalQuadraticSpline: expected limit > 0 and 0 < minimum < 1/bins, got {self!r}.")

    @property
    def parameters_per_element(self) -> int:
        return 3 * self.bins - 1

    def init(self, key: jax.Array) -> PyTree:
        return ()

    def forward(self, params: PyTree, theta: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.checkpoint(_forward)(self._bin(theta, x, searched="left"), x)

    def inverse(self, params: PyTree, theta: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.checkpoint(_inverse)(self._bin(theta, y, searched="bottom"), y)

    def _bin(self, theta, value, searched):
        """The bin of each element, as far as x ("left") or y ("bottom") tells; outside the square, any."""
        dtype = log_det_dtype(theta)
        *batch, channels = value.shape
        numbers = theta.astype(dtype).reshape(*batch, self.parameters_per_element, channels)
        widths, heights, slopes = jax.lax.split(numbers, (self.bins, self.bins, self.bins - 1), axis=len(batch))
        widths, heights = map(_powers, (widths, heights))
        value = value.astype(dtype)
        number = self._number(*jax.lax.stop_gradient((widths if searched == "left" else heights, value)))
        # Sums over marked bins, whose gradients are the marks again: no array of edges to go back through.
        bins = np.arange(self.bins)[:, None]
        here, before = bins == number[..., None, :], bins < number[..., None, :]

        def edge_and_size(shares):
            scale = 2 * self.limit * (1 - self.minimum * self.bins) / jnp.sum(shares, axis=-2)
            edge = self._least * number - self.limit + scale * jnp.sum(jnp.where(before, shares, 0), axis=-2)
            return edge, self._least + scale * jnp.sum(jnp.where(here, shares, 0), axis=-2)

        # softplus(θ + shift) is 1 at θ = 0, which the outer slopes have in place of the network's say
        shift = math.log(math.expm1(1 - self.minimum))

        def slope(marked):
            return self.minimum + jax.nn.softplus(jnp.sum(jnp.where(marked, slopes, 0), axis=-2) + shift)

        (left, width), (bottom, height) = edge_and_size(widths), edge_and_size(heights)
        return _Bin(
            left, bottom, width, height, slope(here[..., 1:, :]), slope(here[..., :-1, :]), jnp.abs(value) < self.limit
        )

    def _number(self, shares, value):
        """Of the bin that each value lies in: how many inner edges it has reached."""
        scale = 2 * self.limit * (1 - self.minimum * self.bins) / jnp.sum(shares, axis=-2)
        number = below = jnp.zeros_like(value)
        for edge in range(1, self.bins):
            below += shares[..., edge - 1, :]
            number += value >= self._least * edge - self.limit + scale * below
        return number

    @property
    def _least(self) -> float:
        """The smallest width and height of a bin."""
        return 2 * self.limit * self.minimum


class _Bin(NamedTuple):
    left: jax.Array
    bottom: jax.Array
    width: jax.Array
    height: jax.Array
    slope: jax.Array
    next_slope: jax.Array
    inside: jax.Array


def _powers(numbers):
    """exp, up to a factor that shares do not see."""
    return jnp.exp(numbers - jax.lax.stop_gradient(jnp.max(numbers, axis=-2, keepdims=True)))


def _forward(here, x):
    s = here.height / here.width
    xi = jnp.where(here.inside, (x.astype(s.dtype) - here.left) / here.width, 0.5)
    product = xi * (1 - xi)
    denominator = s + (here.next_slope + here.slope - 2 * s) * product
    y = here.bottom + here.height * (s * jnp.square(xi) + here.slope * product) / denominator
    log_derivative = _log_derivative(xi, s, here.slope, here.next_slope, denominator)
    return jnp.where(here.inside, y.astype(x.dtype), x), jnp.where(here.inside, log_derivative, 0)


def _inverse(here, y):
    s = here.height / here.width
    rise = jnp.where(here.inside, (y.astype(s.dtype) - here.bottom) / here.height, 0.5)
    curvature = here.next_slope + here.slope - 2 * s
    # a·ξ² + b·ξ + c = 0, divided by the bin's height
    a = s - here.slope + rise * curvature
    b = here.slope - rise * curvature
    c = -s * rise
    xi = 2 * c / (-b - jnp.sqrt(jnp.square(b) - 4 * a * c))
    denominator = s + curvature * xi * (1 - xi)
    x = here.left + here.width * xi
    log_derivative = _log_derivative(xi, s, here.slope, here.next_slope, denominator)
    return jnp.where(here.inside, x.astype(y.dtype), y), jnp.where(here.inside, -log_derivative, 0)


def _log_derivative(xi, s, slope, next_slope, denominator):
    numerator = next_slope * jnp.square(xi) + 2 * s * xi * (1 - xi) + slope * jnp.square(1 - xi)
    return 2 * jnp.log(s / denominator) + jnp.log(numerator)

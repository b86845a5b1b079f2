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
        return jax.checkpoint(spline_forward)(self._bin(theta, x, searched="left"), x)

    def inverse(self, params: PyTree, theta: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.checkpoint(spline_inverse)(self._bin(theta, y, searched="bottom"), y)

    def _bin(self, theta, value, searched):
        """The bin of each element, as far as x ("left") or y ("bottom") tells; outside the square, any."""
        dtype = log_det_dtype(theta)
        *batch, channels = value.shape
        numbers = theta.astype(dtype).reshape(*batch, self.parameters_per_element, channels)
        widths, heights, slopes = jax.lax.split(numbers, (self.bins, self.bins, self.bins - 1), axis=len(batch))
        value = value.astype(dtype)
        edges, here = bin_with(widths, heights, value, searched, self.limit, self.minimum)
        # Of the outer knots no slope is marked: 1, as the tails have it.
        slope = marked_slope(here[..., 1:, :], slopes, self.minimum)
        next_slope = marked_slope(here[..., :-1, :], slopes, self.minimum)
        return Bin(*edges, slope, next_slope, jnp.abs(value) < self.limit)


class Bin(NamedTuple):
    """Where an element is: its bin's edges, and the slopes at its two knots."""

    left: jax.Array
    bottom: jax.Array
    width: jax.Array
    height: jax.Array
    slope: jax.Array
    next_slope: jax.Array
    inside: jax.Array


def bin_with(
    widths: jax.Array, heights: jax.Array, value: jax.Array, searched: str, limit: float, minimum: float
) -> tuple[tuple[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]:
    """The bin that each element of ``value`` lies in, as far as x ("left") or y ("bottom") tells; outside, any.

    From what a network gives for shares of [−limit, limit], ``(*batch, bins, channels)``: left, bottom, width and
    height of the bin, and which one it is as a mark among all bins.
    """
    bins = widths.shape[-2]
    least, spread = 2 * limit * minimum, 2 * limit * (1 - minimum * bins)
    widths, heights = map(_powers, (widths, heights))

    def number_of_bin(shares, value):
        """How many inner edges a value has reached."""
        scale = spread / jnp.sum(shares, axis=-2)
        number = below = jnp.zeros_like(value)
        for edge in range(1, bins):
            below += shares[..., edge - 1, :]
            number += value >= least * edge - limit + scale * below
        return number

    number = number_of_bin(*jax.lax.stop_gradient((widths if searched == "left" else heights, value)))
    # Sums over marked bins, whose gradients are the marks again: no array of edges to go back through.
    numbers = np.arange(bins)[:, None]
    here, before = numbers == number[..., None, :], numbers < number[..., None, :]

    def edge_and_size(shares):
        scale = spread / jnp.sum(shares, axis=-2)
        edge = least * number - limit + scale * jnp.sum(jnp.where(before, shares, 0), axis=-2)
        return edge, least + scale * jnp.sum(jnp.where(here, shares, 0), axis=-2)

    (left, width), (bottom, height) = edge_and_size(widths), edge_and_size(heights)
    return (left, bottom, width, height), here


def marked_slope(marks: jax.Array, slopes: jax.Array, minimum: float) -> jax.Array:
    """The slope that is marked for each element, 1 where the network says 0, and where none is marked."""
    shift = math.log(math.expm1(1 - minimum))
    return minimum + jax.nn.softplus(jnp.sum(jnp.where(marks, slopes, 0), axis=-2) + shift)


def _powers(numbers):
    """exp, up to a factor that shares do not see."""
    return jnp.exp(numbers - jax.lax.stop_gradient(jnp.max(numbers, axis=-2, keepdims=True)))


def spline_forward(here: Bin, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    s = here.height / here.width
    xi = jnp.where(here.inside, (x.astype(s.dtype) - here.left) / here.width, 0.5)
    product = xi * (1 - xi)
    denominator = s + (here.next_slope + here.slope - 2 * s) * product
    y = here.bottom + here.height * (s * jnp.square(xi) + here.slope * product) / denominator
    log_derivative = _log_derivative(xi, s, here.slope, here.next_slope, denominator)
    return jnp.where(here.inside, y.astype(x.dtype), x), jnp.where(here.inside, log_derivative, 0)


def spline_inverse(here: Bin, y: jax.Array) -> tuple[jax.Array, jax.Array]:
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

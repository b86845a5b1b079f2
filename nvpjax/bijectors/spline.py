"""Monotone splines as transforms: flexible, and invertible in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from nvpjax.bijector import log_det_dtype
from nvpjax.bijectors.transforms import by_parameter


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
        if not (self.bins >= 1 and self.limit > 0 and 0 < self.minimum * self.bins < 1):
            raise ValueError(
                f"RationalQuadraticSpline: expected bins >= 1, limit > 0 and 0 < minimum < 1/bins, got {self!r}."
            )

    @property
    def parameters_per_element(self) -> int:
        return 3 * self.bins - 1

    def init(self, key):
        return ()

    def forward(self, params, theta, x):
        left, bottom, width, height, slope, next_slope, inside = self._bin(theta, x, searched="left")
        s = height / width
        xi = jnp.where(inside, (x.astype(width.dtype) - left) / width, 0.5)
        product = xi * (1 - xi)
        denominator = s + (next_slope + slope - 2 * s) * product
        y = bottom + height * (s * jnp.square(xi) + slope * product) / denominator
        log_derivative = _log_derivative(xi, s, slope, next_slope, denominator)
        return jnp.where(inside, y.astype(x.dtype), x), jnp.where(inside, log_derivative, 0)

    def inverse(self, params, theta, y):
        left, bottom, width, height, slope, next_slope, inside = self._bin(theta, y, searched="bottom")
        s = height / width
        rise = jnp.where(inside, (y.astype(width.dtype) - bottom) / height, 0.5)
        curvature = next_slope + slope - 2 * s
        # a·ξ² + b·ξ + c = 0, divided by the bin's height
        a = s - slope + rise * curvature
        b = slope - rise * curvature
        c = -s * rise
        xi = 2 * c / (-b - jnp.sqrt(jnp.square(b) - 4 * a * c))
        denominator = s + curvature * xi * (1 - xi)
        x = left + width * xi
        log_derivative = _log_derivative(xi, s, slope, next_slope, denominator)
        return jnp.where(inside, x.astype(y.dtype), y), jnp.where(inside, -log_derivative, 0)

    def _bin(self, theta, value, searched):
        """The bin of each element: its left and bottom edge, width, height, slopes; and whether it is in the square."""
        dtype = log_det_dtype(theta)
        numbers = by_parameter(theta.astype(dtype), self.parameters_per_element)
        widths, heights, slopes = jnp.split(numbers, [self.bins, 2 * self.bins])
        widths, lefts = self._widths_and_edges(widths)
        heights, bottoms = self._widths_and_edges(heights)
        # softplus(θ + shift) is 1 at θ = 0
        shift = np.log(np.expm1(1 - self.minimum))
        slopes = self.minimum + jax.nn.softplus(slopes + shift)
        ends = jnp.ones((1, *slopes.shape[1:]), dtype)
        slopes = jnp.concatenate([ends, slopes, ends])

        value = value.astype(dtype)
        inside = jnp.abs(value) < self.limit
        edges = lefts if searched == "left" else bottoms
        # The last edge that is not beyond the value; the lowest stands in for values outside, whose result is not used.
        reached = jnp.concatenate([jnp.ones((1, *value.shape), bool), value >= edges[1:]])
        here = reached & ~jnp.concatenate([reached[1:], jnp.zeros((1, *value.shape), bool)])

        def at_bin(a):
            return jnp.sum(jnp.where(here, a, 0), axis=0)

        return *map(at_bin, (lefts, bottoms, widths, heights, slopes[:-1], slopes[1:])), inside

    def _widths_and_edges(self, numbers):
        shares = self.minimum + (1 - self.minimum * self.bins) * jax.nn.softmax(numbers, axis=0)
        widths = 2 * self.limit * shares
        return widths, jnp.cumsum(widths, axis=0) - widths - self.limit


def _log_derivative(xi, s, slope, next_slope, denominator):
    numerator = next_slope * jnp.square(xi) + 2 * s * xi * (1 - xi) + slope * jnp.square(1 - xi)
    return 2 * (jnp.log(s) - jnp.log(denominator)) + jnp.log(numerator)

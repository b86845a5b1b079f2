"""Bernstein polynomials as transforms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree, log_det_dtype
from nvpjax.bijectors.root import solve_increasing
from nvpjax.bijectors.transforms import by_parameter
from nvpjax.values import expect_at_least, expect_finite


@dataclass(frozen=True)
class BernsteinPolynomial:
    """An increasing polynomial on [−limit, limit], and beyond it the straight lines that touch it at the ends.

    With c the nearest point of [−limit, limit] to x, t = (c + limit)/(2·limit), n = ``degree``:

        B(c) = −limit + 2·limit·Σₖ (w₁ + … + wₖ)·C(n, k)·tᵏ·(1 − t)ⁿ⁻ᵏ,     k = 1 … n
        y = B(c) + B'(c)·(x − c),     log|∂y/∂x| = log B'(c)

    The network gives, for each element, ``degree`` numbers, which softmax makes the shares w, each at least
    ``minimum``. All zeros give the identity. Slopes lie between n·minimum and n; at the ends they are continuous, and
    no more.

    Inverse: ``root.solve_increasing`` between −limit and limit to the tolerance stated there; beyond, in closed form.

    Args: ``degree``; ``limit``: half the width of what is bent, so bring data to about unit scale first; ``minimum``.
    Computed in at least float32, whatever the dtype of x.

    Reference: Ramasinghe, Fernando, Khan, Barnes, *Robust normalizing flows using Bernstein-type polynomials*, 2022,
    sec. 3; the lines beyond the ends are ours.

    >>> import jax.numpy as jnp
    >>> polynomial = BernsteinPolynomial(degree=4, limit=2.0)
    >>> y, log_derivative = polynomial.forward((), jnp.zeros((1, 4)), jnp.array([[-5.0]]))
    >>> y.round(4).tolist(), bool(jnp.abs(log_derivative[0, 0]) < 1e-6)
    ([[-5.0]], True)
    """

    degree: int = 16
    limit: float = 4.0
    minimum: float = 1e-3

    def __post_init__(self):
        expect_at_least(self, 1, "degree")
        expect_finite(self)
        if not (self.limit > 0 and 0 < self.minimum * self.degree < 1):
            raise ValueError(f"BernsteinPolynomial: expected limit > 0 and 0 < minimum < 1/degree, got {self!r}.")

    @property
    def parameters_per_element(self) -> int:
        return self.degree

    def init(self, key: jax.Array) -> PyTree:
        return ()

    def forward(self, params: PyTree, theta: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        shares, wide = self._shares(theta), x.astype(log_det_dtype(theta)).ravel()
        inside = jnp.clip(wide, -self.limit, self.limit)
        slope = self._slope(shares, inside)
        y = self._value(shares, inside) + slope * (wide - inside)
        return y.reshape(x.shape).astype(x.dtype), jnp.log(slope).reshape(x.shape)

    def inverse(self, params: PyTree, theta: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        shares, wide = self._shares(theta), y.astype(log_det_dtype(theta)).ravel()
        inside = jnp.clip(wide, -self.limit, self.limit)
        ends = jnp.full_like(wide, self.limit)
        root = solve_increasing(lambda x: self._value(shares, x), inside, -ends, ends)
        # Beyond the ends the slope is that at the end itself: a root an epsilon beside it may have quite another.
        root = jnp.where(jnp.abs(wide) < self.limit, root, inside)
        slope = self._slope(shares, root)
        x = root + (wide - inside) / slope
        return x.reshape(y.shape).astype(y.dtype), -jnp.log(slope).reshape(y.shape)

    def _shares(self, theta):
        """Of all elements in one row, ``(degree, elements)``."""
        numbers = by_parameter(theta.astype(log_det_dtype(theta)), self.degree).reshape(self.degree, -1)
        return self.minimum + (1 - self.minimum * self.degree) * jax.nn.softmax(numbers, axis=0)

    def _value(self, shares, x):
        basis = _bernstein(self.degree, self._place(x))[1:]
        # Shares times what of the basis lies at or above them: a sum of positive terms.
        above = jnp.cumsum(basis[::-1], axis=0)[::-1]
        return 2 * self.limit * jnp.sum(shares * above, axis=0) - self.limit

    def _slope(self, shares, x):
        return self.degree * jnp.sum(shares * _bernstein(self.degree - 1, self._place(x)), axis=0)

    def _place(self, x):
        return (x + self.limit) / (2 * self.limit)


def _bernstein(degree, t):
    """All polynomials of a degree at t, ``(degree + 1, elements)``: products, since powers have no slope at 0⁰."""
    up, down = [jnp.ones_like(t)], [jnp.ones_like(t)]
    for _ in range(degree):
        up.append(up[-1] * t)
        down.append(down[-1] * (1 - t))
    return jnp.stack([math.comb(degree, k) * up[k] * down[degree - k] for k in range(degree + 1)])

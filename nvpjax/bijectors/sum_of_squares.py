"""Sum-of-squares polynomials as transforms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from nvpjax.bijector import PyTree, log_det_dtype
from nvpjax.bijectors.root import solve_increasing
from nvpjax.bijectors.transforms import by_parameter
from nvpjax.values import expect_at_least, expect_finite


@dataclass(frozen=True)
class SumOfSquares:
    """An increasing polynomial: the integral of a sum of squares, in closed form.

        p_k(u) = Σ_l a_kl·u^l,  l = 0 … degree;     y = b + minimum·x + ∫₀ˣ Σₖ p_k(u)² du
        log|∂y/∂x| = log(minimum + Σₖ p_k(x)²)

    The network gives, for each element, b and what is added to the learned coefficients a, of which the first
    polynomial starts as nearly 1 and the others as small powers: near the identity. Two polynomials are all that any
    slope which is a positive polynomial needs.

    y grows as x to the power 2·degree + 1: bring data to about unit scale first. Inverse: ``root.solve_increasing``, to
    the tolerance stated there, between 0 and (y − b)/minimum, which no slope lets x leave.

    Args: ``polynomials``; ``degree`` of each; ``minimum``: the smallest slope. Computed in at least float32, whatever
    the dtype of x.

    Reference: Jaini, Selby, Yu, *Sum-of-squares polynomial flow*, 2019, eq. 6-8; the smallest slope and the learned
    start are ours.

    >>> import jax, jax.numpy as jnp
    >>> squares = SumOfSquares()
    >>> params, theta = squares.init(jax.random.key(0)), jnp.zeros((1, 9))
    >>> y, _ = squares.forward(params, theta, jnp.array([[2.0]]))
    >>> round(float(y[0, 0]), 4), round(float(squares.inverse(params, theta, y)[0][0, 0]), 4)
    (2.0267, 2.0)
    """

    polynomials: int = 2
    degree: int = 3
    minimum: float = 1e-2

    def __post_init__(self):
        expect_at_least(self, 1, "polynomials", "degree")
        expect_finite(self)
        if not 0 < self.minimum < 1:
            raise ValueError(f"SumOfSquares: expected 0 < minimum < 1, got {self.minimum}.")

    @property
    def parameters_per_element(self) -> int:
        return self.polynomials * (self.degree + 1) + 1

    def init(self, key: jax.Array) -> PyTree:
        start = np.zeros((self.polynomials, self.degree + 1), np.float32)
        start[0, 0] = math.sqrt(1 - self.minimum)
        for k in range(1, self.polynomials):
            start[k, min(k, self.degree)] = 0.1
        return {"coefficients": jnp.asarray(start)}

    def forward(self, params: PyTree, theta: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        coefficients, shift = self._parts(params, theta)
        wide = x.astype(shift.dtype).ravel()
        y = self._integral(coefficients, wide) + shift
        return y.reshape(x.shape).astype(x.dtype), self._log_slope(coefficients, wide).reshape(x.shape)

    def inverse(self, params: PyTree, theta: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        coefficients, shift = self._parts(params, theta)
        rise = y.astype(shift.dtype).ravel() - shift
        furthest = rise / self.minimum
        x = solve_increasing(
            lambda x: self._integral(coefficients, x), rise, jnp.minimum(furthest, 0), jnp.maximum(furthest, 0)
        )
        return x.reshape(y.shape).astype(y.dtype), -self._log_slope(coefficients, x).reshape(y.shape)

    def _parts(self, params, theta):
        """Coefficients ``(polynomials, elements)`` of each power, and shifts, of all elements in one row."""
        numbers = by_parameter(theta.astype(log_det_dtype(theta)), self.parameters_per_element)
        numbers = numbers.reshape(len(numbers), -1)
        added = numbers[:-1].reshape(self.polynomials, self.degree + 1, -1)
        start = params["coefficients"].astype(numbers.dtype)[..., None]
        # taken apart once: each of the many slices of a sum of pairs would have a gradient as large as the whole
        return tuple(jnp.moveaxis(start + added, 1, 0)), numbers[-1]

    def _integral(self, coefficients, x):
        """By Horner's rule, over the powers of the sum of squares."""
        highest = 2 * self.degree
        y = jnp.zeros_like(x)
        for power in range(highest, -1, -1):
            pairs = range(max(0, power - self.degree), min(power, self.degree) + 1)
            of_power = sum(jnp.sum(coefficients[i] * coefficients[power - i], axis=0) for i in pairs)
            y = y * x + of_power / (power + 1)
        return (y + self.minimum) * x

    def _log_slope(self, coefficients, x):
        values = jnp.zeros_like(coefficients[0])
        for coefficient in coefficients[::-1]:
            values = values * x + coefficient
        return jnp.log(self.minimum + jnp.sum(jnp.square(values), axis=0))

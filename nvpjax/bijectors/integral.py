"""The unconstrained monotone network as a transform: the integral of a positive network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from nvpjax.bijector import Conditioner, PyTree, expect_conditioner, log_det_dtype
from nvpjax.bijectors.spline import Bin, spline_forward, spline_inverse
from nvpjax.bijectors.transforms import by_parameter
from nvpjax.values import expect_at_least, expect_finite


@dataclass(frozen=True)
class MonotoneIntegral:
    """The integral of a positive network, from 0 on: any increasing function of [−limit, limit], then straight lines.

        g(u; h) = minimum + softplus(network(u, h))
        I(x) = ∫₀ˣ g(u; h) du,     y = b + I(x),     beyond ±limit the lines that touch it there

    I is computed at knots, by two nodes of Gauss and Legendre between each two of them, and between them by the
    rational quadratic that has its values and the slopes g there (see ``RationalQuadraticSpline``): so it increases
    whatever the network, its inverse is closed, and the log-det is that of the map as it is computed. Against the
    integral itself the error falls with the fourth power of the knots.

    (h, b) come from the coupling's network, ``embedding`` numbers and one, for each element; the inner network is
    shared by all elements and learned. It is asked three times a knot in either direction, on x's side of 0 alone.

    Args: ``network``: a conditioner on vectors, smooth: ``MLP((32, 32), jax.nn.silu)``. ``embedding``. ``knots``:
    between 0 and limit, and as many below 0. ``limit``: half the width of what is bent, so bring data to about unit
    scale first. ``minimum``: the smallest slope. Computed in at least float32.

    Errors: TypeError for an object that is no conditioner, ValueError in ``init`` for one that measures.

    Reference: Wehenkel, Louppe, *Unconstrained monotonic neural networks*, 2019, sec. 3, eq. 5-7; there the quadrature
    runs from 0 to x, and the inverse is a search.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax.nets import MLP
    >>> integral = MonotoneIntegral(MLP((16,), jax.nn.silu), embedding=2)
    >>> params, theta = integral.init(jax.random.key(0)), jnp.ones((1, 3))
    >>> y, _ = integral.forward(params, theta, jnp.array([[0.5]]))
    >>> bool(jnp.allclose(integral.inverse(params, theta, y)[0], 0.5, atol=1e-5))
    True
    """

    network: Conditioner
    embedding: int = 8
    knots: int = 12
    limit: float = 4.0
    minimum: float = 1e-2

    def __post_init__(self):
        expect_conditioner("MonotoneIntegral", self.network)
        expect_at_least(self, 1, "embedding", "knots")
        expect_finite(self)
        if not (self.limit > 0 and 0 < self.minimum < 1):
            raise ValueError(f"MonotoneIntegral: expected limit > 0 and 0 < minimum < 1, got {self!r}.")

    @property
    def parameters_per_element(self) -> int:
        return self.embedding + 1

    def init(self, key: jax.Array) -> PyTree:
        params, state = self._made(key)
        if jax.tree.leaves(state):
            raise ValueError(f"MonotoneIntegral: expected a network without state, got {self.network!r}.")
        return params

    def forward(self, params: PyTree, theta: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        told, shift = self._parts(theta)
        wide = x.astype(shift.dtype).ravel()
        side, distance = _side(wide)
        values, slopes = self._at_knots(params, told, side)
        inside = jnp.minimum(distance, self.limit)
        number = jnp.floor(jax.lax.stop_gradient(inside) / self._width)
        value, log_slope = spline_forward(self._bin(values, slopes, number), inside)
        y = side * (value + jnp.exp(log_slope) * (distance - inside)) + shift
        return y.reshape(x.shape).astype(x.dtype), log_slope.reshape(x.shape)

    def inverse(self, params: PyTree, theta: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        told, shift = self._parts(theta)
        wide = y.astype(shift.dtype).ravel() - shift
        side, distance = _side(wide)
        values, slopes = self._at_knots(params, told, side)
        inside = jnp.minimum(distance, values[-1])
        number = jnp.sum(jax.lax.stop_gradient(inside) >= values[1:], axis=0)
        root, log_slope = spline_inverse(self._bin(values, slopes, number), inside)
        # Beyond the end, the end's own slope: that of a root an epsilon beside it may be another.
        beyond = distance >= values[-1]
        root, log_slope = jnp.where(beyond, self.limit, root), jnp.where(beyond, -jnp.log(slopes[-1]), log_slope)
        x = side * (root + (distance - inside) * jnp.exp(log_slope))
        return x.reshape(y.shape).astype(y.dtype), log_slope.reshape(y.shape)

    def _parts(self, theta):
        """What the network is told, ``(elements, embedding)``, and the shifts, of all elements in one row."""
        numbers = by_parameter(theta.astype(log_det_dtype(theta)), self.parameters_per_element)
        numbers = numbers.reshape(len(numbers), -1)
        return numbers[:-1].T, numbers[-1]

    @property
    def _width(self) -> float:
        return self.limit / self.knots

    def _at_knots(self, params, told, side):
        """The integral from 0 to each knot on an element's own side of it, and the slope, ``(knots + 1, elements)``."""
        knots = np.linspace(0, self.limit, self.knots + 1)
        nodes, weights = np.polynomial.legendre.leggauss(2)
        between = knots[:-1, None] + (1 + nodes) / 2 * self._width
        slopes = self._slopes(params, told, side, np.concatenate([knots, between.ravel()]))
        at_knots, at_nodes = slopes[: len(knots)], slopes[len(knots) :].reshape(-1, len(nodes), len(told))
        rises = self._width / 2 * jnp.tensordot(at_nodes, jnp.asarray(weights, at_nodes.dtype), (1, 0))
        return jnp.concatenate([jnp.zeros_like(rises[:1]), jnp.cumsum(rises, axis=0)]), at_knots

    def _slopes(self, params, told, side, distances):
        u = (jnp.asarray(distances, told.dtype)[:, None] * side).reshape(-1, 1)
        rows = jnp.concatenate([u, jnp.tile(told, (len(distances), 1))], axis=1)
        numbers, _ = self.network.apply(params, self._made()[1], rows, outputs=1)
        shift = math.log(math.expm1(1 - self.minimum))  # slope 1 where the network says 0
        return self.minimum + jax.nn.softplus(numbers.astype(told.dtype).reshape(len(distances), -1) + shift)

    def _bin(self, values, slopes, number):
        """The bin of this number of each element, from its values and slopes at all knots."""
        bins = np.arange(self.knots)[:, None]
        number = jnp.minimum(number, self.knots - 1).astype(values.dtype)
        here = bins == number

        def chosen(rows):
            return jnp.sum(jnp.where(here, rows, 0), axis=0)

        bottom = chosen(values[:-1])
        width = jnp.full_like(bottom, self._width)
        left, inside = number * self._width, jnp.ones_like(bottom, bool)
        return Bin(
            left, bottom, width, chosen(jnp.diff(values, axis=0)), chosen(slopes[:-1]), chosen(slopes[1:]), inside
        )

    def _made(self, key=None):
        """The network's params and state; without a key their shapes."""
        init = partial(self.network.init, x=jnp.zeros((1, 1 + self.embedding)), outputs=1)
        return jax.eval_shape(init, jax.random.key(0)) if key is None else init(key)


def _side(x):
    """Of 0, −1 or 1, and how far from it."""
    side = jnp.where(jax.lax.stop_gradient(x) < 0, -1, 1).astype(x.dtype)
    return side, side * x

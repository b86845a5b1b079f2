"""Möbius maps of the circle, and the projection to the line and back: both with smooth inverses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree, log_det_dtype
from nvpjax.bijectors.bounds import Bound, TanhBound
from nvpjax.bijectors.root import solve_increasing
from nvpjax.bijectors.transforms import by_parameter
from nvpjax.values import expect_at_least, expect_finite


@dataclass(frozen=True)
class Moebius:
    """A mean of Möbius maps of the circle: angles, in radians, drawn towards some directions and away from others.

    A point w of the disc moves the circle z to (1 − |w|²)·(z − w)/|z − w|² − w; of the angle x, with w = u + iv,

        f_w(x) = x + 2·arctan((u sin x − v cos x) / (1 − u cos x − v sin x))
        ∂f_w/∂x = (1 − |w|²) / ((cos x − u)² + (sin x − v)²)
        y = Σₖ ρₖ·f_wₖ(x),     log|∂y/∂x| = log Σₖ ρₖ·∂f_wₖ/∂x

    From the network, for each element: ``components`` weights ρ (by softmax), and points of the plane, which
    w = (1 − minimum)·p/√(1 + |p|²) brings into the disc. To these are added the learned ones of a ring about the
    origin, without which all components would be one for ever (see ``LogisticMixture``).

    Inverse: ``root.solve_increasing`` between y − π and y + π, to the tolerance stated there.

    Args: ``components``; ``minimum``: slopes lie between minimum/2 and 2/minimum. x is any of the numbers of an angle
    (see ``Wrap``). Computed in at least float32, whatever the dtype of x.

    Reference: Rezende et al., *Normalizing flows on tori and spheres*, 2020, sec. 2.1.1, eq. 4-6; there each f_w is
    turned so that it keeps one point, here none is.

    >>> import jax, jax.numpy as jnp
    >>> moebius = Moebius(components=3)
    >>> params, theta = moebius.init(jax.random.key(0)), jnp.ones((1, 9))
    >>> y, _ = moebius.forward(params, theta, jnp.array([[2.0]]))
    >>> bool(jnp.allclose(moebius.inverse(params, theta, y)[0], 2.0, atol=1e-5))
    True
    """

    components: int = 8
    minimum: float = 1e-2

    def __post_init__(self):
        expect_at_least(self, 1, "components")
        expect_finite(self)
        if not 0 < self.minimum < 1:
            raise ValueError(f"Moebius: expected 0 < minimum < 1, got {self.minimum}.")

    @property
    def parameters_per_element(self) -> int:
        return 3 * self.components

    def init(self, key: jax.Array) -> PyTree:
        angles = 2 * math.pi * jnp.arange(self.components, dtype=jnp.float32) / self.components
        return {"ring": 0.5 * jnp.stack([jnp.cos(angles), jnp.sin(angles)])}

    def forward(self, params: PyTree, theta: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        parts = self._parts(params, theta)
        wide = x.astype(parts[0].dtype).ravel()
        y, log_slope = _mean_of_maps(*parts, wide), _log_slope(*parts, wide)
        return y.reshape(x.shape).astype(x.dtype), log_slope.reshape(x.shape)

    def inverse(self, params: PyTree, theta: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        parts = self._parts(params, theta)
        wide = y.astype(parts[0].dtype).ravel()
        x = solve_increasing(lambda x: _mean_of_maps(*parts, x), wide, wide - math.pi, wide + math.pi)
        return x.reshape(y.shape).astype(y.dtype), -_log_slope(*parts, x).reshape(y.shape)

    def _parts(self, params, theta):
        """Weights and points of the disc, of all elements in one row."""
        numbers = by_parameter(theta.astype(log_det_dtype(theta)), self.parameters_per_element)
        weights, u, v = jnp.split(numbers.reshape(len(numbers), -1), 3)
        ring_u, ring_v = params["ring"].astype(numbers.dtype)[..., None]
        u, v = u + ring_u, v + ring_v
        length = jnp.hypot(1, jnp.hypot(u, v))
        return jax.nn.softmax(weights, axis=0), (1 - self.minimum) * u / length, (1 - self.minimum) * v / length


def _mean_of_maps(weights, u, v, x):
    cos, sin = jnp.cos(x), jnp.sin(x)
    return x + 2 * jnp.sum(weights * jnp.arctan((u * sin - v * cos) / (1 - u * cos - v * sin)), axis=0)


def _log_slope(weights, u, v, x):
    distance = jnp.square(jnp.cos(x) - u) + jnp.square(jnp.sin(x) - v)
    return jnp.log(jnp.sum(weights * (1 - jnp.square(u) - jnp.square(v)) / distance, axis=0))


@dataclass(frozen=True)
class NonCompactProjection:
    """The circle onto the line, an affine map there, and back: a Möbius map that keeps π, with a closed inverse.

        tan(y/2) = α·tan(x/2) + β,     α = exp(bound(r)),     (β, r) from the network
        log|∂y/∂x| = log α − log(cos²(x/2) + (α sin(x/2) + β cos(x/2))²)
        inverse: the same with 1/α and −β/α

    Args: ``bound``: of log α, as of ``Affine``. x is any of the numbers of an angle (see ``Wrap``). Computed in at
    least float32, whatever the dtype of x.

    Reference: Rezende et al., *Normalizing flows on tori and spheres*, 2020, sec. 2.1.3, eq. 12-14.

    >>> import jax, jax.numpy as jnp
    >>> projection = NonCompactProjection()
    >>> params = projection.init(jax.random.key(0))
    >>> y, _ = projection.forward(params, jnp.array([[1.0, 0.0]]), jnp.array([[0.0]]))
    >>> round(float(jnp.tan(y[0, 0] / 2)), 4)
    1.0
    """

    bound: Bound = TanhBound()
    parameters_per_element = 2

    def init(self, key: jax.Array) -> PyTree:
        return self.bound.init(key)

    def forward(self, params: PyTree, theta: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        shift, log_scale = self._parts(params, theta)
        return _project(log_scale, shift, x)

    def inverse(self, params: PyTree, theta: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        shift, log_scale = self._parts(params, theta)
        return _project(-log_scale, -shift * jnp.exp(-log_scale), y)

    def _parts(self, params, theta):
        shift, r = jnp.split(theta.astype(log_det_dtype(theta)), 2, axis=-1)
        return shift, self.bound.apply(params, r)


def _project(log_scale, shift, x):
    half = x.astype(shift.dtype) / 2
    cos, sin = jnp.cos(half), jnp.sin(half)
    moved = jnp.exp(log_scale) * sin + shift * cos
    # The angle between (cos, sin) and (cos, moved): half of a turn at most, whichever turn x is in.
    y = x.astype(shift.dtype) + 2 * jnp.arctan2(cos * moved - sin * cos, jnp.square(cos) + sin * moved)
    return y.astype(x.dtype), log_scale - jnp.log(jnp.square(cos) + jnp.square(moved))

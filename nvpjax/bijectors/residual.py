"""Planar, radial and Sylvester flows: the identity plus a simple term, with inverses that are computed."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree, StatelessBijector, log_det_dtype
from nvpjax.bijectors.root import solve_increasing
from nvpjax.values import expect_at_least


@dataclass(frozen=True)
class Planar(StatelessBijector):
    """A planar flow: it moves points along one direction, by how far they are from a plane.

        y = x + û·tanh(wᵀx + b),     û = u + (softplus(wᵀu) − 1 − wᵀu)·w/‖w‖², so that wᵀû > −1
        log_det = log(1 + wᵀû·(1 − tanh²(wᵀx + b)))

    Inverse: a = wᵀx solves the increasing equation a + wᵀû·tanh(a + b) = wᵀy between wᵀy ± |wᵀû|, by
    ``root.solve_increasing`` to the tolerance stated there; then x = y − û·tanh(a + b).

    Shapes: x ``(batch, entries)``; parameters ``direction`` u, ``normal`` w ``(entries,)``, ``offset`` b. Computed in
    at least float32.

    Reference: Rezende, Mohamed, *Variational inference with normalizing flows*, 2015, eq. 10-12 and app. A.1.

    >>> import jax, jax.numpy as jnp
    >>> params, state = Planar().init(jax.random.key(0), jnp.zeros((1, 2)))
    >>> y, log_det, _ = Planar().forward(params, state, jnp.ones((3, 2)))
    >>> bool(jnp.allclose(Planar().inverse(params, state, y)[0], 1, atol=1e-5))
    True
    """

    EVENT_AXES = 1

    def init_params(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> PyTree:
        _check_vectors(self, x)
        direction, normal = jax.random.normal(key, (2, x.shape[1])) / jnp.sqrt(x.shape[1])
        return {"direction": direction, "normal": normal, "offset": jnp.zeros(())}

    def _parts(self, params, dtype):
        u, w, b = (params[name].astype(dtype) for name in ("direction", "normal", "offset"))
        slope = jax.nn.softplus(w @ u) - 1  # wᵀû
        return u + (slope - w @ u) * w / jnp.sum(jnp.square(w)), w, b, slope

    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        u, w, b, slope = self._parts(params, log_det_dtype(x))
        h = jnp.tanh(x @ w + b)
        return (x + u * h[:, None]).astype(x.dtype), _log_of_slope(slope, h)

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        u, w, b, slope = self._parts(params, log_det_dtype(y))
        target = y @ w
        a = solve_increasing(
            lambda a: a + slope * jnp.tanh(a + b), target, target - jnp.abs(slope), target + jnp.abs(slope)
        )
        h = jnp.tanh(a + b)
        return (y - u * h[:, None]).astype(y.dtype), -_log_of_slope(slope, h)


@dataclass(frozen=True)
class Radial(StatelessBijector):
    """A radial flow: it moves points towards a centre or away from it.

        r = ‖x − c‖,     y = x + β·(x − c)/(α + r),     α = exp(log_alpha),  β = −α + softplus(beta), so that β > −α
        log_det = (D − 1)·log(1 + β/(α + r)) + log(1 + β·α/(α + r)²)

    Inverse, in closed form: with s = ‖y − c‖, r is the positive root of r² + (α + β − s)·r − α·s = 0, and
    x = c + (y − c)/(1 + β/(α + r)).

    Shapes: x ``(batch, entries)``; parameters ``centre`` ``(entries,)``, ``log_alpha``, ``beta``. Computed in at least
    float32.

    Reference: Rezende, Mohamed, *Variational inference with normalizing flows*, 2015, eq. 14 and app. A.2.

    >>> import jax, jax.numpy as jnp
    >>> params, state = Radial().init(jax.random.key(0), jnp.zeros((1, 2)))
    >>> y, log_det, _ = Radial().forward(params, state, jnp.ones((3, 2)))
    >>> bool(jnp.allclose(Radial().inverse(params, state, y)[0], 1, atol=1e-5))
    True
    """

    EVENT_AXES = 1

    def init_params(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> PyTree:
        _check_vectors(self, x)
        return {"centre": jax.random.normal(key, x.shape[1:]), "log_alpha": jnp.zeros(()), "beta": jnp.zeros(())}

    def _parts(self, params, dtype):
        centre, log_alpha, beta = (params[name].astype(dtype) for name in ("centre", "log_alpha", "beta"))
        alpha = jnp.exp(log_alpha)
        return centre, alpha, jax.nn.softplus(beta) - alpha

    def _log_det(self, r, alpha, beta, entries):
        return (entries - 1) * jnp.log1p(beta / (alpha + r)) + jnp.log1p(beta * alpha / jnp.square(alpha + r))

    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        centre, alpha, beta = self._parts(params, log_det_dtype(x))
        r = _norm(x - centre)
        y = x + (beta / (alpha + r))[:, None] * (x - centre)
        return y.astype(x.dtype), self._log_det(r, alpha, beta, x.shape[1])

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        centre, alpha, beta = self._parts(params, log_det_dtype(y))
        s = _norm(y - centre)
        b, c = alpha + beta - s, alpha * s
        root = jnp.sqrt(jnp.square(b) + 4 * c)
        # Of the two forms of the root, the one whose terms do not cancel.
        r = jnp.where(b > 0, 2 * c / jnp.where(b > 0, b + root, 1), (root - b) / 2)
        x = centre + (y - centre) / (1 + beta / (alpha + r))[:, None]
        return x.astype(y.dtype), -self._log_det(r, alpha, beta, y.shape[1])


@dataclass(frozen=True)
class Sylvester(StatelessBijector):
    """A Sylvester flow: a planar flow of several directions at once.

        y = x + Q·R₁·tanh(R₂·Qᵀx + b)
        Q orthonormal ``(entries, rank)``; R₁, R₂ upper triangular, with R₁ᵢᵢ·R₂ᵢᵢ > −1
        log_det = Σᵢ log(1 + R₁ᵢᵢ·R₂ᵢᵢ·(1 − tanh²(R₂·Qᵀx + b)ᵢ))

    Inverse: v = Qᵀx from the last entry to the first; entry i solves an increasing equation of one number between its
    target ± |R₁ᵢᵢ|, by ``root.solve_increasing`` to the tolerance stated there; then x = y − Q·R₁·tanh(R₂·v + b).

    Args: ``rank``: at most the number of entries. Shapes: x ``(batch, entries)``. R₂ᵢᵢ = exp(log_diagonal) and
    R₁ᵢᵢ = (softplus(slope) − 1)/R₂ᵢᵢ; Q is the orthonormal factor of the learned matrix ``basis``. Computed in at least
    float32.

    Reference: van den Berg, Hasenclever, Tomczak, Welling, *Sylvester normalizing flows*, 2018, eq. 8-13, theorem 2.

    >>> import jax, jax.numpy as jnp
    >>> params, state = Sylvester(rank=2).init(jax.random.key(0), jnp.zeros((1, 3)))
    >>> y, log_det, _ = Sylvester(rank=2).forward(params, state, jnp.ones((3, 3)))
    >>> bool(jnp.allclose(Sylvester(rank=2).inverse(params, state, y)[0], 1, atol=1e-5))
    True
    """

    EVENT_AXES = 1
    rank: int

    def __post_init__(self):
        expect_at_least(self, 1, "rank")

    def init_params(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> PyTree:
        _check_vectors(self, x)
        if x.shape[1] < self.rank:
            raise ValueError(f"Sylvester: expected at least rank = {self.rank} entries, got shape {x.shape}.")
        keys = jax.random.split(key, 3)
        square, zeros = (self.rank, self.rank), jnp.zeros(self.rank)
        return {
            "basis": jax.random.normal(keys[0], (x.shape[1], self.rank)),
            "outer": 0.1 * jax.random.normal(keys[1], square),
            "inner": 0.1 * jax.random.normal(keys[2], square),
            "slope": zeros,
            "log_diagonal": zeros,
            "offset": zeros,
        }

    def _parts(self, params, dtype):
        params = {name: value.astype(dtype) for name, value in params.items()}
        slope = jax.nn.softplus(params["slope"]) - 1  # R₁ᵢᵢ·R₂ᵢᵢ
        diagonal = jnp.exp(params["log_diagonal"])
        outer = jnp.triu(params["outer"], 1) + jnp.diag(slope / diagonal)
        inner = jnp.triu(params["inner"], 1) + jnp.diag(diagonal)
        return jnp.linalg.qr(params["basis"])[0], outer, inner, params["offset"], slope

    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        q, outer, inner, offset, slope = self._parts(params, log_det_dtype(x))
        h = jnp.tanh((x @ q) @ inner.T + offset)
        return (x + h @ (q @ outer).T).astype(x.dtype), jnp.sum(_log_of_slope(slope, h), axis=1)

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        q, outer, inner, offset, slope = self._parts(params, log_det_dtype(y))
        target = y @ q

        def solve_entry(carry, i):
            v, h = carry  # the entries after i are solved, all others are 0
            inner_rest = v @ inner[i] + offset[i]
            goal = target[:, i] - h @ outer[i]
            reach = jnp.abs(outer[i, i])
            root = solve_increasing(
                lambda a: a + outer[i, i] * jnp.tanh(inner[i, i] * a + inner_rest), goal, goal - reach, goal + reach
            )
            h_i = jnp.tanh(inner[i, i] * root + inner_rest)
            return (v.at[:, i].set(root), h.at[:, i].set(h_i)), None

        start = jnp.zeros_like(target)
        (_, h), _ = jax.lax.scan(solve_entry, (start, start), jnp.arange(self.rank), reverse=True)
        return (y - h @ (q @ outer).T).astype(y.dtype), -jnp.sum(_log_of_slope(slope, h), axis=1)


def _log_of_slope(slope, h):
    """log(1 + slope·tanh') with tanh' = 1 − h²."""
    return jnp.log1p(slope * (1 - jnp.square(h)))


def _norm(x):
    """The length of each row, with a gradient of 0, not NaN, at the origin."""
    squared = jnp.sum(jnp.square(x), axis=1)
    return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)


def _check_vectors(bijector, x):
    if x.ndim != 2:
        raise ValueError(
            f"{type(bijector).__name__}: expected shape (batch, entries), got {x.shape}. Put Reshape before it."
        )

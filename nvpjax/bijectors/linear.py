"""Linear maps of the last axis: of a vector's entries, or of an image's channels at every position.

On images each of them is an invertible 1x1 convolution, and its log-det counts every position:

    y[..., :] = W x[..., :],     log_det = positions · log|det W|
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from nvpjax.bijector import Bijector, PyTree, StatelessBijector, log_det_dtype
from nvpjax.values import expect_at_least


@dataclass(frozen=True)
class Linear(StatelessBijector):
    """A full matrix, learned freely: the plain invertible 1x1 convolution.

        y = W x,     x = W⁻¹ y by LU decomposition at every call,     log_det = positions · log|det W|

    Shapes: x ``(batch, ..., channels)``, parameter ``matrix`` ``(channels, channels)``, at the start a random
    orthogonal matrix. The log-det costs channels³ in both directions; ``LULinear`` has it for channels. A singular
    matrix gives −inf and no inverse; nothing prevents training from going there.

    Reference: Kingma, Dhariwal, *Glow*, 2018, sec. 3.2, eq. 9.

    >>> import jax, jax.numpy as jnp
    >>> linear = Linear()
    >>> params, state = linear.init(jax.random.key(0), jnp.zeros((1, 4, 4, 3)))
    >>> y, log_det, _ = linear.forward(params, state, jnp.ones((2, 4, 4, 3)))
    >>> y.shape, bool(jnp.all(jnp.abs(log_det) < 1e-4))
    ((2, 4, 4, 3), True)
    """

    EVENT_AXES = 1

    def init_params(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> PyTree:
        return {"matrix": _random_orthogonal(key, x.shape[-1])}

    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        matrix = params["matrix"].astype(log_det_dtype(x))
        return _apply(matrix, x), _volume(jnp.linalg.slogdet(matrix)[1], x)

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        matrix = params["matrix"].astype(log_det_dtype(y))
        x = _on_columns(lambda columns: jnp.linalg.solve(matrix, columns), y)
        return x, -_volume(jnp.linalg.slogdet(matrix)[1], y)


@dataclass(frozen=True)
class LULinear(Bijector):
    """A matrix kept as its LU decomposition, so that log-det and inverse are cheap: Glow's 1x1 convolution.

        W = P·L·(U + diag(s)),     log_det = positions · Σ log|s|
        inverse: undo P, then two triangular solves

    P and the signs of s are fixed at the start and kept in ``state``; L (unit lower), U (strictly upper) and log|s| are
    learned. At the start W is a random orthogonal matrix, so W stays invertible whatever is learned.

    Shapes: x ``(batch, ..., channels)``; state: ``permutation`` and ``sign``, ``(channels,)`` whole numbers.

    Reference: Kingma, Dhariwal, *Glow*, 2018, sec. 3.2, eq. 10 and 11.

    >>> import jax, jax.numpy as jnp
    >>> linear = LULinear()
    >>> params, state = linear.init(jax.random.key(0), jnp.zeros((1, 3)))
    >>> y, log_det, _ = linear.forward(params, state, jnp.ones((2, 3)))
    >>> bool(jnp.allclose(linear.inverse(params, state, y)[0], 1, atol=1e-5))
    True
    """

    EVENT_AXES = 1

    def init(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> tuple[PyTree, PyTree]:
        permutation, lower, upper = jax.scipy.linalg.lu(_random_orthogonal(key, x.shape[-1]))
        diagonal = jnp.diag(upper)
        params = {"lower": jnp.tril(lower, -1), "upper": jnp.triu(upper, 1), "log_scale": jnp.log(jnp.abs(diagonal))}
        state = {
            "permutation": jnp.argmax(permutation, axis=1).astype(jnp.int32),
            "sign": jnp.sign(diagonal).astype(jnp.int32),
        }
        return params, state

    def _factors(self, params, state, dtype):
        lower, upper, log_scale = (params[name].astype(dtype) for name in ("lower", "upper", "log_scale"))
        lower = jnp.tril(lower, -1) + jnp.eye(len(lower), dtype=dtype)
        return lower, jnp.triu(upper, 1) + jnp.diag(state["sign"] * jnp.exp(log_scale)), jnp.sum(log_scale)

    def forward(
        self, params: PyTree, state: PyTree, x: jax.Array, context: PyTree = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array, PyTree]:
        lower, upper, log_det = self._factors(params, state, log_det_dtype(x))
        y = _apply((lower @ upper)[state["permutation"]], x)
        return y, _volume(log_det, x), state

    def inverse(
        self, params: PyTree, state: PyTree, y: jax.Array, context: PyTree = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        lower, upper, log_det = self._factors(params, state, log_det_dtype(y))
        undo = jnp.argsort(state["permutation"])

        def solve(columns):
            return solve_triangular(upper, solve_triangular(lower, columns[undo], lower=True, unit_diagonal=True))

        return _on_columns(solve, y), -_volume(log_det, y)


@dataclass(frozen=True)
class Triangular(StatelessBijector):
    """A triangular matrix with a positive diagonal, and a shift.

        y = T x + b,     x = T⁻¹(y − b) by substitution,     log_det = positions · Σ log Tᵢᵢ

    Args: ``lower``: lower triangular, else upper. Shapes: x ``(batch, ..., channels)``; parameters ``matrix`` (only
    its triangle is used), ``log_diagonal``, ``shift``; the identity at the start.

    >>> import jax, jax.numpy as jnp
    >>> params, state = Triangular().init(jax.random.key(0), jnp.zeros((1, 2)))
    >>> Triangular().forward(params, state, jnp.ones((1, 2)))[0].tolist()
    [[1.0, 1.0]]
    """

    EVENT_AXES = 1
    lower: bool = True

    def init_params(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> PyTree:
        channels = x.shape[-1]
        zeros = jnp.zeros(channels)
        return {"matrix": jnp.zeros((channels, channels)), "log_diagonal": zeros, "shift": zeros}

    def _parts(self, params, dtype):
        matrix, log_diagonal, shift = (params[name].astype(dtype) for name in ("matrix", "log_diagonal", "shift"))
        beside = jnp.tril(matrix, -1) if self.lower else jnp.triu(matrix, 1)
        return beside + jnp.diag(jnp.exp(log_diagonal)), shift, jnp.sum(log_diagonal)

    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        matrix, shift, log_det = self._parts(params, log_det_dtype(x))
        return (_apply(matrix, x.astype(matrix.dtype)) + shift).astype(x.dtype), _volume(log_det, x)

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        matrix, shift, log_det = self._parts(params, log_det_dtype(y))
        x = _on_columns(lambda columns: solve_triangular(matrix, columns, lower=self.lower), y - shift)
        return x.astype(y.dtype), -_volume(log_det, y)


@dataclass(frozen=True)
class Householder(StatelessBijector):
    """A product of reflections: any orthogonal matrix of so many reflections, learned. Volume is kept.

        y = H₁·…·H_K x,     H = I − 2·v·vᵀ/‖v‖²,     x = H_K·…·H₁ y,     log_det = 0

    Args: ``reflections`` K; as many as channels give every orthogonal matrix of one sign. Shapes: x
    ``(batch, ..., channels)``, parameter ``vectors`` ``(K, channels)``, normal at the start. A zero vector gives NaN.

    Reference: Tomczak, Welling, *Improving variational auto-encoders using Householder flow*, 2016, eq. 9.

    >>> import jax, jax.numpy as jnp
    >>> params, state = Householder(2).init(jax.random.key(0), jnp.zeros((1, 3)))
    >>> y, _, _ = Householder(2).forward(params, state, jnp.ones((1, 3)))
    >>> bool(jnp.allclose(jnp.linalg.norm(y), jnp.sqrt(3.0)))
    True
    """

    EVENT_AXES = 1
    reflections: int

    def __post_init__(self):
        expect_at_least(self, 1, "reflections")

    def init_params(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> PyTree:
        return {"vectors": jax.random.normal(key, (self.reflections, x.shape[-1]))}

    def _reflected(self, params, x, reverse):
        vectors = params["vectors"].astype(log_det_dtype(x))

        def reflect(x, vector):
            return x - 2 * (x @ vector)[..., None] * vector / jnp.sum(jnp.square(vector)), None

        y, _ = jax.lax.scan(reflect, x.astype(vectors.dtype), vectors, reverse=reverse)
        return y.astype(x.dtype), _volume(jnp.zeros((), vectors.dtype), x)

    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        return self._reflected(params, x, reverse=True)

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        return self._reflected(params, y, reverse=False)


def _random_orthogonal(key, channels):
    return jnp.linalg.qr(jax.random.normal(key, (channels, channels)))[0]


def _apply(matrix, x):
    return jnp.einsum("ij,...j->...i", matrix, x.astype(matrix.dtype)).astype(x.dtype)


def _on_columns(solve, y):
    """Give a matrix solver all vectors of the last axis as columns, in at least float32."""
    columns = y.astype(log_det_dtype(y)).reshape(-1, y.shape[-1]).T
    return solve(columns).T.reshape(y.shape).astype(y.dtype)


def _volume(log_det_of_matrix, x):
    positions = math.prod(x.shape[1:-1])
    return jnp.full(x.shape[0], positions * log_det_of_matrix, log_det_dtype(x))

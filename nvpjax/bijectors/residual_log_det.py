"""The log-determinant of the identity plus a contraction: exact, or an unbiased estimate in constant memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree, log_det_dtype
from nvpjax.hashed import hashed
from nvpjax.values import expect_at_least, expect_finite


@dataclass(frozen=True)
class ExactLogDet:
    """log|det(I + J)| of the whole Jacobian J = ∂g/∂x: for events of up to some hundred entries.

    D passes through g for an event of D entries, and D³ operations.
    """

    def init(self, key: jax.Array) -> PyTree:
        return ()

    def next(self, state: PyTree) -> PyTree:
        return state

    def log_det(
        self, g: Any, weights: PyTree, x: jax.Array, context: PyTree, state: PyTree, *, train: bool
    ) -> jax.Array:
        def of_one(x, context):
            def flat(entries):
                event = entries.reshape(1, *x.shape)
                return g(weights, event, jax.tree.map(lambda a: a[None], context)).ravel()

            jacobian = jax.jacfwd(flat)(x.ravel())
            return log_det_beside_identity(jnp.eye(x.size, dtype=jacobian.dtype) + jacobian)

        return jax.vmap(of_one)(x, context)


@jax.custom_jvp
def log_det_beside_identity(matrix: jax.Array) -> jax.Array:
    """log det(I + J) of a matrix I + J with ‖J‖ < 1, shape ``(D, D)``.

    By elimination without pivoting, which is stable where xᵀ(I + J)x > 0, and whose pivots are all positive there. Not
    by LAPACK: on CPUs its batches wait for threads that devices may hold which wait for each other (JAX 0.10).
    """
    return _eliminated(matrix)[0]


@log_det_beside_identity.defjvp
def _(primals, tangents):
    log_det, inverse = _eliminated(*primals)
    return log_det, jnp.sum(inverse.T * tangents[0])


def _eliminated(matrix):
    """The log-determinant and the inverse, by Gauss and Jordan in place."""

    def eliminate(carry, k):
        matrix, log_det = carry
        pivot, column, row = matrix[k, k], matrix[:, k], matrix[k] / matrix[k, k]
        rest = matrix - jnp.outer(column, row)
        rest = rest.at[:, k].set(-column / pivot).at[k].set(row).at[k, k].set(1 / pivot)
        return (rest, log_det + jnp.log(pivot)), None

    start = matrix, jnp.zeros((), matrix.dtype)
    (inverse, log_det), _ = jax.lax.scan(eliminate, start, jnp.arange(len(matrix)))
    return log_det, inverse


@dataclass(frozen=True)
class SeriesLogDet:
    """An unbiased estimate of log det(I + J) by its power series, cut off at random and made up for.

        log det(I + J) = Σₖ (−1)ᵏ⁺¹·tr(Jᵏ)/k,     k = 1, 2, …
        estimate = Σ (−1)ᵏ⁺¹/k·cₖ·εᵀJᵏε,     k = 1 … K + N,     N ~ Poisson(λ),     cₖ = 1/P(N ≥ k − K), 1 up to K
        gradient = wᵀ·∂J/∂θ·ε,     w = Σ (−1)ᵏ·cₖ·(Jᵀ)ᵏε,     k = 0 … K + N

    N is drawn once a call, ε ~ N(0, I) once an example. The gradient is an unbiased one too, and needs no graph of the
    series: memory does not grow with the number of terms.

    Noise is not hidden: its key is in the state, where training moves it on once a step, and every example's ε is
    drawn by this key and the bits of the example. So the log-det is a function of params, state and x, the same
    whatever else is in the batch; another draw is another key in the state. Of an x that was rounded on the way back
    the noise is another: the log-det of an inverse is an estimate of its own. It has no forward-mode derivative.

    Args: ``exact_terms``: K in training. ``exact_terms_in_evaluation``: K without. ``mean_terms``: λ.

    Reference: Chen et al., *Residual flows for invertible generative modeling*, 2019, theorems 1 and 2, eq. 6-8.
    """

    exact_terms: int = 2
    exact_terms_in_evaluation: int = 20
    mean_terms: float = 2.0

    def __post_init__(self):
        expect_at_least(self, 1, "exact_terms", "exact_terms_in_evaluation")
        expect_finite(self)
        if not self.mean_terms > 0:
            raise ValueError(f"SeriesLogDet: expected mean_terms > 0, got {self.mean_terms}.")

    def init(self, key: jax.Array) -> PyTree:
        return jax.random.key_data(key)

    def next(self, state: PyTree) -> PyTree:
        return jax.random.key_data(jax.random.split(jax.random.wrap_key_data(state), 1)[0])

    def log_det(
        self, g: Any, weights: PyTree, x: jax.Array, context: PyTree, state: PyTree, *, train: bool
    ) -> jax.Array:
        number_key, noise_key = jax.random.split(jax.random.wrap_key_data(state))
        exact = self.exact_terms if train else self.exact_terms_in_evaluation
        more = jax.random.poisson(number_key, self.mean_terms)
        noise = jax.lax.stop_gradient(noise_of(noise_key, x))
        return _estimate(partial(_apply, g), exact, self.mean_terms, (weights, context), x, noise, more)


def _apply(g, told, x):
    weights, context = told
    return g(weights, x, context)


def noise_of(key: jax.Array, x: jax.Array) -> jax.Array:
    """Normal noise, shaped like x, of which each example's is drawn by the key and that example's bits alone."""
    keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(hashed(x))
    return jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))(keys)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _estimate(g, exact, mean, told, x, noise, more):
    return _series(g, exact, mean, told, x, noise, more)[0]


def _series(g, exact, mean, told, x, noise, more):
    """The estimate, and w."""
    _, pull = jax.vjp(lambda x: g(told, x), x)
    axes = tuple(range(1, x.ndim))

    def term(k, carry):
        power, log_det, w = carry
        (power,) = pull(power)
        # 1/P(N ≥ k − K): the incomplete gamma function is the Poisson's upper tail
        beyond = jnp.maximum(k - exact, 1).astype(x.dtype)
        scale = jnp.where(k <= exact, 1, 1 / jax.scipy.special.gammainc(beyond, mean))
        sign = 1 - 2 * (k % 2)  # (−1)ᵏ
        log_det = log_det - sign * scale / k * jnp.sum(power * noise, axis=axes, dtype=log_det.dtype)
        return power, log_det, w + (sign * scale).astype(w.dtype) * power

    start = noise, jnp.zeros(len(x), log_det_dtype(x)), noise
    _, log_det, w = jax.lax.fori_loop(1, exact + more + 1, term, start)
    return log_det, w


def _forward(g, exact, mean, told, x, noise, more):
    log_det, w = _series(g, exact, mean, told, x, noise, more)
    return log_det, (told, x, noise, w)


def _backward(g, exact, mean, held, cotangent):
    told, x, noise, w = held
    weighted = w * cotangent.reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype)

    def moved(told, x):
        return jax.jvp(lambda x: g(told, x), (x,), (noise,))[1]

    _, pull = jax.vjp(moved, told, x)  # not grad: labels are whole numbers
    return *pull(weighted), None, None


_estimate.defvjp(_forward, _backward)

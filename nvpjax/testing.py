"""Checks of a bijector, ours or yours: does its inverse invert, and is its log-det the Jacobian's?

    check_bijector(bijector, x)

raises ``AssertionError`` naming the check that failed, what was measured and what was allowed. Nothing is compared with
the bijector's own word: the log-det is held against the Jacobian by automatic differentiation, in float64.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from nvpjax.bijector import Bijector, PyTree

ROUNDING_STEPS = 32
"""How many roundings of one epsilon an elementary bijector may make: a network's output enters as exp and product."""


def moved_from_start(key: jax.Array, params: PyTree, size: float = 0.3) -> PyTree:
    """Add normal noise of standard deviation ``size`` to every parameter.

    At initialisation many layers are the identity, and a wrong log-det passes.
    """
    flat, restore = ravel_pytree(params)
    return restore(flat + size * jax.random.normal(key, flat.shape, flat.dtype))


def number_of_layers(bijector: Bijector) -> int:
    """Count the elementary bijectors inside: the depth from which tolerances are derived."""
    held = [getattr(bijector, field.name) for field in dataclasses.fields(bijector)]
    held = [item for value in held for item in (value if isinstance(value, tuple) else (value,))]
    inner = [number_of_layers(item) for item in held if isinstance(item, Bijector)]
    return max(1, sum(inner))


def round_trip_tolerance(dtype: jnp.dtype, layers: int, inputs, outputs, jacobian_inverse_norm) -> np.ndarray:
    """The largest |x − f⁻¹(f(x))| that rounding explains, for each row.

        ROUNDING_STEPS · ε · layers · (max|x| + ‖J⁻¹‖₂ · max|y|)

    Each layer rounds what it gives by some ε; on the way back the inverse Jacobian enlarges what was rounded.
    """
    scale = np.abs(inputs).max(axis=1) + jacobian_inverse_norm * np.abs(outputs).max(axis=1)
    return ROUNDING_STEPS * float(jnp.finfo(dtype).eps) * layers * scale


def log_det_tolerance(dtype: jnp.dtype, layers: int, inputs, log_det_gradient_norm) -> np.ndarray:
    """The largest error of a log-det that rounding explains, for each row.

        ROUNDING_STEPS · ε · layers · (D + ‖∇ₓ log_det‖₂ · max|x|)

    A sum of D terms in every layer, at an x that is itself known to ε.
    """
    scale = inputs.shape[1] + log_det_gradient_norm * np.abs(inputs).max(axis=1)
    return ROUNDING_STEPS * float(jnp.finfo(dtype).eps) * layers * scale


@dataclass(frozen=True)
class Report:
    """What ``check_bijector`` measured: the worst error of each check, as a fraction of what rounding explains."""

    round_trip: float
    round_trip_of_latents: float
    log_det_against_jacobian: float
    log_det_of_inverse: float
    log_det_by_itself: float


def check_bijector(
    bijector: Bijector,
    x: PyTree,
    context: PyTree = None,
    *,
    key: jax.Array | None = None,
    dtypes: tuple[str, ...] = ("float32", "float64"),
    size: float = 0.3,
    train_steps: int = 2,
) -> Report:
    """Check a bijector at ``x``, with parameters and state moved away from the start.

    Parameters are ``init``'s plus noise of ``size``; where there is a state, ``train_steps`` forward passes in training
    mode on x give it. Then, in evaluation mode and for each example:

    - the log-det has shape ``(batch,)`` and at least float32, and ``log_det()`` is forward's;
    - x ≈ inverse(forward(x)), and y ≈ forward(inverse(y));
    - log_det ≈ log|det J| of the Jacobian by automatic differentiation in float64;
    - inverse's log_det ≈ −forward's.

    In training mode, where forward gives a state: inverse with that state gives the batch back.

    Args: ``x``: ``(batch, *event)`` in the bijector's domain, of small events (the Jacobian is D x D). ``dtypes``: in
    which the bijector is run. The allowed errors are ``round_trip_tolerance`` and ``log_det_tolerance``.

    >>> import jax.numpy as jnp
    >>> from nvpjax import Logit
    >>> report = check_bijector(Logit(alpha=0.05), jnp.array([[0.1, 0.7]]))
    >>> report.log_det_against_jacobian < 1
    True
    """
    key = jax.random.key(0) if key is None else key
    with jax.enable_x64(True):
        x, context = (jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), tree) for tree in (x, context))
        params, state = jax.jit(bijector.init)(key, x, context)
        params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), params)
        params = moved_from_start(jax.random.fold_in(key, 1), params, size)
        if jax.tree.leaves(state):
            train = jax.jit(lambda state: bijector.forward(params, state, x, context, train=True)[2])
            for _ in range(train_steps):
                state = train(state)
        exact = _exact(bijector, params, state, x, context)
        reports = [_check_in(jnp.dtype(dtype), bijector, params, state, x, context, exact) for dtype in dtypes]
    return Report(*(max(errors) for errors in zip(*(dataclasses.astuple(report) for report in reports))))


class _Exact(NamedTuple):
    """What is true in float64, one entry an example."""

    x: np.ndarray
    y: np.ndarray
    log_det: np.ndarray
    log_det_gradient_norm: np.ndarray
    jacobian_norm: np.ndarray
    jacobian_inverse_norm: np.ndarray


def _exact(bijector, params, state, x, context) -> _Exact:
    def example(x, context):
        x, context = jax.tree.map(lambda a: a[None], (x, context))
        flat_x, restore = ravel_pytree(x)

        def forward(flat_x):
            y, log_det, _ = bijector.forward(params, state, restore(flat_x), context)
            flat_y = ravel_pytree(y)[0]
            return (flat_y, log_det[0]), flat_y

        (jacobian, gradient), flat_y = jax.jacfwd(forward, has_aux=True)(flat_x)
        return flat_x, flat_y, jacobian, gradient

    flat_x, flat_y, jacobian, gradient = (np.asarray(a) for a in jax.jit(jax.vmap(example))(x, context))
    singular = np.linalg.svd(jacobian, compute_uv=False)
    return _Exact(
        x=flat_x,
        y=flat_y,
        log_det=np.linalg.slogdet(jacobian)[1],
        log_det_gradient_norm=np.linalg.norm(gradient, axis=1),
        jacobian_norm=singular.max(axis=1),
        jacobian_inverse_norm=1 / singular.min(axis=1),
    )


def _check_in(dtype, bijector, params, state, x, context, exact: _Exact) -> Report:
    name, layers = f"{type(bijector).__name__} in {dtype}", number_of_layers(bijector)
    forward = jax.jit(bijector.forward, static_argnames="train")
    inverse = jax.jit(bijector.inverse, static_argnames="train")

    def cast(leaf):
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    params, state, x, context = jax.tree.map(cast, (params, state, x, context))
    y, log_det, _ = forward(params, state, x, context)
    if log_det.shape != (len(exact.x),) or jnp.finfo(log_det.dtype).bits < 32:
        raise AssertionError(
            f"{name}: expected one log_det a row, float32 or more, got {log_det.shape} {log_det.dtype}"
        )
    log_det_by_itself = jax.jit(bijector.log_det)(params, state, x, context)
    restored_x, inverse_log_det = inverse(params, state, y, context)
    restored_y, _, _ = forward(params, state, restored_x, context)

    there = round_trip_tolerance(dtype, layers, exact.x, exact.y, exact.jacobian_inverse_norm)
    back = round_trip_tolerance(dtype, layers, exact.y, exact.x, exact.jacobian_norm)
    allowed = log_det_tolerance(dtype, layers, exact.x, exact.log_det_gradient_norm)
    report = Report(
        round_trip=_at_most(f"{name}: x against inverse(forward(x))", _rows(restored_x) - _rows(x), there),
        round_trip_of_latents=_at_most(
            f"{name}: y against forward(inverse(y))", _rows(restored_y) - _rows(y), there * exact.jacobian_norm + back
        ),
        log_det_against_jacobian=_at_most(
            f"{name}: log_det against log|det J|", np.float64(log_det) - exact.log_det, allowed
        ),
        log_det_of_inverse=_at_most(
            f"{name}: log_det of inverse against −forward's",
            np.float64(inverse_log_det) + np.float64(log_det),
            2 * allowed + exact.log_det_gradient_norm * there,
        ),
        log_det_by_itself=_at_most(
            f"{name}: log_det() against forward's", np.float64(log_det_by_itself) - np.float64(log_det), allowed
        ),
    )
    if jax.tree.leaves(state):
        y, log_det, trained = forward(params, state, x, context, train=True)
        restored_x, inverse_log_det = inverse(params, trained, y, context, train=True)
        _at_most(f"{name}: x against inverse(forward(x)), training mode", _rows(restored_x) - _rows(x), there.max())
        _at_most(f"{name}: log_det of inverse, training mode", inverse_log_det + log_det, 2 * allowed.max())
    return report


def _rows(tree: PyTree) -> np.ndarray:
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def _at_most(what: str, error, limit) -> float:
    """Raise unless every |error| of a row is at most the row's limit; give the worst as a share of it. NaN raises."""
    error = np.abs(np.asarray(error, np.float64))
    largest = error.max(axis=1) if error.ndim == 2 else error
    share = largest / limit
    if not np.all(share <= 1):
        row = int(np.argmax(np.where(np.isnan(share), np.inf, share)))
        allowed = np.broadcast_to(limit, largest.shape)[row]
        raise AssertionError(
            f"{what}, example {row}: {largest[row]:.3e}, where rounding explains at most {allowed:.3e}"
        )
    return float(share.max())

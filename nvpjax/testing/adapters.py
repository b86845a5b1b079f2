"""Adapters that let a bijector of another library pass through our contract, so that our checks run on it.

    check_bijector(from_distrax(distrax.Tanh()), x)

They hide and repair nothing: what the foreign library clips, casts, gets wrong or leaves out is seen as it is. Each
calls the library's own combined forward (or inverse) and log-det, and its own log-det of the inverse direction. None
imports the library: the foreign object brings its methods along.

What they hold keeps its arrays to itself: ``params`` and ``state`` are ``()``, so nothing of it can be trained through
the contract, and its arrays stay in the dtype in which they were made: for a check in float64, make it in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from nvpjax.bijector import Bijector, PyTree, StatelessBijector, zero_log_det


def from_distrax(bijector: Any) -> Bijector:
    """Adapt a ``distrax.Bijector``: what distrax takes for further batch axes are event axes here, and are summed."""
    return _FromDistrax(bijector)


def from_flowjax(bijection: Any) -> Bijector:
    """Adapt a ``flowjax.bijections.AbstractBijection``, mapped over the batch; ``context`` is its condition."""
    return _FromFlowjax(bijection)


def from_bijx(bijection: Any) -> Bijector:
    """Adapt a ``bijx.Bijection``, which carries a log-density instead of giving a log-det."""
    return _FromBijx(bijection)


def from_tfp(bijector: Any) -> Bijector:
    """Adapt a bijector of ``tensorflow_probability.substrates.jax``, its cache of earlier results circumvented."""
    return _FromTFP(bijector)


@dataclass(frozen=True, eq=False)
class _Foreign(StatelessBijector):
    """A holder that is equal to another where both hold the same object: foreign ones hold arrays, and may not hash."""

    foreign: Any

    def __eq__(self, other):
        return type(self) is type(other) and self.foreign is other.foreign

    def __hash__(self):
        return hash((type(self), id(self.foreign)))


class _FromDistrax(_Foreign):
    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        y, log_det = self.foreign.forward_and_log_det(_fresh(x))
        return y, _per_row(log_det)

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        x, log_det = self.foreign.inverse_and_log_det(_fresh(y))
        return x, _per_row(log_det)


class _FromFlowjax(_Foreign):
    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        return _over_batch(self.foreign.transform_and_log_det, x, context)

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        return _over_batch(self.foreign.inverse_and_log_det, y, context)


class _FromBijx(_Foreign):
    """bijx carries log p along, in both directions:

        forward:  log p(y) = log p(x) − log|det ∂f/∂x|,     reverse:  log p(x) = log p(y) − log|det ∂f⁻¹/∂y|

    (its docs, ``bijections/base.py``), so that from a log-density of 0 the log-det is minus what comes out. It tells
    event from batch by the ranks of the two.
    """

    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        y, log_density = self.foreign.forward(x, zero_log_det(x))
        return y, -log_density

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        x, log_density = self.foreign.reverse(y, zero_log_det(y))
        return x, -log_density


class _FromTFP(_Foreign):
    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        x = _fresh(x)
        log_det = self.foreign.forward_log_det_jacobian(x, event_ndims=x.ndim - 1)
        return self.foreign.forward(x), _constant_over_batch(log_det, x)

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        y = _fresh(y)
        log_det = self.foreign.inverse_log_det_jacobian(y, event_ndims=y.ndim - 1)
        return self.foreign.inverse(y), _constant_over_batch(log_det, y)


def _fresh(x):
    """A copy: TFP (and distrax around TFP) gives x back for a y that it made itself, and nothing would be inverted."""
    return jnp.array(x, copy=True)


def _over_batch(function, x, context):
    y, log_det = jax.vmap(function, in_axes=(0, None if context is None else 0))(x, context)
    return y, _per_row(log_det)


def _per_row(log_det):
    """Sum ``(batch, *axes)`` to ``(batch,)``, in at least float32; what lacks the batch axis is left without it."""
    dtype = jnp.promote_types(log_det.dtype, jnp.float32)  # of the dtype itself: a weak float64 stays float64
    return jnp.sum(log_det, axis=tuple(range(1, log_det.ndim)), dtype=dtype)


def _constant_over_batch(log_det, x):
    """Give a log-det of shape () once for each row: TFP's documented form where the Jacobian is constant."""
    return jnp.broadcast_to(log_det, x.shape[:1]) if log_det.ndim == 0 else _per_row(log_det)

"""Bounds of an affine coupling's log-scale: how the network's number r becomes s.

A bound keeps exp(s), and with it the inversion error, from growing without limit. It has

    init(key)         -> params: what it learns itself
    apply(params, r)  -> s, shaped like r
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree
from nvpjax.values import expect_finite


class Bound(Protocol):
    """What an affine transform asks of a bound; see the head of this file."""

    def init(self, key: jax.Array) -> PyTree: ...

    def apply(self, params: PyTree, r: jax.Array) -> jax.Array: ...


@dataclass(frozen=True)
class TanhBound:
    """s = scale · tanh(r), with one learned number ``scale``: the bound of Real NVP.

    Args: ``initial_scale``: 0 makes the coupling start without scaling.

    Reference: Real NVP, sec. 4.1 (hyperbolic tangent with a learned scale).
    """

    initial_scale: float = 1.0

    def __post_init__(self):
        expect_finite(self)

    def init(self, key: jax.Array) -> PyTree:
        return {"scale": jnp.asarray(self.initial_scale, jnp.float32)}

    def apply(self, params: PyTree, r: jax.Array) -> jax.Array:
        return params["scale"].astype(r.dtype) * jnp.tanh(r)


@dataclass(frozen=True)
class SigmoidBound:
    """exp(s) = sigmoid(r + shift), so s ≤ 0: the coupling shrinks, and alone cannot enlarge.

    A flow of such couplings needs another layer that scales up (``ActNorm``, ``Scale``): without one it cannot fit data
    narrower than its base.

    Args: ``shift``: 2 starts near 1, at exp(s) = 0.88.

    Reference: the authors' program of *Glow* (Kingma, Dhariwal, 2018).
    """

    shift: float = 2.0

    def __post_init__(self):
        expect_finite(self)

    def init(self, key: jax.Array) -> PyTree:
        return ()

    def apply(self, params: PyTree, r: jax.Array) -> jax.Array:
        return jax.nn.log_sigmoid(r + self.shift)


@dataclass(frozen=True)
class DoubleSigmoidBound:
    """exp(s) = 2·sigmoid(r), between 0 and 2, and 1 where the network says 0.

    Reference: Kolesnikov, Pinto, Tschannen, *Jet*, 2024, sec. 3.
    """

    def init(self, key: jax.Array) -> PyTree:
        return ()

    def apply(self, params: PyTree, r: jax.Array) -> jax.Array:
        return jax.nn.log_sigmoid(r) + math.log(2)


@dataclass(frozen=True)
class SoftClipBound:
    """s = limit · (2/π) · atan(r / limit), between −limit and limit, nearly proportional to r around zero.

    Reference: Ardizzone et al., *Guided image generation with conditional invertible neural networks*, 2019, eq. 8.
    """

    limit: float = 1.9

    def __post_init__(self):
        expect_finite(self)
        if not self.limit > 0:
            raise ValueError(f"SoftClipBound: expected limit > 0, got {self.limit}.")

    def init(self, key: jax.Array) -> PyTree:
        return ()

    def apply(self, params: PyTree, r: jax.Array) -> jax.Array:
        return self.limit * (2 / math.pi) * jnp.arctan(r / self.limit)


@dataclass(frozen=True)
class NoBound:
    """s = r. Nothing keeps exp(s) from overflowing or the inverse from losing its digits."""

    def init(self, key: jax.Array) -> PyTree:
        return ()

    def apply(self, params: PyTree, r: jax.Array) -> jax.Array:
        return r

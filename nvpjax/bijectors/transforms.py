"""Elementwise maps whose parameters a network gives: what a coupling does to the part that changes.

A transform has ``parameters_per_element``, the numbers that it wants from the network for every element, and

    init(key)                  -> params: what it learns itself, beside what the network gives
    forward(params, theta, x)  -> (y, log|∂y/∂x| of each element)
    inverse(params, theta, y)  -> (x, log|∂x/∂y| of each element)

with ``theta`` of shape ``(*x.shape[:-1], parameters_per_element * channels)``, parameter by parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp


class Transform(Protocol):
    """What a coupling asks of a transform; see the head of this file."""

    parameters_per_element: int

    def init(self, key: jax.Array) -> Any: ...

    def forward(self, params: Any, theta: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]: ...

    def inverse(self, params: Any, theta: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]: ...


@dataclass(frozen=True)
class Additive:
    """Shift each element; volume is kept.

        y = x + t,     x = y − t,     log|∂y/∂x| = 0

    Reference: Dinh, Krueger, Bengio, *NICE*, 2014, eq. 8.
    """

    parameters_per_element = 1

    def init(self, key):
        return ()

    def forward(self, params, theta, x):
        return x + theta, jnp.zeros_like(x)

    def inverse(self, params, theta, y):
        return y - theta, jnp.zeros_like(y)


@dataclass(frozen=True)
class Affine:
    """Shift, then scale each element, as the authors' program does; the scale is bounded.

        y = (x + t)·exp(s),     x = y·exp(−s) − t,     log|∂y/∂x| = s
        (t, r) from the network,     s = scale · tanh(r)

    ``scale`` is one learned number. The program starts it at 0 for checkerboard couplings, which then begin as
    x + t, and at 1 for channel couplings.

    Reference: Real NVP, sec. 3.2 and 4.1; order of shift and scale after the authors' program (the paper's is
    ``PaperAffine``).
    """

    initial_scale: float = 1.0
    parameters_per_element = 2

    def init(self, key):
        return {"scale": jnp.asarray(self.initial_scale, jnp.float32)}

    def forward(self, params, theta, x):
        t, s = _shift_and_log_scale(params, theta)
        return (x + t) * jnp.exp(s), s

    def inverse(self, params, theta, y):
        t, s = _shift_and_log_scale(params, theta)
        return y * jnp.exp(-s) - t, -s


@dataclass(frozen=True)
class PaperAffine:
    """Scale, then shift each element, as the paper prints it; the scale is bounded.

        y = x·exp(s) + t,     x = (y − t)·exp(−s),     log|∂y/∂x| = s
        (t, r) from the network,     s = scale · tanh(r)

    Reference: Real NVP, eq. 4-8.
    """

    initial_scale: float = 1.0
    parameters_per_element = 2

    def init(self, key):
        return {"scale": jnp.asarray(self.initial_scale, jnp.float32)}

    def forward(self, params, theta, x):
        t, s = _shift_and_log_scale(params, theta)
        return x * jnp.exp(s) + t, s

    def inverse(self, params, theta, y):
        t, s = _shift_and_log_scale(params, theta)
        return (y - t) * jnp.exp(-s), -s


def _shift_and_log_scale(params, theta):
    t, r = jnp.split(theta, 2, axis=-1)
    return t, params["scale"].astype(theta.dtype) * jnp.tanh(r)

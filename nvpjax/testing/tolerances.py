"""How large an error rounding explains: from the dtype, the depth and the conditioning, never picked.

Everything here is in float64 numpy, one row an example.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from nvpjax.bijector import Bijector

ROUNDING_STEPS = 64
"""How many roundings of one epsilon an elementary bijector may make: two dense layers, then exp, or a spline's sums."""


def number_of_layers(bijector: Bijector) -> int:
    """Count the elementary bijectors inside: the depth from which tolerances are derived.

    A bijector that holds others counts theirs, as often as it repeats them (a field ``times``, as ``Repeat`` has).
    """
    if not dataclasses.is_dataclass(bijector):
        return 1
    held = [getattr(bijector, field.name) for field in dataclasses.fields(bijector)]
    held = [item for value in held for item in (value if isinstance(value, tuple) else (value,))]
    inner = [number_of_layers(item) for item in held if isinstance(item, Bijector)]
    return max(1, sum(inner)) * getattr(bijector, "times", 1)


def rounding(dtype: str, layers: int) -> float:
    """The relative error of a result after ``layers`` elementary bijectors:  ROUNDING_STEPS · ε · layers."""
    return ROUNDING_STEPS * float(jnp.finfo(dtype).eps) * layers


def value_tolerance(dtype: str, layers: int, result_scale, input_scale, jacobian_norm) -> np.ndarray:
    """The largest error of a result y = f(x) that rounding explains, for each row.

        ROUNDING_STEPS · ε · layers · (max|y| + ‖∂f/∂x‖₂ · max|x|)

    What is rounded on the way enlarges as the Jacobian does; the scales are of the row, or of the example that it is
    drawn from where that is larger: shifts that cancel round at the scale of what they shift.
    """
    return rounding(dtype, layers) * (result_scale + jacobian_norm * input_scale) + float(jnp.finfo(dtype).tiny)


def log_det_tolerance(dtype: str, layers: int, dimensions: int, log_det, input_scale, gradient_norm) -> np.ndarray:
    """The largest error of a log-det that rounding explains, for each row, in nats.

        ROUNDING_STEPS · ε · layers · (D + |log_det| + ‖∂log_det/∂x‖₂ · max|x|)

    A sum of D terms in every layer, at an x that is itself known to ε.
    """
    return rounding(dtype, layers) * (dimensions + np.abs(log_det) + gradient_norm * input_scale)

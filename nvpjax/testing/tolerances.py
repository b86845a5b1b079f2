"""How large an error rounding explains: from the dtype, the depth and the conditioning, never picked.

Everything here is in float64 numpy, one row an example.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from nvpjax.bijector import Bijector
from nvpjax.combinator import Composite

ROUNDING_STEPS = 64
"""How many roundings of one epsilon an elementary bijector may make: two dense layers, then exp, or a spline's sums."""


def number_of_layers(bijector: Bijector) -> int:
    """Count the elementary bijectors inside: the depth from which tolerances are derived.

    What a combinator holds (``parts``) counts as often as it is repeated (``times``).
    """
    if not isinstance(bijector, Composite):
        return 1
    return max(1, sum(map(number_of_layers, bijector.parts))) * bijector.times


def rounding(dtype: str, layers: int) -> float:
    """The relative error of a result after ``layers`` elementary bijectors:  ROUNDING_STEPS · ε · layers."""
    return ROUNDING_STEPS * float(jnp.finfo(dtype).eps) * layers


def value_tolerance(
    dtype: str, relative: float, result_scale: np.ndarray, input_scale: np.ndarray, jacobian_norm: np.ndarray
) -> np.ndarray:
    """The largest error of a result y = f(x) that a relative error on the way explains, for each row.

        relative · (max|y| + ‖∂f/∂x‖₂ · max|x|),     relative = ROUNDING_STEPS · ε · layers + inverse_tolerance

    What is rounded on the way enlarges as the Jacobian does; the scales are of the row, or of the example that it is
    drawn from where that is larger: shifts that cancel round at the scale of what they shift.
    """
    return relative * (result_scale + jacobian_norm * input_scale) + float(jnp.finfo(dtype).tiny)


def log_det_tolerance(
    relative: float,
    dimensions: int,
    log_det: np.ndarray,
    input_scale: np.ndarray | float,
    gradient_norm: np.ndarray,
) -> np.ndarray:
    """The largest error of a log-det that a relative error on the way explains, for each row, in nats.

        relative · (D + |log_det| + ‖∂log_det/∂x‖₂ · max|x|)

    A sum of D terms in every layer, at an x that is itself known to ε.
    """
    return relative * (dimensions + np.abs(log_det) + gradient_norm * input_scale)

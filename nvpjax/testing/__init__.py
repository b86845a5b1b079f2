"""A kit that proves a bijector, ours or yours: does its inverse invert, is its log-det the Jacobian's, and more.

    check_bijector(bijector, example)      raises AssertionError with every check that failed
    examine_bijector(bijector, example)    gives the report instead
    check_density(density)                 a flow with its numbers: do draws and log p agree, is the integral 1

Nothing is compared with the bijector's own word: log-dets are held against Jacobians by automatic differentiation in
float64, integrals against areas, gradients against differences. ``nvpjax.testing.strategies`` draws the cases with
hypothesis, ``nvpjax.testing.plugin`` is a fixture for pytest, ``nvpjax.testing.adapters`` take bijectors of other
libraries.
"""

from nvpjax.testing.density import check_density
from nvpjax.testing.kit import CHECKS, LADDER, CheckResult, Report, check_bijector, examine_bijector
from nvpjax.testing.subject import moved_from_start
from nvpjax.testing.tolerances import number_of_layers

__all__ = [
    "CHECKS",
    "LADDER",
    "CheckResult",
    "Report",
    "check_bijector",
    "check_density",
    "examine_bijector",
    "moved_from_start",
    "number_of_layers",
]

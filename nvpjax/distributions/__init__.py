"""Base distributions: what latents follow."""

from nvpjax.distributions.by_columns import ByColumns
from nvpjax.distributions.circular import UniformCircle, VonMises
from nvpjax.distributions.distribution import Distribution
from nvpjax.distributions.foreign import ForeignDistribution
from nvpjax.distributions.normal import DiagonalNormal, NormalMixture, StandardNormal
from nvpjax.distributions.resampled import Resampled
from nvpjax.distributions.tails import Laplace, StudentT
from nvpjax.distributions.uniform import Uniform

__all__ = [
    "ByColumns",
    "DiagonalNormal",
    "Distribution",
    "ForeignDistribution",
    "Laplace",
    "NormalMixture",
    "Resampled",
    "StandardNormal",
    "StudentT",
    "Uniform",
    "UniformCircle",
    "VonMises",
]

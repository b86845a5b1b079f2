"""nvpjax: normalizing flows for JAX and Flax, from pure bijectors to data-parallel multi-scale models."""

from nvpjax.bijector import Bijector, Conditioner, StatelessBijector
from nvpjax.bijectors import *  # noqa: F403  (its __all__ is the list)
from nvpjax.bijectors import __all__ as _bijectors
from nvpjax.chain import Chain, Inverse
from nvpjax.checkpointed import Checkpointed
from nvpjax.distributions import (
    DiagonalNormal,
    Distribution,
    ForeignDistribution,
    NormalMixture,
    StandardNormal,
    Uniform,
)
from nvpjax.flow import Flow
from nvpjax.models import flow_plus_plus, glow, iaf, maf, nice, real_nvp, real_nvp_vectors, spline_coupling
from nvpjax.multiscale import MultiScale
from nvpjax.objectives import bits_per_dim, dequantize, variational_dequantize
from nvpjax.parts import OnAxes, OnLeaf, Reshape
from nvpjax.repeat import Repeat
from nvpjax.reversible import Reversible

__version__ = "0.1.0"

__all__ = [
    *_bijectors,
    "Bijector",
    "Chain",
    "Checkpointed",
    "Conditioner",
    "DiagonalNormal",
    "Distribution",
    "Flow",
    "ForeignDistribution",
    "Inverse",
    "MultiScale",
    "NormalMixture",
    "OnAxes",
    "OnLeaf",
    "Repeat",
    "Reshape",
    "Reversible",
    "StandardNormal",
    "StatelessBijector",
    "Uniform",
    "bits_per_dim",
    "dequantize",
    "flow_plus_plus",
    "glow",
    "iaf",
    "maf",
    "nice",
    "real_nvp",
    "real_nvp_vectors",
    "spline_coupling",
    "variational_dequantize",
]

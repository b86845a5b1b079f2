"""nvpjax: normalizing flows for JAX and Flax, from pure bijectors to data-parallel multi-scale models."""

from nvpjax import bijectors, distributions
from nvpjax.bijector import Bijector, Conditioner, StatelessBijector
from nvpjax.bijectors import *  # noqa: F403  (its __all__ is the list)
from nvpjax.chain import Chain, Inverse
from nvpjax.checkpointed import Checkpointed
from nvpjax.denoising import denoised
from nvpjax.dequantization import (
    Dequantization,
    GaussianDequantization,
    LearnedDequantization,
    UniformDequantization,
)
from nvpjax.distributions import *  # noqa: F403
from nvpjax.event import Event
from nvpjax.fit import Fitted, History, fit
from nvpjax.flow import Density, Flow
from nvpjax.guidance import Guided, guided
from nvpjax.models import (
    FFJORD,
    IAF,
    MAF,
    NICE,
    CircularSplineCoupling,
    FFJORDVectors,
    FlowPlusPlus,
    FlowPlusPlusDequantizer,
    Glow,
    GlowDequantizer,
    Jet,
    Model,
    RealNVP,
    RealNVPVectors,
    ResidualFlow,
    ResidualFlowVectors,
    SplineCoupling,
    TarFlow,
)
from nvpjax.multiscale import MultiScale
from nvpjax.objectives import Likelihood, Objective, PixelLikelihood, ReverseKL, bits_per_dim
from nvpjax.parts import OnAxes, OnColumns, OnLeaf, Reshape
from nvpjax.repeat import Repeat
from nvpjax.reversible import Reversible
from nvpjax.saving import load, save

__version__ = "0.3.2"

__all__ = [
    "FFJORD",
    "IAF",
    "MAF",
    "NICE",
    "Bijector",
    "Chain",
    "Checkpointed",
    "CircularSplineCoupling",
    "Conditioner",
    "Density",
    "Dequantization",
    "Event",
    "FFJORDVectors",
    "Fitted",
    "Flow",
    "FlowPlusPlus",
    "FlowPlusPlusDequantizer",
    "GaussianDequantization",
    "Glow",
    "GlowDequantizer",
    "Guided",
    "History",
    "Inverse",
    "Jet",
    "LearnedDequantization",
    "Likelihood",
    "Model",
    "MultiScale",
    "Objective",
    "OnAxes",
    "OnColumns",
    "OnLeaf",
    "PixelLikelihood",
    "RealNVP",
    "RealNVPVectors",
    "Repeat",
    "Reshape",
    "ResidualFlow",
    "ResidualFlowVectors",
    "ReverseKL",
    "Reversible",
    "SplineCoupling",
    "StatelessBijector",
    "TarFlow",
    "UniformDequantization",
    "bits_per_dim",
    "denoised",
    "fit",
    "guided",
    "load",
    "save",
]
__all__ += bijectors.__all__
__all__ += distributions.__all__

"""nvpjax: normalizing flows for JAX and Flax, from pure bijectors to data-parallel multi-scale models."""

from nvpjax.bijector import Bijector, Conditioner, StatelessBijector
from nvpjax.bijectors import (
    Additive,
    Affine,
    BatchNorm,
    ChannelMask,
    Checkerboard,
    Coupling,
    Logit,
    NoMask,
    OrderedSqueeze,
    PaperAffine,
    Scale,
    Squeeze,
)
from nvpjax.chain import Chain, Inverse
from nvpjax.distributions import Distribution, StandardNormal
from nvpjax.flow import Flow
from nvpjax.models import real_nvp
from nvpjax.multiscale import MultiScale
from nvpjax.objectives import bits_per_dim, dequantize

__version__ = "0.1.0"

__all__ = [
    "Additive",
    "Affine",
    "BatchNorm",
    "Bijector",
    "Chain",
    "ChannelMask",
    "Checkerboard",
    "Conditioner",
    "Coupling",
    "Distribution",
    "Flow",
    "Inverse",
    "Logit",
    "MultiScale",
    "NoMask",
    "OrderedSqueeze",
    "PaperAffine",
    "Scale",
    "Squeeze",
    "StandardNormal",
    "StatelessBijector",
    "bits_per_dim",
    "dequantize",
    "real_nvp",
]

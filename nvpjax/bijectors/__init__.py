"""The bijectors that are not made of others, and the masks, transforms and bounds that couplings are made of."""

from nvpjax.bijectors.actnorm import ActNorm
from nvpjax.bijectors.autoregressive import Autoregressive
from nvpjax.bijectors.bounds import DoubleSigmoidBound, NoBound, SigmoidBound, SoftClipBound, TanhBound
from nvpjax.bijectors.coupling import Coupling
from nvpjax.bijectors.elementwise import (
    Arcsinh,
    Arctanh,
    Exp,
    FixedAffine,
    LeakyReLU,
    Log,
    Logit,
    NormalCDF,
    Power,
    Scale,
    Shift,
    Sigmoid,
    Sinh,
    Softplus,
    Tanh,
)
from nvpjax.bijectors.inversion import Rounds, StepByStep, WholePasses
from nvpjax.bijectors.linear import Householder, Linear, LULinear, Triangular
from nvpjax.bijectors.masks import AlternatingMask, BooleanMask, ChannelMask, Checkerboard, NoMask
from nvpjax.bijectors.mixture import LogisticMixture
from nvpjax.bijectors.normalize import BatchNorm
from nvpjax.bijectors.patches import Patches
from nvpjax.bijectors.permutation import Permutation, RandomPermutation, Reverse
from nvpjax.bijectors.residual import Planar, Radial, Sylvester
from nvpjax.bijectors.spline import RationalQuadraticSpline
from nvpjax.bijectors.squeeze import OrderedSqueeze, Squeeze
from nvpjax.bijectors.token_mask import TokenMask
from nvpjax.bijectors.transforms import Additive, Affine, ElementwiseTransform, PaperAffine

__all__ = [
    "ActNorm",
    "Additive",
    "Affine",
    "AlternatingMask",
    "Arcsinh",
    "Arctanh",
    "Autoregressive",
    "BatchNorm",
    "BooleanMask",
    "ChannelMask",
    "Checkerboard",
    "Coupling",
    "DoubleSigmoidBound",
    "ElementwiseTransform",
    "Exp",
    "FixedAffine",
    "Householder",
    "LULinear",
    "LeakyReLU",
    "Linear",
    "Log",
    "LogisticMixture",
    "Logit",
    "NoBound",
    "NoMask",
    "NormalCDF",
    "OrderedSqueeze",
    "PaperAffine",
    "Patches",
    "Permutation",
    "Planar",
    "Power",
    "Radial",
    "RandomPermutation",
    "RationalQuadraticSpline",
    "Reverse",
    "Rounds",
    "Scale",
    "Shift",
    "Sigmoid",
    "SigmoidBound",
    "Sinh",
    "SoftClipBound",
    "Softplus",
    "Squeeze",
    "StepByStep",
    "Sylvester",
    "Tanh",
    "TanhBound",
    "TokenMask",
    "Triangular",
    "WholePasses",
]

"""The bijectors that are not made of others, and the masks, transforms and bounds that couplings are made of."""

from nvpjax.bijectors.actnorm import ActNorm
from nvpjax.bijectors.autoregressive import Autoregressive
from nvpjax.bijectors.bernstein import BernsteinPolynomial
from nvpjax.bijectors.block_autoregressive import BlockAutoregressive
from nvpjax.bijectors.bounds import DoubleSigmoidBound, NoBound, SigmoidBound, SoftClipBound, TanhBound
from nvpjax.bijectors.circular_spline import CircularSpline
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
from nvpjax.bijectors.heavy_tails import HeavyTails
from nvpjax.bijectors.in_turn import InTurn
from nvpjax.bijectors.integral import MonotoneIntegral
from nvpjax.bijectors.inversion import Rounds, StepByStep, WholePasses
from nvpjax.bijectors.invertible_residual import InvertibleResidual
from nvpjax.bijectors.linear import Householder, Linear, LULinear, Triangular
from nvpjax.bijectors.masks import AlternatingMask, BooleanMask, ChannelMask, Checkerboard, NoMask
from nvpjax.bijectors.mixture import LogisticMixture
from nvpjax.bijectors.moebius import Moebius, NonCompactProjection
from nvpjax.bijectors.normalize import BatchNorm
from nvpjax.bijectors.patches import Patches
from nvpjax.bijectors.permutation import Permutation, RandomPermutation, Reverse
from nvpjax.bijectors.residual import Planar, Radial, Sylvester
from nvpjax.bijectors.residual_log_det import ExactLogDet, SeriesLogDet
from nvpjax.bijectors.spline import RationalQuadraticSpline
from nvpjax.bijectors.squeeze import OrderedSqueeze, Squeeze
from nvpjax.bijectors.sum_of_squares import SumOfSquares
from nvpjax.bijectors.token_mask import TokenMask
from nvpjax.bijectors.transforms import Additive, Affine, ElementwiseTransform, PaperAffine
from nvpjax.bijectors.wrap import Wrap

__all__ = [
    "ActNorm",
    "Additive",
    "Affine",
    "AlternatingMask",
    "Arcsinh",
    "Arctanh",
    "Autoregressive",
    "BatchNorm",
    "BernsteinPolynomial",
    "BlockAutoregressive",
    "BooleanMask",
    "ChannelMask",
    "Checkerboard",
    "CircularSpline",
    "Coupling",
    "DoubleSigmoidBound",
    "ElementwiseTransform",
    "ExactLogDet",
    "Exp",
    "FixedAffine",
    "HeavyTails",
    "Householder",
    "InTurn",
    "InvertibleResidual",
    "LULinear",
    "LeakyReLU",
    "Linear",
    "Log",
    "LogisticMixture",
    "Logit",
    "Moebius",
    "MonotoneIntegral",
    "NoBound",
    "NoMask",
    "NonCompactProjection",
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
    "SeriesLogDet",
    "Shift",
    "Sigmoid",
    "SigmoidBound",
    "Sinh",
    "SoftClipBound",
    "Softplus",
    "Squeeze",
    "StepByStep",
    "SumOfSquares",
    "Sylvester",
    "Tanh",
    "TanhBound",
    "TokenMask",
    "Triangular",
    "WholePasses",
    "Wrap",
]

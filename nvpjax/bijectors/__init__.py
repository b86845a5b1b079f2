"""The bijectors that are not made of others."""

from nvpjax.bijectors.coupling import Coupling
from nvpjax.bijectors.elementwise import Logit, Scale
from nvpjax.bijectors.masks import ChannelMask, Checkerboard, NoMask
from nvpjax.bijectors.normalize import BatchNorm
from nvpjax.bijectors.squeeze import OrderedSqueeze, Squeeze
from nvpjax.bijectors.transforms import Additive, Affine, PaperAffine

__all__ = [
    "Additive",
    "Affine",
    "BatchNorm",
    "ChannelMask",
    "Checkerboard",
    "Coupling",
    "Logit",
    "NoMask",
    "OrderedSqueeze",
    "PaperAffine",
    "Scale",
    "Squeeze",
]

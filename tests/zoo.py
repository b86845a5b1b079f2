"""Every bijector in one table: all generic tests run over it. A new bijector that is not here fails a test."""

from __future__ import annotations

import nvpjax
from nvpjax import (
    Additive,
    Affine,
    BatchNorm,
    Chain,
    ChannelMask,
    Checkerboard,
    Coupling,
    Inverse,
    Logit,
    MultiScale,
    OrderedSqueeze,
    PaperAffine,
    Scale,
    Squeeze,
)
from nvpjax.nets import MLP, FlaxConditioner, ResidualNet

UNIT, REAL = "unit", "real"
"""Domains: [0, 1] and the whole line."""


def mlp(outputs: int) -> FlaxConditioner:
    return FlaxConditioner(MLP(hidden=(16,), outputs=outputs))


def residual(outputs: int, mask_channel: bool = False) -> FlaxConditioner:
    return FlaxConditioner(ResidualNet(features=4, blocks=1, outputs=outputs, mask_channel=mask_channel))


def small_real_nvp(channels: int):
    return nvpjax.real_nvp(channels, scales=2, features=4, blocks=1).bijector


even, odd, first, second = Checkerboard("even"), Checkerboard("odd"), ChannelMask("first"), ChannelMask("second")

ZOO: dict[str, tuple[nvpjax.Bijector, tuple[int, ...], str]] = {
    "additive, vector": (Coupling(first, Additive(), mlp(3)), (6,), REAL),
    "affine, vector": (Coupling(first, Affine(), mlp(6)), (6,), REAL),
    "affine, odd vector": (Coupling(second, Affine(), mlp(4)), (5,), REAL),
    "paper affine, vector": (Coupling(second, PaperAffine(), mlp(6)), (6,), REAL),
    "affine, channels": (Coupling(first, Affine(), residual(4)), (4, 4, 4), REAL),
    "affine, checkerboard": (Coupling(even, Affine(), residual(4, True)), (4, 4, 2), REAL),
    "paper affine, odd sides": (Coupling(odd, PaperAffine(), residual(2, True)), (3, 5, 1), REAL),
    "additive, checkerboard": (Coupling(odd, Additive(), residual(2, True)), (4, 4, 2), REAL),
    "batch-norm, vector": (BatchNorm(), (5,), REAL),
    "batch-norm, checkerboard": (BatchNorm(odd), (3, 3, 2), REAL),
    "batch-norm, channels, lag": (BatchNorm(first, lag=0.9), (2, 2, 4), REAL),
    "squeeze": (Squeeze(), (4, 6, 2), REAL),
    "ordered squeeze": (OrderedSqueeze(), (4, 6, 2), REAL),
    "logit": (Logit(0.05), (4, 4, 1), UNIT),
    "logit, small alpha": (Logit(1e-6), (4, 4, 1), UNIT),
    "scale": (Scale(), (3, 2), REAL),
    "inverse": (Inverse(Chain((Squeeze(), Scale()))), (2, 2, 8), REAL),
    "chain": (
        Chain((Coupling(first, Affine(), mlp(6)), BatchNorm(first), Coupling(second, Affine(), mlp(6)))),
        (6,),
        REAL,
    ),
    "multi-scale": (MultiScale((Chain((Scale(), OrderedSqueeze())), Scale())), (4, 4, 1), REAL),
    "inverse of a chain of couplings": (Inverse(Chain((Coupling(first, Affine(), mlp(6)), Scale()))), (6,), REAL),
    "real_nvp 4x4x2": (small_real_nvp(2), (4, 4, 2), UNIT),
    "real_nvp 8x8x1": (small_real_nvp(1), (8, 8, 1), UNIT),
}

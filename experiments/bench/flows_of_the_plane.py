"""Families of flows of the plane and of the torus, each of a width: what ``experiments.bench.plane`` compares."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax

from nvpjax import (
    ActNorm,
    Affine,
    Autoregressive,
    BernsteinPolynomial,
    Bijector,
    BlockAutoregressive,
    Chain,
    ChannelMask,
    CircularSpline,
    Coupling,
    Flow,
    InTurn,
    InvertibleResidual,
    Likelihood,
    LogisticMixture,
    Moebius,
    MonotoneIntegral,
    Objective,
    RationalQuadraticSpline,
    Repeat,
    Reverse,
    SumOfSquares,
    UniformCircle,
    Wrap,
)
from nvpjax.bijectors.transforms import Additive, Transform
from nvpjax.continuous import Continuous, FlowMatching
from nvpjax.nets import MADE, MLP, ConcatSquash, ContractiveMLP, OfAngles

Width = int


def couplings(transform: Transform, width: Width) -> Flow:
    layer = Chain((Coupling(ChannelMask("first"), transform, MLP((width, width))), ActNorm()))
    return Flow(Repeat(layer, 8, alternate=True))


def on_the_torus(transform: Transform, width: Width) -> Flow:
    network = OfAngles(MLP((width, width)), (0,))
    layer = Coupling(ChannelMask("first"), InTurn((transform, Additive())), network)
    return Flow(Chain((Wrap(), Repeat(layer, 6, alternate=True))), UniformCircle())


def autoregressive(transform: Transform, width: Width, layers: int = 4) -> Flow:
    return Flow(Repeat(Chain((Autoregressive(transform, MADE((width, width))), ActNorm(), Reverse())), layers))


def layers(layer: Callable[[Width], Bijector], number: int, width: Width) -> Flow:
    return Flow(Repeat(Chain((ActNorm(), layer(width), Reverse())), number))


def continuous(width: Width) -> Flow:
    return Flow(Continuous(ConcatSquash((width, width, width))))


SIGMOIDAL = InTurn((LogisticMixture(8), LogisticMixture(8)))
OF_THE_PLANE: dict[str, Callable[[Width], Objective]] = {
    "affine couplings": lambda width: Likelihood(couplings(Affine(), width)),
    "spline couplings": lambda width: Likelihood(couplings(RationalQuadraticSpline(8, 5.0), width)),
    "Bernstein couplings": lambda width: Likelihood(couplings(BernsteinPolynomial(16, 5.0), width)),
    # Of degree 7 each: eight in a row would be of degree 7⁸, whose values overflow.
    "sums of squares, autoregressive": lambda width: Likelihood(autoregressive(SumOfSquares(), width, layers=2)),
    "monotone integrals": lambda width: Likelihood(
        couplings(MonotoneIntegral(MLP((16, 16), jax.nn.silu), limit=5.0), width)
    ),
    "deep sigmoidal, autoregressive": lambda width: Likelihood(autoregressive(SIGMOIDAL, width)),
    "splines, autoregressive": lambda width: Likelihood(autoregressive(RationalQuadraticSpline(8, 5.0), width)),
    "block networks": lambda width: Likelihood(layers(lambda width: BlockAutoregressive((width, width)), 4, width)),
    "residual": lambda width: Likelihood(
        layers(lambda width: InvertibleResidual(ContractiveMLP((width, width))), 16, width)
    ),
    "continuous": lambda width: Likelihood(continuous(width)),
    "continuous, by flow matching": lambda width: FlowMatching(continuous(width)),
}
OF_THE_TORUS: dict[str, Callable[[Width], Objective]] = {
    "circular splines": lambda width: Likelihood(on_the_torus(CircularSpline(8), width)),
    "Möbius maps": lambda width: Likelihood(on_the_torus(Moebius(8), width)),
    "splines that know no circle": lambda width: Likelihood(couplings(RationalQuadraticSpline(8, math.pi), width)),
}

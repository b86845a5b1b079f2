"""Every bijector in one table: all generic tests run over it. A new bijector that is not here fails a test."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from nvpjax import (
    IAF,
    MAF,
    NICE,
    ActNorm,
    Additive,
    Affine,
    AlternatingMask,
    Arcsinh,
    Arctanh,
    Autoregressive,
    BatchNorm,
    BernsteinPolynomial,
    Bijector,
    BlockAutoregressive,
    BooleanMask,
    Chain,
    ChannelMask,
    Checkerboard,
    Checkpointed,
    CircularSpline,
    CircularSplineCoupling,
    Coupling,
    DoubleSigmoidBound,
    ElementwiseTransform,
    Exp,
    FixedAffine,
    FlowPlusPlus,
    Glow,
    Guided,
    HeavyTails,
    Householder,
    InTurn,
    Inverse,
    InvertibleResidual,
    LeakyReLU,
    Linear,
    Log,
    LogisticMixture,
    Logit,
    LULinear,
    Moebius,
    MonotoneIntegral,
    MultiScale,
    NoBound,
    NoMask,
    NonCompactProjection,
    NormalCDF,
    OnAxes,
    OnColumns,
    OnLeaf,
    OrderedSqueeze,
    PaperAffine,
    Patches,
    Permutation,
    Planar,
    Power,
    Radial,
    RandomPermutation,
    RationalQuadraticSpline,
    RealNVP,
    RealNVPVectors,
    Repeat,
    Reshape,
    ResidualFlow,
    ResidualFlowVectors,
    Reverse,
    Reversible,
    Scale,
    Shift,
    Sigmoid,
    SigmoidBound,
    Sinh,
    SoftClipBound,
    Softplus,
    SplineCoupling,
    Squeeze,
    SumOfSquares,
    Sylvester,
    Tanh,
    TanhBound,
    TokenMask,
    Triangular,
    WholePasses,
    Wrap,
)
from nvpjax.nets import (
    MADE,
    MLP,
    CausalTransformer,
    ContractiveConvolutions,
    ContractiveMLP,
    ConvolutionNet,
    GatedNet,
    NestedTransformer,
    OfAngles,
    ResidualNet,
    Transformer,
)
from nvpjax.testing import LADDER

INFINITY = float("inf")


class Entry(NamedTuple):
    """A bijector and where it is tested."""

    bijector: Bijector
    event: tuple
    """The event's shape, or a tuple or dict of shapes."""
    low: float = -3.0
    high: float = 3.0
    """Examples are drawn between these: within the domain, and where float32 can still take a value back."""
    domain: tuple[float, float] = (-INFINITY, INFINITY)
    context: int | None = None
    """Entries of the context."""
    parallel: Bijector | None = None
    """The same bijector with an axis_name."""
    dtypes: tuple[str, ...] = LADDER

    def example(self, batch: int = 4, seed: int = 0):
        generator = np.random.default_rng(seed)
        shapes = [self.event] if not self.event or isinstance(self.event[0], int) else self.event
        draws = tuple(generator.uniform(self.low, self.high, (batch, *shape)).astype(np.float32) for shape in shapes)
        return draws if shapes is self.event else draws[0]

    def example_context(self, batch: int = 4):
        if self.context is None:
            return None
        return np.random.default_rng(1).normal(size=(batch, self.context)).astype(np.float32)


# A smooth activation: differences of a network with kinks say little about its gradient. And a last layer that starts
# as the others do: the checks look at a map that is not nearly the identity.
mlp, made = MLP((8,), jax.nn.silu, final_scale=1.0), MADE((8,), jax.nn.silu, final_scale=1.0)


causal = CausalTransformer(width=4, depth=1, head_width=2, final_scale=1.0)
nested = NestedTransformer(patch=2, hidden=(6,), width=4, depth=1, head_width=2, final_scale=1.0)
seeing_all = Transformer(width=4, depth=1, head_width=2, final_scale=1.0)


def vector_coupling(transform, mask=ChannelMask("first")) -> Coupling:  # noqa: B008
    return Coupling(mask, transform, mlp)


even, odd, first, second = Checkerboard("even"), Checkerboard("odd"), ChannelMask("first"), ChannelMask("second")
spline, mixture = RationalQuadraticSpline(bins=4), LogisticMixture(components=2)
WIDE = ("float32", "float64")
"""For models whose compilation takes long: their parts run in all four dtypes."""
NEAR = (-10.0, 10.0)
"""Where log-scales have no bound: further out the network's own numbers overflow in exp, as they must."""
by_element = ElementwiseTransform(Chain((Scale(), Shift(), Arcsinh(), Scale())))
UNIT, POSITIVE = (0.0, 1.0), (0.0, INFINITY)


def residual_coupling(axis_name: str | None = None) -> Coupling:
    return Coupling(even, Affine(), ResidualNet(4, blocks=1, mask_channel=True, axis_name=axis_name))


def norm_between_couplings(axis_name: str | None = None) -> Chain:
    return Chain((vector_coupling(Affine()), BatchNorm(first, axis_name=axis_name), vector_coupling(Affine(), second)))


ONLY_OF_IMAGES = ("real_nvp", "glow", "flow_plus_plus", "jet", "residual_flow", "ffjord")
"""Those of ``MODELS`` that take images and no vectors."""

ZOO: dict[str, Entry] = {
    # Couplings: transforms, bounds, masks, context
    "additive": Entry(vector_coupling(Additive()), (2,)),
    "affine": Entry(vector_coupling(Affine()), (2,)),
    "affine, odd number of entries": Entry(vector_coupling(Affine(), second), (5,)),
    "affine, context": Entry(vector_coupling(Affine()), (2,), context=3),
    "affine, sigmoid bound": Entry(vector_coupling(Affine(SigmoidBound())), (2,)),
    "affine, soft clip": Entry(vector_coupling(Affine(SoftClipBound(1.0))), (2,)),
    "affine, no bound": Entry(vector_coupling(Affine(NoBound())), (2,), domain=NEAR),
    "affine, alternating": Entry(vector_coupling(Affine(TanhBound(0.5)), AlternatingMask("odd")), (5,)),
    "affine, boolean mask": Entry(vector_coupling(Affine(), BooleanMask((True, False, False, True))), (4,)),
    "affine, channels": Entry(Coupling(first, Affine(), ConvolutionNet(4)), (2, 2, 4)),
    "affine, checkerboard": Entry(residual_coupling(), (2, 2, 2), parallel=residual_coupling("devices")),
    "affine, checkerboard of a line": Entry(Coupling(odd, Affine(), mlp), (4, 1)),
    "paper affine": Entry(vector_coupling(PaperAffine(), second), (2,)),
    "paper affine, odd sides": Entry(Coupling(odd, PaperAffine(), ConvolutionNet(4)), (3, 5, 1)),
    "spline": Entry(vector_coupling(spline), (2,), -5.0, 5.0),
    "spline, context": Entry(vector_coupling(spline, second), (3,), context=2),
    "logistic mixture": Entry(vector_coupling(mixture), (2,), domain=NEAR),
    "logistic mixture, checkerboard": Entry(Coupling(odd, mixture, GatedNet(4, 1, heads=1)), (2, 2, 1), domain=NEAR),
    "elementwise bijector in a coupling": Entry(vector_coupling(by_element), (2,), domain=NEAR),
    "bernstein polynomial": Entry(vector_coupling(BernsteinPolynomial(5, limit=2.0)), (2,)),
    "sum of squares": Entry(vector_coupling(SumOfSquares(degree=2)), (2,), domain=NEAR),
    "integral of a network": Entry(
        vector_coupling(MonotoneIntegral(MLP((4,), jax.nn.silu, final_scale=1.0), embedding=2, knots=4)), (2,)
    ),
    "transforms in turn": Entry(
        vector_coupling(InTurn((Affine(), mixture, Additive()))), (2,), domain=NEAR, dtypes=WIDE
    ),
    # Of circles: numbers of more than one turn
    "circular spline": Entry(Coupling(first, CircularSpline(bins=4), OfAngles(mlp)), (2,), -9.0, 9.0),
    "circular spline, then a turn": Entry(
        Coupling(NoMask(), InTurn((CircularSpline(bins=2), Additive())), mlp), (1,), -9.0, 9.0, context=2, dtypes=WIDE
    ),
    "moebius": Entry(Coupling(first, Moebius(components=2), OfAngles(mlp)), (2,), -9.0, 9.0),
    "non-compact projection": Entry(Coupling(first, NonCompactProjection(), OfAngles(mlp)), (2,), -9.0, 9.0),
    "wrap": Entry(Wrap(), (2,), domain=(-3.14, 3.14)),
    # Autoregressive
    "maf layer": Entry(Autoregressive(Affine(), made), (3,)),
    "maf layer, context": Entry(Autoregressive(PaperAffine(), made), (2,), context=2),
    "iaf layer": Entry(Inverse(Autoregressive(Affine(), made)), (2,)),
    "autoregressive spline": Entry(Autoregressive(spline, made), (2,)),
    "autoregressive mixture": Entry(Autoregressive(mixture, made), (2,), domain=NEAR),
    "tarflow layer": Entry(Autoregressive(Affine(NoBound()), causal), (3, 2), domain=NEAR, dtypes=WIDE),
    "tarflow layer, context": Entry(Autoregressive(Affine(), causal), (3, 1), context=2, dtypes=WIDE),
    "tarflow layer, entry by entry": Entry(Autoregressive(Affine(), nested), (4, 1), dtypes=WIDE),
    "jet coupling by positions": Entry(
        Coupling(TokenMask("checkerboard", 2), Affine(DoubleSigmoidBound()), seeing_all), (4, 2), dtypes=WIDE
    ),
    "jet couplings by rows in turn": Entry(
        Repeat(Coupling(TokenMask("rows", 1), Affine(DoubleSigmoidBound()), seeing_all), 2, alternate=True),
        (4, 2),
        dtypes=WIDE,
    ),
    "tarflow layer, guided": Entry(
        Autoregressive(Affine(), Guided(causal, 1.5, temperature=2.0, ramp=True)), (3, 2), dtypes=WIDE
    ),
    "tarflow layer by whole passes": Entry(Autoregressive(Affine(), causal, WholePasses()), (3, 2), dtypes=WIDE),
    "coupling of a sequence's channels": Entry(Coupling(first, Affine(), seeing_all), (3, 4), dtypes=WIDE),
    # Normalising
    "batch-norm": Entry(BatchNorm(), (2,), parallel=BatchNorm(axis_name="devices")),
    "batch-norm, checkerboard": Entry(BatchNorm(odd), (3, 3, 2), parallel=BatchNorm(odd, axis_name="devices")),
    "batch-norm, lag": Entry(
        BatchNorm(first, lag=0.9), (2, 2, 4), parallel=BatchNorm(first, lag=0.9, axis_name="devices")
    ),
    "actnorm": Entry(ActNorm(), (2,), parallel=ActNorm("devices")),
    "actnorm, image": Entry(ActNorm(), (2, 2, 3), parallel=ActNorm("devices")),
    "inverse of actnorm": Entry(Inverse(ActNorm()), (2,), parallel=Inverse(ActNorm("devices"))),
    # Linear
    "linear": Entry(Linear(), (2,)),
    "linear, 1x1 convolution": Entry(Linear(), (2, 3, 3)),
    "lu linear": Entry(LULinear(), (2,)),
    "lu linear, 1x1 convolution": Entry(LULinear(), (2, 3, 3)),
    "triangular, lower": Entry(Triangular(), (2,)),
    "triangular, upper": Entry(Triangular(lower=False), (2, 2, 3)),
    "householder": Entry(Householder(2), (2,)),
    "scale": Entry(Scale(), (2,)),
    "shift": Entry(Shift(), (3, 2)),
    "permutation": Entry(Permutation((2, 0, 1)), (3,)),
    "random permutation": Entry(RandomPermutation(), (2, 2, 5)),
    "reverse": Entry(Reverse(), (2,)),
    # The identity plus a simple term
    "planar": Entry(Planar(), (2,)),
    "radial": Entry(Radial(), (2,)),
    "sylvester": Entry(Sylvester(rank=2), (3,)),
    "sylvester, plane": Entry(Sylvester(rank=1), (2,)),
    "block autoregressive": Entry(BlockAutoregressive((3,)), (3,), domain=NEAR, dtypes=WIDE),
    "block autoregressive, context": Entry(BlockAutoregressive((2, 2)), (2,), context=2, domain=NEAR, dtypes=WIDE),
    "residual block": Entry(InvertibleResidual(ContractiveMLP((8,))), (2,), dtypes=WIDE),
    "residual block, context": Entry(InvertibleResidual(ContractiveMLP((8,), 0.5)), (2,), context=2, dtypes=WIDE),
    "residual block of images": Entry(InvertibleResidual(ContractiveConvolutions(3, 0.5)), (2, 2, 1), dtypes=WIDE),
    # Elementwise
    "fixed affine": Entry(FixedAffine(-2.0, 0.5), (2,)),
    "fixed affine by columns": Entry(FixedAffine((-2.0, 0.3), (0.5, 1.0)), (2,)),
    "exp": Entry(Exp(), (2,)),
    "log": Entry(Log(), (2,), 0.1, 5.0, POSITIVE),
    "softplus": Entry(Softplus(), (2,)),
    "sigmoid": Entry(Sigmoid(), (2,)),
    "logit": Entry(Logit(0.05), (2, 2, 1), 0.0, 1.0, UNIT),
    "logit, small alpha": Entry(Logit(1e-6), (2,), 0.0, 1.0, UNIT),
    "logit, plain": Entry(Logit(0.0), (2,), 0.02, 0.98, UNIT),
    "tanh": Entry(Tanh(), (2,)),
    "arctanh": Entry(Arctanh(), (2,), -0.95, 0.95, (-1.0, 1.0)),
    "sinh": Entry(Sinh(), (2,)),
    "arcsinh": Entry(Arcsinh(), (2,)),
    "power": Entry(Power(3.0), (2,), 0.2, 2.0, POSITIVE),
    "power, negative": Entry(Power(-0.5), (2,), 0.2, 2.0, POSITIVE),
    "normal cdf": Entry(NormalCDF(), (2,)),
    "leaky relu": Entry(LeakyReLU(0.2), (2,)),
    "heavy tails": Entry(HeavyTails(), (2,), -9.0, 9.0),
    "event of no axes": Entry(Softplus(), ()),
    # Shapes
    "squeeze": Entry(Squeeze(), (4, 6, 2)),
    "squeeze by 3": Entry(Squeeze(3), (3, 6, 2)),
    "ordered squeeze": Entry(OrderedSqueeze(), (4, 6, 2)),
    "ordered squeeze by 3": Entry(OrderedSqueeze(3), (6, 3, 1)),
    "patches": Entry(Patches(2, (4, 2, 3)), (4, 2, 3)),
    "reshape": Entry(Chain((Reshape((2, 1), (2,)), vector_coupling(Affine()))), (2, 1)),
    # Combinators
    "chain": Entry(norm_between_couplings(), (2,), parallel=norm_between_couplings("devices")),
    "inverse": Entry(Inverse(Chain((Squeeze(), Scale()))), (2, 2, 8)),
    "inverse of a chain of couplings": Entry(Inverse(Chain((vector_coupling(Affine()), Scale()))), (2,)),
    "repeat": Entry(Repeat(Chain((vector_coupling(Affine()), BatchNorm(), Reverse())), 3), (2,)),
    "repeat, measured in init": Entry(
        Repeat(Chain((ActNorm(), LULinear())), 3), (2,), parallel=Repeat(Chain((ActNorm("devices"), LULinear())), 3)
    ),
    "inverse of repeat": Entry(Inverse(Repeat(Chain((ActNorm(), Triangular())), 2)), (2,)),
    "reversible": Entry(Reversible(Repeat(Chain((vector_coupling(Affine()), BatchNorm(), Reverse())), 3)), (2,)),
    "checkpointed": Entry(Checkpointed(Chain((Repeat(Chain((Scale(), BatchNorm())), 2), LULinear()))), (2,)),
    "on axes": Entry(OnAxes(Linear(), axes=(0,)), (2, 3)),
    "on axes, context": Entry(OnAxes(vector_coupling(Affine()), axes=(1,)), (3, 2), context=2),
    "on columns": Entry(OnColumns(vector_coupling(Affine()), (2, 0)), (3,)),
    "on a leaf": Entry(OnLeaf(vector_coupling(Affine()), 1), ((1,), (2,))),
    "multi-scale": Entry(MultiScale((Chain((Scale(), OrderedSqueeze())), Scale())), (4, 4, 1)),
    # Models
    "RealNVP": Entry(
        RealNVP(features=2, blocks=0, learned_prior=True, lag=0.5).build((4, 4, 2)).bijector,
        (4, 4, 2),
        *UNIT,
        domain=UNIT,
        dtypes=WIDE,
    ),
    "RealNVPVectors": Entry(RealNVPVectors(layers=3, hidden=(8,)).build((3,)).bijector, (3,), dtypes=WIDE),
    "NICE": Entry(NICE(layers=3, hidden=(8,)).build((5,)).bijector, (5,)),
    "NICE, image": Entry(NICE(layers=2, hidden=(8,)).build((2, 2, 1)).bijector, (2, 2, 1), dtypes=WIDE),
    "Glow": Entry(Glow(levels=2, depth=1, features=2).build((4, 4, 1)).bijector, (4, 4, 1), *UNIT, UNIT, dtypes=WIDE),
    "Glow, logit": Entry(
        Glow(levels=1, depth=1, features=2, alpha=0.05).build((2, 2, 1)).bijector, (2, 2, 1), *UNIT, UNIT, dtypes=WIDE
    ),
    "MAF": Entry(MAF(layers=2, hidden=(8,)).build((2,)).bijector, (2,)),
    "MAF, spline": Entry(MAF(2, (8,), "spline", bins=4).build((2,)).bijector, (2,), dtypes=WIDE),
    "MAF of one entry": Entry(MAF(2, (8,)).build((1,)).bijector, (1,), context=2),
    "IAF": Entry(IAF(layers=2, hidden=(8,)).build((2,)).bijector, (2,), dtypes=WIDE),
    "SplineCoupling": Entry(SplineCoupling(2, (8,), bins=4).build((2,)).bijector, (2,), dtypes=WIDE),
    "SplineCoupling of one entry": Entry(
        SplineCoupling(2, (8,), bins=4).build((1,)).bijector, (1,), context=2, dtypes=WIDE
    ),
    "CircularSplineCoupling": Entry(
        CircularSplineCoupling(angles=(0,), passes=1, hidden=(8,), bins=3).build((2,)).bijector,
        (2,),
        domain=(-3.14, 3.14),
        dtypes=WIDE,
    ),
    "ResidualFlowVectors": Entry(ResidualFlowVectors(2, (8,), 0.7).build((2,)).bijector, (2,), dtypes=WIDE),
    "ResidualFlow": Entry(
        ResidualFlow(2, 1, 2, 1, 4, coefficient=0.5, log_det="exact").build((2, 2, 1)).bijector,
        (2, 2, 1),
        *UNIT,
        domain=UNIT,
        dtypes=WIDE,
    ),
    "FlowPlusPlus": Entry(
        FlowPlusPlus((1, 1, 1), features=2, blocks=1, components=2, heads=0).build((2, 4, 1)).bijector,
        (2, 4, 1),
        *UNIT,
        domain=UNIT,
        dtypes=WIDE,
    ),
}

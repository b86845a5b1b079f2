"""The rows of ``experiments.kit.names``: what is here, and the names that other libraries have for it."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """``ours`` names ours in backquotes, or says no and why; ``theirs`` are names by library, with spaces between."""

    ours: str
    theirs: dict[str, str]


def row(ours: str, **theirs: str) -> Row:
    return Row(ours, theirs)


FOREIGN = "`ecosystem.tfp.ForeignBijector` takes it as it is"

ROWS = (
    # ------------------------------------------------------------------ what holds others
    row(
        "the contract, `Bijector`",
        distrax="Bijector",
        flowjax="AbstractBijection",
        bijx="Bijection ScalarBijection ApplyBijection",
        TFP="Bijector AutoCompositeTensorBijector Composition",
        zuko="Transform DependentTransform MonotonicTransform",
        nflows="Transform",
        normflows="Flow",
    ),
    row(
        "`Chain`",
        distrax="Chain",
        flowjax="Chain",
        bijx="Chain",
        TFP="Chain",
        zuko="ComposeTransform ComposedTransform",
        nflows="CompositeTransform",
        normflows="Composite",
    ),
    row("`Repeat`, one loop for equal layers", flowjax="Scan", bijx="ScanChain"),
    row(
        "`Inverse`",
        distrax="Inverse",
        flowjax="Invert",
        bijx="Inverse CondInverse",
        TFP="Invert",
        nflows="InverseTransform CauchyCDFInverse",
        normflows="Reverse",
    ),
    row(
        "`Chain((first, middle, Inverse(first)))`",
        flowjax="Sandwich",
        bijx="SinhConjugation CubicConjugation",
        nflows="CompositeCDFTransform",
    ),
    row(
        "`OnColumns`, `OnAxes`, `OnLeaf`",
        flowjax="Concatenate Stack Indexed Vmap",
        TFP="Blockwise JointMap TransformDiagonal",
        zuko="CatTransform StackTransform",
    ),
    row(
        "the batch is axis 0 and all other axes are the event: nothing to say",
        distrax="Block",
        zuko="IndependentTransform",
    ),
    row(
        "`Reshape`",
        flowjax="Reshape",
        bijx="Reshape ExpandDims SqueezeDims",
        TFP="Reshape Split Restructure",
        zuko="ReshapeTransform",
    ),
    row("`MultiScale`", nflows="MultiscaleCompositeTransform", normflows="Split Merge"),
    row("`Squeeze`", nflows="SqueezeTransform", normflows="Squeeze"),
    row(
        "a class with two methods ([tutorial](tutorials/own_bijector.md))",
        distrax="Lambda",
        bijx="MetaLayer",
        TFP="Inline",
    ),
    row("`Chain(())`", flowjax="Identity", TFP="Identity", zuko="IdentityTransform", nflows="IdentityTransform"),
    row("parameters are arguments: leave them out of the gradient", bijx="Frozen Partial"),
    row(
        "no: an inverse by search is part of each bijector that needs one",
        flowjax="NumericalInverse",
    ),
    row("no: a context goes to every part as it is; a network for it is part of yours", flowjax="EmbedCondition"),
    row("no: it wraps another library's, as `ecosystem.distrax.ForeignBijector` does", bijx="FlowjaxToBijxBijection"),
    # ------------------------------------------------------------------ couplings and autoregressive layers
    row(
        "`Coupling(ChannelMask(), Affine(), MLP())`, by `Checkerboard`, `BooleanMask`, …; "
        "`Additive`, `PaperAffine` in place of `Affine`",
        distrax="MaskedCoupling SplitCoupling",
        flowjax="Coupling",
        bijx="AffineLinear GeneralCouplingLayer BinaryMask",
        TFP="RealNVP",
        zuko="CouplingTransform",
        nflows="CouplingTransform AffineCouplingTransform AdditiveCouplingTransform PiecewiseCouplingTransform",
        normflows="Coupling AffineCoupling AffineCouplingBlock MaskedAffineFlow CCAffineConst PiecewiseCoupling",
    ),
    row(
        "`Autoregressive(Affine(), MADE())`",
        flowjax="MaskedAutoregressive",
        TFP="MaskedAutoregressiveFlow",
        zuko="AutoregressiveTransform",
        nflows="AutoregressiveTransform MaskedAffineAutoregressiveTransform",
        normflows="Autoregressive MaskedAffineAutoregressive",
    ),
    row(
        "`Coupling(ChannelMask(), RationalQuadraticSpline(), MLP())`",
        nflows="PiecewiseRationalQuadraticCouplingTransform",
        normflows="CoupledRationalQuadraticSpline PiecewiseRationalQuadraticCoupling",
    ),
    row(
        "`Autoregressive(RationalQuadraticSpline(), MADE())`",
        nflows="MaskedPiecewiseRationalQuadraticAutoregressiveTransform",
        normflows="AutoregressiveRationalQuadraticSpline MaskedPiecewiseRationalQuadraticAutoregressive",
    ),
    row(
        "`CircularSpline` in either",
        normflows="CircularAutoregressiveRationalQuadraticSpline CircularCoupledRationalQuadraticSpline",
    ),
    row("`BlockAutoregressive`", flowjax="BlockAutoregressiveNetwork"),
    row("`Coupling(NoMask(), Additive(), MLP())`: all entries, moved as the context says", flowjax="AdditiveCondition"),
    row("`Chain((ActNorm(), LULinear(), Coupling(…)))`, a block of `Glow`", normflows="GlowBlock"),
    # ------------------------------------------------------------------ transforms of one number
    row(
        "`Affine`, `FixedAffine`, `Scale`, `Shift`",
        distrax="ScalarAffine UnconstrainedAffine Shift DiagLinear",
        flowjax="Affine Loc Scale",
        bijx="Scaling Shift",
        TFP="Scale Shift ScaleMatvecDiag",
        zuko="AffineTransform AdditiveTransform MonotonicAffineTransform",
        nflows="AffineScalarTransform AffineTransform PointwiseAffineTransform GatedLinearUnit",
        normflows="AffineConstFlow",
    ),
    row(
        "`RationalQuadraticSpline`",
        distrax="RationalQuadraticSpline",
        flowjax="RationalQuadraticSpline",
        bijx="MonotoneRQSpline",
        TFP="RationalQuadraticSpline",
        zuko="MonotonicRQSTransform",
        nflows="PiecewiseRationalQuadraticCDF",
        normflows="PiecewiseRationalQuadraticCDF",
    ),
    row(
        "no: `RationalQuadraticSpline` is smooth where these have kinks (linear) or jumps of the slope's slope "
        "(quadratic), and closed where the cubic's inverse loses digits; as many parameters",
        nflows="PiecewiseLinearCDF PiecewiseLinearCouplingTransform MaskedPiecewiseLinearAutoregressiveTransform "
        "PiecewiseQuadraticCDF PiecewiseQuadraticCouplingTransform MaskedPiecewiseQuadraticAutoregressiveTransform "
        "PiecewiseCubicCDF PiecewiseCubicCouplingTransform MaskedPiecewiseCubicAutoregressiveTransform",
    ),
    row("`BernsteinPolynomial`", zuko="BernsteinTransform BoundedBernsteinTransform"),
    row("`SumOfSquares`", zuko="SOSPolynomialTransform"),
    row("`MonotoneIntegral`", zuko="UnconstrainedMonotonicTransform"),
    row("`LogisticMixture` with more scales than one", zuko="GaussianizationTransform"),
    row("`Exp`", flowjax="Exp", bijx="Exponential", TFP="Exp", zuko="ExpTransform"),
    row("`Log`", TFP="Log"),
    row("`Chain((Exp(), FixedAffine(shift=-1.0)))`, and its `Inverse`", TFP="Expm1 Log1p"),
    row("`Softplus`", flowjax="SoftPlus", bijx="SoftPlus", TFP="Softplus", zuko="SoftplusTransform"),
    row(
        "`Sigmoid`, `Logit`",
        distrax="Sigmoid",
        flowjax="Sigmoid",
        bijx="Sigmoid",
        TFP="Sigmoid",
        zuko="SigmoidTransform",
        nflows="Sigmoid Logit",
    ),
    row(
        "`Tanh`, `Arctanh`",
        distrax="Tanh",
        flowjax="Tanh",
        bijx="Tanh",
        TFP="Tanh",
        zuko="TanhTransform",
        nflows="Tanh",
    ),
    row("`Sinh`, `Arcsinh`", bijx="Sinh", TFP="Sinh"),
    row("`Chain((Logit(alpha=0.0), Scale(), Sigmoid()))`", bijx="BetaStretch"),
    row(
        "no: `RationalQuadraticSpline` of three bins bends as much and has its inverse in closed form",
        bijx="CubicRational",
    ),
    row("`Chain((Arcsinh(), FixedAffine(…), Sinh()))`", TFP="SinhArcsinh"),
    row(
        "`Power`",
        flowjax="Power",
        bijx="Power",
        TFP="Power PowerTransform Square Reciprocal",
        zuko="PowerTransform SignedPowerTransform",
    ),
    row("`NormalCDF`", bijx="GaussianCDF", TFP="NormalCDF", zuko="CumulativeDistributionTransform"),
    row("`LeakyReLU`", nflows="LeakyReLU"),
    row("`HeavyTails`: tails of any weight, learned", TFP="LambertWTail"),
    row(
        "`Wrap`, `Moebius`, `NonCompactProjection`, `CircularSpline`",
        zuko="CircularShiftTransform",
        normflows="PeriodicWrap PeriodicShift",
    ),
    row(
        "lines of `Exp`, `Log`, `Power`, `FixedAffine`, as Weibull's is "
        "`Chain((FixedAffine(…), Power(…), FixedAffine(scale=-1.0), Exp(), FixedAffine(-1.0, 1.0)))`; or " + FOREIGN,
        distrax="GumbelCDF",
        TFP="GumbelCDF WeibullCDF KumaraswamyCDF FrechetCDF GompertzCDF ShiftedGompertzCDF MoyalCDF RayleighCDF "
        "GeneralizedPareto GeneralizedExtremeValueCDF",
    ),
    row(
        "no: they flatten towards an end, so that in float32 no inverse is left there; `Tanh` and `Sigmoid` have exact "
        "log-dets to the ends, `HeavyTails` none; or " + FOREIGN,
        flowjax="LeakyTanh",
        bijx="Tan",
        TFP="Softsign SoftClip Softfloor",
        zuko="SoftclipTransform",
        nflows="LogTanh CauchyCDF",
    ),
    row("no: of two x one y; no density has it", TFP="AbsoluteValue", zuko="AbsTransform CosTransform SinTransform"),
    # ------------------------------------------------------------------ linear maps
    row(
        "`LULinear`",
        distrax="LowerUpperTriangularAffine",
        TFP="MatvecLU ScaleMatvecLU",
        zuko="LULinearTransform",
        nflows="LULinear",
        normflows="LULinearPermute InvertibleAffine",
    ),
    row(
        "`Linear`, `LULinear` on images",
        distrax="Linear",
        TFP="ScaleMatvecLinearOperator ScaleMatvecLinearOperatorBlock",
        nflows="Linear NaiveLinear OneByOneConvolution",
        normflows="Invertible1x1Conv",
    ),
    row("`Triangular`", distrax="TriangularLinear", flowjax="TriangularAffine", TFP="ScaleMatvecTriL Cumsum"),
    row("`Chain((Householder(8), Scale(), Householder(8)))`, the singular values apart", nflows="SVDLinear"),
    row("`Chain((Triangular(lower=False), Householder(8)))`", nflows="QRLinear"),
    row(
        "`Householder`",
        flowjax="Householder",
        TFP="Householder",
        zuko="RotationTransform",
        nflows="HouseholderSequence",
    ),
    row(
        "no: `LULinear` holds it, and takes no more time than it below some hundred entries",
        distrax="DiagPlusLowRankLinear",
    ),
    row(
        "`Permutation`, `RandomPermutation`, `Reverse`",
        flowjax="Permute Flip",
        TFP="Permute Transpose",
        zuko="PermutationTransform",
        nflows="Permutation RandomPermutation ReversePermutation",
        normflows="Permute",
    ),
    row(
        "no: fixed rotations of a lattice's or an image's axes; a class of ten lines by `jnp.fft`, log-det 0",
        flowjax="DiscreteCosine",
        bijx="ToFourierData",
    ),
    row(
        "no: of lattice fields, free theory, gauge groups; bijx is made for them",
        bijx="FreeTheoryScaling SpectrumScaling ComplexScaling",
    ),
    row("`ActNorm`", nflows="ActNorm", normflows="ActNorm"),
    row("`BatchNorm`", nflows="BatchNorm", normflows="BatchNorm"),
    # ------------------------------------------------------------------ low rank, residual, continuous
    row("`Planar`", flowjax="Planar", normflows="Planar"),
    row("`Radial`", normflows="Radial"),
    row(
        "no: any map of the radius, alone or as the direction says; a direction has no smooth network at the origin; "
        "`Radial` is the map with a learned centre",
        bijx="Radial RadialConditional RayTransform",
    ),
    row("`InvertibleResidual`", normflows="Residual"),
    row(
        "`Continuous`, with `ExactTrace` or `HutchinsonTrace`",
        bijx="ContFlowDiffrax ContFlowRK4 ContFlowCG",
        TFP="FFJORD",
        zuko="FreeFormJacobianTransform",
    ),
    # ------------------------------------------------------------------ what maps to other events
    row(
        "no: events of other sizes on either side (matrices, the simplex), whose densities are of a surface; or "
        + FOREIGN,
        TFP="Ascending CholeskyOuterProduct CholeskyToInvCholesky CorrelationCholesky FillScaleTriL FillTriangular "
        "MatrixInverseTriL IteratedSigmoidCentered SoftmaxCentered UnitVector Pad",
        zuko="CorrCholeskyTransform LowerCholeskyTransform PositiveDefiniteTransform SoftmaxTransform "
        "StickBreakingTransform",
    ),
    row(
        "no: draws, and no map: a step of a chain has no inverse; `ecosystem.samplers` has samplers in latents",
        normflows="HamiltonianMonteCarlo MetropolisHastings",
    ),
)

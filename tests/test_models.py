"""Ready-made models: their layers one by one, their sizes, how they start, and their densities."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from nvpjax import (
    IAF,
    MAF,
    NICE,
    ActNorm,
    Additive,
    Affine,
    AlternatingMask,
    Autoregressive,
    BatchNorm,
    Chain,
    ChannelMask,
    Checkerboard,
    Coupling,
    DiagonalNormal,
    DoubleSigmoidBound,
    FixedAffine,
    Flow,
    FlowPlusPlus,
    FlowPlusPlusDequantizer,
    Glow,
    GlowDequantizer,
    Inverse,
    Jet,
    LogisticMixture,
    Logit,
    LULinear,
    MultiScale,
    NoBound,
    OnAxes,
    OrderedSqueeze,
    Patches,
    RandomPermutation,
    RationalQuadraticSpline,
    RealNVP,
    RealNVPVectors,
    Repeat,
    Reshape,
    Reverse,
    Scale,
    SigmoidBound,
    SplineCoupling,
    Squeeze,
    StandardNormal,
    TanhBound,
    TarFlow,
    TokenMask,
)
from nvpjax.bijectors.masks import NoMask
from nvpjax.nets import (
    MADE,
    MLP,
    CausalTransformer,
    ConvolutionNet,
    GatedNet,
    LabelEmbedding,
    NestedTransformer,
    ResidualNet,
    Rounded,
    Transformer,
)
from nvpjax.testing import moved_from_start

even, first = Checkerboard("even"), ChannelMask("first")


def board_of_real_nvp(network, times):
    coupling = Coupling(Checkerboard("even"), Affine(TanhBound(0.0)), network)
    return Repeat(Chain((coupling, BatchNorm(Checkerboard("even"), lag=0.5))), times, alternate=True)


def channels_of_real_nvp(network, times):
    coupling = Coupling(ChannelMask("first"), Affine(TanhBound(1.0)), network)
    return Repeat(Chain((coupling, BatchNorm(ChannelMask("first"), lag=0.5))), times, alternate=True)


REAL_NVP = Flow(
    Chain(
        (
            Logit(0.1),
            MultiScale(
                (
                    Chain(
                        (
                            board_of_real_nvp(ResidualNet(4, 2, mask_channel=True), 3),
                            Squeeze(),
                            channels_of_real_nvp(ResidualNet(8, 2), 3),
                            Inverse(Squeeze()),
                            OrderedSqueeze(),
                            Coupling(ChannelMask("first"), Affine(TanhBound(1.0)), ResidualNet(8, 2)),
                        )
                    ),
                    Chain(
                        (
                            board_of_real_nvp(ResidualNet(8, 2, mask_channel=True), 3),
                            Squeeze(),
                            channels_of_real_nvp(ResidualNet(16, 2), 3),
                            Inverse(Squeeze()),
                            OrderedSqueeze(),
                            Coupling(ChannelMask("first"), Affine(TanhBound(1.0)), ResidualNet(16, 2)),
                        )
                    ),
                    board_of_real_nvp(ResidualNet(16, 2, mask_channel=True), 4),
                )
            ),
        )
    ),
    StandardNormal(),
)
REAL_NVP_VECTORS = Flow(
    Repeat(
        Chain((Coupling(first, Affine(TanhBound(1.0)), MLP((8, 9))), BatchNorm(first))),
        4,
        alternate=True,
    ),
    StandardNormal(),
)
PAIR = Chain(
    (
        Chain((Coupling(first, Affine(TanhBound(1.0)), MLP((8,))), BatchNorm(first))),
        Chain(
            (
                Coupling(ChannelMask("second"), Affine(TanhBound(1.0)), MLP((8,))),
                BatchNorm(ChannelMask("second")),
            )
        ),
    )
)
REAL_NVP_ODD_VECTORS = Flow(Chain((Repeat(PAIR, 1), PAIR.bijectors[0])), StandardNormal())
NICE_IMAGE = Flow(
    Chain(
        (
            FixedAffine(12**0.5, -(3**0.5)),
            Reshape((2, 2, 1), (4,)),
            Repeat(Coupling(AlternatingMask("even"), Additive(), MLP((8,))), 3, alternate=True),
            Scale(),
        )
    ),
    StandardNormal(),
)
GLOW_STEP = Chain((ActNorm(), LULinear(), Coupling(first, Affine(SigmoidBound(2.0)), ConvolutionNet(4))))
GLOW = Flow(
    Chain(
        (
            FixedAffine(1.0, -0.5),
            MultiScale(
                (
                    Chain((Squeeze(), Repeat(GLOW_STEP, 3), Coupling(first, Affine(NoBound()), ConvolutionNet(4)))),
                    Chain((Squeeze(), Repeat(GLOW_STEP, 3))),
                )
            ),
        )
    ),
    DiagonalNormal(),
)
MIXTURE_STEP = Chain((ActNorm(), LULinear(), Coupling(first, LogisticMixture(5), ConvolutionNet(4))))
GLOW_OF_MIXTURES = Flow(
    Chain(
        (
            FixedAffine(1.0, -0.5),
            MultiScale((Chain((Squeeze(), Repeat(MIXTURE_STEP, 3))), Chain((Squeeze(), Repeat(MIXTURE_STEP, 3))))),
        )
    ),
    DiagonalNormal(),
)
NOISE_STEP = Chain((LULinear(), Coupling(first, Affine(SigmoidBound(2.0)), ConvolutionNet(4))))
GLOW_DEQUANTIZER = Flow(Chain((Logit(0.0), Squeeze(), Inverse(Repeat(NOISE_STEP, 3)))), StandardNormal())
MAF_SPLINE = Flow(
    Repeat(Chain((Autoregressive(RationalQuadraticSpline(4, 3.0), MADE((8, 9))), Reverse())), 3), StandardNormal()
)
IAF_AFFINE = Flow(
    Inverse(Repeat(Chain((Autoregressive(Affine(TanhBound(1.0)), MADE((8,))), Reverse())), 3)), StandardNormal()
)
OF_CONTEXT = Coupling(NoMask(), RationalQuadraticSpline(4, 3.0), MLP((8,)))
SPLINES = Flow(
    Repeat(Chain((LULinear(), Coupling(first, RationalQuadraticSpline(4, 3.0), MLP((8,))))), 3), StandardNormal()
)


def mixture_layers(mask, times):
    coupling = Coupling(mask, LogisticMixture(5), GatedNet(4, 2, heads=2))
    return Repeat(Chain((ActNorm(), LULinear(), coupling)), times, alternate=True)


FLOW_PLUS_PLUS = Flow(
    Chain(
        (
            Logit(0.1),
            mixture_layers(even, 4),
            Squeeze(),
            mixture_layers(first, 2),
            mixture_layers(even, 3),
        )
    ),
    StandardNormal(),
)
DEQUANTIZER = Flow(
    Chain((Logit(0.0), Inverse(Repeat(Coupling(even, LogisticMixture(5), GatedNet(4, 2)), 3, alternate=True)))),
    StandardNormal(),
)


def tarflow_layers(times, transform=Affine(NoBound()), network=CausalTransformer(8, 2, 4)):  # noqa: B008
    layer = Autoregressive(transform, network)
    return Repeat(Chain((layer, OnAxes(Reverse(), (0,)))), times)


TARFLOW = Flow(Chain((FixedAffine(2.0, -1.0), Patches(2, (4, 4, 1)), tarflow_layers(3))), StandardNormal())


def of_vectors(layers):
    return Flow(Chain((Reshape((5,), (5, 1)), layers, Reshape((5, 1), (5,)))), StandardNormal())


def jet_coupling(mask):
    return Coupling(mask, Affine(DoubleSigmoidBound()), Transformer(8, 2, 4))


def jet_couplings_of_channels(times):
    return Repeat(Chain((RandomPermutation(), jet_coupling(ChannelMask("first")))), times)


JET = Flow(
    Chain(
        (
            FixedAffine(2.0, -1.0),
            Patches(2, (4, 8, 1)),
            jet_couplings_of_channels(4),
            jet_coupling(TokenMask("checkerboard", 4, "even")),
            jet_couplings_of_channels(4),
            jet_coupling(TokenMask("checkerboard", 4, "odd")),
            jet_couplings_of_channels(4),
            jet_coupling(TokenMask("columns", 4, "even")),
            jet_couplings_of_channels(2),
        )
    ),
    StandardNormal(),
)

LAYERS = {
    "RealNVP": (RealNVP(3, 4, 2, alpha=0.1, learned_prior=True, lag=0.5), (8, 8, 1), REAL_NVP),
    "RealNVPVectors": (RealNVPVectors(4, (8, 9)), (4,), REAL_NVP_VECTORS),
    "RealNVPVectors, odd": (RealNVPVectors(3, (8,)), (3,), REAL_NVP_ODD_VECTORS),
    "NICE": (NICE(3, (8,)), (2, 2, 1), NICE_IMAGE),
    "Glow": (Glow(2, 3, 4), (4, 4, 1), GLOW),
    "Glow of mixtures": (Glow(2, 3, 4, components=5, learned_prior=False), (4, 4, 1), GLOW_OF_MIXTURES),
    "GlowDequantizer": (GlowDequantizer(3, 4), (4, 4, 1), GLOW_DEQUANTIZER),
    "MAF": (MAF(3, (8, 9), "spline", 4, 3.0), (5,), MAF_SPLINE),
    "IAF": (IAF(3, (8,)), (5,), IAF_AFFINE),
    "SplineCoupling": (SplineCoupling(3, (8,), 4, 3.0), (5,), SPLINES),
    "MAF of one entry": (MAF(3, (8,), "spline", 4, 3.0), (1,), Flow(Repeat(OF_CONTEXT, 3), StandardNormal())),
    "SplineCoupling of one entry": (
        SplineCoupling(3, (8,), 4, 3.0),
        (1,),
        Flow(Repeat(Chain((LULinear(), OF_CONTEXT)), 3), StandardNormal()),
    ),
    "FlowPlusPlus": (FlowPlusPlus((4, 2, 3), 4, 2, 5, 2, alpha=0.1), (4, 4, 1), FLOW_PLUS_PLUS),
    "TarFlow": (TarFlow(2, 8, 3, 2, 4), (4, 4, 1), TARFLOW),
    "TarFlow of mixtures": (
        TarFlow(2, 8, 3, 2, 4, components=5),
        (5,),
        of_vectors(tarflow_layers(3, LogisticMixture(5))),
    ),
    "TarFlow after a logit": (
        TarFlow(2, 8, 3, 2, 4, alpha=0.25),
        (4, 4, 1),
        Flow(Chain((Chain((Logit(0.25), FixedAffine(1 / math.log(3)))), *TARFLOW.bijector.bijectors[1:]))),
    ),
    "TarFlow entry by entry": (
        TarFlow(2, 8, 3, 2, 4, classes=3, inside=(6,)),
        (4, 4, 1),
        Flow(
            Chain(
                (
                    *TARFLOW.bijector.bijectors[:2],
                    Reshape((4, 4), (16, 1)),
                    tarflow_layers(3, network=NestedTransformer(4, (6,), 8, 2, 4, 3)),
                    Reshape((16, 1), (4, 4)),
                )
            )
        ),
    ),
    "TarFlow of vectors": (TarFlow(2, 8, 3, 2, 4), (5,), of_vectors(tarflow_layers(3))),
    "Jet": (Jet(2, 8, 17, 2, 4), (4, 8, 1), JET),
    "FlowPlusPlusDequantizer": (FlowPlusPlusDequantizer(3, 4, 2, 5), (4, 4, 1), DEQUANTIZER),
}


@pytest.mark.parametrize("name", LAYERS)
def test_model_is_its_written_list_of_layers(name):
    model, event_shape, written = LAYERS[name]
    assert model.build(event_shape) == written, f"\n{model.build(event_shape)}\n{written}"


@pytest.mark.parametrize("name", LAYERS)
def test_models_are_values_that_json_keeps(name):
    model, event_shape, written = LAYERS[name]
    kept = type(model)(**json.loads(json.dumps(dataclasses.asdict(model))))
    assert kept == model and hash(kept) == hash(model) and kept.build(list(event_shape)) == written
    size = next(name for name in ("features", "layers", "couplings") if hasattr(model, name))
    assert dataclasses.replace(model, **{size: 6}) != model


@pytest.mark.parametrize("name", LAYERS)
def test_how_a_model_is_computed_is_told_to_all_its_parts(name):
    model, event_shape, _ = LAYERS[name]

    def parts(value):
        if dataclasses.is_dataclass(value):
            yield value
            for field in dataclasses.fields(value):
                yield from parts(getattr(value, field.name))
        elif isinstance(value, tuple):
            for entry in value:
                yield from parts(entry)

    told = list(parts(model.build(event_shape, axis_name="devices", network_dtype=jnp.bfloat16, scan=True)))
    measuring = [part for part in told if hasattr(part, "axis_name")]
    assert all(part.axis_name == "devices" for part in measuring)
    assert all(part.scan for part in told if hasattr(part, "scan"))
    of_couplings = [part.conditioner for part in told if hasattr(part, "conditioner")]
    assert of_couplings and all(isinstance(part, Rounded) and part.dtype == jnp.bfloat16 for part in of_couplings)


VECTOR_MODELS = [RealNVPVectors(), NICE(), MAF(), MAF(transform="spline"), IAF(), SplineCoupling(), TarFlow()]


@pytest.mark.parametrize(
    "model", VECTOR_MODELS, ids=lambda model: f"{type(model).__name__}-{vars(model).get('transform')}"
)
def test_untrained_vector_models_are_near_the_standard_normal(model):
    columns = load_breast_cancer().data
    order = np.random.default_rng(0).permutation(len(columns))
    train, test = np.split(columns[order], [455])
    x = jnp.asarray((test - train.mean(axis=0)) / train.std(axis=0), jnp.float32)
    expected = 0.5 * np.sum(np.square(np.asarray(x, np.float64)), axis=1).mean() + 15 * np.log(2 * np.pi)
    flow = model.build((30,))
    params, state = jax.jit(flow.init)(jax.random.key(0), x)
    log_prob, _ = jax.jit(flow.log_prob)(params, state, x)
    assert 43 < expected < 47  # 45.0 over the draws of the split
    assert abs(-float(jnp.mean(log_prob)) - expected) < 1


IMAGE_MODELS = [
    RealNVP(2, 4, 1, learned_prior=True, classes=3),
    Glow(2, 1, 4, classes=3),
    FlowPlusPlus((1, 1, 1), 4, 1, 2, 2, classes=3),
]


@pytest.mark.parametrize("model", IMAGE_MODELS, ids=lambda model: type(model).__name__)
def test_image_models_are_conditioned_on_labels(model):
    flow = model.build((4, 4, 1))
    x = jnp.tile(jax.random.uniform(jax.random.key(0), (1, 4, 4, 1), minval=0.1, maxval=0.9), (3, 1, 1, 1))
    x = x + 0.01 * jax.random.normal(jax.random.key(1), x.shape)
    labels = jnp.array([0, 1, 2])
    params, state = jax.jit(flow.init)(jax.random.key(2), x, labels)
    params = moved_from_start(jax.random.key(3), params, 0.03)
    log_prob = jax.jit(flow.log_prob)
    of_one = jnp.tile(x[:1], (3, 1, 1, 1))
    assert len(set(np.asarray(log_prob(params, state, of_one, labels)[0]).round(3).tolist())) == 3
    same = np.asarray(log_prob(params, state, of_one, jnp.array([1, 1, 1]))[0])
    np.testing.assert_allclose(same, same[0], rtol=1e-5)
    drawn, claimed = jax.jit(lambda key: flow.sample_and_log_prob(key, params, state, len(x), labels))(
        jax.random.key(4)
    )
    np.testing.assert_allclose(log_prob(params, state, drawn, labels)[0], claimed, atol=0.02)
    for call in (lambda: flow.init(jax.random.key(0), x), lambda: flow.log_prob(params, state, x)):
        with pytest.raises(ValueError, match="LabelEmbedding: expected one label an example"):
            call()


def test_every_coupling_of_an_image_model_is_given_the_label():
    couplings = str(RealNVP(3, 4, 1, learned_prior=True, classes=3).build((8, 8, 1))).split("Coupling(")[1:]
    assert len(couplings) == 7 and all("LabelEmbedding(network=ResidualNet(" in text for text in couplings)
    assert (
        LabelEmbedding(ConvolutionNet(4), 3)
        == Glow(1, 1, 4, classes=3)
        .build((2, 2, 1))
        .bijector.bijectors[1]
        .scales[0]
        .bijectors[1]
        .bijector.bijectors[2]
        .conditioner
    )


@pytest.mark.parametrize(
    ("scales", "features", "blocks", "side", "expected"),
    [(2, 64, 8, 32, 19_609_545), (4, 32, 4, 32, 46_220_359), (5, 32, 2, 64, 96_363_237)],
    ids=["CIFAR-10", "ImageNet 32", "ImageNet 64"],
)
def test_published_models_have_the_published_number_of_parameters(scales, features, blocks, side, expected):
    flow = RealNVP(scales=scales, features=features, blocks=blocks).build((side, side, 3))
    x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    params, _ = jax.eval_shape(flow.init, jax.random.key(0), x)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


def test_loops_and_layers_written_out_are_the_same_model():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.uniform(size=(4, 8, 8, 1)), jnp.float32)
    model = RealNVP(features=3, blocks=2, learned_prior=True)
    flows = [model.build((8, 8, 1), scan=scan) for scan in (False, True)]
    variables = [jax.jit(flow.init)(jax.random.key(0), x) for flow in flows]
    jax.tree.map(np.testing.assert_array_equal, *variables)
    params, state = variables[0]
    params = moved_from_start(jax.random.key(1), params, 0.1)

    def bits(flow):
        def loss(params):
            log_prob, after = flow.log_prob(params, state, x, train=True)
            return -jnp.mean(log_prob) / 64, after

        return jax.jit(jax.value_and_grad(loss, has_aux=True))

    (written_out, after), gradients = bits(flows[0])(params)
    (looped, after_loop), gradients_of_loop = bits(flows[1])(params)
    np.testing.assert_allclose(written_out, looped, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), after, after_loop)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), gradients, gradients_of_loop)


def test_learned_prior_adds_one_coupling_to_every_scale_but_the_last():
    x = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
    sizes = []
    for learned_prior in (False, True):
        flow = RealNVP(scales=3, features=4, blocks=1, learned_prior=learned_prior).build((8, 8, 1))
        params, state = jax.eval_shape(flow.init, jax.random.key(0), x)
        log_prob, _ = jax.eval_shape(flow.log_prob, params, state, x)
        assert log_prob.shape == (2,) and log_prob.dtype == jnp.float32
        assert [z.shape[1:] for z in flow.latents_like(params, state, 2)] == [(4, 4, 2), (2, 2, 4), (2, 2, 4)]
        sizes.append(sum(leaf.size for leaf in jax.tree.leaves(params)))

    def network(i, d, o, n=1):  # parameters of a channel coupling with its network
        return 9 * i * d + d + d**2 + 2 * d + n * (19 * d**2 + 6 * d) + d + d * o + 2 * o + i // 2 + 1

    assert sizes[1] - sizes[0] == network(4, 8, 4) + network(8, 16, 8)


@pytest.mark.parametrize(
    ("flow", "event"),
    [
        (NICE(hidden=(8,)).build((3,)), (3,)),
        (NICE(hidden=(8,)).build((3, 3, 1)), (3, 3, 1)),
        (MAF(layers=2, hidden=(8,)).build((3,)), (3,)),
        (IAF(layers=2, hidden=(8,)).build((3,)), (3,)),
    ],
    ids=["NICE", "NICE of images", "MAF", "IAF"],
)
def test_samples_of_a_model_have_the_density_it_claims(flow, event):
    example = jax.random.uniform(jax.random.key(1), (16, *event))
    params, state = jax.jit(flow.init)(jax.random.key(0), example)
    params = moved_from_start(jax.random.key(2), params, 0.1)
    draw = jax.jit(lambda key: flow.sample_and_log_prob(key, params, state, 4))
    x, claimed = draw(jax.random.key(3))
    log_prob, _ = jax.jit(flow.log_prob)(params, state, x)
    assert x.shape == (4, *event)
    np.testing.assert_allclose(log_prob, claimed, atol=2e-3)

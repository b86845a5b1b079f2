"""Transformers against numpy, what each position sees, and the three ways back through an autoregressive layer."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from experiments.bench.inversion import by
from experiments.bench.products import operations_of_products
from nvpjax import (
    Affine,
    Autoregressive,
    Jet,
    LogisticMixture,
    NoBound,
    Patches,
    Rounds,
    Squeeze,
    StepByStep,
    TarFlow,
    TokenMask,
    WholePasses,
)
from nvpjax.nets import MADE, CausalTransformer, NestedTransformer, Rounded, Transformer
from nvpjax.testing import moved_from_start

WIDTH, HEAD, LENGTH, CHANNELS, OUTPUTS = 8, 4, 6, 3, 5


def made(network, seed=0, context=None, length=LENGTH, dtype=jnp.float32):
    """Params away from the start, and an example."""
    x = jax.random.normal(jax.random.key(seed), (2, length, CHANNELS), dtype)
    params, _ = network.init(jax.random.key(1), x, context, outputs=OUTPUTS)
    return moved_from_start(jax.random.key(2), params, 0.3), x


def in_numpy(params, x, *, causal, added=0.0):
    """Position by position, head by head, in float64."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def dense(p, h):
        return h @ p["kernel"] + p["bias"]

    def norm(p, h):
        return (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]

    h = dense(p["entry"], np.asarray(x, np.float64)) + p["place"] + added
    for block in p["blocks"]:
        query, key, value = np.split(dense(block["query_key_value"], norm(block["norm_attention"], h)), 3, axis=-1)
        mixed = np.zeros_like(h)
        for row, here, head in np.ndindex(len(h), h.shape[1], WIDTH // HEAD):
            own = slice(head * HEAD, (head + 1) * HEAD)
            there = here + 1 if causal else h.shape[1]
            logits = key[row, :there, own] @ query[row, here, own] / math.sqrt(HEAD)
            weights = np.exp(logits - logits.max())
            mixed[row, here, own] = weights @ value[row, :there, own] / weights.sum()
        h = h + dense(block["attended"], mixed)
        inner = dense(block["up"], norm(block["norm_network"], h))
        h = h + dense(block["down"], inner * (1 + erf(inner / math.sqrt(2))) / 2)
    if not causal:
        return dense(p["output"], norm(p["norm"], h))
    output = dense(p["output"], h)
    return np.concatenate([np.zeros_like(output[:, :1]), output[:, :-1]], axis=1)


@pytest.mark.parametrize("kind, causal", [(Transformer, False), (CausalTransformer, True)])
@pytest.mark.parametrize("given", ["nothing", "labels", "context"])
def test_a_transformer_is_what_numpy_says(kind, causal, given):
    network = kind(WIDTH, 2, HEAD, classes=3 if given == "labels" else 0)
    context = {"nothing": None, "labels": jnp.array([2, -1]), "context": jnp.array([[0.5, 2.0], [-1.0, 0.1]])}[given]
    params, x = made(network, context=context)
    added = 0.0
    if given == "labels":  # the second label is not known
        table = np.asarray(params["class"], np.float64)
        added = np.stack([table[2], table.mean(axis=0)])[:, None]
    if given == "context":
        added = (np.asarray(context) @ params["context"]["kernel"] + params["context"]["bias"])[:, None]
    output, _ = jax.jit(lambda: network.apply(params, (), x, context, outputs=OUTPUTS))()
    np.testing.assert_allclose(output, in_numpy(params, x, causal=causal, added=added), rtol=2e-4, atol=2e-5)


def test_a_label_that_is_none_gives_nan_and_no_other_class():
    network = CausalTransformer(WIDTH, 1, HEAD, classes=3)
    params, x = made(network, context=jnp.array([0, 1]))
    output, _ = network.apply(params, (), x, jnp.array([3, -2]), outputs=OUTPUTS)
    assert jnp.isnan(output[:, 1:]).all()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint32"])
def test_labels_of_any_integer_dtype_are_the_same_labels(dtype):
    network = CausalTransformer(WIDTH, 1, HEAD, classes=200)
    params, x = made(network, context=jnp.array([0, 1]))
    expected, _ = network.apply(params, (), x, jnp.array([7, 100]), outputs=OUTPUTS)
    output, _ = network.apply(params, (), x, jnp.array([7, 100], dtype), outputs=OUTPUTS)
    np.testing.assert_array_equal(output, expected)


@pytest.mark.parametrize("inversion", ["rounds", Rounds, None])
def test_what_is_no_way_to_invert_is_refused(inversion):
    with pytest.raises(TypeError, match=r"as inversion an object such as StepByStep\(\), got"):
        Autoregressive(Affine(), CausalTransformer(WIDTH, 1, HEAD), inversion)


@pytest.mark.parametrize(
    "network, context, said",
    [
        (Transformer(WIDTH, 1, HEAD), jnp.zeros((3, 2)), r"expected a context of shape \(2, entries\), got \(3, 2\)"),
        (Transformer(WIDTH, 1, HEAD, classes=3), None, "one label an example"),
        (CausalTransformer(WIDTH, 1, HEAD, classes=3), jnp.zeros(2), "whole numbers of shape"),
    ],
)
def test_contexts_that_do_not_fit_are_refused(network, context, said):
    with pytest.raises(ValueError, match=said):
        network.init(jax.random.key(0), jnp.zeros((2, LENGTH, CHANNELS)), context, outputs=OUTPUTS)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="width that head_width divides, got width=8 and head_width=3"):
        Transformer(width=8, head_width=3)
    with pytest.raises(ValueError, match=r"\(batch, positions, channels\), got \(2, 3\)"):
        Transformer(WIDTH, 1, HEAD).init(jax.random.key(0), jnp.zeros((2, 3)), outputs=2)


def test_parameters_are_as_many_as_the_formulas_say():
    def count(network, x, outputs, context=None):
        params, _ = jax.eval_shape(lambda: network.init(jax.random.key(0), x, context, outputs=outputs))
        return sum(leaf.size for leaf in jax.tree.leaves(params))

    C, L, T, D, K = 128, 4, 49, 16, 10
    causal = count(CausalTransformer(C, L, classes=K), jnp.zeros((1, T, D)), 2 * D, jnp.zeros(1, jnp.int32))
    assert causal == D * C + C + T * C + K * C + L * (12 * C**2 + 13 * C) + 2 * D * C + 2 * D
    assert 4 * causal == 3_227_776  # of TarFlow's four blocks for MNIST
    E, L, n, d = 192, 1, 64, 48
    coupling = count(Transformer(E, L), jnp.zeros((1, n, d // 2)), d)
    assert coupling == d // 2 * E + E + n * E + L * (12 * E**2 + 13 * E) + 2 * E + E * d + d


# ------------------------------------------------------------------ step by step


@pytest.mark.parametrize("network", [CausalTransformer(WIDTH, 2, HEAD), CausalTransformer(WIDTH, 1, HEAD, classes=3)])
def test_a_position_sees_those_before_it_and_steps_give_what_the_whole_pass_gives(network):
    context = jnp.array([2, -1]) if network.classes else None
    params, x = made(network, context=context)
    whole, _ = network.apply(params, (), x, context, outputs=OUTPUTS)
    theta, cache = network.begin(params, x, context, outputs=OUTPUTS)
    for position in range(LENGTH):
        np.testing.assert_allclose(theta, whole[:, position], rtol=1e-5, atol=1e-6)
        theta, cache = network.step(params, cache, position, x[:, position], context, outputs=OUTPUTS)
    label = None if context is None else context[:1]
    jacobian = jax.jit(jax.jacobian(lambda x: network.apply(params, (), x[None], label, outputs=OUTPUTS)[0][0]))(x[0])
    seen = np.abs(jacobian).max(axis=(1, 3))
    np.testing.assert_array_equal(seen > 0, np.tri(LENGTH, k=-1, dtype=bool))


@pytest.mark.parametrize("given", ["nothing", "labels", "context"])
def test_a_nested_transformer_is_what_numpy_says_and_sees_what_comes_before(given):
    patch, patches, outputs = 3, 4, 2
    network = NestedTransformer(patch, (7, 6), WIDTH, 2, HEAD, classes=3 if given == "labels" else 0)
    context = {"nothing": None, "labels": jnp.array([2, -1]), "context": jnp.array([[0.5, 2.0], [-1.0, 0.1]])}[given]
    x = jax.random.normal(jax.random.key(0), (2, patch * patches, 1)).at[0, 4].set(35.0).at[1, 1].set(-12.0)
    start, _ = network.init(jax.random.key(1), x, context, outputs=outputs)
    params = moved_from_start(jax.random.key(2), start, 0.3)
    over, inside = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (params["over_patches"], params["inside"]))
    added = 0.0
    if given == "labels":
        added = np.stack([over["class"][2], over["class"].mean(axis=0)])[:, None]
    if given == "context":
        added = (np.asarray(context) @ over["context"]["kernel"] + over["context"]["bias"])[:, None]
    seen = np.where(abs(x) > 10, np.sign(x) * (10 + np.log1p(np.maximum(abs(x) - 10, 0))), x)
    in_patches = seen.reshape(2, patches, patch)
    told = in_numpy(over, in_patches, causal=True, added=added)
    whole, _ = jax.jit(lambda x: network.apply(params, (), x, context, outputs=outputs))(x)
    for row, place, entry in np.ndindex(2, patches, patch):
        known = np.where(np.arange(patch) < entry, in_patches[row, place], 0.0)  # an unmasked network of what is known
        h, of_h = known, np.arange(1, patch + 1)
        for number, features in enumerate((7, 6)):
            layer_params = inside[f"hidden_{number}"]
            next_of_h = np.arange(features) % (patch - 1) + 1
            kernel = layer_params["kernel"] * (of_h[:, None] <= next_of_h)
            h = h @ kernel + layer_params["bias"]
            if number == 0:
                h = h + told[row, place] @ inside["context"]["kernel"]
            h, of_h = h * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3))) / 2, next_of_h
        output = inside["output"]
        for number in range(outputs):
            column = number * patch + entry
            seen = of_h < entry + 1
            expected = (h * seen) @ output["kernel"][:, column] + output["bias"][column]
            expected += told[row, place] @ inside["context_output"]["kernel"][:, column]
            np.testing.assert_allclose(whole[row, place * patch + entry, number], expected, rtol=1e-3, atol=1e-4)
    label = None if context is None else context[:1]
    jacobian = jax.jit(jax.jacobian(lambda x: network.apply(params, (), x[None], label, outputs=outputs)[0][0]))(x[0])
    np.testing.assert_array_equal(np.abs(jacobian).max(axis=(1, 3)) > 0, np.tri(patch * patches, k=-1, dtype=bool))
    theta, cache = network.begin(params, x, context, outputs=outputs)
    for position in range(patch * patches):
        np.testing.assert_allclose(theta, whole[:, position], rtol=1e-4, atol=1e-5)
        theta, cache = network.step(params, cache, position, x[:, position], context, outputs=outputs)


def layer(inversion, network=None, transform=Affine(NoBound())):  # noqa: B008
    return Autoregressive(transform, network or CausalTransformer(WIDTH, 2, HEAD), inversion)


@pytest.mark.parametrize("length", [4, 33, 256])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_three_ways_back_agree(length, dtype):
    with jax.enable_x64(dtype == "float64"):
        x = jax.random.normal(jax.random.key(0), (2, length, CHANNELS), dtype)
        start, _ = layer(StepByStep()).init(jax.random.key(1), x)
        params = jax.tree.map(lambda leaf: leaf.astype(dtype), moved_from_start(jax.random.key(2), start, 0.1))
        y, log_det, _ = jax.jit(layer(StepByStep()).forward)(params, (), x)
        assert float(jnp.abs(y - x).max()) > 0.1
        ways = [StepByStep(), Rounds(), Rounds(block=7)] + ([WholePasses()] if length < 256 else [])
        tolerance = 3e3 * float(jnp.finfo(dtype).eps)
        for inversion in ways:
            again, minus = jax.jit(layer(inversion).inverse)(params, (), y)
            np.testing.assert_allclose(again, x, rtol=tolerance, atol=tolerance, err_msg=str(inversion))
            np.testing.assert_allclose(minus, -log_det, rtol=tolerance, atol=length * tolerance)


@pytest.mark.parametrize("length", [4, 64, 256])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_ways_back_agree_entry_by_entry(length, dtype):
    network = NestedTransformer(4, (8, 8), WIDTH, 2, HEAD)
    with jax.enable_x64(dtype == "float64"):
        x = jax.random.normal(jax.random.key(0), (2, length, 1), dtype)
        start, _ = layer(StepByStep(), network).init(jax.random.key(1), x)
        params = jax.tree.map(lambda leaf: leaf.astype(dtype), moved_from_start(jax.random.key(2), start, 0.1))
        y, log_det, _ = jax.jit(layer(StepByStep(), network).forward)(params, (), x)
        assert float(jnp.abs(y - x).max()) > 0.1
        tolerance = 3e3 * float(jnp.finfo(dtype).eps)
        for inversion in [StepByStep(), Rounds(block=16)] + ([WholePasses()] if length < 256 else []):
            again, minus = jax.jit(layer(inversion, network).inverse)(params, (), y)
            np.testing.assert_allclose(again, x, rtol=tolerance, atol=tolerance, err_msg=str(inversion))
            np.testing.assert_allclose(minus, -log_det, rtol=tolerance, atol=length * tolerance)


def test_samples_of_a_nested_transformer_far_from_its_start_do_not_overflow():
    mixtures = layer(StepByStep(), NestedTransformer(16, (8, 8), WIDTH, 1, HEAD), LogisticMixture(2))
    z = jax.random.normal(jax.random.key(0), (2, 256, 1))
    params = moved_from_start(jax.random.key(2), mixtures.init(jax.random.key(1), z)[0], 3.0)
    x, _ = jax.jit(mixtures.inverse)(params, (), z)
    assert np.isfinite(x).all() and float(jnp.abs(x).max()) > 1e3


def test_rounds_with_a_tolerance_are_off_by_about_as_much_and_are_fewer():
    x = jax.random.normal(jax.random.key(0), (2, 32, CHANNELS))
    params = moved_from_start(jax.random.key(2), layer(Rounds()).init(jax.random.key(1), x)[0], 0.1)
    y, _, _ = layer(Rounds()).forward(params, (), x)
    rough, _ = layer(Rounds(tolerance=1e-2)).inverse(params, (), y)
    error = float(jnp.abs(rough - x).max())
    assert 1e-6 < error < 0.1


def test_guesses_that_overflow_do_not_reach_what_is_proven():
    """The scale of position 1 depends on position 0 so steeply that the guess x₀ = 0 overflows it."""

    class Steep:
        stepwise = False

        def init(self, key, x, context=None, *, outputs):
            return (), ()

        def apply(self, params, state, x, context=None, *, outputs, train=False):
            before = jnp.concatenate([jnp.zeros_like(x[:, :1]), x[:, :-1]], axis=1)
            r = jnp.where(before == 0, -1e3, 0.0).at[:, 0].set(0.0)
            return jnp.concatenate([before, r], axis=-1), state

    x = jnp.array([[[3.0], [2.0], [-1.0], [0.5]]])
    steep = Autoregressive(Affine(NoBound()), Steep(), Rounds())
    y, _, _ = steep.forward({"transform": (), "conditioner": ()}, (), x)
    again, _ = steep.inverse({"transform": (), "conditioner": ()}, (), y)
    np.testing.assert_allclose(again, x, rtol=1e-6)


def test_a_step_takes_a_share_of_the_whole_pass():
    """At most 3 / T of it, by the compiler's count."""
    network, length = CausalTransformer(64, 4, 64), 64
    x = jnp.zeros((16, length, 12))
    params, _ = network.init(jax.random.key(0), x, outputs=24)
    _, cache = network.begin(params, x, outputs=24)

    def operations(function, *arguments):
        return jax.jit(function).lower(*arguments).cost_analysis()["flops"]

    whole = operations(lambda params, x: network.apply(params, (), x, outputs=24), params, x)
    step = operations(lambda params, cache, x: network.step(params, cache, 5, x, outputs=24), params, cache, x[:, 0])
    assert step < 3 / length * whole


def test_a_conditioner_without_steps_is_asked_as_before():
    x = jax.random.normal(jax.random.key(0), (3, 4))
    made_of = [Autoregressive(Affine(), MADE((8,)), inversion) for inversion in (StepByStep(), WholePasses())]
    params, state = made_of[0].init(jax.random.key(1), x)
    np.testing.assert_array_equal(made_of[0].inverse(params, state, x)[0], made_of[1].inverse(params, state, x)[0])


def test_in_bfloat16_attention_is_weighed_in_float32():
    network = Rounded(CausalTransformer(WIDTH, 2, HEAD), jnp.bfloat16)
    params, x = made(network)
    output, _ = network.apply(params, (), x, outputs=OUTPUTS)
    assert network.stepwise and output.dtype == jnp.bfloat16
    np.testing.assert_allclose(output.astype(jnp.float32), in_numpy(params, x, causal=True), rtol=0.1, atol=0.1)
    program = str(jax.make_jaxpr(lambda params: network.apply(params, (), x, outputs=OUTPUTS))(params))
    exponentials = [line for line in program.splitlines() if "= exp " in line]
    assert exponentials and not any("bf16" in line.split("=")[0] for line in exponentials)
    theta, cache = network.begin(params, x, outputs=OUTPUTS)
    theta, _ = network.step(params, cache, 0, x[:, 0], outputs=OUTPUTS)
    np.testing.assert_allclose(theta.astype(jnp.float32), output[:, 1].astype(jnp.float32), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("wrong", [{"tolerance": -1.0}, {"tolerance": math.nan}, {"block": 0}])
def test_rounds_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match="Rounds: expected"):
        Rounds(**wrong)


# ------------------------------------------------------------------ patches


def test_patches_hold_the_pixels_of_a_squeeze():
    image = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
    patches, _ = Patches(2, (4, 6, 3)).forward_and_log_det((), image, None)
    squeezed, _ = Squeeze().forward_and_log_det((), image, None)
    expected = squeezed.reshape(2, 6, 3, 4).swapaxes(2, 3).reshape(2, 6, 12)
    np.testing.assert_array_equal(patches, expected)


@pytest.mark.parametrize("arguments", [(3, (4, 6, 3)), (2, (4, 6)), (0, (4, 6, 3))])
def test_patches_that_do_not_fit_are_refused(arguments):
    with pytest.raises(ValueError, match="Patches: expected"):
        Patches(*arguments)
    with pytest.raises(ValueError, match=r"expected events of shape \(4, 6, 3\), got \(4, 4, 3\)"):
        Patches(2, (4, 6, 3)).init(jax.random.key(0), jnp.zeros((1, 4, 4, 3)))


def parameters(model, event_shape, context=None):
    flow, x = model.build(event_shape), jax.ShapeDtypeStruct((1, *event_shape), jnp.float32)
    params, _ = jax.eval_shape(flow.init, jax.random.key(0), x, context)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    "patch, width, layers, depth, shape, classes, published",
    [
        (4, 128, 4, 4, (28, 28, 1), 10, 3_227_776),
        (2, 256, 8, 4, (32, 32, 3), 0, 25.9e6),
        (2, 768, 8, 8, (64, 64, 3), 0, 460.1e6),
    ],
)
def test_parameters_of_tarflow_are_those_published(patch, width, layers, depth, shape, classes, published):
    positions, entries = math.prod(shape[:2]) // patch**2, patch**2 * shape[2]
    of_ends = entries * width + width + positions * width + classes * width + 2 * entries * width + 2 * entries
    by_formula = layers * (of_ends + depth * (12 * width**2 + 13 * width))
    labels = jax.ShapeDtypeStruct((1,), jnp.int32) if classes else None
    counted = parameters(TarFlow(patch, width, layers, depth, classes=classes), shape, labels)
    assert counted == by_formula and counted == pytest.approx(published, rel=2e-3)


@pytest.mark.parametrize(
    "width, couplings, depth, shape, published",
    [(192, 32, 1, (32, 32, 3), 15.1e6), (256, 32, 2, (32, 32, 3), 51.7e6), (512, 32, 2, (64, 64, 3), 207.2e6)],
)
def test_parameters_of_jet_are_those_published(width, couplings, depth, shape, published):
    positions, entries = math.prod(shape[:2]) // 16, 16 * shape[2]
    of_ends = (entries // 2) * width + width + positions * width + 2 * width + width * entries + entries
    by_formula = couplings * (of_ends + depth * (12 * width**2 + 13 * width))
    counted = parameters(Jet(4, width, couplings, depth), shape)
    assert counted == by_formula and counted == pytest.approx(published, rel=3e-3)


@pytest.mark.parametrize(
    "pattern, index", [("checkerboard", lambda i, j: i + j), ("columns", lambda i, j: j), ("rows", lambda i, j: i)]
)
@pytest.mark.parametrize("passes", ["even", "odd"])
def test_patterns_of_a_token_mask(pattern, index, passes):
    x = np.arange(2 * 8 * 4, dtype=np.float32).reshape(2, 2, 4, 4)  # batch, rows, columns, channels
    passed, changed = TokenMask(pattern, 4, passes).split(jnp.asarray(x.reshape(2, 8, 4)))
    even = [x[:, i, j] for i, j in np.ndindex(2, 4) if index(i, j) % 2 == 0]
    odd = [x[:, i, j] for i, j in np.ndindex(2, 4) if index(i, j) % 2 == 1]
    halves = [np.stack(half, axis=1).reshape(2, 8, 2) for half in (even, odd)]
    np.testing.assert_array_equal(passed, halves[passes == "odd"])
    np.testing.assert_array_equal(changed, halves[passes == "even"])


def test_a_cache_takes_three_shares_of_the_operations_of_whole_passes_at_most():
    length, flow = 49, TarFlow(4, 128, 1, 4).build((28, 28, 1))
    z = jax.ShapeDtypeStruct((1, length, 16), jnp.float32)
    params, state = jax.eval_shape(flow.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32))

    def counted(way):
        back = by(way, flow.bijector)
        return operations_of_products(back.inverse, params["bijector"], state["bijector"], z)

    assert 0 < counted(StepByStep()) <= 3 / length * counted(WholePasses())


def test_operations_of_products_count_all_turns_of_loops():
    x = jnp.ones((5, 7))

    def looped(x):
        return jax.lax.scan(lambda carry, _: (jnp.tanh(carry @ jnp.ones((7, 7))), None), x, length=11)[0]

    assert operations_of_products(jax.jit(looped), x) == 11 * 2 * 5 * 7 * 7
    assert operations_of_products(lambda x: jnp.einsum("bi,bj->bij", x, x), x) == 2 * 5 * 7 * 7

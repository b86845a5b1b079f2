"""Networks against a plain numpy form of each, adapters of Flax, and where rounding is easily lost."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from nvpjax import Affine, ChannelMask, Coupling, Flow, RealNVP, TanhBound
from nvpjax.nets import (
    MADE,
    MLP,
    ConvolutionNet,
    FlaxConditioner,
    GatedNet,
    LabelEmbedding,
    Network,
    NNXConditioner,
    ResidualNet,
    Rounded,
)
from nvpjax.testing import moved_from_start

# ------------------------------------------------------------------ the same in numpy


def relu(h):
    return np.maximum(h, 0)


def dense(p, h):
    return h @ p["kernel"] + p.get("bias", 0)


def convolution(x, kernel):
    size, (height, width) = len(kernel), x.shape[1:3]
    around = size // 2
    padded = np.pad(x, ((0, 0), (around, around), (around, around), (0, 0)))
    y = 0
    for a in range(size):
        for b in range(size):
            y = y + np.einsum("bhwi,io->bhwo", padded[:, a : a + height, b : b + width], kernel[a, b])
    return y


def mlp(params, x, context):
    h = x if context is None else np.concatenate([x, context], axis=1)
    h = relu(dense(params["Dense_0"], h))
    h = relu(dense(params["Dense_1"], h))
    return dense(params["Dense_2"], h)


def made(params, x, context):
    """By the definition: unit by unit, over the units that it may see."""
    entries = x.shape[1]
    h, degrees = x, [1 + i for i in range(entries)]
    for name in ("hidden_0", "hidden_1"):
        kernel, bias = params[name]["kernel"], params[name]["bias"]
        next_degrees = [1 + j % (entries - 1) for j in range(kernel.shape[1])]
        units = []
        for j, degree in enumerate(next_degrees):
            seen = [i for i in range(len(degrees)) if degrees[i] <= degree]
            units.append(h[:, seen] @ kernel[seen, j] + bias[j])
        pre = np.stack(units, axis=1)
        if name == "hidden_0" and context is not None:
            pre = pre + context @ params["context"]["kernel"]
        h, degrees = relu(pre), next_degrees
    kernel, bias = params["output"]["kernel"], params["output"]["bias"]
    units = []
    for j in range(kernel.shape[1]):
        seen = [i for i in range(len(degrees)) if degrees[i] < 1 + j % entries]
        units.append(h[:, seen] @ kernel[seen, j] + bias[j])
    output = np.stack(units, axis=1)
    return output if context is None else output + context @ params["context_output"]["kernel"]


def blocks_of(image, shape):
    """The pixels of an image that each position of an image of this shape covers, row by row."""
    times = image.shape[1] // shape[1]
    pixels = [image[:, row::times, column::times] for row in range(times) for column in range(times)]
    return np.concatenate(pixels, axis=-1)


def convolution_net(params, x, context):
    if context is not None and context.ndim == 4:
        x, context = np.concatenate([x, blocks_of(context, x.shape)], axis=-1), None
    h = convolution(x, params["Conv_0"]["kernel"]) + params["Conv_0"]["bias"]
    if context is not None:
        h = h + dense(params["context"], context)[:, None, None]
    h = convolution(relu(h), params["Conv_1"]["kernel"]) + params["Conv_1"]["bias"]
    return convolution(relu(h), params["Conv_2"]["kernel"]) + params["Conv_2"]["bias"]


def gated_net(params, x, context, *, blocks, heads):
    convolutions, norms = iter(range(99)), iter(range(99))

    def conv(h):
        p = params[f"Conv_{next(convolutions)}"]
        return convolution(h, p["kernel"]) + p["bias"]

    def norm(h):
        p = params[f"LayerNorm_{next(norms)}"]
        h = h - h.mean(axis=-1, keepdims=True)
        return h / np.sqrt((h**2).mean(axis=-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]

    def elu(h):
        both = np.concatenate([h, -h], axis=-1)
        return np.where(both > 0, both, np.exp(np.minimum(both, 0)) - 1)

    def gate(h):
        a, b = np.split(h, 2, axis=-1)
        return a / (1 + np.exp(-b))

    def attention(p, h):
        batch, height, width, features = h.shape
        rows = h.reshape(batch, height * width, features) + p[f"position_{height}x{width}"]
        q, k, v = (
            np.einsum("brf,fhd->bhrd", rows, p["heads"][n]["kernel"]) + p["heads"][n]["bias"][:, None]
            for n in ("query", "key", "value")
        )
        weights = np.exp(np.einsum("bhrd,bhsd->bhrs", q, k) / np.sqrt(features // heads))
        weights = weights / weights.sum(axis=-1, keepdims=True)
        mixed = np.einsum("bhrs,bhsd->brhd", weights, v)
        output = np.einsum("brhd,hdf->brf", mixed, p["heads"]["out"]["kernel"]) + p["heads"]["out"]["bias"]
        return output.reshape(batch, height, width, 2 * features)

    if context is not None:
        if context.ndim == 2:
            context = np.tile(context[:, None, None], (1, *x.shape[1:3], 1))
        x = np.concatenate([x, blocks_of(context, x.shape)], axis=-1)
    h = conv(x)
    for block in range(blocks):
        h = norm(h + gate(conv(elu(conv(elu(h))))))
        if heads:
            h = norm(h + gate(attention(params[f"attention_{block}"], h)))
    return conv(elu(h))


def residual_net(params, stats, x, context, *, blocks, mask_channel, train):
    """Give the output and the running averages after it."""
    after = {}

    def norm(p, running, h):
        mean, variance = (h.mean((0, 1, 2)), h.var((0, 1, 2))) if train else (running["mean"], running["var"])
        moved = {"mean": 0.9 * running["mean"] + 0.1 * mean, "var": 0.9 * running["var"] + 0.1 * variance}
        return (h - mean) / np.sqrt(variance + 1e-4) + p["bias"], moved

    def conv(p, h):
        kernel = p["kernel"] / np.sqrt((p["kernel"] ** 2).sum((0, 1, 2)))
        return convolution(h, kernel * p.get("magnitude", 1)) + p.get("bias", 0)

    mask = x[..., -1:] if mask_channel else x[..., :0]
    x = x[..., :-1] if mask_channel else x
    h, after["input_norm"] = norm(params["input_norm"], stats["input_norm"], x)
    h = 2 * h if mask_channel else h
    h = conv(params["input"], relu(np.concatenate([h, -h, mask], axis=-1)))
    if context is not None:
        h = h + dense(params["context"], context)[:, None, None]
    skip = conv(params["input_skip"], h)
    of_blocks = []
    for block in range(blocks):
        p, s = jax.tree.map(lambda leaf, block=block: leaf[block], (params["blocks"], stats["blocks"]))
        r, first = norm(p["norm_0"], s["norm_0"], h)
        r, second = norm(p["norm_1"], s["norm_1"], conv(p["0"], relu(r)))
        h = h + conv(p["1"], relu(r))
        skip = skip + conv(p["skip"], h)
        of_blocks.append({"norm_0": first, "norm_1": second})
    if blocks:
        after["blocks"] = jax.tree.map(lambda *leaves: np.stack(leaves), *of_blocks)
    skip, after["output_norm"] = norm(params["output_norm"], stats["output_norm"], skip)
    return conv(params["output"], relu(skip)), after


class Case(NamedTuple):
    network: Network
    x: tuple[int, ...]
    context: tuple[int, ...] | None
    in_numpy: object


VECTORS, IMAGES = (4, 5), (2, 3, 4, 2)
GATED = {"blocks": 2, "heads": 2}
CASES = {
    "MLP": Case(MLP([6, 7]), VECTORS, None, mlp),
    "MLP, context": Case(MLP((6, 7)), VECTORS, (4, 3), mlp),
    "MADE": Case(MADE([6, 7]), VECTORS, None, made),
    "MADE, context": Case(MADE((6, 7)), VECTORS, (4, 3), made),
    "ConvolutionNet": Case(ConvolutionNet(4), IMAGES, None, convolution_net),
    "ConvolutionNet, context": Case(ConvolutionNet(4), IMAGES, (2, 3), convolution_net),
    "ConvolutionNet, image context": Case(ConvolutionNet(4), IMAGES, (2, 3, 4, 3), convolution_net),
    "ConvolutionNet, larger image context": Case(ConvolutionNet(4), IMAGES, (2, 6, 8, 3), convolution_net),
    "GatedNet": Case(GatedNet(4, blocks=2), IMAGES, None, partial(gated_net, blocks=2, heads=0)),
    "GatedNet, attention": Case(GatedNet(4, **GATED), IMAGES, None, partial(gated_net, **GATED)),
    "GatedNet, image context": Case(GatedNet(4, **GATED), IMAGES, (2, 3, 4, 3), partial(gated_net, **GATED)),
    "GatedNet, larger image context": Case(GatedNet(4, **GATED), IMAGES, (2, 9, 12, 1), partial(gated_net, **GATED)),
    "GatedNet, vector context": Case(GatedNet(4, **GATED), IMAGES, (2, 3), partial(gated_net, **GATED)),
}


def drawn(shape, seed):
    return None if shape is None else np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def wide(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


@pytest.mark.parametrize("name", CASES)
def test_network_is_what_its_numpy_form_computes(name):
    network, x, context, in_numpy = CASES[name]
    x, context, outputs = drawn(x, 0), drawn(context, 1), 10
    params, state = network.init(jax.random.key(0), x, context, outputs=outputs)
    assert state == {}
    params = moved_from_start(jax.random.key(1), params, 0.5)
    found, state = network.apply(params, state, x, context, outputs=outputs)
    assert state == {} and found.shape == (*x.shape[:-1], outputs)
    np.testing.assert_allclose(found, in_numpy(*wide((params, x, context))), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("blocks", [0, 1, 2])
@pytest.mark.parametrize("mask_channel", [False, True])
@pytest.mark.parametrize("with_context", [False, True])
def test_residual_net_is_what_its_numpy_form_computes(blocks, mask_channel, with_context):
    network = ResidualNet(4, blocks, mask_channel)
    x, context = drawn((3, 4, 3, 3), 0), drawn((3, 2), 1) if with_context else None
    if mask_channel:
        x[..., -1] = np.indices((4, 3)).sum(axis=0) % 2
    params, state = network.init(jax.random.key(0), x, context, outputs=5)
    params = moved_from_start(jax.random.key(1), params, 0.5)
    state = jax.tree.map(lambda leaf: np.abs(leaf + drawn(leaf.shape, 2)) + np.float32(0.1), state)
    for train in (False, True):
        found, after = network.apply(params, state, x, context, outputs=5, train=train)
        arguments = wide((params, state["batch_stats"], x, context))
        expected, expected_after = residual_net(*arguments, blocks=blocks, mask_channel=mask_channel, train=train)
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)
        if train:
            jax.tree.map(
                partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), after["batch_stats"], expected_after
            )
        else:
            jax.tree.map(np.testing.assert_array_equal, after, state)


# ------------------------------------------------------------------ how networks start


def norms(kernel):
    return np.sqrt((np.asarray(kernel, np.float64) ** 2).sum(axis=(-4, -3, -2)))


def test_stored_kernels_and_magnitudes_start_as_the_authors_program_stores_them():
    params, _ = ResidualNet(64, blocks=2).init(jax.random.key(0), np.zeros((1, 4, 4, 32), np.float32), outputs=64)
    for stored, expected in [
        (params["input"], 6**0.5),
        (params["input_skip"], (2 / 3) ** 0.5),
        (params["blocks"]["0"], 6**0.5),
        (params["blocks"]["1"], 6**0.5),
        (params["blocks"]["skip"], (2 / 3) ** 0.5),
        (params["output"], (2 / 3) ** 0.5),
    ]:
        bound = (2 / stored["kernel"].shape[-2]) ** 0.5
        assert 0.98 * bound < np.max(np.abs(stored["kernel"])) <= bound
        np.testing.assert_allclose(norms(stored["kernel"]).mean(), expected, rtol=0.02)
    np.testing.assert_allclose(params["blocks"]["1"]["magnitude"], 1.5**0.5, rtol=1e-6)
    np.testing.assert_allclose(params["output"]["magnitude"], 6**-0.5, rtol=1e-6)
    assert "magnitude" not in params["input"] and "magnitude" not in params["blocks"]["0"]
    assert "bias" not in params["blocks"]["0"]


@pytest.mark.parametrize("make", [MLP, MADE])
def test_last_layers_start_small(make):
    x, context = drawn((64, 6), 0), drawn((64, 2), 1)

    def size(**options):
        params, state = make((32, 32), **options).init(jax.random.key(0), x, context, outputs=12)
        return float(np.std(make((32, 32), **options).apply(params, state, x, context, outputs=12)[0]))

    usual = size(final_scale=1.0)
    assert 0.1 < usual < 2 and size(final_scale=0.0) == 0
    np.testing.assert_allclose(size(), 0.01 * usual, rtol=1e-4)


TRACED = []


@dataclass(frozen=True)
class Traced(Network):
    width: int

    def __call__(self, x, context=None, *, outputs, train=False):
        TRACED.append(train)
        return linen.Dense(outputs)(linen.Dense(self.width)(x))


def test_equal_networks_on_equal_shapes_are_traced_once():
    x = jnp.zeros((2, 3))
    params, state = Traced(4).init(jax.random.key(0), x, outputs=2)
    TRACED.clear()

    @jax.jit
    def many(params, x):
        return sum(Traced(4).apply(params, state, x, outputs=2)[0] for _ in range(8))

    many(params, x)
    assert TRACED == [False]


# ------------------------------------------------------------------ labels, and one's own modules


def test_label_embedding_gives_the_network_the_row_of_the_label():
    network, x, labels = MLP((6, 7)), drawn((4, 5), 0), np.array([2, 0, 2, 1])
    conditioner = LabelEmbedding(network, classes=3, features=4)
    params, state = conditioner.init(jax.random.key(0), x, labels, outputs=2)
    assert params["table"].shape == (3, 4) and 0.3 < np.std(params["table"]) < 3
    params = moved_from_start(jax.random.key(1), params)
    found, _ = conditioner.apply(params, state, x, labels, outputs=2)
    params = wide(params)
    np.testing.assert_allclose(found, mlp(params["network"], x, params["table"][labels]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint32])
def test_labels_out_of_range_give_nan(dtype):
    conditioner, x = LabelEmbedding(MLP((4,)), classes=200), np.zeros((3, 2), np.float32)
    inside = np.array([0, 5, 100], dtype)
    params, state = conditioner.init(jax.random.key(0), x, inside, outputs=1)
    apply = jax.jit(lambda labels: conditioner.apply(params, state, x, labels, outputs=1)[0])
    assert np.all(np.isfinite(apply(inside)))
    least = -1 if np.issubdtype(dtype, np.signedinteger) else 200
    most = min(np.iinfo(dtype).max, 2**31 + 5)
    expected = [True, most >= 200, False]
    assert np.isnan(apply(np.array([least, most, 7], dtype)))[:, 0].tolist() == expected


class OneOfTheirs(linen.Module):
    """With batch normalisation, a context, and all that a module may be told."""

    width: int

    @linen.compact
    def __call__(self, x, context=None, *, outputs, train=False):
        h = linen.Dense(self.width)(x)
        if context is not None:
            h = h + linen.Dense(self.width)(context)
        h = linen.BatchNorm(use_running_average=not train)(h)
        return linen.Dense(outputs)(h)


@pytest.mark.parametrize("with_context", [False, True])
def test_linen_module_is_a_conditioner_with_its_own_variables(with_context):
    module, conditioner = OneOfTheirs(4), FlaxConditioner(OneOfTheirs(4))
    x, context = drawn((5, 3), 0), drawn((5, 2), 1) if with_context else None
    params, state = conditioner.init(jax.random.key(0), x, context, outputs=2)
    own = module.init(jax.random.key(0), x, context, outputs=2)
    shapes = jax.tree.map(jnp.shape, {"params": params, **state})
    assert shapes == jax.tree.map(jnp.shape, own)
    params = moved_from_start(jax.random.key(1), params)
    for train in (False, True):
        found, after = conditioner.apply(params, state, x, context, outputs=2, train=train)
        expected, moved = module.apply(
            {"params": params, **state}, x, context, outputs=2, train=train, mutable=["batch_stats"]
        )
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), after, moved)
        assert np.any(after["batch_stats"]["BatchNorm_0"]["mean"] != 0) == train


class Deaf(linen.Module):
    """Told nothing."""

    @linen.compact
    def __call__(self, x):
        return linen.Dense(4)(x)


class Demanding(linen.Module):
    def __call__(self, x, temperature):
        return x * temperature


def test_linen_modules_are_told_what_they_take():
    x = drawn((5, 4), 0)
    coupling = Coupling(ChannelMask(), Affine(), FlaxConditioner(Deaf()))
    params, state = coupling.init(jax.random.key(0), x)
    assert coupling.forward(params, state, x, train=True)[0].shape == x.shape
    with pytest.raises(ValueError, match=r"give the outputs that it is told, 6 here"):
        coupling.init(jax.random.key(0), drawn((5, 6), 0))
    with pytest.raises(ValueError, match="Deaf takes none"):
        coupling.init(jax.random.key(0), x, x)
    with pytest.raises(TypeError, match=r"some of context, outputs, train, got Demanding with x, temperature"):
        FlaxConditioner(Demanding())


class TheirNNX(nnx.Module):
    def __init__(self, rngs, inputs, outputs, context=0):
        self.inner = nnx.Linear(inputs + context, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, momentum=0.9, epsilon=1e-5, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(6, outputs, rngs=rngs)])

    def __call__(self, x, context=None):
        h = x if context is None else jnp.concatenate([x, context], axis=-1)
        return self.layers[0](nnx.relu(self.norm(self.inner(h))))


WITH_CONTEXT = partial(TheirNNX, context=2)


@pytest.mark.parametrize("make", [TheirNNX, WITH_CONTEXT], ids=["x", "x and context"])
def test_nnx_module_is_what_its_numpy_form_computes(make):
    conditioner = NNXConditioner(make)
    x, context = drawn((5, 3), 0), drawn((5, 2), 1) if make is WITH_CONTEXT else None
    params, state = conditioner.init(jax.random.key(0), x, context, outputs=4)
    assert set(params) == {"inner", "norm", "layers"} and set(state) == {"norm"}
    params = moved_from_start(jax.random.key(1), params)
    for train in (False, True, True):
        found, after = conditioner.apply(params, state, x, context, outputs=4, train=train)
        p, running = wide((params, state["norm"]))
        h = dense(p["inner"], x if context is None else np.concatenate([x, context], axis=1))
        mean, variance = (h.mean(0), h.var(0)) if train else (running["mean"], running["var"])
        h = relu((h - mean) / np.sqrt(variance + 1e-5) * p["norm"]["scale"] + p["norm"]["bias"])
        np.testing.assert_allclose(found, dense(p["layers"][0], h), rtol=1e-4, atol=1e-5)
        share = 0.1 if train else 0
        np.testing.assert_allclose(
            after["norm"]["mean"], (1 - share) * running["mean"] + share * mean, rtol=1e-4, atol=1e-6
        )
        state = after


def with_dropout(rngs, inputs, outputs):
    return nnx.Sequential(nnx.Linear(inputs, outputs, rngs=rngs), nnx.Dropout(0.5, rngs=rngs))


def test_nnx_modules_that_cannot_serve_are_refused():
    x = drawn((5, 3), 0)
    with pytest.raises(ValueError, match=r"NNXConditioner: expected a module without random state, got Sequential"):
        NNXConditioner(with_dropout).init(jax.random.key(0), x, outputs=2)
    with pytest.raises(TypeError, match="expected make to give an NNX module, got Deaf"):
        NNXConditioner(lambda rngs, inputs, outputs: Deaf()).init(jax.random.key(0), x, outputs=2)
    with pytest.raises(TypeError, match="expected a function make"):
        NNXConditioner(Deaf)
    with pytest.raises(TypeError, match="holds arrays"):
        NNXConditioner(TheirNNX(nnx.Rngs(0), 3, 2))


def test_nnx_coupling_trains_and_inverts():
    coupling, x = Coupling(ChannelMask(), Affine(), NNXConditioner(TheirNNX)), drawn((8, 6), 0)
    params, state = coupling.init(jax.random.key(0), x)
    params = moved_from_start(jax.random.key(1), params)
    y, log_det, state = jax.jit(partial(coupling.forward, train=True))(params, state, x)
    again, back = jax.jit(partial(coupling.inverse, train=True))(params, state, y)
    np.testing.assert_allclose(again, x, atol=1e-5)
    np.testing.assert_allclose(back, -log_det, atol=1e-5)
    gradient = jax.grad(lambda params: jnp.sum(coupling.forward(params, state, x)[1]))(params)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient["conditioner"]["inner"]))


# ------------------------------------------------------------------ variables of another shape


@pytest.mark.parametrize("network", [MLP((4,)), MADE((4,)), ConvolutionNet(4), GatedNet(4, 1), ResidualNet(4, 1)])
def test_a_context_that_was_forgotten_or_is_new_or_broadcasts_is_refused(network):
    shape = (2, 4, 4, 2) if isinstance(network, ConvolutionNet | GatedNet | ResidualNet) else (2, 3)
    name, x, context, key = type(network).__name__, drawn(shape, 0), drawn((2, 3), 1), jax.random.key(0)
    variables, plain = network.init(key, x, context, outputs=6), network.init(key, x, outputs=6)
    with pytest.raises(ValueError, match=f"{name}: expected"):
        network.apply(*variables, x, outputs=6)
    with pytest.raises(ValueError, match=f"{name}: expected params and state as init gives them"):
        network.apply(*plain, x, context, outputs=6)
    for wrong in (context[0], context[:1]):
        with pytest.raises(ValueError, match=f"{name}: expected a context with a row an example"):
            network.apply(*variables, x, wrong, outputs=6)


def test_swapped_params_and_state_are_refused():
    network, x = ResidualNet(4, 1), drawn((2, 4, 4, 2), 0)
    params, state = network.init(jax.random.key(0), x, outputs=2)
    with pytest.raises(ValueError, match="are params and state swapped"):
        network.apply(state, params, x, outputs=2)


# ------------------------------------------------------------------ rounding


def test_normalised_features_keep_their_digits_where_they_are_nearly_the_same():
    net = GatedNet(features=2, blocks=1)
    x = jax.random.normal(jax.random.key(0), (64, 2, 2, 1))
    params, _ = net.init(jax.random.key(1), x, outputs=2)
    leaves, structure = jax.tree.flatten(params)
    rng = np.random.default_rng(2)
    params = jax.tree.unflatten(structure, [np.float32(0.3 * rng.normal(size=leaf.shape)) for leaf in leaves])
    params["Conv_0"]["bias"] = np.full(2, 8, np.float32)  # features near 8, that differ by a little
    narrow, _ = net.apply(params, {}, x, outputs=2)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (params, np.asarray(x)))
        exact, _ = net.apply(wide[0], {}, wide[1], outputs=2)
    np.testing.assert_allclose(narrow, exact, atol=2e-4)


def test_log_det_with_a_network_in_bfloat16_is_that_of_the_map_it_computes():
    network = MLP(hidden=(16,), final_scale=1.0)
    coupling = Coupling(ChannelMask(), Affine(TanhBound(1.0)), Rounded(network, jnp.bfloat16))
    x = jax.random.normal(jax.random.key(0), (5, 4))
    params, state = coupling.init(jax.random.key(1), x)
    params = jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(2), leaf.shape), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    y, log_det, _ = coupling.forward(params, state, x)
    assert y.dtype == log_det.dtype == jnp.float32

    def of_one(x):
        return coupling.forward(params, state, x[None])[0][0]

    _, expected = jnp.linalg.slogdet(jax.vmap(jax.jacfwd(of_one))(x))
    np.testing.assert_allclose(log_det, expected, atol=1e-5)
    plain = Coupling(ChannelMask(), Affine(TanhBound(1.0)), network)
    difference = jnp.max(jnp.abs(log_det - plain.forward(params, state, x)[1]))
    assert 1e-4 < difference < 0.1  # the network was rounded, and little came of it


def test_labels_go_through_a_rounded_network_as_they_are():
    network, x = LabelEmbedding(MLP((8,)), classes=300), drawn((2, 4), 0)
    labels = np.array([257, 258])  # both 258 in bfloat16
    params, state = network.init(jax.random.key(0), x, labels, outputs=2)
    output, _ = Rounded(network, jnp.bfloat16).apply(params, state, np.repeat(x[:1], 2, axis=0), labels, outputs=2)
    assert output.dtype == jnp.bfloat16 and np.all(np.asarray(output[0]) != np.asarray(output[1]))


def test_real_nvp_with_networks_in_bfloat16_trains_on_float32_state():
    model = RealNVP(scales=1, features=4, blocks=1)
    rounded, plain = model.build((8, 8, 1), network_dtype=jnp.bfloat16), model.build((8, 8, 1))
    x = jax.random.uniform(jax.random.key(0), (8, 8, 8, 1), minval=0.1, maxval=0.9)
    params, state = jax.jit(rounded.init)(jax.random.key(1), x)
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(2), leaf.shape), params)

    def nats(flow: Flow):
        def loss(params):
            log_prob, after = flow.log_prob(params, state, x, train=True)
            return -jnp.mean(log_prob), after

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

    (loss, after), gradients = nats(rounded)
    (expected, _), exact = nats(plain)
    of_rounded, of_plain = (
        jax.tree.map(lambda leaf: leaf.dtype, tree) for tree in ((after, gradients), (state, params))
    )
    assert of_rounded == of_plain
    assert 0 < abs(loss - expected) / (64 * np.log(2)) < 0.01  # bits/dim
    difference, size = (
        sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(tree)) ** 0.5
        for tree in (jax.tree.map(jnp.subtract, gradients, exact), exact)
    )
    assert difference < 0.2 * size  # 2⁻⁸ a rounding, some hundred of them one after the other

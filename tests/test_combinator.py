"""A combinator is one class: what walks combinators is tried on one that the library has never seen, and on its own."""

import ast
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nvpjax
from nvpjax import (
    ActNorm,
    Affine,
    BatchNorm,
    Bijector,
    Chain,
    ChannelMask,
    Checkerboard,
    Checkpointed,
    Coupling,
    Exp,
    Inverse,
    NoMask,
    OnAxes,
    OnColumns,
    OnLeaf,
    RandomPermutation,
    Repeat,
    Reverse,
    Reversible,
    Scale,
)
from nvpjax.combinator import Combinator
from nvpjax.nets import MLP, ConvolutionNet
from nvpjax.places import ERROR
from nvpjax.testing import moved_from_start, number_of_layers


@dataclass(frozen=True)
class Exchanged(Combinator):
    """f between two exchanges of the first and the last entry: a combinator that the library has never seen."""

    bijector: Bijector

    @property
    def parts(self):
        return (self.bijector,)

    def with_parts(self, parts):
        return Exchanged(*parts)

    def go(self, visit, variables, x, context, *, back=False):
        x, sums, output = visit(self.bijector, variables, jax.tree.map(exchanged, x), context, back)
        return jax.tree.map(exchanged, x), sums, output


def exchanged(x):
    return jnp.concatenate([x[..., -1:], x[..., 1:-1], x[..., :1]], axis=-1)


def coupling():
    return Coupling(ChannelMask(), Affine(), MLP((8,), activation=jax.nn.silu))


LAYER = Chain((coupling(), Reverse()))


def numbers(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def started(bijector, x, context):
    params, state = jax.jit(bijector.init)(jax.random.key(0), x, context)
    return moved_from_start(jax.random.key(1), params, 0.3), state


def gradients(bijector, params, state, x, context, train=False):
    """Of a number that depends on all that forward gives, with respect to all that goes in."""

    def number(params, state, x, context):
        y, log_det, after = bijector.forward(params, state, x, context, train=train)
        of_y = sum(jnp.sum(jnp.sin(leaf) * (1 + place)) for place, leaf in enumerate(jax.tree.leaves(y)))
        floats = [leaf for leaf in jax.tree.leaves(after) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        return of_y - jnp.sum(log_det * jnp.arange(1, 1 + len(log_det))) + sum(jnp.sum(leaf**2) for leaf in floats)

    return jax.jit(jax.grad(number, argnums=(0, 1, 2, 3), allow_int=True))(params, state, x, context)


def assert_close(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    pairs = [
        pair for pair in zip(jax.tree.leaves(found), jax.tree.leaves(expected)) if pair[1].dtype != jax.dtypes.float0
    ]
    size = max(np.abs(theirs).max() for _, theirs in pairs)
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * size, rtol=0)


INSIDE = {
    "a new one": (Exchanged(Chain((LAYER,) * 3)), (4,), None),
    "a new one of a loop": (Exchanged(Repeat(LAYER, 4)), (4,), None),
    "on axes": (OnAxes(Repeat(LAYER, 4), (1,)), (3, 4), None),
    "on axes, context": (OnAxes(Chain((Repeat(LAYER, 4), Reverse(), coupling())), (1,)), (3, 4), 2),
    "on axes, masks in turns": (OnAxes(Repeat(coupling(), 3, scan=True, alternate=True), (1,)), (3, 4), 2),
    "on columns": (OnColumns(Repeat(LAYER, 4), (3, 0)), (4,), None),
    "on columns, context": (Chain((OnColumns(Repeat(LAYER, 4), (1, 2)), coupling())), (4,), 2),
    "on a leaf": (OnLeaf(Repeat(LAYER, 4), 1), ((2,), (4,)), 2),
    "inverse": (Inverse(Chain((Repeat(LAYER, 4), coupling()))), (4,), 2),
    "inverse in a chain": (Chain((coupling(), Inverse(Repeat(coupling(), 3, True, alternate=True)), Scale())), (4,), 2),
    "inverse, whole numbers": (Inverse(Repeat(Chain((RandomPermutation(), coupling())), 4)), (4,), None),
    "loops in loops, masks in turns": (
        Repeat(Exchanged(Repeat(coupling(), 3, True, alternate=True)), 3, True, alternate=True),
        (4,),
        2,
    ),
    "chain of multi-scale": (
        Chain((Inverse(nvpjax.Squeeze()), nvpjax.MultiScale((nvpjax.OrderedSqueeze(), Exchanged(coupling()))))),
        (2, 2, 4),
        None,
    ),
}


@pytest.mark.parametrize("every", [None, 2])
@pytest.mark.parametrize("name", INSIDE)
def test_gradients_walked_back_are_those_of_the_plain_flow(name, every):
    plain, event, width = INSIDE[name]
    if (every and "turns" in name) or (name == "inverse in a chain" and every):
        every = 3  # divides the layers of their loops
    shapes = (event,) if isinstance(event[0], int) else event
    x = tuple(numbers(5, *shape, seed=seed) for seed, shape in enumerate(shapes))
    x = x[0] if len(x) == 1 else x
    context = None if width is None else numbers(5, width, seed=7)
    params, state = started(plain, x, context)
    expected = gradients(plain, params, state, x, context)
    assert_close(gradients(Checkpointed(plain), params, state, x, context), expected)

    reversible = Reversible(plain, every=every)
    place = {"bijector": state, ERROR: jnp.float32(0)}
    of_params, of_state, *others = gradients(reversible, params, place, x, context)
    assert 0 < of_state[ERROR] < 1e-3
    assert_close((of_params, of_state["bijector"], *others), expected)


@pytest.mark.parametrize("around", [Exchanged, Inverse, lambda inner: OnAxes(inner, (1,))])
@pytest.mark.parametrize("wrap", [Reversible, Checkpointed])
def test_memory_does_not_grow_with_what_layers_compute(wrap, around):
    x = jnp.zeros((1024, 2, 8))
    network = MLP((64, 64))
    layer = Chain((Coupling(ChannelMask(), Affine(), network), Reverse()))

    def temporary(wrap, times):
        deep = wrap(around(Repeat(layer, times)))
        params, state = jax.eval_shape(deep.init, jax.random.key(0), x)

        def loss(params, state, x):
            y, log_det, _ = deep.forward(params, state, x)
            return jnp.sum(y**2) - jnp.sum(log_det)

        gradient = jax.grad(loss, argnums=2)  # of x alone: those of params grow with depth, whatever is kept
        return jax.jit(gradient).lower(params, state, x).compile().memory_analysis().temp_size_in_bytes

    growth = temporary(wrap, 32) - temporary(wrap, 8)
    plain = temporary(lambda bijector: bijector, 32) - temporary(lambda bijector: bijector, 8)
    # One event a layer where inputs are kept, else three numbers an example; plain, all that networks compute.
    allowed = 1.5 if wrap is Checkpointed else 0.75
    assert growth < allowed * 24 * x.nbytes < 3 * 24 * x.nbytes < plain


def test_inputs_of_inner_layers_are_kept_as_projections_alone():
    x = numbers(5, 4)
    plain = Exchanged(Chain((LAYER,) * 3))
    reversible = Reversible(plain)
    params, state = started(reversible, x, None)

    def forward(params):
        return reversible.forward(params, state, x)[:2]

    _, pull = jax.vjp(forward, params)
    rows = [leaf.shape for leaf in jax.tree.leaves(pull) if leaf.shape[:1] == (5,)]
    # x and y whole, and a number an example for each of six leaves.
    assert sorted(rows) == [(5,)] * 6 + [(5, 4)] * 2


def test_layers_of_a_new_combinator_are_counted():
    assert number_of_layers(Exchanged(Repeat(Chain((Scale(), Exchanged(LAYER))), 4))) == 4 * 3
    assert number_of_layers(Reversible(Checkpointed(OnAxes(Inverse(Chain((Scale(), Scale()))), (0,))))) == 2


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("wrap", [lambda inner: inner, Reversible, Checkpointed])
def test_masks_take_turns_in_a_new_combinator(scan, wrap):
    x, context, times = numbers(5, 4), numbers(5, 2, seed=1), 3
    deep = Repeat(wrap(Exchanged(Chain((coupling(), BatchNorm(ChannelMask()))))), times, scan, alternate=True)

    def layer(mask):
        parts = (dataclasses.replace(coupling(), mask=mask), BatchNorm(mask))
        return wrap(Exchanged(Chain(parts)))

    chain = Chain(layer(ChannelMask(passes)) for passes in ("first", "second", "first"))
    params, state = started(deep, x, context)
    layers = [tuple(jax.tree.map(lambda a, k=k: a[k], tree) for k in range(times)) for tree in (params, state)]
    found = jax.jit(lambda *variables: deep.forward(*variables, train=True))(params, state, x, context)
    expected = jax.jit(lambda *variables: chain.forward(*variables, train=True))(*layers, x, context)
    assert_close(found, (*expected[:2], jax.tree.map(lambda *leaves: jnp.stack(leaves), *expected[2])))
    of_params, _, of_x, of_context = gradients(deep, params, state, x, context, train=True)
    of_layers, _, *of_others = gradients(chain, *layers, x, context, train=True)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *of_layers)
    assert_close((of_params, of_x, of_context), (stacked, *of_others))


# ------------------------------------------------------------------ what is handed to layers is a value


@dataclass(frozen=True)
class Watched(Combinator):
    """Tells what it is made of, each time that data run through it."""

    bijector: Bijector
    seen: list = dataclasses.field(compare=False)

    @property
    def parts(self):
        return (self.bijector,)

    def with_parts(self, parts):
        return Watched(*parts, self.seen)

    def go(self, visit, variables, x, context, *, back=False):
        self.seen.append(self)
        return visit(self.bijector, variables, x, context, back)


def values_in(value):
    yield value
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from values_in(getattr(value, field.name)) if field.name != "seen" else ()
    elif isinstance(value, tuple | list):
        for one in value:
            yield from values_in(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from values_in(one)
    elif hasattr(value, "__dict__") and type(value).__module__.startswith("nvpjax"):
        yield from values_in(vars(value))


@pytest.mark.parametrize("wrap", [lambda inner: inner, Reversible, Checkpointed])
def test_no_array_stands_in_what_is_handed_to_layers(wrap):
    seen, image = [], numbers(2, 4, 4, 2)
    network = ConvolutionNet(2)
    inner = Chain((Coupling(Checkerboard(), Affine(), network), BatchNorm(Checkerboard()), ActNorm()))
    deep = wrap(Repeat(Watched(inner, seen), 4, scan=True, alternate=True))
    params, state = jax.jit(deep.init)(jax.random.key(0), image)
    gradients(deep, params, state, image, None)
    jax.jit(deep.inverse)(params, state, image)
    assert len(seen) >= 4
    for bijector in seen:
        assert hash(bijector) == hash(Watched(bijector.bijector, []))
        assert not any(isinstance(value, jax.Array) for value in values_in(bijector))


# ------------------------------------------------------------------ refusals


def test_inverse_is_turned_round():
    x = jnp.exp(numbers(3, 2))
    y, log_det, _ = Inverse(Exp()).forward((), (), x)
    np.testing.assert_allclose(y, np.log(x), rtol=1e-6)
    np.testing.assert_allclose(log_det, -np.log(x).sum(axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(Inverse(Exp()).inverse((), (), y)[0], x, rtol=1e-6)


def both_ways(bijector, train):
    x = numbers(4, 2)
    params, state = bijector.init(jax.random.key(0), x)
    bijector.forward(params, state, x, train=train)
    bijector.inverse(params, state, x, train=train)


TURNED_ROUND = "expected train=False where it is turned round.*its own forward alone"


@pytest.mark.parametrize("inner", [BatchNorm(), Chain((Scale(), BatchNorm())), Repeat(BatchNorm(), 3)])
def test_measuring_turned_round_is_refused(inner):
    inverse, x = Inverse(inner), numbers(4, 2)
    both_ways(inverse, train=False)
    for flow in (inverse, Chain((Scale(), inverse)), Checkpointed(inverse), Reversible(inverse)):
        with pytest.raises(ValueError, match=TURNED_ROUND):
            both_ways(flow, train=True)
    params, state = inverse.init(jax.random.key(0), x)
    with pytest.raises(ValueError, match=TURNED_ROUND):
        inverse.inverse(params, state, x, train=True)
    reversible = Reversible(inverse)
    params, state = reversible.init(jax.random.key(0), x)
    with pytest.raises(ValueError, match=TURNED_ROUND):
        jax.grad(lambda x: reversible.forward(params, state, x, train=True)[1].sum())(x)


@pytest.mark.parametrize("inner", [ActNorm(), RandomPermutation(), Chain((Scale(), Reversible(RandomPermutation())))])
def test_what_measures_nothing_may_be_turned_round_in_training(inner):
    both_ways(Inverse(inner), train=True)


@pytest.mark.parametrize("inner", [Scale(), BatchNorm(), BatchNorm(NoMask()), Chain((Scale(), Exchanged(ActNorm())))])
def test_turns_of_no_mask_are_refused(inner):
    with pytest.raises(ValueError, match=r"Repeat: expected a mask with a complement where alternate=True, got none"):
        Repeat(inner, 2, alternate=True)


# ------------------------------------------------------------------ one way


def test_what_walks_names_no_combinator():
    root = Path(nvpjax.__file__).parent
    combinators = {"Chain", "Inverse", "MultiScale", "OnAxes", "OnColumns", "OnLeaf", "Repeat"}
    for name in ("combinator", "reversible", "checkpointed", "turns", "testing/tolerances", "testing/subject"):
        names = {
            node.id for node in ast.walk(ast.parse((root / f"{name}.py").read_text())) if isinstance(node, ast.Name)
        }
        assert not names & combinators, f"{name} names {names & combinators}"

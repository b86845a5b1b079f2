"""Wrong calls of the library: every one is refused by an error of ours, or what comes out is right."""

import collections
import dataclasses
import math
import os
import pickle
import random
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import nvpjax
from nvpjax.checked import Checked
from nvpjax.models import MODELS
from nvpjax.testing import moved_from_start
from tests.zoo import ONLY_OF_IMAGES, ZOO

CALLS = int(os.environ.get("WRONG_CALLS", "300"))
"""``make test-long`` makes 20,000."""
SHARES = max(2, CALLS // 500)
"""As many tests: between them compiled programs are forgotten."""
KEY = jax.random.key(0)
OURS = re.compile(r"^[A-Z]\w*[^:]*: .*expected ", re.DOTALL)


class Subject:
    """An entry of the zoo with numbers away from the start."""

    def __init__(self, name: str):
        entry = ZOO[name]
        self.bijector, self.takes_context = entry.bijector, entry.context is not None
        self.x, self.context = jax.tree.map(jnp.asarray, (entry.example(), entry.example_context()))
        params, self.state = jax.jit(self.bijector.init)(KEY, self.x, self.context)
        self.params = moved_from_start(jax.random.key(1), params)
        self.y = jax.jit(self.bijector.forward)(self.params, self.state, self.x, self.context)[0]


_subjects: dict[str, Subject] = {}


def subject(name: str) -> Subject:
    if name not in _subjects:
        _subjects[name] = Subject(name)
    return _subjects[name]


def of_leaves(change):
    return lambda x, choose: jax.tree.map(lambda leaf: change(leaf, choose), x)


def other_size(leaf, choose):
    """One axis of the event longer, shorter, or of one entry."""
    if leaf.ndim < 2:
        return leaf[:, None]
    axis = choose.randrange(1, leaf.ndim)
    size = choose.choice([leaf.shape[axis] + 1, max(1, leaf.shape[axis] - 1), 1, 2 * leaf.shape[axis]])
    return jnp.take(leaf, jnp.arange(size) % leaf.shape[axis], axis=axis)


WRONG_X = {
    "one event": of_leaves(lambda leaf, _: leaf[0]),
    "nothing": of_leaves(lambda leaf, _: leaf[:0]),
    "another size": of_leaves(other_size),
    "another axis": of_leaves(lambda leaf, _: leaf[..., None]),
    "an axis less": of_leaves(lambda leaf, _: leaf[:, 0] if leaf.ndim > 1 else leaf[0]),
    "axes in another order": of_leaves(lambda leaf, _: jnp.moveaxis(leaf, -1, 1) if leaf.ndim > 2 else leaf.T),
    "flat": of_leaves(lambda leaf, _: leaf.reshape(len(leaf), -1)),
    "whole numbers": of_leaves(lambda leaf, choose: leaf.astype(choose.choice(["int32", "uint8", "int8", "bool"]))),
    "complex numbers": of_leaves(lambda leaf, _: leaf.astype("complex64")),
    "a list": of_leaves(lambda leaf, _: leaf.tolist()),
    "a number": lambda x, _: 0.5,
    "none": lambda x, _: None,
    "a dict": lambda x, _: {"x": x},
    "a tuple": lambda x, _: (x, x),
}
WRONG_CONTEXT = {
    "missing": lambda context, batch, choose: None,
    "unexpected": lambda context, batch, choose: jnp.ones((batch, choose.choice([1, 2, 3, 4]))),
    "of one row": lambda context, batch, choose: jnp.ones((1, 3)),
    "of another batch": lambda context, batch, choose: jnp.ones((batch + 1, 3)),
    "without a batch": lambda context, batch, choose: jnp.ones(choose.choice([2, 3, batch])),
    "a word": lambda context, batch, choose: "context",
}


def wrong_variables(name: str, one: Subject, choose: random.Random):
    """Params and state that are another's, or damaged."""
    params, state = one.params, one.state
    match name:
        case "swapped":
            return state, params
        case "another bijector's":
            other = subject(choose.choice(sorted(ZOO)))
            return other.params, other.state
        case "params of another":
            return subject(choose.choice(sorted(ZOO))).params, state
        case "none":
            return choose.choice([(None, state), (params, None), (None, None)])
        case "a leaf of another shape":
            flat, structure = jax.tree.flatten((params, state))
            if flat:
                place = choose.randrange(len(flat))
                leaf = jnp.asarray(flat[place])
                flat[place] = choose.choice([leaf[None], leaf.reshape(-1)[:1], jnp.repeat(leaf[None], 2, 0)])
            return structure.unflatten(flat)
        case "a leaf less":
            return (list(jax.tree.leaves(params))[1:], state)


VARIABLES = ("swapped", "another bijector's", "params of another", "none", "a leaf of another shape", "a leaf less")
METHODS = ("forward", "inverse", "log_det", "init", "init_inverse")


def wrong_call(number: int):
    """The wrong call of that number: its description, the subject, and the method with its arguments."""
    choose = random.Random(number)
    name, method = choose.choice(sorted(ZOO)), choose.choice(METHODS)
    one = subject(name)
    params, state, context = one.params, one.state, one.context
    x = one.y if method in ("inverse", "init_inverse") else one.x
    kinds = ["x", "context"] if method.startswith("init") else ["x", "context", "variables"]
    match choose.choice(kinds):
        case "x":
            wrong = choose.choice(sorted(WRONG_X))
            x = WRONG_X[wrong](x, choose)
        case "context":
            wrong = choose.choice(sorted(WRONG_CONTEXT))
            context = WRONG_CONTEXT[wrong](context, len(jax.tree.leaves(x)[0]), choose)
            wrong = f"context {wrong}"
        case "variables":
            wrong = choose.choice(VARIABLES)
            params, state = wrong_variables(wrong, one, choose)
            wrong = f"params and state {wrong}"
    arguments = (KEY, x, context) if method.startswith("init") else (params, state, x, context)
    return f"{number}: {method} of {name}, {wrong}", one, method, arguments


def is_right(one: Subject, method: str, arguments) -> str:
    """Say what is wrong with what a call gives, or nothing: a call that looks wrong may be a right one."""
    *variables, x, context = arguments
    params, state = jax.jit(getattr(one.bijector, method))(*arguments) if method.startswith("init") else variables
    batch = len(jax.tree.leaves(x)[0])
    forth = one.bijector.inverse if method in ("inverse", "init_inverse") else one.bijector.forward
    shapes = jax.eval_shape(lambda *given: forth(*given)[:2], params, state, x, context)
    if shapes[1].shape != (batch,) or any(leaf.shape[:1] != (batch,) for leaf in jax.tree.leaves(shapes[0])):
        return f"shapes {shapes} for a batch of {batch}"

    @jax.jit
    def results(params, state, x, context):
        def of_one(row, context):
            x, restore = ravel_pytree(row)

            def flat(x):
                x, context_row = jax.tree.map(lambda a: a[None], (restore(x), context))
                return ravel_pytree(forth(params, state, x, context_row)[0])[0]

            return flat(x), jnp.linalg.slogdet(jax.jacobian(flat)(x))[1]

        return forth(params, state, x, context)[:2], jax.vmap(of_one)(x, context)

    (y, log_det), (rows, exact) = results(params, state, x, context)
    flat_y = np.concatenate([leaf.reshape(batch, -1) for leaf in map(np.asarray, jax.tree.leaves(y))], axis=1)
    scale = 1 + np.max(np.abs(flat_y), where=np.isfinite(flat_y), initial=0)
    if not np.allclose(rows, flat_y, atol=1e-4 * scale, equal_nan=True):
        return "an example's result depends on the others"
    known = np.isfinite(exact) & np.isfinite(log_det)
    if not np.allclose(np.where(known, exact - log_det, 0), 0, atol=2e-3 * (1 + rows.shape[1])):
        return f"log-det {log_det}, exact {exact}"
    return ""


def outcome(number: int) -> str:
    """Of the wrong call of that number: refused, right, or what is wrong with it."""
    what, one, method, arguments = wrong_call(number)
    try:
        # Traced, not run: that is when calls are looked at, and it compiles nothing.
        jax.eval_shape(partial(getattr(one.bijector, method), *arguments))
    except (TypeError, ValueError) as error:
        return "refused" if OURS.match(str(error)) else f"{what}: not of ours: {type(error).__name__}: {error}"
    except Exception as error:
        return f"{what}: {type(error).__name__}: {error}"
    said = is_right(one, method, arguments)
    return f"{what}: {said}" if said else "right"


@pytest.mark.parametrize("share", range(SHARES))
def test_wrong_calls(share):
    outcomes = collections.Counter(outcome(number) for number in range(share, CALLS, SHARES))
    refused, right = outcomes.pop("refused"), outcomes.pop("right", 0)
    print(f"share {share}: {refused} refused, {right} right, {outcomes.total()} wrong")
    assert not outcomes, "\n".join(list(outcomes)[:10])
    assert refused > right


# ------------------------------------------------------------------ each class of wrong call, by name


def test_params_of_another_event_are_refused():
    _, x = KEY, jnp.ones((5, 1))
    for bijector in (nvpjax.ActNorm(), nvpjax.Shift(), nvpjax.Linear(), nvpjax.LULinear(), nvpjax.Triangular()):
        params, state = bijector.init(KEY, jnp.ones((5, 4)))
        for method in (bijector.forward, bijector.inverse, bijector.log_det):
            with pytest.raises(ValueError, match=rf"{type(bijector).__name__}: expected params\[.*got .*of shape \(4"):
                method(params, state, x)
    normal = nvpjax.DiagonalNormal()
    with pytest.raises(ValueError, match=r"DiagonalNormal: expected params\[.*shape \(1,\).*got .*\(4,\)"):
        normal.log_prob(normal.init(KEY, jnp.ones((5, 4))), x)


@pytest.mark.parametrize("name", ["maf", "iaf", "glow", "real_nvp"])
def test_a_forgotten_context_is_refused(name):
    shape = (8, 8, 1) if name in ("glow", "real_nvp") else (4,)
    small = {"glow": {"levels": 2, "depth": 1, "features": 2}, "real_nvp": {"features": 2, "blocks": 0}}
    flow = MODELS[name](**small.get(name, {"layers": 2, "hidden": (4,)})).build(shape)
    x, context = jnp.full((3, *shape), 0.5), jnp.ones((3, 2))
    params, state = jax.jit(flow.init)(KEY, x, context)
    assert jax.eval_shape(flow.log_prob, params, state, x, context)[0].shape == (3,)
    for call in (
        lambda: flow.log_prob(params, state, x),
        lambda: flow.sample(KEY, params, state, 3),
        lambda: flow.at(params, state).log_prob(x),
        lambda: flow.at(params, state).sample(KEY, 3),
    ):
        with pytest.raises(ValueError, match=r"expected a context, with which params.* was made.*got none"):
            call()
    for context in (jnp.ones((1, 2)), jnp.ones(2), jnp.ones((4, 2))):
        with pytest.raises(ValueError, match="a row for each of the 3 rows"):
            flow.log_prob(params, state, x, context)


def test_what_measures_over_devices_is_checked_outside_of_pmap_too(monkeypatch):
    """As it is used once it is trained. ``init`` itself measures there, and is refused by jax."""
    x, alone = jnp.linspace(-1, 1, 12).reshape(6, 2), nvpjax.Flow(nvpjax.Chain((nvpjax.ActNorm(), nvpjax.Reverse())))
    params, state = alone.init(KEY, x)
    flow = nvpjax.Flow(nvpjax.Chain((nvpjax.ActNorm(axis_name="devices"), nvpjax.Reverse())))
    monkeypatch.setattr(nvpjax.checked, "_memory", {})
    density = flow.at(params, state)
    np.testing.assert_array_equal(density.log_prob(x), alone.at(params, state).log_prob(x))
    np.testing.assert_array_equal(density.sample(KEY, 3), alone.at(params, state).sample(KEY, 3))
    for wrong in (jnp.ones((6, 3)), jnp.ones((6, 1))):
        with pytest.raises(ValueError, match="Flow: expected params"):
            flow.log_prob(params, state, wrong)


def test_a_mask_or_a_transform_that_is_none_is_refused():
    network = nvpjax.nets.MLP((4,))
    for mask, transform, said in (
        ("first", nvpjax.Affine(), "as mask an object such as ChannelMask.*got a str"),
        (nvpjax.ChannelMask, nvpjax.Affine(), "as mask .* got the class ChannelMask"),
        (nvpjax.ChannelMask(), nvpjax.Affine, "as transform an object such as Affine.*got the class Affine"),
        (nvpjax.ChannelMask(), nvpjax.Softplus(), "as transform .* got a Softplus"),
    ):
        with pytest.raises(TypeError, match=f"Coupling: expected {said}"):
            nvpjax.Coupling(mask, transform, network)


def test_what_is_no_key_is_refused():
    flow, x = nvpjax.Flow(nvpjax.Chain((nvpjax.Scale(),))), jnp.ones((30, 2))
    density = flow.at(*flow.init(KEY, x))
    for call in (lambda: density.sample(0, 5), lambda: nvpjax.fit(0, flow, x), lambda: nvpjax.fit(flow, KEY, x)):
        with pytest.raises(TypeError, match="expected a key first"):
            call()
    with pytest.raises(TypeError, match=r"after the key, got MAF: flow = model.build"):
        nvpjax.fit(KEY, nvpjax.MAF(), x)


def test_a_context_that_nothing_reads_is_refused():
    x, context = jnp.ones((3, 2)), jnp.ones((3, 1))
    for owner in (nvpjax.Scale(), nvpjax.Flow(nvpjax.Chain((nvpjax.Scale(), nvpjax.Reverse())))):
        with pytest.raises(ValueError, match="nothing in it reads one"):
            owner.init(KEY, x, context)


def test_a_flow_refuses_swapped_arguments():
    flow = nvpjax.Flow(nvpjax.Chain((nvpjax.Scale(),)))
    x = jnp.ones((3, 2))
    params, state = flow.init(KEY, x)
    with pytest.raises(ValueError, match=r"Flow: expected params"):
        flow.log_prob(state, params, x)
    with pytest.raises(TypeError, match="expected a flow's state"):
        flow.sample(KEY, state, params, 3)
    with pytest.raises(TypeError, match="expected a key first"):
        flow.init(x, KEY)


def test_checks_leave_nothing_in_the_program():
    """The text of the compiled program is that of the methods without checks."""
    flow = MODELS["maf"](layers=2, hidden=(4,)).build((4,))
    x = jnp.ones((3, 4))
    params, state = flow.init(KEY, x)
    plain = type(flow).log_prob.__wrapped__
    with_checks = jax.jit(lambda *a: flow.log_prob(*a)).lower(params, state, x).as_text()
    with nvpjax.checked.unchecked():
        without = jax.jit(lambda *a: plain(flow, *a)).lower(params, state, x).as_text()
    assert with_checks == without


def test_every_method_of_the_contract_is_looked_at():
    def below(kind):
        return [kind, *(each for child in kind.__subclasses__() for each in below(child))]

    for kind in below(Checked):
        for name in kind.CALLS:
            method = kind.__dict__.get(name)
            assert method is None or getattr(method, "__isabstractmethod__", False) or hasattr(method, "__wrapped__")


# ------------------------------------------------------------------ fields


def descriptions(value, found):
    """All frozen dataclasses inside."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found.setdefault(type(value), value)
        for field in dataclasses.fields(value):
            descriptions(getattr(value, field.name), found)
    elif isinstance(value, tuple):
        for entry in value:
            descriptions(entry, found)
    return found


DESCRIPTIONS = descriptions(
    (
        *(entry.bijector for entry in ZOO.values()),
        *(model() for model in MODELS.values()),
        *(nvpjax.NormalMixture(2), nvpjax.Uniform(), nvpjax.DiagonalNormal(), nvpjax.GaussianDequantization(0.1)),
        nvpjax.PixelLikelihood(nvpjax.Flow(nvpjax.Chain(()))),
        nvpjax.nets.LabelEmbedding(nvpjax.nets.MLP(), 3),
    ),
    {},
)
MAY_BE_BELOW_ZERO = {
    "OnAxes.axes",
    "OnColumns.columns",
    "OnLeaf.leaf",
    "FixedAffine.scale",
    "FixedAffine.shift",
    "Power.exponent",
}


def wrong_values(kind, name, value):
    if isinstance(value, bool):
        return []
    if isinstance(value, float):
        return [math.nan, math.inf, -math.inf, "1"]
    below = [] if f"{kind.__name__}.{name}" in MAY_BE_BELOW_ZERO else [-1]
    if isinstance(value, int):
        return [*below, 1.5, math.nan] if name != "leaf" else []
    if isinstance(value, tuple) and value and all(type(entry) is int for entry in value):
        return [(*value[:-1], wrong) for wrong in [*below, 1.5]]
    return []


@pytest.mark.parametrize("kind", DESCRIPTIONS, ids=lambda kind: kind.__name__)
def test_fields_refuse_what_is_no_number_or_size(kind):
    description = DESCRIPTIONS[kind]
    for field in dataclasses.fields(kind):
        for wrong in wrong_values(kind, field.name, getattr(description, field.name)):
            with pytest.raises((TypeError, ValueError)):
                dataclasses.replace(description, **{field.name: wrong})
                pytest.fail(f"{kind.__name__}({field.name}={wrong!r}) is accepted")


@pytest.mark.parametrize("name", ZOO)
def test_bijectors_pickle(name):
    bijector = ZOO[name].bijector
    assert pickle.loads(pickle.dumps(bijector)) == bijector


@pytest.mark.parametrize("model", MODELS)
def test_flows_pickle(model):
    flow = MODELS[model]().build((8, 8, 1) if model in ONLY_OF_IMAGES else (4,))
    assert pickle.loads(pickle.dumps(flow)) == flow


# ------------------------------------------------------------------ dtypes


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ZOO)
def test_with_x64_events_keep_their_dtype(name, dtype):
    entry = ZOO[name]
    with jax.enable_x64(True):
        x, context = jax.tree.map(lambda a: jnp.asarray(a, dtype), (entry.example(), entry.example_context()))
        for train in (False, True):
            if train and isinstance(entry.bijector, nvpjax.Inverse):
                continue
            params, state = jax.eval_shape(entry.bijector.init, KEY, x, context)

            def there_and_back(params, state, x, context, train=train):
                y, log_det, state = entry.bijector.forward(params, state, x, context, train=train)
                return y, log_det, entry.bijector.inverse(params, state, y, context, train=train)

            y, log_det, (x_again, log_det_again) = jax.eval_shape(there_and_back, params, state, x, context)
            leaves = jax.tree.leaves((y, log_det, x_again, log_det_again))
            assert {str(leaf.dtype) for leaf in leaves} == {dtype}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layers", [1, 3, 4, 10])
@pytest.mark.parametrize("model", ["spline_coupling", "maf", "iaf", "real_nvp_vectors"])
def test_with_x64_models_sample_in_the_dtype_of_their_data(model, layers, dtype):
    flow = MODELS[model](layers=layers, hidden=(4,)).build((4,))
    with jax.enable_x64(True):
        params, state = jax.eval_shape(flow.init, KEY, jnp.ones((3, 4), dtype))

        def draw(params, state):
            return flow.sample_and_log_prob(KEY, params, state, 5)

        x, log_prob = jax.eval_shape(draw, params, state)
    assert x.dtype == dtype
    assert log_prob.dtype == dtype

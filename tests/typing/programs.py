"""Programs as users write them: a type checker takes them (``make lint``), and they run (``tests/test_types.py``).

A program is a function without arguments. ``assert_type`` holds what an editor shows of a result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, assert_type

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen, nnx

import nvpjax
from nvpjax import (
    MAF,
    ActNorm,
    Affine,
    AlternatingMask,
    BatchNorm,
    Bijector,
    BooleanMask,
    Chain,
    ChannelMask,
    Checkerboard,
    Checkpointed,
    Conditioner,
    Coupling,
    Density,
    Distribution,
    Exp,
    Flow,
    Inverse,
    Likelihood,
    LULinear,
    MultiScale,
    Objective,
    OnColumns,
    OrderedSqueeze,
    PixelLikelihood,
    RationalQuadraticSpline,
    Repeat,
    ReverseKL,
    Reversible,
    Scale,
    SigmoidBound,
    StandardNormal,
    StatelessBijector,
    UniformDequantization,
    bits_per_dim,
    fit,
    load,
    save,
)
from nvpjax.bijector import PyTree
from nvpjax.combinator import Combinator, Visit, added
from nvpjax.models import MODELS
from nvpjax.nets import MLP, FlaxConditioner, LabelEmbedding, NNXConditioner, Rounded
from nvpjax.objectives import Batch, importance_weighted
from nvpjax.parallel import AXIS, parallel_train_step, replicate, shard, unreplicate
from nvpjax.testing import Report, check_bijector, examine_bijector
from nvpjax.training import TrainState, create_train_state, make_eval_step, make_measure_step, make_train_step

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (64, 2))
HALVES = ChannelMask(passes="first")


# ------------------------------------------------------------------ from data to a density and back


def a_density_of_arrays() -> None:
    density, history = fit(KEY, MAF(layers=1, hidden=(4,)).build((2,)), X, steps=20, progress=False)
    assert_type(density, Density)
    assert_type(density.log_prob(X), jax.Array)
    assert_type(history.validation, np.ndarray)
    x, log_prob = density.sample_and_log_prob(jax.random.key(2), 5)
    assert_type(log_prob, jax.Array)
    print(f"{history.best} of {history.steps[-1]}: {x.shape}, {float(-density.log_prob(X).mean()):.2f} nats")


def a_conditional_density_of_numpys_arrays() -> None:
    x, context = np.random.default_rng(0).normal(size=(64, 2)), np.ones((64, 3), np.float32)
    flow = Flow(Coupling(HALVES, Affine(), MLP((4,))))
    fitted = fit(KEY, flow, x, context, steps=20, optimizer=optax.adam(1e-3), patience=None, progress=False)
    samples = fitted.density.sample(KEY, 3, context=jnp.ones((3, 3)))
    print(samples.shape, fitted.density.log_prob(x, context).shape, fitted.history.skipped)


def a_density_passed_on() -> None:
    density = flow_of_parts().at(*flow_of_parts().init(KEY, X))
    log_prob = jax.jit(lambda density, x: density.log_prob(x))(density, X)
    each = jax.vmap(density.log_prob)(X[:, None])
    print(log_prob.shape, each.shape, density.event_shape, dataclasses.replace(density, params=density.params).flow)


def a_density_in_a_file() -> None:
    flow = Flow(Cubic())
    with TemporaryDirectory() as folder:
        path = Path(folder) / "density.npz"
        save(path, flow.at(*flow.init(KEY, X)), known=(Cubic,))
        again = load(str(path), known=[Cubic])
    assert_type(again, Density)
    print(again.flow == flow)


# ------------------------------------------------------------------ flows of parts


def flow_of_parts() -> Flow:
    layer = Chain((LULinear(), Coupling(HALVES, Affine(SigmoidBound()), MLP((4,))), ActNorm()))
    return Flow(Chain((Repeat(layer, times=2), Inverse(Scale()))), StandardNormal())


def a_flow_of_parts() -> None:
    flow = Flow(Chain((Coupling(HALVES, Affine(), MLP((4,))), BatchNorm(HALVES))))
    params, state = jax.jit(flow.init)(KEY, X)
    log_prob, state = flow.log_prob(params, state, X, train=True)
    assert_type(log_prob, jax.Array)
    x, log_prob = flow.sample_and_log_prob(KEY, params, state, 5)
    print(x.shape, log_prob.mean().item())


def a_bijector_by_itself() -> None:
    coupling = Coupling(HALVES, RationalQuadraticSpline(bins=4), MLP((4,)))
    params, state = coupling.init(KEY, X)
    y, log_det, state = coupling.forward(params, state, X)
    x, _ = coupling.inverse(params, state, y)
    assert_type(y, jax.Array)
    assert_type(log_det, jax.Array)
    assert_type(coupling.log_det(params, state, X), jax.Array)
    assert_type(coupling.with_mask(HALVES.complement()), Coupling)
    y, log_det, _ = Exp().forward((), (), X)
    assert_type(y, jax.Array)
    print(x.shape, y.shape, log_det.shape)


def bijectors_of_trees() -> None:
    places = MultiScale((OrderedSqueeze(), Chain(())))
    latents, log_det, _ = places.forward(*places.init(KEY, jnp.zeros((2, 4, 4, 1))), jnp.zeros((2, 4, 4, 1)))
    table = Chain((OnColumns(Exp(), (0,)), Coupling(AlternatingMask(), Affine(), MLP((4,)))))
    bijectors: Sequence[Bijector] = [table, Checkpointed(table), Reversible(table, every=1)]
    for bijector in bijectors:
        params, state = bijector.init(KEY, X)
        y, log_det, _ = bijector.forward(params, state, X)
        print(len(latents), y.shape, log_det.shape)


def a_base_of_another_library() -> None:
    class Logistic:
        """As distrax and TFP have them."""

        batch_shape, event_shape = (), (2,)

        def log_prob(self, z: jax.Array) -> jax.Array:
            return jnp.sum(jax.nn.log_sigmoid(z) + jax.nn.log_sigmoid(-z), axis=-1)

        def sample(self, *, sample_shape: tuple[int, ...], seed: jax.Array) -> jax.Array:
            return jax.random.logistic(seed, (*sample_shape, 2))

    flow = Flow(Scale(), Logistic())
    print(flow.sample(KEY, *flow.init(KEY, X), 3).shape)


# ------------------------------------------------------------------ parts of one's own


@dataclass(frozen=True)
class Cubic(StatelessBijector):
    """y = x³, its methods annotated."""

    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        return x**3, jnp.sum(jnp.log(3 * x**2), axis=1)

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        x = jnp.cbrt(y)
        return x, -jnp.sum(jnp.log(3 * x**2), axis=1)


@dataclass(frozen=True)
class Times(StatelessBijector):
    """y = factor·x, its methods without annotations."""

    factor: float

    def init_params(self, key, x, context=None):
        return {"log_factor": jnp.full(x.shape[1:], jnp.log(self.factor))}

    def forward_and_log_det(self, params, x, context):
        return x * jnp.exp(params["log_factor"]), jnp.full(len(x), params["log_factor"].sum())

    def inverse_and_log_det(self, params, y, context):
        return y * jnp.exp(-params["log_factor"]), jnp.full(len(y), -params["log_factor"].sum())


@dataclass(frozen=True)
class Centre(Bijector):
    """A bijector that keeps a state: the mean of what ``init`` saw."""

    def init(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> tuple[PyTree, PyTree]:
        return (), {"mean": x.mean(axis=0)}

    def forward(
        self, params: PyTree, state: PyTree, x: jax.Array, context: PyTree = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array, PyTree]:
        return x - state["mean"], jnp.zeros(len(x)), state

    def inverse(
        self, params: PyTree, state: PyTree, y: jax.Array, context: PyTree = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        return y + state["mean"], jnp.zeros(len(y))


@dataclass(frozen=True)
class Twice(Combinator):
    """A combinator: its part two times over."""

    bijector: Bijector

    @property
    def parts(self) -> tuple[Bijector, ...]:
        return (self.bijector,)

    def with_parts(self, parts: Sequence[Bijector]) -> Twice:
        return Twice(*parts)

    def go(
        self, visit: Visit, variables: tuple[PyTree, ...], x: PyTree, context: PyTree, *, back: bool = False
    ) -> tuple[PyTree, PyTree, PyTree]:
        x, once, _ = visit(self.bijector, variables, x, context, back)
        x, again, output = visit(self.bijector, variables, x, context, back)
        return x, added(once, again), output


@dataclass(frozen=True)
class Constant:
    """A conditioner: the same numbers for all x."""

    start: float = 0.0

    def init(self, key: jax.Array, x: jax.Array, context: PyTree = None, *, outputs: int) -> tuple[PyTree, PyTree]:
        return {"numbers": jnp.full(outputs, self.start)}, ()

    def apply(
        self, params: PyTree, state: PyTree, x: jax.Array, context: PyTree = None, *, outputs: int, train: bool = False
    ) -> tuple[jax.Array, PyTree]:
        return jnp.broadcast_to(params["numbers"], (*x.shape[:-1], outputs)), state


@dataclass(frozen=True)
class Multiply:
    """A transform: y = x·exp(θ)."""

    parameters_per_element: int = 1

    def init(self, key: jax.Array) -> PyTree:
        return ()

    def forward(self, params: PyTree, theta: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return x * jnp.exp(theta), theta

    def inverse(self, params: PyTree, theta: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return y * jnp.exp(-theta), -theta


@dataclass(frozen=True)
class LastPasses:
    """A mask: the last entry conditions."""

    def split(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return x[..., -1:], x[..., :-1]

    def merge(self, passed: jax.Array, changed: jax.Array) -> jax.Array:
        return jnp.concatenate([changed, passed], axis=-1)

    def only_changed(self, a: jax.Array) -> jax.Array:
        return a

    def shown(self, passed: jax.Array) -> jax.Array:
        return passed


@dataclass(frozen=True)
class Laplace(Distribution):
    """A base."""

    def log_prob(self, params: PyTree, z: jax.Array, context: PyTree = None) -> jax.Array:
        return -jnp.sum(jnp.abs(z) + jnp.log(2), axis=1)

    def sample(self, key: jax.Array, params: PyTree, like: Any, context: PyTree = None) -> jax.Array:
        return jax.random.laplace(key, like.shape, like.dtype)


class Network(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array, *, outputs: int) -> jax.Array:
        return linen.Dense(outputs)(linen.tanh(linen.Dense(4)(x)))


def make(rngs: nnx.Rngs, inputs: int, outputs: int) -> nnx.Module:
    return nnx.Linear(inputs, outputs, rngs=rngs)


def parts_of_ones_own() -> None:
    conditioners: list[Conditioner] = [Constant(), FlaxConditioner(Network()), NNXConditioner(make)]
    for conditioner in conditioners:
        own = Chain((Coupling(LastPasses(), Multiply(), conditioner), Times(2.0), Twice(Centre())))
        flow = Flow(own, Laplace())
        params, state = flow.init(KEY, X)
        print(flow.log_prob(params, state, X)[0].shape)


def a_bijector_checked() -> None:
    report = check_bijector(Times(2.0), np.array([[0.5, 1.0], [2.0, -1.0]]), cases=0, dtypes=("float32",))
    assert_type(report, Report)
    report = examine_bijector(Times(2.0), X[:2], cases=0, checks=["value", "round trip"], domain=(-10, 10))
    print(report.cases, [result.worst for result in report.results if result.outcome == "passed"])


# ------------------------------------------------------------------ objectives and steps


def batch_of_images() -> Batch:
    return {"image": jax.random.randint(KEY, (4, 4, 4, 1), 0, 17), "label": jnp.arange(4), "index": jnp.arange(4)}


def a_loop_of_ones_own() -> None:
    network = LabelEmbedding(MLP((4,)), classes=10)
    flow = Flow(Chain((nvpjax.Logit(), nvpjax.Reshape((4, 4, 1), (16,)), Coupling(HALVES, Affine(), network))))
    objective = PixelLikelihood(flow, 17, UniformDequantization(), labels=True)
    optimizer, batch = optax.adam(1e-3), batch_of_images()
    train_state = create_train_state(objective, optimizer, KEY, batch, averages=True)
    assert_type(train_state, TrainState)
    step = jax.jit(make_train_step(objective, optimizer, average_decay=0.99, penalty=lambda params: jnp.zeros(())))
    train_state, metrics = step(train_state, KEY, batch)
    params, state = train_state.evaluated
    state, _ = make_measure_step(objective)(params, state, KEY, batch)
    params, state = train_state.with_measured(state, of_averages=True).evaluated
    nats = jnp.stack([make_eval_step(objective)(params, state, key, batch) for key in jax.random.split(KEY, 2)])
    print(int(train_state.step), float(metrics["nats"]), importance_weighted(nats).mean())
    print(bits_per_dim(-nats, 16, levels=17).mean(), bits_per_dim(np.zeros(3), 16).mean(), bits_per_dim(0.0, 16))


def a_loop_on_several_devices() -> None:
    objective = Likelihood(flow_of_parts())
    optimizer, devices = optax.sgd(1e-3), jax.local_devices()[:2]
    train_state = replicate(create_train_state(objective, optimizer, KEY, {"x": X}), devices)
    step = parallel_train_step(make_train_step(objective, optimizer, axis_name=AXIS), devices)
    train_state, _ = step(train_state, KEY, shard({"x": X}, len(devices)))
    print(unreplicate(train_state).step)


def log_density(x: jax.Array) -> jax.Array:
    return -0.5 * jnp.sum(x**2, axis=1)


def a_posterior_without_data() -> None:
    objective: Objective = ReverseKL(Flow(Times(1.0)), log_density, event_shape=(2,))
    density, history = fit(KEY, objective, steps=20, batch_size=8, progress=False)
    print(density.sample(KEY, 3).shape, history.training)


# ------------------------------------------------------------------ models


def models_are_built() -> None:
    for name in ("real_nvp_vectors", "maf", "iaf", "spline_coupling", "nice"):
        assert_type(MODELS[name]().build((4,), scan=True), Flow)
    image_models: list[nvpjax.Model] = [
        nvpjax.RealNVP(scales=2, features=4, blocks=0, classes=10),
        nvpjax.Glow(levels=1, depth=1, features=4),
        nvpjax.FlowPlusPlus((1, 1, 1), features=4, blocks=1, heads=0),
    ]
    for model in image_models:
        flow = model.build((8, 8, 1), axis_name="devices", network_dtype=jnp.bfloat16)
        print(flow.base)


def networks_and_masks() -> None:
    networks = [MLP(hidden=(4,), activation=jnp.tanh), Rounded(MLP(), "bfloat16"), Rounded(MLP(), jnp.bfloat16)]
    masks = [BooleanMask((True, False)), HALVES.complement(), AlternatingMask("odd"), Checkerboard("odd").complement()]
    print([Coupling(mask, Affine(), network) for mask, network in zip(masks, networks)])

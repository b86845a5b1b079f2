"""The same flow of vectors by this library and by its peers, each as its own documentation builds it.

Couplings with halves in turns; the parameters of their transform (affine or spline) are from a dense network
of two hidden layers, relu, float32. A peer whose coupling can split the vector does so; one that can only mask computes
parameters for all entries.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

Transform = Literal["affine", "spline"]


@dataclass(frozen=True)
class Sizes:
    layers: int
    entries: int
    hidden: int
    bins: int
    limit: float

    @property
    def half(self) -> int:
        return self.entries // 2


@dataclass(frozen=True)
class Contender:
    """Three things to do, each of which gives what there is to wait for."""

    step: Callable[[], Any]
    """A train step: negative log-likelihood of a batch, Adam."""
    log_prob: Callable[[], Any]
    sample: Callable[[], Any]


def of_jax(params, log_prob: Callable, sample: Callable, batch: np.ndarray, points: np.ndarray) -> Contender:
    """From ``log_prob(params, x)`` and ``sample(params, key, number)``; all is compiled."""
    optimizer = optax.adam(1e-3)
    held = [params, optimizer.init(params)]

    def step(params, optimizer_state, x):
        gradients = jax.grad(lambda params: -jnp.mean(log_prob(params, x)))(params)
        updates, optimizer_state = optimizer.update(gradients, optimizer_state, params)
        return optax.apply_updates(params, updates), optimizer_state

    step, log_prob = jax.jit(step, donate_argnums=(0, 1)), jax.jit(log_prob)
    sample = jax.jit(sample, static_argnums=2)

    def train():
        held[:] = step(*held, batch)
        return held

    key = jax.random.key(0)
    return Contender(train, lambda: log_prob(held[0], points), lambda: sample(held[0], key, len(points)))


def nvpjax(transform: Transform, sizes: Sizes, batch, points) -> Contender:
    import nvpjax as library
    from nvpjax.nets import MLP
    from nvpjax.training import create_train_state, make_train_step

    affine, spline = library.Affine(library.TanhBound(1.0)), library.RationalQuadraticSpline(sizes.bins, sizes.limit)
    element = affine if transform == "affine" else spline
    coupling = library.Coupling(library.ChannelMask(), element, MLP((sizes.hidden, sizes.hidden)))
    flow = library.Flow(library.Repeat(coupling, sizes.layers, alternate=True))
    objective, optimizer = library.Likelihood(flow), optax.adam(1e-3)
    key, batch = jax.random.key(0), {"x": batch}
    held = [jax.jit(lambda key: create_train_state(objective, optimizer, key, batch))(key)]
    step = jax.jit(make_train_step(objective, optimizer), donate_argnums=0)

    def train():
        held[0], metrics = step(held[0], key, batch)
        return metrics

    def density():
        return flow.at(held[0].params, held[0].state)

    log_prob = jax.jit(lambda density, x: density.log_prob(x))
    sample = jax.jit(lambda density, key: density.sample(key, len(points)))
    return Contender(train, lambda: log_prob(density(), points), lambda: sample(density(), key))


def networks(transform: Transform, sizes: Sizes, batch, points) -> Contender:
    """No flow: the products and rectifiers of the networks alone, one after the other. What any library has to do."""
    numbers = {"affine": 2, "spline": 3 * sizes.bins - 1}[transform]
    widths = (sizes.half, sizes.hidden, sizes.hidden, numbers * sizes.half)
    keys = jax.random.split(jax.random.key(0), sizes.layers)
    kernels = [
        [jax.random.normal(key, shape) / shape[0] ** 0.5 for shape in itertools.pairwise(widths)] for key in keys
    ]

    def outputs(kernels, x):
        h = x[:, : sizes.half]
        for first, second, third in kernels:
            theta = jax.nn.relu(jax.nn.relu(h @ first) @ second) @ third
            h = theta[:, : sizes.half]
        return theta

    def sample(kernels, key, number):
        return outputs(kernels, jax.random.normal(key, (number, sizes.half)))

    return of_jax(kernels, lambda kernels, x: jnp.sum(outputs(kernels, x), axis=-1), sample, batch, points)


def distrax(transform: Transform, sizes: Sizes, batch, points) -> Contender:
    import distrax as library

    from nvpjax.nets import MLP  # any network would do

    numbers = 2 if transform == "affine" else 3 * sizes.bins + 1
    network, outputs = MLP((sizes.hidden, sizes.hidden)), numbers * sizes.half
    keys = jax.random.split(jax.random.key(0), sizes.layers)
    params = [network.init(key, batch[:, : sizes.half], outputs=outputs)[0] for key in keys]

    def element(parameters):
        parameters = parameters.reshape(*parameters.shape[:-1], sizes.half, numbers)
        if transform == "affine":
            return library.ScalarAffine(shift=parameters[..., 0], log_scale=jnp.tanh(parameters[..., 1]))
        return library.RationalQuadraticSpline(
            parameters, range_min=-sizes.limit, range_max=sizes.limit, boundary_slopes="unconstrained"
        )

    def flow(params):
        layers = [
            library.SplitCoupling(
                split_index=sizes.half,
                event_ndims=1,
                conditioner=lambda x, of_layer=of_layer: network.apply(of_layer, {}, x, outputs=outputs)[0],
                bijector=lambda parameters: library.Block(element(parameters), 1),
                swap=number % 2 == 1,
            )
            for number, of_layer in enumerate(params)
        ]
        base = library.MultivariateNormalDiag(jnp.zeros(sizes.entries), jnp.ones(sizes.entries))
        return library.Transformed(base, library.Inverse(library.Chain(layers)))

    def sample(params, key, number):
        return flow(params).sample(seed=key, sample_shape=(number,))

    return of_jax(params, lambda params, x: flow(params).log_prob(x), sample, batch, points)


def flowjax(transform: Transform, sizes: Sizes, batch, points) -> Contender:
    import equinox
    import flowjax.bijections
    import flowjax.distributions
    import flowjax.flows as library
    import paramax

    spline = flowjax.bijections.RationalQuadraticSpline(knots=sizes.bins, interval=sizes.limit)
    flow = library.coupling_flow(
        jax.random.key(0),
        base_dist=flowjax.distributions.Normal(jnp.zeros(sizes.entries)),
        transformer=None if transform == "affine" else spline,
        flow_layers=sizes.layers,
        nn_width=sizes.hidden,
        nn_depth=2,
    )
    params, static = equinox.partition(
        flow, equinox.is_inexact_array, is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable)
    )

    def whole(params):
        return paramax.unwrap(equinox.combine(params, static))

    def sample(params, key, number):
        return whole(params).sample(key, (number,))

    return of_jax(params, lambda params, x: whole(params).log_prob(x), sample, batch, points)


def bijx(transform: Transform, sizes: Sizes, batch, points) -> Contender:
    import bijx as library
    from flax import nnx

    rngs = nnx.Rngs(0)

    def layer(mask):
        if transform == "affine":
            element = library.AffineLinear((), rngs=rngs)
        else:
            element = library.MonotoneRQSpline(sizes.bins, (), rngs=rngs)
        element = library.ModuleReconstructor(element)
        widths = (sizes.half, sizes.hidden, sizes.hidden, sizes.half * element.params_total_size)
        linears = [nnx.Linear(before, after, rngs=rngs) for before, after in itertools.pairwise(widths)]
        network = nnx.Sequential(
            linears[0],
            nnx.relu,
            linears[1],
            nnx.relu,
            linears[2],
            lambda parameters: parameters.reshape(*parameters.shape[:-1], sizes.half, -1),
        )
        return library.GeneralCouplingLayer(network, mask, element, bijection_event_rank=0)

    mask = library.BinaryMask.from_boolean_mask(jnp.arange(sizes.entries) < sizes.half)
    layers = [layer(mask if number % 2 else mask.flip()) for number in range(sizes.layers)]
    flow = library.Transformed(library.IndependentNormal((sizes.entries,), rngs=rngs), library.Chain(*layers))
    graph, params, rest = nnx.split(flow, nnx.Param, ...)

    def whole(params):
        return nnx.merge(graph, params, rest)

    def sample(params, key, number):
        return whole(params).sample((number,), rng=key)[0]

    return of_jax(params, lambda params, x: whole(params).log_density(x), sample, batch, points)


def of_torch(flow, log_prob: Callable, sample: Callable, batch: np.ndarray, points: np.ndarray) -> Contender:
    import torch

    batch, points = torch.from_numpy(batch), torch.from_numpy(points)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)

    def step():
        optimizer.zero_grad()
        loss = -log_prob(flow, batch).mean()
        loss.backward()
        optimizer.step()

    def without_gradients(run):
        def inside():
            with torch.no_grad():
                run()

        return inside

    return Contender(
        step,
        without_gradients(lambda: log_prob(flow, points)),
        without_gradients(lambda: sample(flow, len(points))),
    )


def _torch_network(inputs: int, hidden: int, outputs: int):
    from torch import nn

    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


def nflows(transform: Transform, sizes: Sizes, batch, points) -> Contender:
    import nflows.distributions
    import nflows.flows
    import nflows.transforms as library
    import torch
    from torch import nn

    class Network(nn.Module):  # with the context argument that nflows passes
        def __init__(self, inputs, outputs):
            super().__init__()
            self.layers = _torch_network(inputs, sizes.hidden, outputs)

        def forward(self, x, context=None):
            return self.layers(x)

    mask = torch.arange(sizes.entries) < sizes.half
    layers = []
    for number in range(sizes.layers):
        turn = (mask if number % 2 else ~mask).int()
        if transform == "affine":
            layers.append(library.AffineCouplingTransform(turn, Network))
        else:
            layers.append(
                library.PiecewiseRationalQuadraticCouplingTransform(
                    turn, Network, num_bins=sizes.bins, tails="linear", tail_bound=sizes.limit
                )
            )
    base = nflows.distributions.StandardNormal([sizes.entries])
    flow = nflows.flows.Flow(library.CompositeTransform(layers), base)
    return of_torch(flow, lambda flow, x: flow.log_prob(x), lambda flow, number: flow.sample(number), batch, points)


def normflows(transform: Transform, sizes: Sizes, batch, points) -> Contender:
    import normflows as library

    flows = []
    for _ in range(sizes.layers):
        if transform == "affine":
            network = _torch_network(sizes.half, sizes.hidden, sizes.entries)
            flows += [library.flows.AffineCouplingBlock(network), library.flows.Permute(sizes.entries, mode="swap")]
        else:
            flows += [
                library.flows.CoupledRationalQuadraticSpline(
                    sizes.entries, 1, sizes.hidden, num_bins=sizes.bins, tail_bound=sizes.limit
                ),
                library.flows.Permute(sizes.entries, mode="swap"),
            ]
    flow = library.NormalizingFlow(library.distributions.DiagGaussian(sizes.entries, trainable=False), flows)
    return of_torch(flow, lambda flow, x: flow.log_prob(x), lambda flow, number: flow.sample(number), batch, points)


def zuko(transform: Transform, sizes: Sizes, batch, points) -> Contender:
    import torch
    import zuko as library

    mask = torch.arange(sizes.entries) < sizes.half
    kind = {}
    if transform == "spline":
        kind = {
            "univariate": lambda *parameters: library.transforms.MonotonicRQSTransform(*parameters, bound=sizes.limit),
            "shapes": [(sizes.bins,), (sizes.bins,), (sizes.bins - 1,)],
        }
    layers = [
        library.flows.GeneralCouplingTransform(
            sizes.entries, mask=mask if number % 2 else ~mask, hidden_features=(sizes.hidden, sizes.hidden), **kind
        )
        for number in range(sizes.layers)
    ]
    base = library.flows.UnconditionalDistribution(
        library.distributions.DiagNormal, torch.zeros(sizes.entries), torch.ones(sizes.entries), buffer=True
    )
    flow = library.flows.Flow(layers, base)
    return of_torch(
        flow, lambda flow, x: flow().log_prob(x), lambda flow, number: flow().sample((number,)), batch, points
    )


CONTENDERS = {build.__name__: build for build in (nvpjax, distrax, flowjax, bijx, nflows, normflows, zuko, networks)}

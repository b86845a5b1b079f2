"""Programs that are wrong: a type checker says so at each line that is marked, and at no other (``make lint``).

They are read and never run.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

import nvpjax
from nvpjax import (
    MAF,
    Affine,
    BatchNorm,
    Bijector,
    Chain,
    ChannelMask,
    Checkerboard,
    Coupling,
    Density,
    Distribution,
    Exp,
    Flow,
    GaussianDequantization,
    Inverse,
    Likelihood,
    OnColumns,
    PixelLikelihood,
    RealNVP,
    Repeat,
    Reshape,
    ReverseKL,
    StandardNormal,
    StatelessBijector,
    fit,
    load,
    save,
)
from nvpjax.bijector import PyTree
from nvpjax.nets import MADE, MLP, FlaxConditioner
from nvpjax.parallel import shard
from nvpjax.testing import check_bijector
from nvpjax.training import create_train_state, make_eval_step, make_train_step


def arguments(key: jax.Array, x: jax.Array, flow: Flow, density: Density) -> None:
    fit(0, flow, x)  # wrong: a number for a key
    fit(flow, key, x)  # wrong: the key comes first
    fit(key, MAF(), x)  # wrong: a model that is not built
    fit(key, flow, x, batch_size="64")  # wrong: a string
    fit(key, flow, x, optimiser=optax.adam(1e-3))  # wrong: a name that there is not
    flow.sample(key, *flow.init(key, x), 5.0)  # wrong: a number that is not whole
    flow.sample(5, *flow.init(key, x), 5)  # wrong: a number for a key
    flow.log_prob(x)  # wrong: no params and state
    density.sample(5)  # wrong: no key
    density.sample(key, number=(5,))  # wrong: a shape for a number
    density.log_prob(x, train=True)  # wrong: a density does not train
    save(density, "density.npz")  # wrong: the path comes first
    save("density.npz", density, known="Cubic")  # wrong: a name for a class
    load("density.npz", known=[2])  # wrong: a number for a class
    nvpjax.bits_per_dim(density, 3072)  # wrong: a density for a log-density


def parts(key: jax.Array, x: jax.Array) -> None:
    Coupling("first", Affine(), MLP())  # wrong: a string for a mask
    Coupling(ChannelMask, Affine(), MLP())  # wrong: a class for a mask
    Coupling(ChannelMask(), Exp(), MLP())  # wrong: a bijector for a transform
    Coupling(ChannelMask(), Affine(), jnp.tanh)  # wrong: a function for a conditioner
    Coupling(Affine(), ChannelMask(), MLP())  # wrong: the mask comes first
    ChannelMask(passes="left")  # wrong: neither first nor second
    Checkerboard("first")  # wrong: neither even nor odd
    Affine(bound=1.0)  # wrong: a number for a bound
    Chain([Exp(), Exp()])  # wrong: a list where a tuple is meant
    Chain(Exp(), Exp())  # wrong: two arguments where a tuple is meant
    Chain((Exp, Exp))  # wrong: classes for bijectors
    MLP(hidden=[64, 64])  # wrong: a list where a tuple is meant
    MLP(64)  # wrong: a number where a tuple is meant
    MADE(hidden=("64",))  # wrong: a string for a width
    Repeat(Exp(), "3")  # wrong: a string for a number
    Repeat(Exp())  # wrong: no number of times
    OnColumns(Exp(), 0)  # wrong: a number where a tuple is meant
    Reshape((4,), 4)  # wrong: a number where a tuple is meant
    Inverse(Exp().inverse)  # wrong: a method for a bijector
    Flow(StandardNormal(), Exp())  # wrong: the bijector comes first
    Flow(MLP())  # wrong: a network for a bijector
    FlaxConditioner(MLP())  # wrong: a conditioner that needs no wrapping
    BatchNorm().epsilon = 0.1  # wrong: bijectors are frozen
    Exp().forward((), (), x, True)[3]  # wrong: there are three results
    Coupling(ChannelMask(), Affine(), MLP()).forward(key, x)  # wrong: no state
    Coupling(ChannelMask(), Affine(), MLP()).forward((), (), [[1.0]])  # wrong: a list for an array


def models() -> None:
    RealNVP(scales="2")  # wrong: a string for a number
    RealNVP(depth=2)  # wrong: a field of Glow's
    MAF(transform="linear")  # wrong: neither affine nor spline
    MAF().build(2)  # wrong: a number for a shape
    MAF().build((2,), "devices")  # wrong: the name of the axis goes by its name
    MAF().build((2,), network_dtype=16)  # wrong: a number for a dtype
    nvpjax.Model()  # wrong: a base of others


def objectives(key: jax.Array, x: jax.Array, flow: Flow, density: Density) -> None:
    optimizer, objective = optax.adam(1e-3), Likelihood(flow)
    Likelihood(density)  # wrong: a density for a flow
    PixelLikelihood(flow, levels=256.0)  # wrong: a number that is not whole
    PixelLikelihood(flow, dequantization=GaussianDequantization)  # wrong: a class for noise
    ReverseKL(flow, 0.0, (2,))  # wrong: a number for a function
    create_train_state(objective, key, optimizer, {"x": x})  # wrong: the optimizer comes first
    create_train_state(objective, optimizer, key, x)  # wrong: an array for a batch
    make_train_step(flow, optimizer)  # wrong: a flow for an objective
    make_train_step(objective, optimizer, average_decay="0.99")  # wrong: a string for a number
    make_train_step(objective, optimizer)(objective, key, {"x": x})  # wrong: an objective for a train state
    make_eval_step(objective)(key, {"x": x})  # wrong: no params and state
    shard({"x": x}, jax.devices())  # wrong: devices for their number
    check_bijector(Exp(), x, case=0)  # wrong: an option that there is not
    check_bijector(Exp(), x, domain=(0.0, 1.0, 2.0))  # wrong: three ends
    check_bijector(Exp, x)  # wrong: a class for a bijector


def results(key: jax.Array, x: jax.Array, flow: Flow, density: Density) -> None:
    density, history, state = fit(key, flow, x)  # wrong: two results
    fit(key, flow, x).log_prob(x)  # wrong: the density is one of two
    fit(key, flow, x).history.loss.min()  # wrong: a name that there is not
    params, state, _ = flow.init(key, x)  # wrong: two results
    x, log_det = Exp().forward((), (), x)  # wrong: three results
    samples, log_prob = density.log_prob(x)[0], density.sample_and_log_prob(key, 5).mean()  # wrong: a pair
    flow.at(params, state).logprob(x)  # wrong: a name that there is not
    density.params = params  # wrong: densities are frozen
    check_bijector(Exp(), x).failed  # wrong: a name that there is not
    Coupling(ChannelMask(), Affine(), MLP()).inverse((), (), x)[0].at(params)  # wrong: an array is no flow
    nvpjax.Couplings  # wrong: a name that there is not


@dataclass(frozen=True)
class WithoutInverse(StatelessBijector):
    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        return x, jnp.zeros(len(x))


@dataclass(frozen=True)
class WithoutContext(StatelessBijector):
    def forward_and_log_det(self, params: PyTree, x: jax.Array) -> tuple[jax.Array, jax.Array]:  # wrong: no context
        return x, jnp.zeros(len(x))

    def inverse_and_log_det(self, params, y):  # wrong: no context
        return y, jnp.zeros(len(y))


@dataclass(frozen=True)
class WithoutLogDet(StatelessBijector):
    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> jax.Array:  # wrong: no log-det
        return x

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        return y  # wrong: no log-det


@dataclass(frozen=True)
class WithoutTrain(Bijector):
    def init(self, key: jax.Array, x: jax.Array) -> tuple[PyTree, PyTree]:  # wrong: no context
        return (), ()

    def forward(self, params, state, x, context=None):  # wrong: no train
        return x, jnp.zeros(len(x)), state

    def inverse(self, params, state, y, context=None, *, train=False, back=False):
        return y, jnp.zeros(len(y))


@dataclass(frozen=True)
class WithoutSample(Distribution):
    def log_prob(self, params: PyTree, z: jax.Array, context: PyTree = None) -> jax.Array:
        return -jnp.sum(jnp.abs(z), axis=1)


class NotTold:
    """A conditioner that is not told how many numbers to give."""

    def init(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> tuple[PyTree, PyTree]:
        return (), ()

    def apply(
        self, params: PyTree, state: PyTree, x: jax.Array, context: PyTree = None, *, train: bool = False
    ) -> tuple[jax.Array, PyTree]:
        return x, state


class OnlyShifts:
    """A transform without an inverse."""

    parameters_per_element = 1

    def init(self, key: jax.Array) -> PyTree:
        return ()

    def forward(self, params: PyTree, theta: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return x + theta, jnp.zeros_like(x)


def parts_of_ones_own() -> None:
    WithoutInverse()  # wrong: it lacks a method
    Flow(Exp(), WithoutSample())  # wrong: it lacks a method
    Coupling(ChannelMask(), Affine(), NotTold())  # wrong: it is not told outputs
    Coupling(ChannelMask(), OnlyShifts(), MLP())  # wrong: it lacks a method

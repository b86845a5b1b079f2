"""Networks that shorten distances: what may be added to the identity and leave it invertible."""

from __future__ import annotations

import abc
import itertools
import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from nvpjax.nets.convolve import convolve
from nvpjax.values import expect_at_least, expect_finite


class Contraction(abc.ABC):
    """A function g with ‖g(x) − g(x')‖ ≤ coefficient·‖x − x'‖, whatever its params.

    Implementations are frozen dataclasses. It has

        init(key, x, context)       -> (params, state): state has a vector for each linear map
        settle(params, state)       -> state, of the vectors that each map stretches most
        weights(params, state)      -> kernels, each as short as it must be, by the vectors as they are
        apply(weights, x, context)  -> g(x), shaped like x

    Every linear map is divided by its largest singular value as far as that is above its share of the coefficient,
    coefficient^(1/number of maps), and activations have slopes of at most 1 (``lipswish``). Singular values are by
    power iteration from the vectors in the state, until they stand still: a start near the end makes it short.

    Reference: Behrmann et al., *Invertible residual networks*, 2019, sec. 2.1 and app.; Chen et al., *Residual flows
    for invertible generative modeling*, 2019, sec. 3.3.
    """

    coefficient: float

    @abc.abstractmethod
    def init(self, key: jax.Array, x: jax.Array, context: Any = None) -> tuple[Any, Any]: ...

    @abc.abstractmethod
    def linear(self, kernel: jax.Array, vector: jax.Array) -> jax.Array:
        """Give what a kernel makes of one event."""

    def settle(self, params: Any, state: Any) -> Any:
        kernels = {name: params[name]["kernel"] for name in state}
        return jax.tree.map(partial(_most_stretched, self.linear), *jax.lax.stop_gradient((kernels, state)))

    def weights(self, params: Any, state: Any) -> Any:
        return _shortened(params, jax.lax.stop_gradient(state), self.linear, self.coefficient ** (1 / len(state)))

    @abc.abstractmethod
    def apply(self, weights: Any, x: jax.Array, context: Any = None) -> jax.Array: ...


@dataclass(frozen=True)
class ContractiveMLP(Contraction):
    """Dense layers with ``lipswish`` between them: a contraction of vectors.

    A context, if there is one, is added after the first layer by a kernel of its own without a bound: only x is to be
    brought nearer. Args: ``hidden``; ``coefficient`` below 1. Shapes: x ``(batch, entries)``.

    >>> import jax, jax.numpy as jnp
    >>> network, x = ContractiveMLP(hidden=(16,), coefficient=0.5), jnp.array([[0.0, 0.0], [1.0, 1.0]])
    >>> params, state = network.init(jax.random.key(0), x)
    >>> below, above = network.apply(network.weights(params, state), x)
    >>> bool(jnp.linalg.norm(above - below) <= 0.5 * jnp.sqrt(2))
    True
    """

    hidden: tuple[int, ...] = (64, 64)
    coefficient: float = 0.9

    def __post_init__(self):
        object.__setattr__(self, "hidden", tuple(self.hidden))
        expect_at_least(self, 1, "hidden")
        _expect_coefficient(self)

    def init(self, key: jax.Array, x: jax.Array, context: Any = None) -> tuple[Any, Any]:
        if x.ndim != 2:
            raise ValueError(f"ContractiveMLP: expected x of shape (batch, entries), got {x.shape}.")
        sizes = (x.shape[-1], *self.hidden, x.shape[-1])
        shapes = list(itertools.pairwise(sizes))
        params, vectors = _made(key, shapes, [(before,) for before, _ in shapes], context)
        return params, self.settle(params, vectors)

    def linear(self, kernel: jax.Array, vector: jax.Array) -> jax.Array:
        return vector @ kernel

    def apply(self, weights: Any, x: jax.Array, context: Any = None) -> jax.Array:
        return _through(weights, x, context, lambda h, kernel: h @ kernel)


@dataclass(frozen=True)
class ContractiveConvolutions(Contraction):
    """Three convolutions, 3x3, 1x1 and 3x3, with ``lipswish`` between them: a contraction of images.

    What is bounded is the convolution itself, as a map of images of this height and width, not its kernel as a matrix.
    A context ``(batch, features)`` is added after the first. Args: ``features``; ``coefficient`` below 1. Shapes: x
    ``(batch, height, width, channels)``.

    Reference: the authors' program of *Residual flows* (Chen et al., 2019), which has an activation before the first
    convolution too.

    >>> import jax, jax.numpy as jnp
    >>> network, x = ContractiveConvolutions(features=4), jnp.ones((2, 4, 4, 3))
    >>> params, state = network.init(jax.random.key(0), x)
    >>> network.apply(network.weights(params, state), x).shape
    (2, 4, 4, 3)
    """

    features: int = 64
    coefficient: float = 0.9

    def __post_init__(self):
        expect_at_least(self, 1, "features")
        _expect_coefficient(self)

    def init(self, key: jax.Array, x: jax.Array, context: Any = None) -> tuple[Any, Any]:
        if x.ndim != 4:
            raise ValueError(f"ContractiveConvolutions: expected x (batch, height, width, channels), got {x.shape}.")
        (*sides, channels), many = x.shape[1:], self.features
        shapes = [(3, 3, channels, many), (1, 1, many, many), (3, 3, many, channels)]
        params, vectors = _made(key, shapes, [(*sides, shape[2]) for shape in shapes], context)
        return params, self.settle(params, vectors)

    def linear(self, kernel: jax.Array, vector: jax.Array) -> jax.Array:
        return convolve(vector[None], kernel)[0]

    def apply(self, weights: Any, x: jax.Array, context: Any = None) -> jax.Array:
        return _through(weights, x, context, convolve)


def lipswish(x: jax.Array, beta: jax.Array) -> jax.Array:
    """x·sigmoid(softplus(β)·x)/1.1: smooth, with slopes between −0.1 and 1."""
    return x * jax.nn.sigmoid(jax.nn.softplus(beta) * x) / 1.1


def _made(key, shapes, events, context):
    """Kernels, biases and slopes of activations; and of each map a vector to begin with."""
    keys = jax.random.split(key, 2 * len(shapes) + 1)
    params, vectors = {}, {}
    for number, (shape, event) in enumerate(zip(shapes, events)):
        kernel_key, vector_key = keys[2 * number : 2 * number + 2]
        kernel = jax.random.normal(kernel_key, shape) / math.sqrt(math.prod(shape[:-1]))
        params[f"layer_{number}"] = {"kernel": kernel, "bias": jnp.zeros(shape[-1])}
        if number:
            params[f"layer_{number}"]["beta"] = jnp.full((), 0.5)
        vectors[f"layer_{number}"] = jax.random.normal(vector_key, event)
    if context is not None:
        features = math.prod(context.shape[1:])
        params["context"] = jax.random.normal(keys[-1], (features, shapes[0][-1])) / math.sqrt(max(1, features))
    return params, vectors


def _shortened(params, vectors, linear, share):
    weights = dict(params)
    for name, vector in vectors.items():
        kernel = params[name]["kernel"].astype(vector.dtype)
        # For a vector that is stretched most, whose own derivatives do nothing to the length of its image.
        length = _length(linear(kernel, vector))
        weights[name] = {**params[name], "kernel": kernel / jnp.maximum(1, length / share)}
    return weights


def _most_stretched(linear, kernel, vector, most=1000):
    """Power iteration: the unit vector that a linear map stretches most, once the length of its image stands still."""
    kernel, tolerance = kernel.astype(vector.dtype), 4 * jnp.finfo(vector.dtype).eps
    transposed = jax.linear_transpose(partial(linear, kernel), vector)

    def iterate(carry):
        vector, length, _, number = carry
        (image,) = transposed(linear(kernel, vector))
        new = _length(image)  # of AᵀAv, for a unit v: the singular value's square
        return image / new, new, length, number + 1

    def goes_on(carry):
        _, length, before, number = carry
        return (jnp.abs(length - before) > tolerance * length) & (number < most)

    zero = jnp.zeros((), vector.dtype)
    return jax.lax.while_loop(goes_on, iterate, iterate((vector / _length(vector), zero, zero, 0)))[0]


def _length(a):
    # A map of zeros has no direction: the smallest number keeps 0/0 away.
    return jnp.sqrt(jnp.sum(jnp.square(a)) + jnp.finfo(a.dtype).tiny)


def _through(weights, x, context, linear):
    # By number: after jit the keys of a dict are in order of the alphabet, where layer_10 comes before layer_2.
    names = sorted((name for name in weights if name != "context"), key=lambda name: (len(name), name))
    h = x
    for name in names:
        layer = {key: value.astype(x.dtype) for key, value in weights[name].items()}
        if "beta" in layer:
            h = lipswish(h, layer["beta"])
        h = linear(h, layer["kernel"]) + layer["bias"]
        if name == names[0] and "context" in weights:
            rows = context.reshape(len(context), -1).astype(x.dtype) @ weights["context"].astype(x.dtype)
            h = h + rows.reshape(len(rows), *[1] * (x.ndim - 2), -1)
    return h


def _expect_coefficient(owner):
    expect_finite(owner)
    if not 0 < owner.coefficient < 1:
        raise ValueError(f"{type(owner).__name__}: expected 0 < coefficient < 1, got {owner.coefficient}.")

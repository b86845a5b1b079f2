"""Base distributions: what latents follow."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree, log_det_dtype, sum_over_event
from nvpjax.checked import Call, Checked
from nvpjax.values import expect_at_least, expect_finite


class Distribution(Checked, abc.ABC):
    """A density over latents, with learned parameters where it has any. The counterpart of ``Bijector``.

    Errors: as of ``Bijector``: every call is held against ``init``.
    """

    CALLS = {
        "init": Call(("key", "x", "context")),
        "log_prob": Call(("params", "x", "context")),
        "sample": Call(("key", "params", "x", "context")),
    }

    def init(self, key: jax.Array, z: PyTree, context: PyTree = None) -> PyTree:
        """Give the parameters for latents shaped like ``z``. The default is a distribution without any."""
        return ()

    @abc.abstractmethod
    def log_prob(self, params: PyTree, z: PyTree, context: PyTree = None) -> jax.Array:
        """Give log p(z) in nats, shape ``(batch,)``, at least float32."""

    @abc.abstractmethod
    def sample(self, key: jax.Array, params: PyTree, like: Any, context: PyTree = None) -> PyTree:
        """Draw latents with the shapes and dtypes of ``like`` (arrays or ``jax.ShapeDtypeStruct``), batch first."""


@dataclass(frozen=True)
class StandardNormal(Distribution):
    """N(0, I) over all latents: an array, or any tree of arrays such as the tuple of a multi-scale flow.

        log p(z) = −½ Σ (z² + log 2π)

    Reference: Real NVP, sec. 3.1 and 4.1.

    >>> import jax.numpy as jnp
    >>> round(float(StandardNormal().log_prob((), (jnp.zeros((1, 2)), jnp.zeros((1, 3))))[0]), 4)
    -4.5947
    """

    def log_prob(self, params: PyTree, z: PyTree, context: PyTree = None) -> jax.Array:
        leaves = [leaf.astype(log_det_dtype(leaf)) for leaf in jax.tree.leaves(z)]
        return _added(sum_over_event(-0.5 * (jnp.square(leaf) + jnp.log(2 * jnp.pi))) for leaf in leaves)

    def sample(self, key: jax.Array, params: PyTree, like: PyTree, context: PyTree = None) -> PyTree:
        leaves, structure = jax.tree.flatten(like)
        keys = jax.random.split(key, len(leaves))
        draws = [jax.random.normal(leaf_key, leaf.shape, leaf.dtype) for leaf_key, leaf in zip(keys, leaves)]
        return jax.tree.unflatten(structure, draws)


@dataclass(frozen=True)
class DiagonalNormal(Distribution):
    """N(μ, diag σ²) with a learned mean and log-scale for every entry of the latents, which may be a tree.

        log p(z) = −½ Σ (((z − μ)/σ)² + log 2π) − Σ log σ

    Parameters: ``mean`` and ``log_scale``, each a tree like the latents without the batch; zero at the start.

    >>> import jax, jax.numpy as jnp
    >>> normal = DiagonalNormal()
    >>> params = normal.init(jax.random.key(0), jnp.zeros((1, 2)))
    >>> round(float(normal.log_prob(params, jnp.zeros((1, 2)))[0]), 4)
    -1.8379
    """

    def init(self, key: jax.Array, z: PyTree, context: PyTree = None) -> PyTree:
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:]), z)
        return {"mean": zeros, "log_scale": zeros}

    def log_prob(self, params: PyTree, z: PyTree, context: PyTree = None) -> jax.Array:
        def leaf_log_prob(leaf, mean, log_scale):
            leaf = leaf.astype(log_det_dtype(leaf))
            standard = (leaf - mean) * jnp.exp(-log_scale)
            return sum_over_event(-0.5 * (jnp.square(standard) + jnp.log(2 * jnp.pi)) - log_scale)

        return _added(jax.tree.leaves(jax.tree.map(leaf_log_prob, z, params["mean"], params["log_scale"])))

    def sample(self, key: jax.Array, params: PyTree, like: PyTree, context: PyTree = None) -> PyTree:
        standard = StandardNormal().sample(key, (), like)
        return jax.tree.map(
            lambda draw, mean, log_scale: (mean + jnp.exp(log_scale) * draw).astype(draw.dtype),
            standard,
            params["mean"],
            params["log_scale"],
        )


@dataclass(frozen=True)
class NormalMixture(Distribution):
    """A mixture of diagonal normals with learned weights, means and log-scales.

        log p(z) = log Σₖ πₖ·N(z; μₖ, diag σₖ²)

    Shapes: z ``(batch, *event)``, one array; parameters ``logits`` ``(K,)``, ``mean`` and ``log_scale``
    ``(K, *event)``. Means start normal, so that the components differ. Args: ``components`` K.

    >>> import jax, jax.numpy as jnp
    >>> mixture = NormalMixture(components=3)
    >>> params = mixture.init(jax.random.key(0), jnp.zeros((1, 2)))
    >>> mixture.log_prob(params, jnp.zeros((4, 2))).shape
    (4,)
    """

    components: int

    def __post_init__(self):
        expect_at_least(self, 1, "components")

    def init(self, key: jax.Array, z: PyTree, context: PyTree = None) -> PyTree:
        _check_array(self, z)
        shape = (self.components, *z.shape[1:])
        return {
            "logits": jnp.zeros(self.components),
            "mean": jax.random.normal(key, shape),
            "log_scale": jnp.zeros(shape),
        }

    def log_prob(self, params: PyTree, z: PyTree, context: PyTree = None) -> jax.Array:
        z = z.astype(log_det_dtype(z))

        def component(mean, log_scale):
            return DiagonalNormal().log_prob({"mean": mean, "log_scale": log_scale}, z)

        each = jax.vmap(component)(params["mean"], params["log_scale"])
        return jax.nn.logsumexp(jax.nn.log_softmax(params["logits"])[:, None] + each, axis=0)

    def sample(self, key: jax.Array, params: PyTree, like: PyTree, context: PyTree = None) -> PyTree:
        choice_key, draw_key = jax.random.split(key)
        chosen = jax.random.categorical(choice_key, params["logits"], shape=like.shape[:1])
        draw = jax.random.normal(draw_key, like.shape, like.dtype)
        return (params["mean"][chosen] + jnp.exp(params["log_scale"][chosen]) * draw).astype(like.dtype)


@dataclass(frozen=True)
class Uniform(Distribution):
    """The uniform density on [low, high) in every entry; outside, log p(z) is −inf, as it should be.

        log p(z) = −D·log(high − low)

    For latents that a last ``Sigmoid`` or ``NormalCDF`` brings into [0, 1). Errors: ValueError unless low < high.

    >>> import jax.numpy as jnp
    >>> Uniform(0.0, 2.0).log_prob((), jnp.array([[1.0], [3.0]])).tolist()
    [-0.6931471824645996, -inf]
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self):
        expect_finite(self)
        if not self.low < self.high:
            raise ValueError(f"Uniform: expected low < high, got {self!r}.")

    def log_prob(self, params: PyTree, z: PyTree, context: PyTree = None) -> jax.Array:
        def leaf_log_prob(leaf):
            inside = (leaf >= self.low) & (leaf < self.high)
            density = jnp.where(inside, -math.log(self.high - self.low), -jnp.inf)
            return sum_over_event(density.astype(log_det_dtype(leaf)))

        return _added(map(leaf_log_prob, jax.tree.leaves(z)))

    def sample(self, key: jax.Array, params: PyTree, like: PyTree, context: PyTree = None) -> PyTree:
        leaves, structure = jax.tree.flatten(like)
        keys = jax.random.split(key, len(leaves))
        draws = [
            jax.random.uniform(leaf_key, leaf.shape, leaf.dtype, self.low, self.high)
            for leaf_key, leaf in zip(keys, leaves)
        ]
        return jax.tree.unflatten(structure, draws)


@dataclass(frozen=True)
class ForeignDistribution(Distribution):
    """A distribution of distrax, or of TFP on JAX, as it is: ``Flow`` wraps it by itself.

    What is asked of the object: ``log_prob(z)``, ``sample(sample_shape=…, seed=key)``, ``batch_shape`` and
    ``event_shape``. Where it is a distribution of fewer axes than the latents, entries are independent and log p sums
    over them. Its own parameters are constants of the program, not learned.

    Errors: TypeError for an object without these, ValueError where its shape is not that of the latents' last axes.
    """

    distribution: Any

    def __post_init__(self):
        wanted = ("log_prob", "sample", "batch_shape", "event_shape")
        missing = [name for name in wanted if not hasattr(self.distribution, name)]
        if missing:
            raise TypeError(
                f"Flow: expected a base that is an nvpjax Distribution, or has {', '.join(wanted)} as those of distrax "
                f"and TFP; {self.distribution!r} lacks {', '.join(missing)}."
            )

    def init(self, key: jax.Array, z: PyTree, context: PyTree = None) -> PyTree:
        _check_array(self, z)
        self._draws(z)
        return ()

    def log_prob(self, params: PyTree, z: PyTree, context: PyTree = None) -> jax.Array:
        return sum_over_event(self.distribution.log_prob(z))

    def sample(self, key: jax.Array, params: PyTree, like: PyTree, context: PyTree = None) -> PyTree:
        return self.distribution.sample(sample_shape=self._draws(like), seed=key).astype(like.dtype)

    def _draws(self, like):
        """The leading axes of the latents, over which the distribution is drawn again and again."""
        own = (*self.distribution.batch_shape, *self.distribution.event_shape)
        leading = len(like.shape) - len(own)
        if leading < 1 or tuple(like.shape[leading:]) != own:
            raise ValueError(
                f"Flow: expected a base whose shape is that of the latents' last axes, got {own} for latents of shape "
                f"{tuple(like.shape)} (batch first)."
            )
        return tuple(like.shape[:leading])


def _added(log_probs: Iterable[jax.Array]) -> jax.Array:
    """What the leaves of latents have together."""
    return reduce(jnp.add, log_probs)


def _check_array(distribution, z):
    if not hasattr(z, "shape"):
        raise TypeError(
            f"{type(distribution).__name__}: expected latents that are one array, got a tree of "
            f"{len(jax.tree.leaves(z))}. StandardNormal and DiagonalNormal take trees."
        )

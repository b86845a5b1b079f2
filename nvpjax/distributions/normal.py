"""Normal distributions, and mixtures of them."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree, log_det_dtype, sum_over_event
from nvpjax.distributions.distribution import Distribution, added, expect_array
from nvpjax.values import expect_at_least


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
        return added(sum_over_event(-0.5 * (jnp.square(leaf) + jnp.log(2 * jnp.pi))) for leaf in leaves)

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

        return added(jax.tree.leaves(jax.tree.map(leaf_log_prob, z, params["mean"], params["log_scale"])))

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
        expect_array(self, z)
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

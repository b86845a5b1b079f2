"""A base that accepts some of another's draws: it may have holes, rings, modes, where a normal has none."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from nvpjax.bijector import Conditioner, PyTree, expect_conditioner, expect_part, log_det_dtype
from nvpjax.distributions.distribution import Distribution, expect_array
from nvpjax.distributions.normal import StandardNormal
from nvpjax.hashed import hashed
from nvpjax.values import expect_at_least


@dataclass(frozen=True)
class Resampled(Distribution):
    """Draws of a base, of which a network says how probably each is taken; the last of ``tries`` always is.

        a(z) = sigmoid(network(z)),     Z = E_base[a],     α = (1 − Z)^(tries − 1)
        log p(z) = log base(z) + log(α + (1 − α)·a(z)/Z)

    A flow that is continuous cannot tear a normal into pieces; a base that has the pieces spares it that.

    Z is a mean over ``points`` draws of the base, by ``seed`` and the bits of the parameters: the same for all z, and
    other ones in every step of training, so that no network learns where they lie. p integrates to 1 up to an error of
    about √(Var a/points)/Z, never exactly; another seed or more points (``dataclasses.replace``) show how large it is.

    Args: ``network``: a conditioner on one array, told to give one number; one that levels off far out, such as
    ``MLP((64, 64), jnp.tanh)``: what rises without end takes all that is far off, and learns no more there. ``base``:
    of one array. ``tries``: draws of the base that a draw takes, so also the most by which p can exceed the base's.

    Shapes: z ``(batch, entries)``, one array. The context goes to neither: a Z for each would take ``points`` passes.

    Errors: TypeError for what is no conditioner or no distribution; ValueError in ``init`` for latents of another rank,
    or a network that measures.

    Reference: Bauer, Mnih, *Resampled priors for variational autoencoders*, 2019, eq. 7-9; as bases of flows: Stimper,
    Schölkopf, Hernández-Lobato, *Resampling base distributions of normalizing flows*, 2022, sec. 3; there Z is an
    average over the batches of training.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax.nets import MLP
    >>> base, z = Resampled(MLP((8,), jnp.tanh)), jnp.zeros((3, 2))
    >>> params = base.init(jax.random.key(0), z)
    >>> base.log_prob(params, z).shape, base.sample(jax.random.key(1), params, z).shape
    ((3,), (3, 2))
    """

    network: Conditioner
    base: Distribution = StandardNormal()
    tries: int = 50
    points: int = 4096
    seed: int = 0

    def __post_init__(self):
        expect_conditioner("Resampled", self.network)
        expect_part("Resampled", self.base, "base", "StandardNormal()", "log_prob")
        expect_at_least(self, 1, "tries", "points")
        expect_at_least(self, 0, "seed")

    def init(self, key: jax.Array, z: PyTree, context: PyTree = None) -> PyTree:
        expect_array(self, z)
        if z.ndim != 2:
            raise ValueError(f"Resampled: expected latents (batch, entries), got {z.shape}. Put Reshape at the end.")
        network_key, base_key = jax.random.split(key)
        params, state = self.network.init(network_key, z, outputs=1)
        if jax.tree.leaves(state):
            raise ValueError(f"Resampled: expected a network without state, got {self.network!r}.")
        return {"network": params, "base": self.base.init(base_key, z)}

    def log_prob(self, params: PyTree, z: PyTree, context: PyTree = None) -> jax.Array:
        fixed = jax.ShapeDtypeStruct((self.points, *z.shape[1:]), log_det_dtype(z))
        points = self.base.sample(self._key(params), params["base"], fixed)
        log_mean = jax.nn.logsumexp(self._log_accepted(params, points)) - jnp.log(self.points).astype(fixed.dtype)
        log_last = (self.tries - 1) * jnp.log1p(-jnp.exp(log_mean))
        taken = self._log_accepted(params, z) - log_mean + jnp.log1p(-jnp.exp(log_last))
        return self.base.log_prob(params["base"], z) + jnp.logaddexp(log_last, taken)

    def sample(self, key: jax.Array, params: PyTree, like: PyTree, context: PyTree = None) -> PyTree:
        def attempt(carry, key):
            z, taken = carry
            draw_key, accept_key = jax.random.split(key)
            drawn = self.base.sample(draw_key, params["base"], like)
            accepted = self._log_accepted(params, drawn) > jnp.log(jax.random.uniform(accept_key, taken.shape))
            return (jnp.where(taken[:, None], z, drawn), taken | accepted), None  # untaken, the last one stays

        start = jnp.zeros(like.shape, like.dtype), jnp.zeros(like.shape[:1], bool)
        return jax.lax.scan(attempt, start, jax.random.split(key, self.tries))[0][0]

    def _key(self, params):
        rows = [leaf.astype(jnp.float32).reshape(1, -1) for leaf in jax.tree.leaves(params)]
        number = hashed(jnp.concatenate([jnp.zeros((1, 1), jnp.float32), *rows], axis=1))[0]
        return jax.random.fold_in(jax.random.key(self.seed), number)

    def _log_accepted(self, params, z):
        state = jax.eval_shape(lambda key: self.network.init(key, z, outputs=1)[1], jax.random.key(0))
        numbers, _ = self.network.apply(params["network"], state, z, outputs=1)
        return jax.nn.log_sigmoid(numbers.astype(log_det_dtype(z))[:, 0])

"""Distributions of other libraries as bases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

from nvpjax.bijector import PyTree, sum_over_event
from nvpjax.distributions.distribution import Distribution, expect_array


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
        expect_array(self, z)
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

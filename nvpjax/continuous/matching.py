"""Flow matching: a continuous flow's field, trained without solving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree, sum_over_event
from nvpjax.continuous.bijector import Continuous
from nvpjax.flow import Flow
from nvpjax.objectives import Batch, Likelihood, Objective


@dataclass(frozen=True)
class FlowMatching(Objective):
    """Make a field the mean of straight ways from data to latents, of a flow that is one ``Continuous``.

        z ~ base,  t ~ U(0, 1),  z_t = (1 − t)·x + t·z
        in training:  cost = Σ (f(z_t, t) − (z − x))²,  no solve
        in evaluation:  nats = −log p(x),  by a solve, as of ``Likelihood``

    Only the second is in nats. Params and state are the flow's: what was trained so is evaluated, sampled, saved and
    trained on by likelihood as any other.

    Batch: as of ``Likelihood``.

    Errors: TypeError for a flow whose bijector is no ``Continuous``.

    Reference: Lipman, Chen, Ben-Hamu, Nickel, Le, *Flow matching for generative modeling*, 2023, eq. 9; straight ways:
    Liu, Gong, Liu, *Flow straight and fast*, 2023, eq. 1.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Flow
    >>> from nvpjax.nets import ConcatSquash
    >>> objective, batch = FlowMatching(Flow(Continuous(ConcatSquash((8,))))), {"x": jnp.zeros((4, 2))}
    >>> params, state = objective.init(jax.random.key(0), batch)
    >>> objective(params, state, jax.random.key(1), batch, train=True)[0].shape
    (4,)
    """

    flow: Flow

    def __post_init__(self):
        if not isinstance(self.flow.bijector, Continuous):
            got = type(self.flow.bijector).__name__
            raise TypeError(f"FlowMatching: expected a flow whose bijector is a Continuous, got a {got}.")

    def init(self, key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        return self._likelihood.init(key, batch)

    def __call__(
        self, params: PyTree, state: PyTree, key: jax.Array, batch: Batch, *, train: bool = False
    ) -> tuple[jax.Array, PyTree]:
        if not train:
            return self._likelihood(params, state, key, batch)
        x, context = self.data(params, state, key, batch)
        time_key, base_key = jax.random.split(key)
        z = self.flow.base.sample(base_key, params["base"], x, context)
        time = jax.random.uniform(time_key, x.shape[:1], x.dtype)
        part = time.reshape(-1, *[1] * (x.ndim - 1))
        bijector = cast(Continuous, self.flow.bijector)
        velocity = bijector.velocity(params["bijector"], state["bijector"], (1 - part) * x + part * z, time, context)
        return sum_over_event(jnp.square(velocity - (z - x))), state

    def data(self, params: PyTree, state: PyTree, key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        return self._likelihood.data(params, state, key, batch)

    @property
    def _likelihood(self) -> Likelihood:
        return Likelihood(self.flow)

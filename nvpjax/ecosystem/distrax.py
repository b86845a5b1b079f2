"""Densities and bijectors as distrax has them, and distrax's bijectors as bijectors here."""

# The library is not there where types are checked, and a checker takes this file for it.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

from nvpjax.bijector import Bijector, PyTree
from nvpjax.ecosystem.foreign import Foreign
from nvpjax.ecosystem.leading_axes import BatchedBijector, Shape, batched, batched_bijector
from nvpjax.flow import Density

try:
    import distrax
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("nvpjax.ecosystem.distrax: expected distrax: pip install distrax.") from error


class FlowDistribution(distrax.Distribution):
    """A density as a ``distrax.Distribution``.

    Shapes: draws ``(*sample_shape, *batch_shape, *event_shape)``. ``batch_shape`` is ``()``, or ``(rows,)`` where
    ``context`` has more rows than one; a context of one row is for all. log p in nats. A pytree, as all of distrax.
    What a flow has no closed form of (``mean``, ``entropy``, ``cdf``) raises distrax's NotImplementedError.

    Args: ``density``, of events that are one array. ``context``: its rows. Errors: TypeError for what is no density or
    has events of several arrays, ValueError for a context without rows.

    The other way nothing is needed: ``Flow(bijector, base)`` takes a distribution of distrax as its base.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Chain, Flow
    >>> flow = Flow(Chain(()))
    >>> density = flow.at(*flow.init(jax.random.key(0), jnp.zeros((1, 2))))
    >>> x, log_prob = FlowDistribution(density).sample_and_log_prob(seed=jax.random.key(1), sample_shape=(4, 3))
    >>> x.shape, log_prob.shape
    ((4, 3, 2), (4, 3))
    """

    def __init__(self, density: Density, context: PyTree = None) -> None:
        self._batched = batched("FlowDistribution", density, context)

    @property
    def density(self) -> Density:
        return self._batched.density

    @property
    def event_shape(self) -> Shape:
        return self._batched.event_shape

    @property
    def batch_shape(self) -> Shape:
        return self._batched.batch_shape

    def log_prob(self, value: jax.Array) -> jax.Array:
        return self._batched.log_prob(value)

    def _sample_n(self, key: jax.Array, n: int) -> jax.Array:
        return self._batched.sample_and_log_prob(key, (n,))[0]

    def _sample_n_and_log_prob(self, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
        return self._batched.sample_and_log_prob(key, (n,))


class FlowBijector(distrax.Bijector):
    """A bijector with its numbers as a ``distrax.Bijector``, its directions kept: ``forward`` is ours.

    A flow's goes from data to latents. ``distrax.Transformed`` wants the way from latents to data, and there it is
    ``distrax.Inverse(FlowBijector(...))``; in ``distrax.Chain`` the last is applied first.

    Shapes: any axes before those of the event; ``event_ndims_in`` and ``event_ndims_out`` are the axes of an event on
    either side; log-dets have the axes before it. The last of these go with the rows of a context of more than one.

    Args: ``bijector``, ``params``, ``state``: as its methods take them. ``event_shape``: of x, without the batch.
    ``context``: rows, or one for all. Errors: TypeError for what is no bijector or maps several arrays, ValueError for
    numbers of another event, as of every call, and for events of another shape.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Squeeze
    >>> params, state = Squeeze().init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))
    >>> squeeze = FlowBijector(Squeeze(), params, state, (4, 4, 1))
    >>> y, log_det = squeeze.forward_and_log_det(jnp.zeros((7, 5, 4, 4, 1)))
    >>> y.shape, log_det.shape, squeeze.inverse(y).shape
    ((7, 5, 2, 2, 4), (7, 5), (7, 5, 4, 4, 1))
    """

    def __init__(
        self, bijector: Bijector, params: PyTree, state: PyTree, event_shape: Shape, context: PyTree = None
    ) -> None:
        self._batched: BatchedBijector = batched_bijector(bijector, params, state, event_shape, context)
        super().__init__(len(self._batched.event_shape), len(self._batched.latents_shape))

    def forward_and_log_det(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self._batched.forward(x)

    def inverse_and_log_det(self, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self._batched.inverse(y)


@dataclass(frozen=True, eq=False)
class ForeignBijector(Foreign):
    """A bijector of distrax as a bijector here, its directions kept.

        ForeignBijector(distrax.Tanh())                 its numbers are constants
        ForeignBijector(make, start)                    make(params) is a distrax bijector, start(key) its first params

    With two functions of a module its params are learned, and ``save`` can keep it (``known=(make, start)``). distrax's
    arrays are in the object, some of them computed from others, so the object itself has nothing to learn.

    Shapes: x ``(batch, *event)``; axes of the event that distrax takes for further batch axes are independent, and
    their log-dets add up. Errors: TypeError for what is no bijector of distrax, ValueError for events of too few axes,
    and for a bijector whose arrays have a batch axis of their own.

    >>> import distrax, jax, jax.numpy as jnp
    >>> def make(params):
    ...     return distrax.ScalarAffine(shift=params["shift"], log_scale=params["log_scale"])
    >>> def start(key):
    ...     return {"shift": jnp.zeros(2), "log_scale": jnp.ones(2)}
    >>> bijector = ForeignBijector(make, start)
    >>> params, state = bijector.init(jax.random.key(0), jnp.zeros((1, 2)))
    >>> bijector.forward(params, state, jnp.zeros((3, 2)))[1].tolist()
    [2.0, 2.0, 2.0]
    """

    LIBRARY = "distrax"
    KIND = distrax.Bijector

    def axes(self, bijector: Any, *, back: bool) -> int:
        return bijector.event_ndims_out if back else bijector.event_ndims_in

    def mapped(self, bijector: Any, x: jax.Array, *, back: bool) -> tuple[jax.Array, jax.Array]:
        return bijector.inverse_and_log_det(x) if back else bijector.forward_and_log_det(x)

"""Densities and bijectors as TFP on JAX has them, and TFP's bijectors as bijectors here."""

# The library is not there where types are checked, and a checker takes this file for it.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from nvpjax.bijector import Bijector, PyTree
from nvpjax.ecosystem.foreign import Foreign
from nvpjax.ecosystem.leading_axes import BatchedBijector, Shape, batched, batched_bijector
from nvpjax.flow import Density

try:
    from tensorflow_probability.substrates import jax as tfp
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "nvpjax.ecosystem.tfp: expected tensorflow_probability for JAX: pip install tfp-nightly."
    ) from error


class FlowDistribution(tfp.distributions.Distribution):
    """A density as a distribution of ``tensorflow_probability.substrates.jax``.

    Shapes: draws ``(*sample_shape, *batch_shape, *event_shape)``. ``batch_shape`` is ``()``, or ``(rows,)`` where
    ``context`` has more rows than one; a context of one row is for all. log p in nats. As all of TFP's it is no pytree:
    give jit the density, and make the distribution inside. What a flow has no closed form of (``mean``, ``entropy``,
    ``cdf``) raises TFP's NotImplementedError.

    Args: ``density``, of events that are one array. ``context``: its rows. Errors: TypeError for what is no density or
    has events of several arrays, ValueError for a context without rows.

    The other way nothing is needed: ``Flow(bijector, base)`` takes a distribution of TFP as its base.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Chain, Flow
    >>> flow = Flow(Chain(()))
    >>> density = flow.at(*flow.init(jax.random.key(0), jnp.zeros((1, 2))))
    >>> distribution = FlowDistribution(density)
    >>> x = distribution.sample((4, 3), seed=jax.random.key(1))
    >>> x.shape, distribution.log_prob(x).shape
    ((4, 3, 2), (4, 3))
    """

    def __init__(self, density: Density, context: PyTree = None, name: str = "FlowDistribution") -> None:
        parameters = {"density": density, "context": context, "name": name}
        self._batched = batched("FlowDistribution", density, context)
        follows = self._batched.is_reparameterized
        kinds = tfp.distributions
        super().__init__(
            dtype=density.event_dtype,
            reparameterization_type=kinds.FULLY_REPARAMETERIZED if follows else kinds.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    @property
    def density(self) -> Density:
        return self._batched.density

    def _event_shape(self) -> Any:
        return tfp.tf2jax.TensorShape(self._batched.event_shape)

    def _event_shape_tensor(self) -> jax.Array:
        return jnp.array(self._batched.event_shape, jnp.int32)

    def _batch_shape(self) -> Any:
        return tfp.tf2jax.TensorShape(self._batched.batch_shape)

    def _batch_shape_tensor(self) -> jax.Array:
        return jnp.array(self._batched.batch_shape, jnp.int32)

    def _log_prob(self, value: jax.Array) -> jax.Array:
        return self._batched.log_prob(value)

    def _sample_n(self, n: int, seed: jax.Array) -> jax.Array:
        return self._batched.sample_and_log_prob(seed, (int(n),))[0]

    def _sample_and_log_prob(self, sample_shape: Any, seed: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self._batched.sample_and_log_prob(seed, tuple(int(size) for size in sample_shape))


class FlowBijector(tfp.bijectors.Bijector):
    """A bijector with its numbers as a bijector of TFP on JAX, its directions kept: ``forward`` is ours.

    A flow's goes from data to latents. ``tfd.TransformedDistribution`` wants the way from latents to data, and there it
    is ``tfb.Invert(FlowBijector(...))``; in ``tfb.Chain`` the last is applied first.

    Shapes: any axes before those of the event; ``forward_min_event_ndims`` and ``inverse_min_event_ndims`` are the axes
    of an event on either side; log-dets have the axes before it. The last of these go with the rows of a context of
    more than one.

    Args: ``bijector``, ``params``, ``state``: as its methods take them. ``event_shape``: of x, without the batch.
    ``context``: rows, or one for all. Errors: TypeError for what is no bijector or maps several arrays, ValueError for
    numbers of another event, as of every call, and for events of another shape.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Squeeze
    >>> params, state = Squeeze().init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))
    >>> squeeze = FlowBijector(Squeeze(), params, state, (4, 4, 1))
    >>> x = jnp.zeros((7, 5, 4, 4, 1))
    >>> squeeze.forward(x).shape, squeeze.forward_log_det_jacobian(x).shape
    ((7, 5, 2, 2, 4), (7, 5))
    """

    def __init__(
        self,
        bijector: Bijector,
        params: PyTree,
        state: PyTree,
        event_shape: Shape,
        context: PyTree = None,
        name: str = "FlowBijector",
    ) -> None:
        self._batched: BatchedBijector = batched_bijector(bijector, params, state, event_shape, context)
        super().__init__(
            forward_min_event_ndims=len(self._batched.event_shape),
            inverse_min_event_ndims=len(self._batched.latents_shape),
            # TFP's cache tells bijectors apart by these; without them by an id, which another may have later.
            parameters={"batched": self._batched, "name": name},
            name=name,
        )

    def _forward(self, x: jax.Array) -> jax.Array:
        return self._batched.forward(x)[0]

    def _inverse(self, y: jax.Array) -> jax.Array:
        return self._batched.inverse(y)[0]

    def _forward_log_det_jacobian(self, x: jax.Array) -> jax.Array:
        return self._batched.forward(x)[1]

    def _inverse_log_det_jacobian(self, y: jax.Array) -> jax.Array:
        return self._batched.inverse(y)[1]

    def _forward_event_shape(self, x_shape: Any) -> Any:
        return self._exchanged(x_shape, self._batched.event_shape, self._batched.latents_shape)

    def _inverse_event_shape(self, y_shape: Any) -> Any:
        return self._exchanged(y_shape, self._batched.latents_shape, self._batched.event_shape)

    def _forward_event_shape_tensor(self, x_shape: jax.Array) -> jax.Array:
        return jnp.array([*x_shape[: len(x_shape) - len(self._batched.event_shape)], *self._batched.latents_shape])

    def _inverse_event_shape_tensor(self, y_shape: jax.Array) -> jax.Array:
        return jnp.array([*y_shape[: len(y_shape) - len(self._batched.latents_shape)], *self._batched.event_shape])

    def _exchanged(self, shape, before, after):
        return type(shape)([*list(shape)[: len(shape) - len(before)], *after])


@dataclass(frozen=True, eq=False)
class ForeignBijector(Foreign):
    """A bijector of TFP on JAX as a bijector here, its directions kept and its cache of earlier results passed by.

        ForeignBijector(tfb.Tanh())                 its numbers are constants
        ForeignBijector(make, start)                make(params) is a bijector of TFP, start(key) its first params

    With two functions of a module its params are learned, and ``save`` can keep it (``known=(make, start)``).

    Shapes: x ``(batch, *event)``; axes of the event that TFP takes for further batch axes are independent, and their
    log-dets add up. x has to have the dtype of TFP's arrays: TFP does not mix them. Errors: TypeError for what is no
    bijector of TFP, ValueError for events of too few axes, and for a bijector whose arrays have a batch axis of their
    own.

    >>> import jax, jax.numpy as jnp
    >>> from tensorflow_probability.substrates import jax as tfp
    >>> bijector = ForeignBijector(tfp.bijectors.Exp())
    >>> bijector.forward((), (), jnp.ones((3, 2)))[1].tolist()
    [2.0, 2.0, 2.0]
    """

    LIBRARY = "TFP"
    KIND = tfp.bijectors.Bijector

    def axes(self, bijector: Any, *, back: bool) -> int:
        return bijector.inverse_min_event_ndims if back else bijector.forward_min_event_ndims

    def mapped(self, bijector: Any, x: jax.Array, *, back: bool) -> tuple[jax.Array, jax.Array]:
        axes = self.axes(bijector, back=back)
        if back:
            return bijector.inverse(x), bijector.inverse_log_det_jacobian(x, event_ndims=axes)
        return bijector.forward(x), bijector.forward_log_det_jacobian(x, event_ndims=axes)

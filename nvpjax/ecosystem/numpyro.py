"""A density as a numpyro distribution, and a flow as a guide for its variational inference."""

# The library is not there where types are checked, and a checker takes this file for it.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree
from nvpjax.distributions import Uniform
from nvpjax.ecosystem.leading_axes import Batched, Shape, batched, by_rows
from nvpjax.flow import Density, Flow
from nvpjax.models import Model
from nvpjax.places import is_measured

try:
    import numpyro
    from numpyro import distributions, handlers
    from numpyro.distributions import constraints
    from numpyro.distributions.transforms import Transform
    from numpyro.infer.autoguide import AutoContinuous
    from numpyro.infer.initialization import init_to_uniform
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("nvpjax.ecosystem.numpyro: expected numpyro: pip install numpyro.") from error


class FlowDistribution(distributions.Distribution):
    """A density as a numpyro distribution: a prior that was learned, or a likelihood.

        numpyro.sample("x", FlowDistribution(density))

    Shapes: draws ``(*sample_shape, *batch_shape, *event_shape)``. ``batch_shape`` is ``()``, or ``(rows,)`` where
    ``context`` has more rows than one, which is what a plate of so many expects; a context of one row is for all.
    log p in nats, ``(*sample_shape, *batch_shape)``. numpyro takes the log p of what it draws from the draw itself, so
    an ``IAF``, whose ``log_prob`` goes entry by entry, costs no more in a guide than it should.

    Args: ``density``, of events that are one array. ``context``: its rows. ``support``: numpyro's constraint on an
    event, all real numbers where it is left out; of a flow that ends in ``Logit`` it is
    ``constraints.independent(constraints.unit_interval, 1)``. ``NUTS`` and guides walk on its unconstrained side.

    Errors: TypeError for what is no density or has events of several arrays, ValueError for a context without rows or a
    support of events of another rank.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Chain, Flow
    >>> flow = Flow(Chain(()))
    >>> density = flow.at(*flow.init(jax.random.key(0), jnp.zeros((1, 2))))
    >>> prior = FlowDistribution(density)
    >>> prior.batch_shape, prior.event_shape, prior.sample(jax.random.key(1), (3,)).shape
    ((), (2,), (3, 2))
    >>> prior.log_prob(jnp.zeros((5, 4, 2))).shape
    (5, 4)
    """

    arg_constraints = {}
    pytree_data_fields = ("_batched", "_support")

    def __init__(
        self,
        density: Density,
        context: PyTree = None,
        *,
        support: constraints.Constraint | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self._batched = batched("FlowDistribution", density, context)
        rank = len(density.event_shape)
        self._support = constraints.independent(constraints.real, rank) if support is None else support
        if self._support.event_dim != rank:
            raise ValueError(
                f"FlowDistribution: expected a support of events of {rank} axes, got {support} of "
                f"{self._support.event_dim}: constraints.independent(…, {rank})."
            )
        super().__init__(self._batched.batch_shape, self._batched.event_shape, validate_args=validate_args)

    @property
    def density(self) -> Density:
        return self._batched.density

    @property
    def has_rsample(self) -> bool:
        return self._batched.is_reparameterized

    def sample(self, key: jax.Array, sample_shape: Shape = ()) -> jax.Array:
        return self.sample_with_intermediates(key, sample_shape)[0]

    def sample_with_intermediates(self, key: jax.Array, sample_shape: Shape = ()) -> tuple[jax.Array, list[jax.Array]]:
        """Draw x and give it with log p(x), which ``log_prob`` takes back."""
        x, log_prob = self._batched.sample_and_log_prob(key, tuple(sample_shape))
        return x, [log_prob]

    def log_prob(self, value: jax.Array, intermediates: list[jax.Array] | None = None) -> jax.Array:
        if intermediates:
            return intermediates[0]
        if self._validate_args:
            self._validate_sample(value)  # warns; what the flow says of such an x is not covered up
        return self._batched.log_prob(value)


class FlowTransform(Transform):
    """A density's way from latents to data as a numpyro transform: x = f⁻¹(z).

        log_abs_det_jacobian(z, x) = log|det ∂f⁻¹(z)/∂z|

    Shapes: any axes before those of the event, on both sides. Errors: as of ``FlowDistribution``.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Flow, Log
    >>> flow = Flow(Log())
    >>> density = flow.at(*flow.init(jax.random.key(0), jnp.ones((1, 2))))
    >>> to_data = FlowTransform(density)
    >>> to_data(jnp.zeros(2)).tolist(), to_data.log_abs_det_jacobian(jnp.ones(2), jnp.exp(jnp.ones(2))).tolist()
    ([1.0, 1.0], 2.0)
    """

    def __init__(self, density: Density) -> None:
        self._batched: Batched = batched("FlowTransform", density, None)
        if not hasattr(density.flow.latents_like(density.params, density.state, 1), "shape"):
            raise TypeError("FlowTransform: expected a density whose latents are one array, got several (MultiScale).")

    @property
    def domain(self) -> constraints.Constraint:
        return constraints.independent(constraints.real, len(self._latents_shape))

    @property
    def codomain(self) -> constraints.Constraint:
        return constraints.independent(constraints.real, len(self._batched.event_shape))

    @property
    def _latents_shape(self):
        density = self._batched.density
        return density.flow.latents_like(density.params, density.state, 1).shape[1:]

    def __call__(self, z: jax.Array) -> jax.Array:
        return self.call_with_intermediates(z)[0]

    def call_with_intermediates(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Give x with its log-det, which ``log_abs_det_jacobian`` takes back."""
        return by_rows(self._inverse_of_rows, z, self._latents_shape)

    def _inverse_of_rows(self, z, context):
        density = self._batched.density
        return density.flow.bijector.inverse(density.params["bijector"], density.state["bijector"], z)

    def _inverse(self, x: jax.Array) -> jax.Array:
        return by_rows(self._batched.density.latents, x, self._batched.event_shape)

    def log_abs_det_jacobian(self, z: jax.Array, x: jax.Array, intermediates: jax.Array | None = None) -> jax.Array:
        return self.call_with_intermediates(z)[1] if intermediates is None else intermediates

    def forward_shape(self, shape: Shape) -> Shape:
        return (*shape[: len(shape) - len(self._latents_shape)], *self._batched.event_shape)

    def inverse_shape(self, shape: Shape) -> Shape:
        return (*shape[: len(shape) - len(self._batched.event_shape)], *self._latents_shape)

    def tree_flatten(self) -> tuple[tuple[Batched], tuple[tuple[str, ...], dict[str, Any]]]:
        return (self._batched,), (("_batched",), {})


class FlowGuide(AutoContinuous):
    """A guide for numpyro's ``SVI``: a flow over all latent variables of a model, on their unconstrained side.

        guide = FlowGuide(model, IAF(layers=2, hidden=(32,)))
        result = SVI(model, guide, optax.adam(1e-3), Trace_ELBO()).run(key, steps, *args)
        draws = guide.sample_posterior(key, result.params, sample_shape=(1000,))

    One of numpyro's automatic guides, as ``AutoNormal`` is: ``Predictive`` and ``NeuTraReparam`` take it. Each draw
    needs the flow's inverse and its gradient, so use one whose inverse is the fast direction: ``IAF``, or an
    ``Inverse`` of what is fast forward.

    Args: ``model``. ``flow``: a ``Model`` such as ``IAF()``, which is built for as many entries as there are, or a
    ``Flow`` over vectors of so many. ``prefix``, ``init_loc_fn``: as numpyro's own. ``key``: of what the flow draws
    once and keeps in its state (a random permutation); its parameters start by the key that ``SVI`` is given.

    Params: ``"{prefix}_flow"``, those of the flow. ``median`` and ``quantiles`` have no closed form here: take them of
    draws.

    Errors: TypeError for a flow that is neither; ValueError for one that measures (``BatchNorm``), since a guide
    only samples; from numpyro, for a model without latent variables or with discrete ones.

    Reference: Rezende, Mohamed, *Variational inference with normalizing flows*, 2015, eq. 15.

    >>> import jax, numpyro, optax
    >>> import numpyro.distributions as dist
    >>> from numpyro.infer import SVI, Trace_ELBO
    >>> from nvpjax import IAF
    >>> def model():
    ...     numpyro.sample("x", dist.Normal(0, 1))
    ...     numpyro.sample("scale", dist.LogNormal(0, 1))
    >>> guide = FlowGuide(model, IAF(layers=1, hidden=(4,)))
    >>> result = SVI(model, guide, optax.adam(1e-2), Trace_ELBO()).run(jax.random.key(0), 3, progress_bar=False)
    >>> draws = guide.sample_posterior(jax.random.key(1), result.params, sample_shape=(5,))
    >>> {name: draw.shape for name, draw in draws.items()}, bool((draws["scale"] > 0).all())
    ({'scale': (5,), 'x': (5,)}, True)
    """

    def __init__(
        self,
        model: Callable[..., Any],
        flow: Flow | Model,
        *,
        prefix: str = "auto",
        init_loc_fn: Callable[..., Any] = init_to_uniform,
        key: jax.Array | None = None,
    ) -> None:
        if not isinstance(flow, Flow | Model):
            raise TypeError(f"FlowGuide: expected a Flow, or a Model such as IAF(), got {flow!r}.")
        self._flow = flow
        self._key = jax.random.key(0) if key is None else key
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn)

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)
        self._built = self._flow.build((self.latent_dim,)) if isinstance(self._flow, Model) else self._flow
        with jax.ensure_compile_time_eval():  # a state that svi.init's jit had traced would be of no use outside of it
            _, self._state = self._init(self._key)
        if is_measured(self._state):
            raise ValueError(
                "FlowGuide: expected a flow that measures nothing, since sampling measures no batch: leave BatchNorm "
                "out, or use ActNorm."
            )

    def _get_posterior(self) -> FlowDistribution:
        params = numpyro.param(f"{self.prefix}_flow", lambda key: self._init(key)[0])
        return FlowDistribution(self._built.at(params, self._state))

    def _init(self, key):
        return jax.jit(self._built.init)(key, jnp.zeros((1, self.latent_dim)))

    def density(self, params: dict[str, PyTree]) -> Density:
        """Give what was learned as a density of the unconstrained latent variables, raveled in numpyro's order.

        ``params``: those of ``SVI``. It can be saved, sampled, and moved to by ``among_latents``.
        """
        return self.get_posterior(params).density

    def get_posterior(self, params: dict[str, PyTree]) -> FlowDistribution:
        return handlers.substitute(self._get_posterior, params)()

    def get_transform(self, params: dict[str, PyTree]) -> FlowTransform:
        """Give the way from the flow's latents to the unconstrained variables: what ``NeuTraReparam`` asks for."""
        return FlowTransform(self.density(params))

    def get_base_dist(self) -> distributions.Distribution:
        """Give a standard normal, where ``NeuTraReparam`` starts. Errors: ValueError for latents that are bounded."""
        if isinstance(self._built.base, Uniform):
            raise ValueError("FlowGuide: expected a base on all real numbers, over which NUTS can walk, got Uniform.")
        return distributions.Normal(jnp.zeros(self.latent_dim), 1).to_event(1)

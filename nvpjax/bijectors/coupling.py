"""Coupling: one part of the event passes unchanged and tells how the other part is to change."""

from __future__ import annotations

from dataclasses import dataclass

from nvpjax.bijector import Bijector, Conditioner, expect_floating, sum_over_event
from nvpjax.bijectors.masks import Mask
from nvpjax.bijectors.transforms import Transform


@dataclass(frozen=True)
class Coupling(Bijector):
    """A coupling layer: invertible whatever its network computes, because the network's input passes unchanged.

        (passed, changed) = mask.split(x)
        θ = conditioner(passed)
        forward:  y = mask.merge(passed, T_θ(changed)),     log_det = Σ log|∂T_θ/∂changed|
        inverse:  x = mask.merge(passed, T_θ⁻¹(changed))

    Real NVP is ``Coupling(mask, Affine(), network)``, NICE is ``Coupling(mask, Additive(), network)``.

    Shapes: x ``(batch, ..., channels)``. The conditioner sees ``mask.shown(passed)`` and must give
    ``transform.parameters_per_element`` numbers for each changed element, on the last axis.

    Errors: ValueError in ``init`` where the conditioner's output has another shape.

    Reference: Real NVP, sec. 3.2-3.4, eq. 4-9.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Affine, ChannelMask, Coupling
    >>> from nvpjax.nets import MLP, FlaxConditioner
    >>> coupling = Coupling(ChannelMask(), Affine(), FlaxConditioner(MLP(hidden=(16,), outputs=4)))
    >>> x = jnp.ones((3, 4))
    >>> params, state = coupling.init(jax.random.key(0), x)
    >>> y, log_det, state = coupling.forward(params, state, x)
    >>> bool(jnp.all(y[:, :2] == x[:, :2])), log_det.shape
    (True, (3,))
    """

    mask: Mask
    transform: Transform
    conditioner: Conditioner

    def init(self, key, x, context=None):
        expect_floating("Coupling", x)
        passed, changed = self.mask.split(x)
        shown = self.mask.shown(passed)
        params, state = self.conditioner.init(key, shown, context)
        theta, _ = self.conditioner.apply(params, state, shown, context)
        expected = (*changed.shape[:-1], self.transform.parameters_per_element * changed.shape[-1])
        if theta.shape != expected:
            raise ValueError(
                f"Coupling: expected the conditioner to give shape {expected} for x {x.shape}, got {theta.shape}: "
                f"{type(self.transform).__name__} takes {self.transform.parameters_per_element} numbers for each of "
                f"{changed.shape[-1]} channels. Set the network's outputs to {expected[-1]}."
            )
        return {"transform": self.transform.init(key), "conditioner": params}, state

    def theta(self, params, state, passed, context, *, train):
        """What the conditioner says to the part that passes: ``(θ, state)``, from the conditioner's own params."""
        theta, state = self.conditioner.apply(params, state, self.mask.shown(passed), context, train=train)
        return theta.astype(passed.dtype), state

    def given_theta(self, params, theta, x):
        """Forward with θ at hand: ``(y, log_det)``, from the transform's own params."""
        passed, changed = self.mask.split(x)
        y, log_derivative = self.transform.forward(params, theta, changed)
        return self.mask.merge(passed, y), sum_over_event(self.mask.only_changed(log_derivative))

    def forward(self, params, state, x, context=None, *, train=False):
        passed, _ = self.mask.split(x)
        theta, state = self.theta(params["conditioner"], state, passed, context, train=train)
        return *self.given_theta(params["transform"], theta, x), state

    def inverse(self, params, state, y, context=None, *, train=False):
        passed, changed = self.mask.split(y)
        theta, _ = self.theta(params["conditioner"], state, passed, context, train=train)
        x, log_derivative = self.transform.inverse(params["transform"], theta, changed)
        return self.mask.merge(passed, x), sum_over_event(self.mask.only_changed(log_derivative))

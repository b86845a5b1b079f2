"""Coupling: one part of the event passes unchanged and tells how the other part is to change."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from nvpjax.bijector import Conditioner, PyTree, expect_conditioner, expect_part, sum_over_event
from nvpjax.bijectors.masked import Masked
from nvpjax.bijectors.masks import Mask
from nvpjax.bijectors.transforms import Transform


@dataclass(frozen=True)
class Coupling(Masked):
    """A coupling layer: invertible whatever its network computes, because the network's input passes unchanged.

        (passed, changed) = mask.split(x)
        θ = conditioner(passed)
        forward:  y = mask.merge(passed, T_θ(changed)),     log_det = Σ log|∂T_θ/∂changed|
        inverse:  x = mask.merge(passed, T_θ⁻¹(changed))

    Real NVP is ``Coupling(mask, Affine(), network)``, NICE is ``Coupling(mask, Additive(), network)``.

    Shapes: x ``(batch, ..., channels)``. The conditioner sees ``mask.shown(passed)`` and is told to give
    ``transform.parameters_per_element`` numbers for each changed element, on the last axis.

    Errors: TypeError for an object that is no conditioner, ValueError in ``init`` where the conditioner's output has
    another shape.

    Reference: Real NVP, sec. 3.2-3.4, eq. 4-9.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Affine, ChannelMask, Coupling
    >>> from nvpjax.nets import MLP
    >>> coupling = Coupling(ChannelMask(), Affine(), MLP(hidden=(16,)))
    >>> x = jnp.ones((3, 4))
    >>> params, state = coupling.init(jax.random.key(0), x)
    >>> y, log_det, state = coupling.forward(params, state, x)
    >>> bool(jnp.all(y[:, :2] == x[:, :2])), log_det.shape
    (True, (3,))
    """

    mask: Mask
    transform: Transform
    conditioner: Conditioner

    def __post_init__(self):
        expect_part("Coupling", self.mask, "mask", "ChannelMask()", "only_changed")
        expect_part("Coupling", self.transform, "transform", "Affine()", "parameters_per_element")
        expect_conditioner("Coupling", self.conditioner)

    def init_with_mask(self, mask: Mask, key: jax.Array, x: jax.Array, context: PyTree) -> tuple[PyTree, PyTree]:
        passed, changed = mask.split(x)
        shown = mask.shown(passed)
        outputs = self.outputs(changed)
        conditioner_key, transform_key = jax.random.split(key)
        params, state = self.conditioner.init(conditioner_key, shown, context, outputs=outputs)
        theta, _ = self.conditioner.apply(params, state, shown, context, outputs=outputs)
        expected = (*changed.shape[:-1], outputs)
        if theta.shape != expected:
            raise ValueError(
                f"Coupling: expected the conditioner to give shape {expected} for x {x.shape}, got {theta.shape}: "
                f"{type(self.transform).__name__} takes {self.transform.parameters_per_element} numbers for each of "
                f"{changed.shape[-1]} channels. Let the conditioner give the outputs that it is told, {outputs} here."
            )
        return {"transform": self.transform.init(transform_key), "conditioner": params}, state

    def outputs(self, changed: jax.Array) -> int:
        """How many numbers the conditioner is to give at every position of the part that changes."""
        return self.transform.parameters_per_element * changed.shape[-1]

    def theta(
        self,
        mask: Mask,
        params: PyTree,
        state: PyTree,
        passed: jax.Array,
        context: PyTree,
        *,
        outputs: int,
        train: bool,
    ) -> tuple[jax.Array, PyTree]:
        """What the conditioner says to the part that passes: ``(θ, state)``, from the conditioner's own params."""
        shown = mask.shown(passed)
        theta, state = self.conditioner.apply(params, state, shown, context, outputs=outputs, train=train)
        return theta.astype(passed.dtype), state

    def given_theta(self, mask: Mask, params: PyTree, theta: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Forward with θ at hand: ``(y, log_det)``, from the transform's own params."""
        passed, changed = mask.split(x)
        y, log_derivative = self.transform.forward(params, theta, changed)
        return mask.merge(passed, y), sum_over_event(mask.only_changed(log_derivative))

    def forward_with_mask(
        self, mask: Mask, params: PyTree, state: PyTree, x: jax.Array, context: PyTree, *, train: bool
    ) -> tuple[jax.Array, jax.Array, PyTree]:
        passed, changed = mask.split(x)
        outputs = self.outputs(changed)
        theta, state = self.theta(mask, params["conditioner"], state, passed, context, outputs=outputs, train=train)
        return *self.given_theta(mask, params["transform"], theta, x), state

    def inverse_with_mask(
        self, mask: Mask, params: PyTree, state: PyTree, y: jax.Array, context: PyTree, *, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        passed, changed = mask.split(y)
        outputs = self.outputs(changed)
        theta, _ = self.theta(mask, params["conditioner"], state, passed, context, outputs=outputs, train=train)
        x, log_derivative = self.transform.inverse(params["transform"], theta, changed)
        return mask.merge(passed, x), sum_over_event(mask.only_changed(log_derivative))

"""Autoregressive bijectors: each entry of a vector, or vector of a sequence, is transformed as those before it say."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax

from nvpjax.bijector import Bijector, Conditioner, PyTree, expect_conditioner, expect_part, sum_over_event
from nvpjax.bijectors.inversion import Inversion, StepByStep, Told
from nvpjax.bijectors.transforms import Transform


@dataclass(frozen=True)
class Autoregressive(Bijector):
    """A masked autoregressive layer: forward in one pass, inverse entry by entry.

        θ = conditioner(x),  where θᵢ depends on x₁ … xᵢ₋₁ alone
        forward:  yᵢ = T_θᵢ(xᵢ),  all at once,     log_det = Σᵢ log|∂T_θᵢ/∂xᵢ|
        inverse:  xᵢ = T_θᵢ⁻¹(yᵢ)  for i = 1, 2, …, one after the other:  ``inversion`` says how

    A layer of MAF is ``Autoregressive(Affine(), MADE((64, 64)))``: fast densities, slow samples. A layer of IAF is the
    ``Inverse`` of one: fast samples, slow densities. Put ``Reverse`` or a permutation between layers. One of TarFlow is
    ``Autoregressive(Affine(NoBound()), CausalTransformer())`` on sequences.

    Args: ``inversion``: ``StepByStep()``, ``WholePasses()`` or ``Rounds()``; params are the same.

    Shapes: x ``(batch, D)``, a vector, of which entries are one after the other, or ``(batch, T, D)``, a sequence, of
    which vectors are; other events by ``Reshape``. The conditioner is told to give
    ``(batch, parameters_per_element * D)``, for a sequence ``(batch, T, parameters_per_element * D)``, parameter by
    parameter, and must be autoregressive, as ``nvpjax.nets.MADE`` is, or ``CausalTransformer``; ``nvpjax.testing``
    tells whether it is.

    Errors: TypeError for an object that is no conditioner; ValueError in ``init`` for other shapes, or for a
    conditioner that measures: entry by entry it would measure something else.

    Reference: Papamakarios, Pavlakou, Murray, *Masked autoregressive flow*, 2017, eq. 3-5; Kingma et al., *Inverse
    autoregressive flow*, 2016, eq. 10.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Affine, Autoregressive
    >>> from nvpjax.nets import MADE
    >>> layer = Autoregressive(Affine(), MADE(hidden=(16,)))
    >>> x = jnp.ones((3, 4))
    >>> params, state = layer.init(jax.random.key(0), x)
    >>> y, log_det, _ = layer.forward(params, state, x)
    >>> bool(jnp.allclose(layer.inverse(params, state, y)[0], x, atol=1e-5)), log_det.shape
    (True, (3,))
    """

    EVENT_AXES = 1
    transform: Transform
    conditioner: Conditioner
    inversion: Inversion = StepByStep()

    def __post_init__(self):
        expect_conditioner("Autoregressive", self.conditioner)
        expect_part("Autoregressive", self.inversion, "inversion", "StepByStep()", "undo")

    def init(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> tuple[PyTree, PyTree]:
        if x.ndim not in (2, 3):
            raise ValueError(
                f"Autoregressive: expected shape (batch, entries) or (batch, positions, entries), got {x.shape}. Put "
                "Reshape before it."
            )
        outputs = self._outputs(x)
        conditioner_key, transform_key = jax.random.split(key)
        params, state = self.conditioner.init(conditioner_key, x, context, outputs=outputs)
        if jax.tree.leaves(state):
            raise ValueError(f"Autoregressive: expected a conditioner without state, got {self.conditioner!r}.")
        theta, _ = self.conditioner.apply(params, state, x, context, outputs=outputs)
        expected = (*x.shape[:-1], outputs)
        if theta.shape != expected:
            raise ValueError(
                f"Autoregressive: expected the conditioner to give {expected} for x {x.shape}, got {theta.shape}: "
                f"{type(self.transform).__name__} takes {self.transform.parameters_per_element} numbers for each entry."
                " Let the conditioner give the outputs that it is told."
            )
        return {"transform": self.transform.init(transform_key), "conditioner": params}, state

    def _outputs(self, x):
        return self.transform.parameters_per_element * x.shape[-1]

    def forward(
        self, params: PyTree, state: PyTree, x: jax.Array, context: PyTree = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array, PyTree]:
        outputs = self._outputs(x)
        theta, _ = self.conditioner.apply(params["conditioner"], state, x, context, outputs=outputs)
        y, log_derivative = self.transform.forward(params["transform"], theta.astype(x.dtype), x)
        return y, sum_over_event(log_derivative), state

    def inverse(
        self, params: PyTree, state: PyTree, y: jax.Array, context: PyTree = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        told = Told(self.conditioner, params["conditioner"], state, context, self._outputs(y))
        return self.inversion.undo(told, partial(self.transform.inverse, params["transform"]), y)

"""Autoregressive flows for vectors: MAF and IAF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nvpjax.bijectors.autoregressive import Autoregressive
from nvpjax.bijectors.coupling import Coupling
from nvpjax.bijectors.masks import NoMask
from nvpjax.bijectors.permutation import Reverse
from nvpjax.bijectors.spline import RationalQuadraticSpline
from nvpjax.bijectors.transforms import Affine, Transform
from nvpjax.chain import Chain, Inverse
from nvpjax.flow import Flow
from nvpjax.models.model import Dtype, Model, Shape, conditioner, expect_vector
from nvpjax.nets import MADE, MLP
from nvpjax.repeat import Repeat
from nvpjax.values import expect_at_least, expect_finite


@dataclass(frozen=True)
class _OfAutoregressiveLayers(Model):
    """What MAF and IAF are told; they differ in the direction."""

    layers: int = 5
    """Autoregressive layers."""
    hidden: tuple[int, ...] = (512, 512)
    """Widths of the inner layers of each network."""
    transform: Literal["affine", "spline"] = "affine"
    """Of each entry: shift and scale, or a rational-quadratic spline."""
    bins: int = 8
    """Of each spline."""
    limit: float = 4.0
    """Splines bend [−limit, limit] and leave the rest as it is."""

    def __post_init__(self):
        object.__setattr__(self, "hidden", tuple(self.hidden))
        expect_at_least(self, 1, "layers", "hidden", "bins")
        expect_finite(self)
        _transform(self)

    def _layers(self, event_shape: Shape, network_dtype: Dtype, scan: bool | None) -> Repeat:
        if expect_vector(self, event_shape, least=1) == 1:  # a MADE tells its first a linear map of the context alone
            network = conditioner(MLP(self.hidden), dtype=network_dtype)
            return Repeat(Coupling(NoMask(), _transform(self), network), self.layers, scan)
        network = conditioner(MADE(self.hidden), dtype=network_dtype)
        return Repeat(Chain((Autoregressive(_transform(self), network), Reverse())), self.layers, scan)


@dataclass(frozen=True)
class MAF(_OfAutoregressiveLayers):
    """Masked autoregressive flow: densities in one pass, samples entry by entry.

        (autoregressive layer → reverse) x layers

    Shapes: events ``(entries,)``; latents the same. A single entry is transformed as a network says of the context
    alone: p(y | context). Errors: ValueError for sizes below 1, an unknown transform, events that are no vectors.

    Reference: Papamakarios, Pavlakou, Murray, *Masked autoregressive flow*, 2017, sec. 3. (There with batch
    normalisation between layers: put ``BatchNorm()`` into a chain of your own for it.)

    >>> import jax, jax.numpy as jnp
    >>> flow = MAF(layers=2, hidden=(16,), transform="spline", bins=4).build((3,))
    >>> params, state = flow.init(jax.random.key(0), jnp.zeros((2, 3)))
    >>> flow.log_prob(params, state, jnp.zeros((2, 3)))[0].shape
    (2,)
    """

    def build(
        self, event_shape: Shape, *, axis_name: str | None = None, network_dtype: Dtype = None, scan: bool | None = None
    ) -> Flow:
        return Flow(self._layers(event_shape, network_dtype, scan))


@dataclass(frozen=True)
class IAF(_OfAutoregressiveLayers):
    """Inverse autoregressive flow: samples with their densities in one pass, densities of given data entry by entry.

        the inverse of (autoregressive layer → reverse) x layers

    Shapes and errors: as of ``MAF``. For variational inference: ``flow.sample_and_log_prob`` is the fast direction.

    Reference: Kingma et al., *Improved variational inference with inverse autoregressive flow*, 2016, sec. 3.

    >>> import jax, jax.numpy as jnp
    >>> flow = IAF(layers=2, hidden=(16,)).build((3,))
    >>> params, state = flow.init(jax.random.key(0), jnp.zeros((2, 3)))
    >>> x, log_prob = flow.sample_and_log_prob(jax.random.key(1), params, state, 5)
    >>> x.shape, log_prob.shape
    ((5, 3), (5,))
    """

    def build(
        self, event_shape: Shape, *, axis_name: str | None = None, network_dtype: Dtype = None, scan: bool | None = None
    ) -> Flow:
        return Flow(Inverse(self._layers(event_shape, network_dtype, scan)))


def _transform(model: _OfAutoregressiveLayers) -> Transform:
    match model.transform:
        case "affine":
            return Affine()
        case "spline":
            return RationalQuadraticSpline(model.bins, model.limit)
    raise ValueError(
        f"{type(model).__name__}: expected transform to be 'affine' or 'spline', got {model.transform!r}. For another "
        "one write Repeat(Chain((Autoregressive(transform, MADE()), Reverse())), layers)."
    )

"""Real NVP for vectors: the affine couplings and batch normalisation of the paper, with dense networks."""

from __future__ import annotations

from dataclasses import dataclass

from nvpjax.bijectors.bounds import TanhBound
from nvpjax.bijectors.coupling import Coupling
from nvpjax.bijectors.masks import ChannelMask
from nvpjax.bijectors.normalize import BatchNorm
from nvpjax.bijectors.transforms import Affine
from nvpjax.chain import Chain
from nvpjax.distributions import StandardNormal
from nvpjax.flow import Flow
from nvpjax.models.model import Dtype, Model, Shape, conditioner, expect_vector, in_turns
from nvpjax.nets import MLP
from nvpjax.values import expect_at_least


@dataclass(frozen=True)
class RealNVPVectors(Model):
    """Real NVP for vectors.

        layers times:  affine coupling → batch normalisation of what it changed,  the halves in turns

    Shapes: events ``(entries,)``, at least 2 entries; latents the same. Errors: ValueError for sizes below 1, or events
    that are no vectors.

    Reference: Real NVP, sec. 3.2 and 3.7, fig. 1 (a flow of the plane).

    >>> import jax, jax.numpy as jnp
    >>> flow = RealNVPVectors(layers=2, hidden=(8,)).build((2,))
    >>> params, state = flow.init(jax.random.key(0), jnp.zeros((4, 2)))
    >>> flow.sample(jax.random.key(1), params, state, 5).shape
    (5, 2)
    """

    layers: int = 8
    """Couplings."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the inner layers of each network."""

    def __post_init__(self):
        object.__setattr__(self, "hidden", tuple(self.hidden))
        expect_at_least(self, 1, "layers", "hidden")

    def build(
        self, event_shape: Shape, *, axis_name: str | None = None, network_dtype: Dtype = None, scan: bool | None = None
    ) -> Flow:
        entries = expect_vector(self, event_shape)
        network = conditioner(MLP(self.hidden), dtype=network_dtype)

        def layer(mask: ChannelMask) -> Chain:
            coupling = Coupling(mask, Affine(TanhBound(initial_scale=1.0)), network)
            return Chain((coupling, BatchNorm(mask, axis_name=axis_name)))

        return Flow(in_turns(layer, ChannelMask(passes="first"), self.layers, entries, scan), StandardNormal())

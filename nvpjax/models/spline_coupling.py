"""Neural spline flow with couplings, for vectors."""

from __future__ import annotations

from dataclasses import dataclass

from nvpjax.bijectors.coupling import Coupling
from nvpjax.bijectors.linear import LULinear
from nvpjax.bijectors.masks import ChannelMask, NoMask
from nvpjax.bijectors.spline import RationalQuadraticSpline
from nvpjax.chain import Chain
from nvpjax.flow import Flow
from nvpjax.models.model import Dtype, Model, Shape, conditioner, expect_vector
from nvpjax.nets import MLP
from nvpjax.repeat import Repeat
from nvpjax.values import expect_at_least


@dataclass(frozen=True)
class SplineCoupling(Model):
    """A flow of rational-quadratic spline couplings with linear maps between them.

        (LU linear → spline coupling) x layers

    The splines bend [−limit, limit] and leave the rest as it is, so bring data to about unit scale first. Shapes:
    events ``(entries,)``; latents the same. Of a single entry nothing passes, and the context alone says how it
    changes: p(y | context). Errors: ValueError for sizes below 1, or events that are no vectors.

    Reference: Durkan, Bekasov, Murray, Papamakarios, *Neural Spline Flows*, 2019, sec. 3 and 4.

    >>> import jax, jax.numpy as jnp
    >>> flow = SplineCoupling(layers=2, hidden=(16,)).build((4,))
    >>> params, state = flow.init(jax.random.key(0), jnp.zeros((2, 4)))
    >>> flow.log_prob(params, state, jnp.zeros((2, 4)))[0].shape
    (2,)
    """

    layers: int = 10
    """Couplings."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the inner layers of each network."""
    bins: int = 8
    """Of each spline."""
    limit: float = 4.0
    """Half the width of what the splines bend."""

    def __post_init__(self):
        object.__setattr__(self, "hidden", tuple(self.hidden))
        expect_at_least(self, 1, "layers", "hidden")
        RationalQuadraticSpline(self.bins, self.limit)  # refuses what does not fit

    def build(
        self, event_shape: Shape, *, axis_name: str | None = None, network_dtype: Dtype = None, scan: bool | None = None
    ) -> Flow:
        entries = expect_vector(self, event_shape, least=1)
        network = conditioner(MLP(self.hidden), dtype=network_dtype)
        mask = ChannelMask(passes="first") if entries > 1 else NoMask()
        coupling = Coupling(mask, RationalQuadraticSpline(self.bins, self.limit), network)
        return Flow(Repeat(Chain((LULinear(), coupling)), self.layers, scan))

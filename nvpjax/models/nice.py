"""NICE for vectors and images."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nvpjax.bijectors.coupling import Coupling
from nvpjax.bijectors.elementwise import FixedAffine, Scale
from nvpjax.bijectors.masks import AlternatingMask
from nvpjax.bijectors.transforms import Additive
from nvpjax.chain import Chain
from nvpjax.flow import Flow
from nvpjax.models.model import Dtype, Model, Shape, conditioner, expect_vector, in_turns
from nvpjax.nets import MLP
from nvpjax.parts import Reshape
from nvpjax.values import expect_at_least

UNIT_SCALE = FixedAffine(2 * math.sqrt(3), -math.sqrt(3))
"""From [0, 1], where pixels are, to mean 0 and variance 1 of what is evenly spread there.

Additive couplings keep volume, and the last scale alone would take thousands of steps to get there.
"""


@dataclass(frozen=True)
class NICE(Model):
    """NICE: additive couplings on every other entry in turn, then one learned scale an entry.

        (additive coupling, even entries pass → additive coupling, odd entries pass) ... → scale

    Shapes: events of any rank, at least 2 entries, odd numbers included; images, with values in [0, 1], are brought to
    unit scale and become vectors first. Latents ``(batch, entries)``. Errors: ValueError for sizes below 1, or
    events of one entry.

    Reference: Dinh, Krueger, Bengio, *NICE*, 2014, sec. 3 and 5.1. (There the base is a logistic or a
    normal; here it is a normal.)

    >>> import jax, jax.numpy as jnp
    >>> flow = NICE(hidden=(16,)).build((3, 3, 1))
    >>> params, state = flow.init(jax.random.key(0), jnp.zeros((2, 3, 3, 1)))
    >>> flow.log_prob(params, state, jnp.zeros((2, 3, 3, 1)))[0].shape
    (2,)
    """

    layers: int = 4
    """Couplings; at least 3 for every entry to act on every other."""
    hidden: tuple[int, ...] = (1000,) * 5
    """Widths of the inner layers of each network."""

    def __post_init__(self):
        object.__setattr__(self, "hidden", tuple(self.hidden))
        expect_at_least(self, 1, "layers", "hidden")

    def build(
        self, event_shape: Shape, *, axis_name: str | None = None, network_dtype: Dtype = None, scan: bool | None = None
    ) -> Flow:
        entries = expect_vector(self, (math.prod(event_shape),))
        network = conditioner(MLP(self.hidden), dtype=network_dtype)

        def layer(mask: AlternatingMask) -> Coupling:
            return Coupling(mask, Additive(), network)

        couplings = in_turns(layer, AlternatingMask(passes="even"), self.layers, entries, scan)
        from_image = [] if len(event_shape) == 1 else [UNIT_SCALE, Reshape(event_shape, (entries,))]
        return Flow(Chain((*from_image, couplings, Scale())))

"""Real NVP for vectors: the affine couplings and batch normalisation of the paper, with dense networks."""

from __future__ import annotations

from collections.abc import Sequence

from nvpjax.bijectors.bounds import TanhBound
from nvpjax.bijectors.coupling import Coupling
from nvpjax.bijectors.masks import ChannelMask
from nvpjax.bijectors.normalize import BatchNorm
from nvpjax.bijectors.transforms import Affine
from nvpjax.chain import Chain
from nvpjax.distributions import StandardNormal
from nvpjax.flow import Flow
from nvpjax.nets import MLP, FlaxConditioner
from nvpjax.repeat import Repeat


def real_nvp_vectors(
    entries: int, *, layers: int = 8, hidden: Sequence[int] = (64, 64), axis_name: str | None = None
) -> Flow:
    """Real NVP for vectors of ``entries`` numbers.

        layers times:  affine coupling → batch normalisation of what it changed,  the halves in turns

    Args: ``layers``: couplings. ``hidden``: widths of each coupling's dense network. ``axis_name``: the pmap axis, so
    that all moments are the global batch's.

    Shapes: x and latents ``(batch, entries)``. Where the halves are equal, layers are one ``Repeat``.
    Errors: ValueError for fewer than two entries or no layer.

    Reference: Real NVP, sec. 3.2 and 3.7, fig. 1 (a flow of the plane).

    >>> import jax, jax.numpy as jnp
    >>> flow = real_nvp_vectors(2, layers=2, hidden=(8,))
    >>> params, state = flow.init(jax.random.key(0), jnp.zeros((4, 2)))
    >>> flow.sample(jax.random.key(1), params, state, (5, 2)).shape
    (5, 2)
    """
    if entries < 2 or layers < 1:
        raise ValueError(
            f"real_nvp_vectors: expected entries >= 2 and layers >= 1, got entries={entries}, layers={layers}."
        )

    def layer(mask: ChannelMask, changed: int) -> Chain:
        network = FlaxConditioner(MLP(hidden=tuple(hidden), outputs=2 * changed))
        return Chain(
            (Coupling(mask, Affine(TanhBound(initial_scale=1.0)), network), BatchNorm(mask, axis_name=axis_name))
        )

    first, second = entries // 2, entries - entries // 2
    if first == second:
        return Flow(Repeat(layer(ChannelMask("first"), second), layers, alternate=True), StandardNormal())
    pair = (layer(ChannelMask("first"), second), layer(ChannelMask("second"), first))
    return Flow(Chain(pair[index % 2] for index in range(layers)), StandardNormal())

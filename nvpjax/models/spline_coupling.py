"""Neural spline flow with couplings, for vectors."""

from __future__ import annotations

from nvpjax.bijectors.coupling import Coupling
from nvpjax.bijectors.linear import LULinear
from nvpjax.bijectors.masks import ChannelMask
from nvpjax.bijectors.spline import RationalQuadraticSpline
from nvpjax.chain import Chain
from nvpjax.flow import Flow
from nvpjax.nets import MLP, FlaxConditioner
from nvpjax.repeat import Repeat


def spline_coupling(
    entries: int, *, layers: int = 10, hidden: tuple[int, ...] = (256, 256), bins: int = 8, limit: float = 4.0
) -> Flow:
    """A flow of rational-quadratic spline couplings with linear maps between them.

        (LU linear → spline coupling) x layers

    Args: ``entries`` of a vector; ``hidden``: widths of each network; ``bins``, ``limit``: of the splines, which bend
    [−limit, limit] and leave the rest as it is, so bring data to about unit scale first. Shapes: x and latents
    ``(batch, entries)``.

    Reference: Durkan, Bekasov, Murray, Papamakarios, *Neural Spline Flows*, 2019, sec. 3 and 4.

    >>> import jax, jax.numpy as jnp
    >>> flow = spline_coupling(entries=4, layers=2, hidden=(16,))
    >>> params, state = flow.init(jax.random.key(0), jnp.zeros((2, 4)))
    >>> flow.log_prob(params, state, jnp.zeros((2, 4)))[0].shape
    (2,)
    """
    if entries < 2:
        raise ValueError(f"spline_coupling: expected entries >= 2, got {entries}.")
    spline = RationalQuadraticSpline(bins, limit)
    outputs = spline.parameters_per_element * (entries - entries // 2)
    coupling = Coupling(ChannelMask(passes="first"), spline, FlaxConditioner(MLP(hidden, outputs)))
    return Flow(Repeat(Chain((LULinear(), coupling)), layers))

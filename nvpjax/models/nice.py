"""NICE for vectors."""

from __future__ import annotations

from nvpjax.bijectors.coupling import Coupling
from nvpjax.bijectors.elementwise import Scale
from nvpjax.bijectors.masks import AlternatingMask
from nvpjax.bijectors.transforms import Additive
from nvpjax.chain import Chain
from nvpjax.flow import Flow
from nvpjax.nets import MLP, FlaxConditioner


def nice(entries: int, *, layers: int = 4, hidden: tuple[int, ...] = (1000,) * 5) -> Flow:
    """NICE: additive couplings on every other entry in turn, then one learned scale an entry.

        (additive coupling, even entries pass → additive coupling, odd entries pass) ... → scale

    Args: ``entries`` of a vector; ``layers``: couplings, at least 3 for every entry to act on every other; ``hidden``:
    widths of each network. Shapes: x and latents ``(batch, entries)``.

    Reference: Dinh, Krueger, Bengio, *NICE*, 2014, sec. 3 and 5.1. (There the base is a logistic or a
    normal; here it is a normal.)

    >>> import jax, jax.numpy as jnp
    >>> flow = nice(entries=6, hidden=(16,))
    >>> params, state = flow.init(jax.random.key(0), jnp.zeros((2, 6)))
    >>> flow.log_prob(params, state, jnp.zeros((2, 6)))[0].shape
    (2,)
    """
    if entries < 2 or layers < 1:
        raise ValueError(f"nice: expected entries >= 2 and layers >= 1, got entries={entries}, layers={layers}.")
    even = AlternatingMask(passes="even")
    # With even entries passing, the odd ones change: ⌊entries/2⌋ of them.
    to_odd = Coupling(even, Additive(), FlaxConditioner(MLP(hidden, outputs=entries // 2)))
    to_even = Coupling(even.complement(), Additive(), FlaxConditioner(MLP(hidden, outputs=entries - entries // 2)))
    couplings = [to_odd if layer % 2 == 0 else to_even for layer in range(layers)]
    return Flow(Chain((*couplings, Scale())))

"""The multi-scale architecture: half of the variables leave at every scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from nvpjax.bijector import Bijector, PyTree
from nvpjax.combinator import Combinator, Visit, added


@dataclass(frozen=True)
class MultiScale(Combinator):
    """Scales in a row; after each but the last, half of the channels are finished latents and the rest goes on.

        h₀ = x
        (hᵢ, zᵢ) = halves of fᵢ(hᵢ₋₁)     for i = 1 … L−1;  the first half of the channels goes on
        z_L = f_L(h_L₋₁)
        forward(x) = (z₁, …, z_L),          log_det = Σᵢ log_detᵢ

    Latents come out finest first, as a tuple. Ending a scale in ``OrderedSqueeze`` makes the two halves the two
    diagonals of each 2x2 block, as the paper does. A learned conditional prior on a finished half,
    N(μ(h), σ(h)²), is one more coupling at the end of its scale: h conditions, z changes (see ``models.RealNVP``).

    Undoing a multi-scale of squeezes alone puts latents back in their places in the image:
    ``MultiScale((OrderedSqueeze(), OrderedSqueeze(), Chain(()))).inverse((), …)``.

    Errors: ValueError where a scale but the last gives an odd number of channels.

    Reference: Real NVP, sec. 3.6, eq. 14-16, fig. 4b.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Chain, MultiScale, OrderedSqueeze
    >>> places = MultiScale((OrderedSqueeze(), Chain(())))
    >>> x = jnp.zeros((5, 4, 4, 1))
    >>> params, state = places.init(jax.random.key(0), x)
    >>> [latent.shape for latent in places.forward(params, state, x)[0]]
    [(5, 2, 2, 2), (5, 2, 2, 2)]
    """

    scales: tuple[Bijector, ...]

    def __post_init__(self):
        object.__setattr__(self, "scales", tuple(self.scales))
        if not self.scales or not all(isinstance(scale, Bijector) for scale in self.scales):
            raise TypeError(f"MultiScale: expected at least one scale, each a Bijector, got {self.scales!r}.")

    @property
    def parts(self) -> tuple[Bijector, ...]:
        return self.scales

    def with_parts(self, parts: Sequence[Bijector]) -> MultiScale:
        return MultiScale(tuple(parts))

    def split(self, tree: PyTree) -> Sequence[PyTree]:
        return tree

    def join(self, trees: Sequence[PyTree]) -> PyTree:
        return tuple(trees)

    def keys(self, key: jax.Array, *, back: bool) -> PyTree:
        return tuple(jax.random.split(key, len(self.scales)))

    def go(
        self, visit: Visit, variables: tuple[PyTree, ...], x: PyTree, context: PyTree, *, back: bool = False
    ) -> tuple[PyTree, PyTree, PyTree]:
        for name, tree in zip(("params", "state"), variables):
            _check_length(self, name, tree)
        return (self._coarsest_first if back else self._finest_first)(visit, variables, x, context)

    def _finest_first(self, visit, variables, x, context):
        sums, latents, outputs = visit.zero(x, context), [], []
        for scale, *of_one in zip(self.scales, *variables):
            x, more, output = visit(scale, tuple(of_one), x, context, False)
            sums = added(sums, more)
            outputs.append(output)
            if len(outputs) < len(self.scales):
                x, z = halves(x)
                latents.append(z)
        return (*latents, x), sums, tuple(outputs)

    def _coarsest_first(self, visit, variables, y, context):
        _check_length(self, "latents", y)
        *latents, h = y
        sums, outputs = visit.zero(h, context), [None] * len(self.scales)
        for position in reversed(range(len(self.scales))):
            of_one = tuple(tree[position] for tree in variables)
            h, more, outputs[position] = visit(self.scales[position], of_one, h, context, True)
            sums = added(sums, more)
            if position > 0:
                h = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=-1), h, latents[position - 1])
        return h, sums, tuple(outputs)


def halves(h: PyTree) -> tuple[PyTree, ...]:
    """Divide the channels: the half that goes on, and the finished latents."""
    pairs = jax.tree.map(_halves, h)
    return tuple(jax.tree.map(lambda _, pair, half=half: pair[half], h, pairs) for half in (0, 1))


def _halves(h):
    channels = h.shape[-1] if h.ndim > 1 else 1  # axis 0 is the batch
    if channels % 2:
        raise ValueError(
            f"MultiScale: expected an even number of channels to halve, got {channels} in shape {h.shape}. "
            "End the scale with OrderedSqueeze, which gives four times its channels."
        )
    return jnp.split(h, 2, axis=-1)


def _check_length(multiscale: MultiScale, name: str, tree):
    if not isinstance(tree, (tuple, list)) or len(tree) != len(multiscale.scales):
        got = f"{len(tree)}" if isinstance(tree, (tuple, list)) else type(tree).__name__
        raise ValueError(
            f"MultiScale: expected {name} as a tuple of {len(multiscale.scales)}, one a scale, got {got}. "
            "Latents are finest first, as forward gives them."
        )

"""The multi-scale architecture: half of the variables leave at every scale."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from nvpjax.bijector import Bijector, zero_log_det


@dataclass(frozen=True)
class MultiScale(Bijector):
    """Scales in a row; after each but the last, half of the channels are finished latents and the rest goes on.

        h₀ = x
        (hᵢ, zᵢ) = halves of fᵢ(hᵢ₋₁)     for i = 1 … L−1;  the first half of the channels goes on
        z_L = f_L(h_L₋₁)
        forward(x) = (z₁, …, z_L),          log_det = Σᵢ log_detᵢ

    Latents come out finest first, as a tuple. Ending a scale in ``OrderedSqueeze`` makes the two halves the two
    diagonals of each 2x2 block, as the paper does. A learned conditional prior on a finished half,
    N(μ(h), σ(h)²), is one more coupling at the end of its scale: h conditions, z changes (see ``models.real_nvp``).

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

    def init(self, key, x, context=None):
        params, states = [], []
        for scale, scale_key in zip(self.scales, jax.random.split(key, len(self.scales))):
            scale_params, state = scale.init(scale_key, x, context)
            params.append(scale_params)
            states.append(state)
            if len(params) < len(self.scales):
                x, _ = halves(scale.forward(scale_params, state, x, context)[0])
        return tuple(params), tuple(states)

    def init_inverse(self, key, y, context=None):
        _check_lengths(self, latents=y)
        *latents, h = y
        params, states = [], []
        keys = jax.random.split(key, len(self.scales))
        for position in reversed(range(len(self.scales))):
            scale_params, state = self.scales[position].init_inverse(keys[position], h, context)
            h, _ = self.scales[position].inverse(scale_params, state, h, context)
            params.append(scale_params)
            states.append(state)
            if position > 0:
                h = jnp.concatenate([h, latents[position - 1]], axis=-1)
        return tuple(reversed(params)), tuple(reversed(states))

    def forward(self, params, state, x, context=None, *, train=False):
        _check_lengths(self, params=params, state=state)
        total, latents, states = zero_log_det(x), [], []
        for scale, scale_params, scale_state in zip(self.scales, params, state):
            x, log_det, scale_state = scale.forward(scale_params, scale_state, x, context, train=train)
            total += log_det
            states.append(scale_state)
            if len(states) < len(self.scales):
                x, z = halves(x)
                latents.append(z)
        return (*latents, x), total, tuple(states)

    def inverse(self, params, state, y, context=None, *, train=False):
        _check_lengths(self, params=params, state=state, latents=y)
        *latents, h = y
        total = zero_log_det(h)
        for position in reversed(range(len(self.scales))):
            h, log_det = self.scales[position].inverse(params[position], state[position], h, context, train=train)
            total += log_det
            if position > 0:
                h = jnp.concatenate([h, latents[position - 1]], axis=-1)
        return h, total


def halves(h):
    """Divide the channels: the half that goes on, and the finished latents."""
    channels = h.shape[-1]
    if channels % 2:
        raise ValueError(
            f"MultiScale: expected an even number of channels to halve, got {channels} in shape {h.shape}. "
            "End the scale with OrderedSqueeze, which gives four times its channels."
        )
    return jnp.split(h, 2, axis=-1)


def _check_lengths(multiscale: MultiScale, **parts):
    for name, part in parts.items():
        if not isinstance(part, (tuple, list)) or len(part) != len(multiscale.scales):
            got = f"{len(part)}" if isinstance(part, (tuple, list)) else type(part).__name__
            raise ValueError(
                f"MultiScale: expected {name} as a tuple of {len(multiscale.scales)}, one a scale, got {got}. "
                "Latents are finest first, as forward gives them."
            )

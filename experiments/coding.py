"""Images to latents and back, for the programs that look at a trained model."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from experiments.build import build_flow
from experiments.config import Config


def make_coder(config: Config) -> tuple[Callable, Callable]:
    """Compile ``encode(params, state, images) -> z`` and ``decode(params, state, z) -> x``, x in [0, 1].

    Images are whole pixels; each stands for the middle of what it covers, x = (pixel + ½) / levels: no noise, so that
    the same image gives the same picture.
    """
    bijector = build_flow(config).bijector

    @jax.jit
    def encode(params, state, images):
        return bijector.forward(params["bijector"], state, (images.astype(jnp.float32) + 0.5) / config.levels)[0]

    @jax.jit
    def decode(params, state, z):
        return bijector.inverse(params["bijector"], state, z)[0]

    return encode, decode

"""Squeezes: trade height and width for channels. Permutations, so that the log-det is exactly 0."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from nvpjax.bijector import StatelessBijector, zero_log_det


@dataclass(frozen=True)
class Squeeze(StatelessBijector):
    """Turn each 2x2 block of pixels into 4 channels; the four values of one input channel stay adjacent.

        (batch, height, width, C) → (batch, height/2, width/2, 4C)
        y[i, j, 4c + 2a + b] = x[2i + a, 2j + b, c],     log_det = 0

    Errors: ValueError where height or width is odd, or, going back, channels do not divide by 4.

    Reference: Real NVP, sec. 3.6, fig. 3; channel-major order after the authors' program.

    >>> import jax, jax.numpy as jnp
    >>> Squeeze().forward((), (), jnp.arange(4.0).reshape(1, 2, 2, 1))[0].tolist()
    [[[[0.0, 1.0, 2.0, 3.0]]]]
    """

    def init_params(self, key, x, context=None):
        _check_sides(self, x)
        return ()

    def init_inverse(self, key, y, context=None):
        _check_channels(self, y)
        return (), ()

    def forward_and_log_det(self, params, x, context):
        _check_sides(self, x)
        batch, height, width, channels = x.shape
        blocks = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
        y = blocks.transpose(0, 1, 3, 5, 2, 4).reshape(batch, height // 2, width // 2, 4 * channels)
        return y, zero_log_det(x)

    def inverse_and_log_det(self, params, y, context):
        _check_channels(self, y)
        batch, height, width, channels = y.shape
        blocks = y.reshape(batch, height, width, channels // 4, 2, 2)
        x = blocks.transpose(0, 1, 4, 2, 5, 3).reshape(batch, 2 * height, 2 * width, channels // 4)
        return x, zero_log_det(y)


@dataclass(frozen=True)
class OrderedSqueeze(StatelessBijector):
    """Turn each 2x2 block of pixels into 4 groups of channels, one diagonal of the block before the other.

        (batch, height, width, C) → (batch, height/2, width/2, 4C)
        groups of C channels: top left, bottom right, top right, bottom left;     log_det = 0

    Halving the channels after it keeps one diagonal of every block and factors the other out, as a checkerboard does.

    Errors: as ``Squeeze``.

    Reference: Real NVP, sec. 3.6, fig. 3 and 4b; order of the positions after the authors' program.

    >>> import jax, jax.numpy as jnp
    >>> OrderedSqueeze().forward((), (), jnp.arange(4.0).reshape(1, 2, 2, 1))[0].tolist()
    [[[[0.0, 3.0, 1.0, 2.0]]]]
    """

    def init_params(self, key, x, context=None):
        _check_sides(self, x)
        return ()

    def init_inverse(self, key, y, context=None):
        _check_channels(self, y)
        return (), ()

    def forward_and_log_det(self, params, x, context):
        _check_sides(self, x)
        top_left, bottom_right = x[:, 0::2, 0::2], x[:, 1::2, 1::2]
        top_right, bottom_left = x[:, 0::2, 1::2], x[:, 1::2, 0::2]
        return jnp.concatenate([top_left, bottom_right, top_right, bottom_left], axis=-1), zero_log_det(x)

    def inverse_and_log_det(self, params, y, context):
        _check_channels(self, y)
        top_left, bottom_right, top_right, bottom_left = jnp.split(y, 4, axis=-1)
        top = jnp.stack([top_left, top_right], axis=3)  # (batch, height/2, width/2, 2, C)
        bottom = jnp.stack([bottom_left, bottom_right], axis=3)
        batch, height, width, channels = y.shape
        x = jnp.stack([top, bottom], axis=2).reshape(batch, 2 * height, 2 * width, channels // 4)
        return x, zero_log_det(y)


def _check_sides(bijector, x):
    if x.ndim != 4 or x.shape[1] % 2 or x.shape[2] % 2:
        raise ValueError(
            f"{type(bijector).__name__}: expected shape (batch, height, width, channels) with even height and width, "
            f"got {x.shape}. Pad or crop the images, or use fewer scales."
        )


def _check_channels(bijector, y):
    if y.ndim != 4 or y.shape[3] % 4:
        raise ValueError(
            f"{type(bijector).__name__} (inverse): expected shape (batch, height, width, channels) with channels "
            f"divisible by 4, got {y.shape}."
        )

"""Squeezes: trade height and width for channels. Permutations, so that the log-det is exactly 0."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np

from nvpjax.bijector import PyTree, StatelessBijector, zero_log_det
from nvpjax.values import expect_at_least


@dataclass(frozen=True)
class Squeeze(StatelessBijector):
    """Turn each block of f x f pixels into f² channels; the values of one input channel stay adjacent.

        (batch, height, width, C) → (batch, height/f, width/f, f²·C)
        y[i, j, f²·c + f·a + b] = x[f·i + a, f·j + b, c],     log_det = 0

    Args: ``factor``: f. Errors: ValueError where height or width does not divide by f, or, going back, channels by f².

    Reference: Real NVP, sec. 3.6, fig. 3; channel-major order after the authors' program.

    >>> import jax, jax.numpy as jnp
    >>> Squeeze().forward((), (), jnp.arange(4.0).reshape(1, 2, 2, 1))[0].tolist()
    [[[[0.0, 1.0, 2.0, 3.0]]]]
    """

    EVENT_AXES = 1
    factor: int = 2

    def __post_init__(self):
        expect_at_least(self, 1, "factor")

    def init_params(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> PyTree:
        _check_sides(self, x)
        return ()

    def init_inverse(self, key: jax.Array, y: jax.Array, context: PyTree = None) -> tuple[PyTree, PyTree]:
        _check_channels(self, y)
        return (), ()

    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        _check_sides(self, x)
        f, (batch, height, width, channels) = self.factor, x.shape
        blocks = x.reshape(batch, height // f, f, width // f, f, channels)
        y = blocks.transpose(0, 1, 3, 5, 2, 4).reshape(batch, height // f, width // f, f * f * channels)
        return y, zero_log_det(x)

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        _check_channels(self, y)
        f, (batch, height, width, channels) = self.factor, y.shape
        blocks = y.reshape(batch, height, width, channels // f**2, f, f)
        x = blocks.transpose(0, 1, 4, 2, 5, 3).reshape(batch, f * height, f * width, channels // f**2)
        return x, zero_log_det(y)


@dataclass(frozen=True)
class OrderedSqueeze(StatelessBijector):
    """Turn each block of f x f pixels into f² groups of C channels, one colour of a checkerboard before the other.

        (batch, height, width, C) → (batch, height/f, width/f, f²·C),     log_det = 0
        f = 2: groups top left, bottom right, top right, bottom left

    For an even f, halving the channels after it keeps one colour of every block and factors the other out.

    Args: ``factor``: f. Errors: as ``Squeeze``.

    Reference: Real NVP, sec. 3.6, fig. 3 and 4b; order of the positions after the authors' program.

    >>> import jax, jax.numpy as jnp
    >>> OrderedSqueeze().forward((), (), jnp.arange(4.0).reshape(1, 2, 2, 1))[0].tolist()
    [[[[0.0, 3.0, 1.0, 2.0]]]]
    """

    EVENT_AXES = 1
    factor: int = 2

    def __post_init__(self):
        expect_at_least(self, 1, "factor")

    def init_params(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> PyTree:
        _check_sides(self, x)
        return ()

    def init_inverse(self, key: jax.Array, y: jax.Array, context: PyTree = None) -> tuple[PyTree, PyTree]:
        _check_channels(self, y)
        return (), ()

    def _order(self) -> np.ndarray:
        """The positions of a block, row by row, those of even colour first."""
        row, column = np.indices((self.factor, self.factor)).reshape(2, -1)
        return np.argsort((row + column) % 2, kind="stable")

    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        _check_sides(self, x)
        f, (batch, height, width, channels) = self.factor, x.shape
        blocks = x.reshape(batch, height // f, f, width // f, f, channels).transpose(0, 1, 3, 2, 4, 5)
        groups = blocks.reshape(batch, height // f, width // f, f * f, channels)[:, :, :, self._order()]
        return groups.reshape(batch, height // f, width // f, f * f * channels), zero_log_det(x)

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        _check_channels(self, y)
        f, (batch, height, width, channels) = self.factor, y.shape
        groups = y.reshape(batch, height, width, f * f, channels // f**2)[:, :, :, np.argsort(self._order())]
        blocks = groups.reshape(batch, height, width, f, f, channels // f**2).transpose(0, 1, 3, 2, 4, 5)
        return blocks.reshape(batch, f * height, f * width, channels // f**2), zero_log_det(y)


def _check_sides(bijector, x):
    factor = bijector.factor
    if x.ndim != 4 or x.shape[1] % factor or x.shape[2] % factor:
        raise ValueError(
            f"{type(bijector).__name__}: expected shape (batch, height, width, channels) with height and width "
            f"divisible by {factor}, got {x.shape}. Pad or crop the images, or use fewer scales."
        )


def _check_channels(bijector, y):
    groups = bijector.factor**2
    if y.ndim != 4 or y.shape[3] % groups:
        raise ValueError(
            f"{type(bijector).__name__} (inverse): expected shape (batch, height, width, channels) with channels "
            f"divisible by {groups}, got {y.shape}."
        )

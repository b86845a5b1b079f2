"""Images as sequences of patches. A permutation, so that the log-det is exactly 0."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from nvpjax.bijector import PyTree, StatelessBijector, zero_log_det
from nvpjax.values import expect_at_least, whole_numbers


@dataclass(frozen=True)
class Patches(StatelessBijector):
    """Cut images into patches of s x s pixels, row by row: a sequence of vectors, as transformers take it.

        (batch, height, width, C) → (batch, height/s · width/s, s²·C)
        y[t, (s·a + b)·C + c] = x[s·i + a, s·j + b, c],   t = i·width/s + j,     log_det = 0

    Args: ``size``: s. ``image_shape``: (height, width, C), which a sequence does not tell. Errors: ValueError where s
    does not divide height and width, or x has another shape.

    Reference: Dosovitskiy et al., *An image is worth 16x16 words*, 2021, sec. 3.1.

    >>> import jax.numpy as jnp
    >>> Patches(2, (2, 4, 1)).forward((), (), jnp.arange(8.0).reshape(1, 2, 4, 1))[0].tolist()
    [[[0.0, 1.0, 4.0, 5.0], [2.0, 3.0, 6.0, 7.0]]]
    """

    EVENT_AXES = 2
    size: int
    image_shape: tuple[int, int, int]

    def __post_init__(self):
        object.__setattr__(self, "image_shape", whole_numbers(self, "image_shape"))
        expect_at_least(self, 1, "size", "image_shape")
        if len(self.image_shape) != 3 or any(side % self.size for side in self.image_shape[:2]):
            raise ValueError(
                f"Patches: expected image_shape (height, width, channels) with height and width divisible by "
                f"{self.size}, got {self.image_shape}."
            )

    @property
    def sequence_shape(self) -> tuple[int, int]:
        """Positions, and the entries of each."""
        height, width, channels = self.image_shape
        return height * width // self.size**2, channels * self.size**2

    def init_params(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> PyTree:
        _expect_events(x, self.image_shape)
        return ()

    def init_inverse(self, key: jax.Array, y: jax.Array, context: PyTree = None) -> tuple[PyTree, PyTree]:
        _expect_events(y, self.sequence_shape)
        return (), ()

    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        s, (height, width, channels) = self.size, self.image_shape
        blocks = x.reshape(len(x), height // s, s, width // s, s, channels)
        return blocks.swapaxes(2, 3).reshape(len(x), *self.sequence_shape), zero_log_det(x)

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        s, (height, width, channels) = self.size, self.image_shape
        blocks = y.reshape(len(y), height // s, width // s, s, s, channels)
        return blocks.swapaxes(2, 3).reshape(len(y), *self.image_shape), zero_log_det(y)


def _expect_events(x, shape):
    if x.shape[1:] != shape:
        raise ValueError(f"Patches: expected events of shape {shape}, got {x.shape[1:]} in shape {x.shape}.")

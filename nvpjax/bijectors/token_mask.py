"""A mask of sequences: by positions of the grid that they were cut from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from nvpjax.values import expect_at_least, expect_choice


@dataclass(frozen=True)
class TokenMask:
    """Half of the positions of a sequence pass, the others change, by a pattern of the grid that they were cut from.

        a(i, j) = i + j of the checkerboard, j of columns, i of rows;  passes where a is even ("even"), or odd

    Either half, ``(batch, positions / 2, channels)``, is handed on as ``(batch, positions, channels / 2)``, each vector
    cut in two: so a network that tells a coupling by channels can tell this one too.

    Args: ``pattern``: "checkerboard", "columns" or "rows". ``grid_width``: positions in a row of the grid; see
    ``Patches``. ``passes``: which positions condition.

    Errors: ValueError where the positions are no whole rows, are not cut into equal halves, or channels are odd.

    Reference: Kolesnikov, Pinto, Tschannen, *Jet*, 2024, sec. 3, and its program, for patterns and shapes.

    >>> import jax.numpy as jnp
    >>> x = jnp.arange(8.0).reshape(1, 4, 2)  # a grid of 2 x 2
    >>> TokenMask("columns", grid_width=2, passes="even").split(x)[0].tolist()
    [[[0.0], [1.0], [4.0], [5.0]]]
    """

    pattern: Literal["checkerboard", "columns", "rows"]
    grid_width: int
    passes: Literal["even", "odd"] = "even"

    def __post_init__(self):
        expect_choice(self, "pattern", ("checkerboard", "columns", "rows"))
        expect_choice(self, "passes", ("even", "odd"))
        expect_at_least(self, 1, "grid_width")

    def complement(self) -> TokenMask:
        return replace(self, passes="odd" if self.passes == "even" else "even")

    def _passed_positions(self, positions: int) -> np.ndarray:
        i, j = np.divmod(np.arange(positions), self.grid_width)
        a = {"checkerboard": i + j, "columns": j, "rows": i}[self.pattern]
        return a % 2 == (0 if self.passes == "even" else 1)

    def split(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        passes = self._passed_positions(x.shape[1]) if x.ndim == 3 else np.zeros(0, bool)
        if x.ndim != 3 or x.shape[1] % self.grid_width or x.shape[2] % 2 or 2 * passes.sum() != passes.size:
            raise ValueError(
                f"TokenMask: expected shape (batch, positions, channels), positions in rows of {self.grid_width} of "
                f"which {self.pattern} pass half, channels even, got {x.shape}."
            )
        halves = x[:, np.flatnonzero(passes)], x[:, np.flatnonzero(~passes)]
        first, second = (half.reshape(len(x), x.shape[1], x.shape[2] // 2) for half in halves)
        return first, second

    def merge(self, passed: jax.Array, changed: jax.Array) -> jax.Array:
        batch, positions, halved = passed.shape
        passes = self._passed_positions(positions)
        places = np.argsort(np.concatenate([np.flatnonzero(passes), np.flatnonzero(~passes)]))
        both = [half.reshape(batch, positions // 2, 2 * halved) for half in (passed, changed)]
        return jnp.concatenate(both, axis=1)[:, places]

    def only_changed(self, a: jax.Array) -> jax.Array:
        return a

    def shown(self, passed: jax.Array) -> jax.Array:
        return passed

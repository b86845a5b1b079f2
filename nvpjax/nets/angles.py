"""Networks of angles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from nvpjax.values import whole_numbers


@dataclass(frozen=True)
class OfAngles:
    """A conditioner that sees angles, in radians, as points of the circle: it has no seam between π and −π.

        output = network((cos x, sin x))     of the columns that are angles; the others it sees as they are, after them

    Args: ``network``: any conditioner. ``columns``: of the entries that it is shown, counted in the part that passes;
    all of them by default.

    Shapes: x ``(batch, ..., entries)``; ``network`` sees two entries for each angle.

    Errors: ValueError for columns that x has not; TypeError for what are no whole numbers.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax.nets import MLP
    >>> network, x = OfAngles(MLP((8,), final_scale=1.0)), jnp.array([[-jnp.pi], [jnp.pi]])
    >>> params, state = network.init(jax.random.key(0), x, outputs=1)
    >>> below, above = network.apply(params, state, x, outputs=1)[0]
    >>> bool(jnp.allclose(below, above, atol=1e-5))
    True
    """

    network: Any
    columns: tuple[int, ...] | None = None

    def __post_init__(self):
        if self.columns is not None:
            object.__setattr__(self, "columns", whole_numbers(self, "columns"))
            if len(set(self.columns)) < len(self.columns) or any(column < 0 for column in self.columns):
                raise ValueError(f"OfAngles: expected columns that differ, from 0 on, got {self.columns}.")

    def init(self, key: jax.Array, x: jax.Array, context: Any = None, *, outputs: int) -> tuple[Any, Any]:
        return self.network.init(key, self._points(x), context, outputs=outputs)

    def apply(
        self, params: Any, state: Any, x: jax.Array, context: Any = None, *, outputs: int, train: bool = False
    ) -> tuple[jax.Array, Any]:
        return self.network.apply(params, state, self._points(x), context, outputs=outputs, train=train)

    def _points(self, x):
        entries = x.shape[-1]
        columns = range(entries) if self.columns is None else self.columns
        if any(column >= entries for column in columns):
            raise ValueError(
                f"OfAngles: expected columns below {entries}, the entries that it is shown, got {self.columns}. They "
                "are counted in the part that passes."
            )
        others = [column for column in range(entries) if column not in columns]
        angles = x[..., list(columns)]
        return jnp.concatenate([jnp.cos(angles), jnp.sin(angles), x[..., others]], axis=-1)

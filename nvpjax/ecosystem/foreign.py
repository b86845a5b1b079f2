"""Bijectors of libraries that take any axes before the event's, as bijectors here: what distrax's and TFP's share."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree, StatelessBijector, log_det_dtype


@dataclass(frozen=True, eq=False)
class Foreign(StatelessBijector):
    """The helper base: its classes say how their library is called.

    Two are equal where they hold the same object and the same function: foreign bijectors hold arrays, and may not
    hash or compare.
    """

    LIBRARY: ClassVar[str]
    KIND: ClassVar[type]

    bijector: Any
    start: Callable[[jax.Array], PyTree] | None = None

    def __post_init__(self):
        if isinstance(self.bijector, self.KIND):
            fits = self.start is None
        else:
            fits = callable(self.bijector) and callable(self.start)
        if not fits:
            raise TypeError(
                f"ForeignBijector: expected a bijector of {self.LIBRARY} alone, or make, a function of params that "
                f"makes one, with start, a function of a key that gives the first params; got {self.bijector!r} and "
                f"{self.start!r}."
            )

    def __eq__(self, other):
        return type(self) is type(other) and self.bijector is other.bijector and self.start is other.start

    def __hash__(self):
        return hash((type(self), id(self.bijector), id(self.start)))

    @abc.abstractmethod
    def axes(self, bijector: Any, *, back: bool) -> int:
        """How many axes an event has at least, on the side from which it is mapped."""

    @abc.abstractmethod
    def mapped(self, bijector: Any, x: jax.Array, *, back: bool) -> tuple[jax.Array, jax.Array]:
        """Forward, or inverse where ``back``, with the log-det that the library has of that direction."""

    def init(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> tuple[PyTree, PyTree]:
        return self._started(key, x, back=False)

    def init_inverse(self, key: jax.Array, y: jax.Array, context: PyTree = None) -> tuple[PyTree, PyTree]:
        return self._started(key, y, back=True)

    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        return self._of_rows(params, x, back=False)

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        return self._of_rows(params, y, back=True)

    def _started(self, key, x, *, back):
        params = () if self.start is None else self.start(key)
        bijector = self._made(params)
        axes = self.axes(bijector, back=back)
        if x.ndim < 1 + axes:
            raise ValueError(
                f"ForeignBijector: expected x of shape (batch, *event) with events of at least {axes} axes, for "
                f"{bijector!r}, got shape {x.shape}."
            )
        # One row tells: a batch axis of the library's own would make more of it.
        one = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
        y, _ = jax.eval_shape(lambda x: self._of_rows(params, x, back=back), one)
        if y.ndim < 1 or y.shape[0] != 1:
            raise ValueError(
                f"ForeignBijector: expected a bijector that maps every row alike, got shape {y.shape} for one row of "
                f"shape {x.shape[1:]}: arrays of {bijector!r} have more axes than an event."
            )
        return params, ()

    def _made(self, params):
        if self.start is None:
            return self.bijector
        made = self.bijector(params)
        if not isinstance(made, self.KIND):
            raise TypeError(
                f"ForeignBijector: expected a bijector of {self.LIBRARY} from {self.bijector!r}, got {made!r}."
            )
        return made

    def _of_rows(self, params, x, *, back):
        bijector = self._made(params)
        # A copy: TFP, and distrax around TFP, give x back for a y that they made themselves, and nothing is inverted.
        y, log_det = self.mapped(bijector, jnp.array(x, copy=True), back=back)
        outside = x.shape[: x.ndim - self.axes(bijector, back=back)]
        log_det = jnp.broadcast_to(log_det, outside)  # of a constant Jacobian they give fewer axes
        return y, jnp.sum(log_det, axis=tuple(range(1, log_det.ndim)), dtype=log_det_dtype(log_det))

"""What a mutant is, and the small bijectors that most of them are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nvpjax.bijector import Bijector, StatelessBijector, sum_over_event
from nvpjax.bijectors import (
    ChannelMask,
    Coupling,
    PaperAffine,
)


class Mutant(NamedTuple):
    """A fault, in words and as a bijector; the example's event and range, and arguments of ``examine_bijector``."""

    fault: str
    check: str
    """The check that is made for it; others may catch it too."""
    bijector: Bijector
    event: tuple[int, ...] = (2,)
    low: float = -2.0
    high: float = 2.0
    context: bool = False
    options: dict[str, Any] = {}
    slipped: bool = False
    """It was found from outside, and the checks of that day let it through."""

    def examined_with(self) -> dict[str, Any]:
        """The arguments of ``examine_bijector`` for it."""
        generator = np.random.default_rng(0)
        example = generator.uniform(self.low, self.high, (4, *self.event))
        context = generator.normal(size=(4, 2)) if self.context else None
        return {"bijector": self.bijector, "example": example, "context": context, **self.options}


@dataclass(frozen=True)
class Halves:
    """A conditioner for two entries: (t, r) as linear functions of the entry that passes."""

    def init(self, key, x, context=None, *, outputs):
        return {"weight": jax.random.normal(key, (x.shape[-1], outputs))}, ()

    def apply(self, params, state, x, context=None, *, outputs, train=False):
        return jnp.tanh(x @ params["weight"].astype(x.dtype)), state


COUPLING = Coupling(ChannelMask(), PaperAffine(), Halves())


@dataclass(frozen=True)
class Altered(Bijector):
    """A bijector whose results pass through functions of your choice: ``forward(x, y, log_det) -> (y, log_det)``.

    ``in_training``: in training mode alone.
    """

    bijector: Bijector
    after_forward: Callable = lambda x, y, log_det: (y, log_det)
    after_inverse: Callable = lambda y, x, log_det: (x, log_det)
    in_training: bool = False

    def init(self, key, x, context=None):
        return self.bijector.init(key, x, context)

    def forward(self, params, state, x, context=None, *, train=False):
        y, log_det, state = self.bijector.forward(params, state, x, context, train=train)
        if self.in_training and not train:
            return y, log_det, state
        return *self.after_forward(x, y, log_det), state

    def inverse(self, params, state, y, context=None, *, train=False):
        x, log_det = self.bijector.inverse(params, state, y, context, train=train)
        return (x, log_det) if self.in_training and not train else self.after_inverse(y, x, log_det)


@dataclass(frozen=True)
class Entrywise(StatelessBijector):
    """A fixed map of each entry: its function, its inverse, its log-slope at x."""

    function: Callable
    back: Callable
    log_slope: Callable

    def forward_and_log_det(self, params, x, context):
        return self.function(x), sum_over_event(self.log_slope(x))

    def inverse_and_log_det(self, params, y, context):
        x = self.back(y)
        return x, -sum_over_event(self.log_slope(x))


@dataclass(frozen=True)
class Learned(StatelessBijector):
    """A map of each entry with a learned number a: ``function(a, x)``, ``back(a, y)``, the log-slopes of both."""

    start: float
    function: Callable
    back: Callable
    log_slope: Callable
    back_log_slope: Callable | None = None

    def init_params(self, key, x, context=None):
        return {"a": jnp.full(x.shape[1:], self.start)}

    def forward_and_log_det(self, params, x, context):
        a = params["a"].astype(x.dtype)
        return self.function(a, x), sum_over_event(jnp.broadcast_to(self.log_slope(a, x), x.shape))

    def inverse_and_log_det(self, params, y, context):
        a = params["a"].astype(y.dtype)
        x = self.back(a, y)
        log_slope = self.log_slope(a, x) if self.back_log_slope is None else self.back_log_slope(a, x)
        return x, -sum_over_event(jnp.broadcast_to(log_slope, y.shape))


@dataclass(frozen=True)
class Told(Bijector):
    """Scale and shift as the context says: each direction sees it through a function, which is where the fault is."""

    forward_sees: Callable = lambda context: context
    log_det_sees: Callable = lambda context: context
    log_det_method_sees: Callable = lambda context: context
    inverse_sees: Callable = lambda context: context
    forward_in_training_sees: Callable = lambda context: context
    inverse_in_training_sees: Callable = lambda context: context

    def init(self, key, x, context=None):
        return {"weight": jax.random.normal(key, (context.shape[1], 2 * x.shape[1]))}, ()

    def _told(self, params, context, x):
        told = jnp.tanh(context @ params["weight"].astype(context.dtype)).astype(x.dtype)
        return jnp.split(jnp.broadcast_to(told, (len(x), told.shape[1])), 2, axis=1)

    def forward(self, params, state, x, context=None, *, train=False):
        if train:
            context = self.forward_in_training_sees(context)
        s, t = self._told(params, self.forward_sees(context), x)
        counted, _ = self._told(params, self.log_det_sees(context), x)
        return x * jnp.exp(s) + t, sum_over_event(counted), state

    def inverse(self, params, state, y, context=None, *, train=False):
        seen = self.inverse_in_training_sees(context) if train else self.inverse_sees(context)
        s, t = self._told(params, seen, y)
        return (y - t) * jnp.exp(-s), -sum_over_event(s)

    def log_det(self, params, state, x, context=None):
        return sum_over_event(self._told(params, self.log_det_method_sees(context), x)[0])


def times(factor: float) -> Callable:
    """For ``Altered``: another log-det."""
    return lambda x, y, log_det: (y, factor * log_det)

"""Continuous flows: a point moves along a field, and the way back is the same field backwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from nvpjax.bijector import Bijector, Conditioner, PyTree, expect_conditioner, expect_part, log_det_dtype
from nvpjax.continuous.alone import traced_alone
from nvpjax.continuous.trace import ExactTrace, Trace
from nvpjax.values import expect_at_least, expect_choice, expect_finite


@dataclass(frozen=True)
class Continuous(Bijector):
    """A flow along a field, from time 0, where data are, to time 1, where latents are.

        dz/dt = f(z, t),     forward:  z(0) = x, y = z(1),     log_det = ∫₀¹ tr(∂f/∂z) dt
        inverse:  z(1) = y, x = z(0),  solved backwards

    By diffrax's Tsit5, every example with steps of its own: none depends on what else is in the batch. Steps adapt to
    ``tolerance``, or are ``steps`` of one size.

    What is solved is not exact: x − inverse(forward(x)), and the log-det against the Jacobian, are off by up to some
    tens of times ``tolerance``, which is each step's: by ten, of the size of what is solved and of how far the map
    stretches it, and by more where the field is stiff.
    ``inverse_tolerance`` says so, to those who test; with ``steps``, where nothing adapts, ``tolerance`` is what you
    state. An example whose solve fails, since it needs more than ``most_steps``, is NaN, never where it happened to be.

    Args: ``field``: a conditioner, told to give as many numbers as z has on its last axis, from z with the time as one
    more entry (``ConcatSquash``, ``MLP((64, 64), jnp.tanh)``; of images ``FieldOfImages``); smooth, and without state.
    ``trace``: ``ExactTrace()`` or ``HutchinsonTrace()``. ``adjoint``: how gradients go back: "checkpointed", those of
    the solve as it was made; "backsolve", in constant memory, those of the equation, wrong by the tolerance; "direct",
    which has forward-mode derivatives too.

    Shapes: x ``(batch, *event)``, one array; latents the same. Computed in at least float32.

    Errors: TypeError for a field that is no conditioner; ImportError without diffrax; ValueError in ``init`` for one
    that measures.

    Reference: Chen et al., *Neural ordinary differential equations*, 2018; Grathwohl et al., *FFJORD*, 2019, eq. 3-4.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax.nets import ConcatSquash
    >>> flow, x = Continuous(ConcatSquash((16,))), jnp.array([[0.3, -1.0]])
    >>> params, state = flow.init(jax.random.key(0), x)
    >>> y, log_det, _ = flow.forward(params, state, x)
    >>> bool(jnp.allclose(flow.inverse(params, state, y)[0], x, atol=1e-4))
    True
    """

    field: Conditioner
    trace: Trace = ExactTrace()
    tolerance: float = 1e-5
    steps: int | None = None
    adjoint: Literal["checkpointed", "backsolve", "direct"] = "checkpointed"
    most_steps: int = 4096

    def __post_init__(self):
        expect_conditioner("Continuous", self.field)
        expect_part("Continuous", self.trace, "trace", "ExactTrace()", "value_and_trace")
        expect_finite(self)
        expect_choice(self, "adjoint", ("checkpointed", "backsolve", "direct"))
        expect_at_least(self, 1, "most_steps", *(["steps"] if self.steps is not None else []))
        if not self.tolerance > 0:
            raise ValueError(f"Continuous: expected tolerance > 0, got {self.tolerance}.")

    @property
    def inverse_tolerance(self) -> float:
        return 10 * self.tolerance  # it is each step's; the errors of steps add up

    def init(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> tuple[PyTree, PyTree]:
        field_key, noise_key = jax.random.split(key)
        params, state = self.field.init(field_key, with_time(x, 0.0), context, outputs=x.shape[-1])
        if jax.tree.leaves(state):
            raise ValueError(f"Continuous: expected a field without state, got {self.field!r}.")
        return params, {"field": state, "noise": self.trace.init(noise_key)}

    def forward(
        self, params: PyTree, state: PyTree, x: jax.Array, context: PyTree = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array, PyTree]:
        if train:
            state = {**state, "noise": self.trace.next(state["noise"])}
        y, log_det = self._solve(params, state, x, context, 0.0, 1.0)
        return y, log_det, state

    def inverse(
        self, params: PyTree, state: PyTree, y: jax.Array, context: PyTree = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        return self._solve(params, state, y, context, 1.0, 0.0)

    def velocity(
        self, params: PyTree, state: PyTree, z: jax.Array, time: jax.Array, context: PyTree = None
    ) -> jax.Array:
        """Give f(z, t), for z ``(batch, *event)`` and t ``(batch,)`` or one number."""
        seen = with_time(z, time)
        return self.field.apply(params, state["field"], seen, context, outputs=z.shape[-1])[0].astype(z.dtype)

    def evaluations(self, params: PyTree, state: PyTree, x: jax.Array, context: PyTree = None) -> jax.Array:
        """Give how often the field is evaluated on the way from each x, ``(batch,)``: what forward costs."""
        solve, given = self._batch_solve(params, state, x, context, 0.0, 1.0)
        return 1 + 6 * solve(given)[2]  # Tsit5 has six stages a step, rejected steps too

    def _solve(self, params, state, start, context, begin, end):
        solve, given = self._batch_solve(params, state, start, context, begin, end)
        result, log_det = traced_alone(lambda given: solve(given)[:2], given)
        return result.astype(start.dtype), log_det

    def _batch_solve(self, params, state, start, context, begin, end):
        """A function that solves, and what it is given: where examples arrive, their log-dets and numbers of steps."""
        diffrax = _diffrax()
        wide = start.astype(log_det_dtype(start))
        begin, end = np.asarray(begin, wide.dtype), np.asarray(end, wide.dtype)  # times of float64 would widen z
        if self.steps is None:
            controller, first = diffrax.PIDController(rtol=self.tolerance, atol=self.tolerance), None
        else:
            controller, first = diffrax.ConstantStepSize(), (end - begin) / self.steps
        adjoints = {
            "checkpointed": diffrax.RecursiveCheckpointAdjoint,
            "backsolve": diffrax.BacksolveAdjoint,
            "direct": diffrax.DirectAdjoint,
        }

        def move(time, value, told):
            params, context, noise = told

            def f(z):
                return self.velocity(params, state, z[None], time, context)[0]

            return self.trace.value_and_trace(f, value[0], noise)

        def solve(params, z, context, noise):
            context = jax.tree.map(lambda a: a[None], context)
            solution = diffrax.diffeqsolve(
                diffrax.ODETerm(move),
                diffrax.Tsit5(),
                begin,
                end,
                first,
                (z, jnp.zeros((), z.dtype)),
                (params, context, noise),
                stepsize_controller=controller,
                adjoint=adjoints[self.adjoint](),
                max_steps=self.most_steps if self.steps is None else self.steps + 1,
                throw=False,
            )
            arrived = solution.result == diffrax.RESULTS.successful
            z, log_det = jax.tree.map(lambda a: jnp.where(arrived, a[-1], jnp.nan), solution.ys)
            return z, log_det, solution.stats["num_steps"]

        noise = self.trace.noise(state["noise"], wide)
        batch = jax.vmap(solve, in_axes=(None, 0, 0, 0))
        return lambda given: batch(*given), (params, wide, context, noise)


def with_time(z: jax.Array, time: jax.Array | float) -> jax.Array:
    """z with the time as one more entry of its last axis."""
    times = jnp.broadcast_to(jnp.asarray(time, z.dtype).reshape(-1, *[1] * (z.ndim - 1)), (*z.shape[:-1], 1))
    return jnp.concatenate([z, times], axis=-1)


def _diffrax():
    try:
        import diffrax
    except ImportError:
        raise ImportError("Continuous: expected diffrax, which solves it: pip install diffrax.") from None
    return diffrax

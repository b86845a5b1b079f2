"""The contract: what every bijector takes, and what it gives back.

A bijector is an immutable description. All that is learned (``params``) or measured (``state``) is data that goes in
and comes out of pure functions, so that jit, grad, vmap, scan and pmap apply to every bijector without exception.

Read in this order: this file, ``bijectors/coupling.py``, ``models/real_nvp.py``, ``training.py``.
"""

from __future__ import annotations

import abc
import inspect
from dataclasses import Field
from functools import reduce
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp

from nvpjax.checked import Call, Checked

PyTree = Any
"""Arrays in tuples, lists and dicts. Axis 0 of every array is the batch."""


class Bijector(Checked, abc.ABC):
    """An invertible map between data x and latents z, with its log-determinant.

    ``forward`` is the paper's f, from data to latents; ``inverse`` is f⁻¹, from latents to data. The log-det of a
    direction is that direction's own:

        forward:  y = f(x),     log_det = log|det ∂f(x)/∂x|
        inverse:  x = f⁻¹(y),   log_det = log|det ∂f⁻¹(y)/∂y| = −(forward's at x)

    Shapes: axis 0 of every array is the batch, all other axes are the event; ``log_det`` has shape ``(batch,)``, is in
    nats, and has at least float32. A bijector may map pytrees (a multi-scale flow gives a tuple of latents).

    Implementations are frozen dataclasses whose fields are values: numbers, strings, tuples, functions, Flax modules,
    other bijectors; never arrays. They hash, compare by value, print themselves, and can be static arguments of jit.
    They are final: to adapt one, wrap it.

    ``train=True`` uses the statistics of the batch at hand, and the state that ``forward`` returns holds what
    ``inverse(..., train=True)`` needs to undo exactly that batch. With ``train=False`` both directions use running
    averages: a pure bijection, one example at a time.

    Errors: every call is held against ``init``, when it is traced: TypeError or ValueError for x that ``init`` does not
    take, for whole numbers, no batch or an empty one; for params and state of other shapes than ``init`` gives for such
    an x and context; for a context without a row an example, or that nothing reads (see ``checked.py``).

    Reference: Dinh, Sohl-Dickstein, Bengio, *Density estimation using Real NVP*, 2017, eq. 2 and 3.
    """

    CALLS = {
        "init": Call(("key", "x", "context")),
        "init_inverse": Call(("key", "x", "context"), "init_inverse"),
        "forward": Call(("params", "state", "x", "context")),
        "inverse": Call(("params", "state", "x", "context"), "init_inverse"),
        "log_det": Call(("params", "state", "x", "context")),
    }
    READS_CONTEXT = "forward"
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]  # said to type checkers: implementations are dataclasses

    @property
    def inverse_tolerance(self) -> float:
        """How far an inverse, and a log-det from the Jacobian's, may be off beside rounding, relatively.

        0, but where a solver stops at a tolerance of its own. ``nvpjax.testing`` adds it to what rounding explains.
        """
        return 0.0

    @abc.abstractmethod
    def init(self, key: jax.Array, x: PyTree, context: PyTree = None) -> tuple[PyTree, PyTree]:
        """Give ``(params, state)`` for events shaped like those of ``x``. Shapes that do not fit raise ValueError."""

    @abc.abstractmethod
    def forward(
        self, params: PyTree, state: PyTree, x: PyTree, context: PyTree = None, *, train: bool = False
    ) -> tuple[PyTree, jax.Array, PyTree]:
        """Map data to latents: ``(y, log_det, state)``."""

    @abc.abstractmethod
    def inverse(
        self, params: PyTree, state: PyTree, y: PyTree, context: PyTree = None, *, train: bool = False
    ) -> tuple[PyTree, jax.Array]:
        """Map latents to data: ``(x, log_det)``."""

    def log_det(self, params: PyTree, state: PyTree, x: PyTree, context: PyTree = None) -> jax.Array:
        """Give forward's log-det at ``x``. Override it where that is cheaper than ``forward``."""
        return self.forward(params, state, x, context)[1]

    def init_inverse(self, key: jax.Array, y: PyTree, context: PyTree = None) -> tuple[PyTree, PyTree]:
        """Give ``(params, state)`` from an example of the latent side, which is what ``Inverse`` has in hand.

        The default serves bijectors that keep the event's shape and measure nothing in ``init``. Others override it.
        """
        return self.init(key, y, context)


class StatelessBijector(Bijector):
    """The helper base for bijectors that measure nothing: they write the mathematics only.

    Implement ``init_params``, ``forward_and_log_det`` and ``inverse_and_log_det``; ``state`` is ``()`` throughout.
    """

    def init_params(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> PyTree:
        """Give the parameters for events shaped like those of ``x``. The default is a bijector without any."""
        return ()

    @abc.abstractmethod
    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        """Give ``(f(x), log|det ∂f/∂x|)``."""

    @abc.abstractmethod
    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        """Give ``(f⁻¹(y), log|det ∂f⁻¹/∂y|)``."""

    def init(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> tuple[PyTree, PyTree]:
        return self.init_params(key, x, context), ()

    def forward(
        self, params: PyTree, state: PyTree, x: jax.Array, context: PyTree = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array, PyTree]:
        y, log_det = self.forward_and_log_det(params, x, context)
        return y, log_det, state

    def inverse(
        self, params: PyTree, state: PyTree, y: jax.Array, context: PyTree = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        return self.inverse_and_log_det(params, y, context)


class Conditioner(Protocol):
    """A function with parameters that tells a bijector how to act: in a coupling, the network that gives s and t.

    It is told how many numbers to give: the last axis of its output has ``outputs`` entries. Anything with these two
    methods serves; it must hash and compare by value, as bijectors do. ``nvpjax.nets`` has networks, and adapts Flax's.
    """

    def init(self, key: jax.Array, x: jax.Array, context: PyTree = None, *, outputs: int) -> tuple[PyTree, PyTree]:
        """Give ``(params, state)``."""
        ...

    def apply(
        self, params: PyTree, state: PyTree, x: jax.Array, context: PyTree = None, *, outputs: int, train: bool = False
    ) -> tuple[jax.Array, PyTree]:
        """Give ``(output, state)``. With ``train=True`` the output must not depend on what ``state`` has measured:
        ``inverse`` calls it with the state that ``forward`` has already brought up to date."""
        ...


def expect_conditioner(name: str, conditioner: Any) -> None:
    """Raise TypeError for what is no ``Conditioner``: a Flax module, a function, a class."""
    methods = [getattr(conditioner, method, None) for method in ("init", "apply")]
    told = all(callable(method) and "outputs" in inspect.signature(method).parameters for method in methods)
    if isinstance(conditioner, type) or not told:
        got = f"the class {conditioner.__name__}" if isinstance(conditioner, type) else type(conditioner).__name__
        raise TypeError(
            f"{name}: expected a conditioner, an object with init and apply that are told outputs, such as "
            f"MLP((64, 64)) of nvpjax.nets, got {got}. Wrap a Flax Linen module in FlaxConditioner(module), "
            "the function that makes an NNX module in NNXConditioner(make)."
        )


def expect_part(name: str, part: Any, role: str, example: str, needs: str) -> None:
    """Raise TypeError for what is no mask, or no transform: ``needs`` is something that each of them has."""
    there = hasattr(type(part), needs) or needs in getattr(part, "__dict__", {})  # asking for a property computes it
    if isinstance(part, type) or not there:
        got = f"the class {part.__name__}" if isinstance(part, type) else f"a {type(part).__name__}"
        raise TypeError(f"{name}: expected as {role} an object such as {example}, got {got}.")


def log_det_dtype(x: PyTree) -> jnp.dtype:
    """The dtype of a log-det over ``x``: that of ``x``, and at least float32."""
    # promote_types, not result_type: a weakly typed float64 must not become float32.
    return reduce(jnp.promote_types, (leaf.dtype for leaf in jax.tree.leaves(x)), jnp.dtype(jnp.float32))


def zero_log_det(x: PyTree) -> jax.Array:
    """The log-det of a map that keeps volume: zeros of shape ``(batch,)``."""
    return jnp.zeros(jax.tree.leaves(x)[0].shape[0], log_det_dtype(x))


def sum_over_event(log_derivative: jax.Array) -> jax.Array:
    """Sum ``(batch, *event)`` to ``(batch,)``, in at least float32."""
    axes = tuple(range(1, log_derivative.ndim))
    return jnp.sum(log_derivative, axis=axes, dtype=log_det_dtype(log_derivative))

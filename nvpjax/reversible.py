"""Training memory that does not grow with depth: activations are rebuilt by inversion, and it is measured how well."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce, singledispatch
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from nvpjax.bijector import Bijector, PyTree, log_det_dtype, sum_over_event, zero_log_det
from nvpjax.bijectors.coupling import Coupling
from nvpjax.bijectors.masks import Mask
from nvpjax.checked import unchecked
from nvpjax.combinator import Combinator, Composite, Visit, applied, refuse_measuring
from nvpjax.places import ERROR
from nvpjax.repeat import fold, unfold
from nvpjax.turns import InTurns, Turn, beside, mask_at
from nvpjax.values import expect_at_least, expect_finite


@dataclass(frozen=True)
class Reversible(Composite):
    """The same bijector with another backward pass: it rebuilds activations from the output instead of keeping them.

    Forward and inverse are those of ``bijector``, and so are gradients, up to rounding. What the backward pass needs
    beside parameters is the input, the output, and a number an example and layer, however many layers there are.
    Combinators inside are walked back layer by layer; a coupling evaluates its network once for inversion and gradient
    (twice inside an ``Inverse``). Costs: one more evaluation of every layer than plain differentiation.

    **The guard.** In floating point an inverse may not invert: errors grow from layer to layer, and a gradient at
    activations that are off is wrong. So forward keeps of each layer's input one random projection (signs ±1) an
    example, and the backward pass measures with it

        error = max over layers and examples |r·(x̂ − x)| / (√D · (rms(x̂) + R / 1000)),

    rms that of the example itself, R that of x̂ over the batch: for an error spread over all D entries about
    its size relative to x. An example that is smaller than what rounding leaves of y is measured by rms(y) /
    100. Where that is above ``bound``, or is no number, all gradients are NaN: a wrong gradient is never given
    silently. ``training.make_train_step`` then skips the step and counts it. The error itself is the gradient
    of a loss with respect to ``state["reconstruction_error"]``, which the train step puts into its metrics.

    ``every=k`` keeps the input of every k-th of bijectors in a row, or of a repeated one, too, and goes on from there:
    ``layers_between_stored`` chooses k from a measured error.

    ``state`` is ``{"bijector": its state, "reconstruction_error": 0}``. The path is differentiated in reverse mode
    once: no jvp, no Hessian.

    Errors: ValueError where ``every`` < 1, or does not divide the number of layers of a ``Repeat``.

    Reference: Gomez et al., *The reversible residual network*, 2017, algorithm 1; that an inverse may fail numerically:
    Behrmann et al., *Understanding and mitigating exploding inverses in invertible neural networks*, 2021, sec. 3.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Chain, Repeat, Reverse, Reversible, Triangular
    >>> deep = Reversible(Repeat(Chain((Triangular(), Reverse())), times=32))
    >>> x = jnp.ones((3, 2))
    >>> params, state = deep.init(jax.random.key(0), x)
    >>> loss = lambda params, state: jnp.sum(deep.forward(params, state, x)[0] ** 2)
    >>> gradients, of_state = jax.grad(loss, argnums=(0, 1))(params, state)
    >>> float(of_state["reconstruction_error"]) < 1e-6
    True
    """

    bijector: Bijector
    every: int | None = None
    bound: float = 1e-3

    def __post_init__(self):
        if not isinstance(self.bijector, Bijector):
            raise TypeError(f"Reversible: expected a Bijector, got {self.bijector!r}.")
        if self.every is not None:
            expect_at_least(self, 1, "every")
        expect_finite(self)
        if not self.bound > 0:
            raise ValueError(f"Reversible: expected bound > 0, got {self.bound}.")

    @property
    def parts(self) -> tuple[Bijector, ...]:
        return (self.bijector,)

    def with_parts(self, parts: Sequence[Bijector]) -> Reversible:
        (bijector,) = parts
        return replace(self, bijector=bijector)

    def init(self, key: jax.Array, x: PyTree, context: PyTree = None) -> tuple[PyTree, PyTree]:
        params, state = self.bijector.init(key, x, context)
        return params, {"bijector": state, ERROR: jnp.float32(0)}

    def init_inverse(self, key: jax.Array, y: PyTree, context: PyTree = None) -> tuple[PyTree, PyTree]:
        params, state = self.bijector.init_inverse(key, y, context)
        return params, {"bijector": state, ERROR: jnp.float32(0)}

    def forward(
        self, params: PyTree, state: PyTree, x: PyTree, context: PyTree = None, *, train: bool = False
    ) -> tuple[PyTree, jax.Array, PyTree]:
        return _forward(self, train, params, state, x, context)

    def inverse(
        self, params: PyTree, state: PyTree, y: PyTree, context: PyTree = None, *, train: bool = False
    ) -> tuple[PyTree, jax.Array]:
        return self.bijector.inverse(params, state["bijector"], y, context, train=train)

    def log_det(self, params: PyTree, state: PyTree, x: PyTree, context: PyTree = None) -> jax.Array:
        return self.bijector.log_det(params, state["bijector"], x, context)


def layers_between_stored(error: float, layers: int, *, bound: float = 1e-3, dtype: DTypeLike = jnp.float32) -> int:
    """Give the ``every`` for which the error should stay a tenth of ``bound``, from one measured over ``layers``.

        every = layers · log(bound / 10ε) / log(error / ε),     ε the dtype's rounding

    since errors grow by about the same factor a layer; the largest divisor of ``layers`` up to that, as a ``Repeat``
    wants. An error that is no number counts as 1. Errors near 1 and above grow no more, and k comes out too large:
    measure again with that k, and choose again from what comes out, with ``layers`` = k.

    >>> layers_between_stored(error=0.05, layers=64)
    32
    """
    epsilon = float(jnp.finfo(dtype).eps)
    error = error if math.isfinite(error) else 1.0
    if error <= bound / 10:
        return layers
    most = max(1, int(layers * math.log(bound / 10 / epsilon) / math.log(error / epsilon)))
    return next(every for every in range(most, 0, -1) if layers % every == 0)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _forward(reversible, train, params, state, x, context):
    with unchecked():
        y, log_det, after = reversible.bijector.forward(params, state["bijector"], x, context, train=train)
    return y, log_det, {**state, "bijector": after}


def _forward_keeping(reversible, train, params, state, x, context):
    keep = Keep(train, reversible.every)
    with unchecked():
        y, log_det, outputs = keep(Whole(reversible.bijector), (params, state["bijector"]), x, context, False)
    after, kept = outputs
    return (y, log_det, {**state, "bijector": after}), (params, state, after, kept, y, context)


def _backward(reversible, train, residuals, cotangents):
    params, state, after, kept, y, context = residuals
    of_y, of_log_det, of_after = cotangents
    walk = Undo(train, reversible.every)
    variables = (params, state["bijector"], after, kept, _without_float0(of_after["bijector"]))
    values = jax.tree.map(Value, y, of_y)
    with unchecked():
        walked = walk(Whole(reversible.bijector), variables, values, Beside(context, of_log_det), True)
    values, of_context, outputs = walked
    _, of_x = _values_and_cotangents(values)
    of_params, of_state, errors = outputs
    error = jnp.max(jnp.stack([jnp.max(error) for error in jax.tree.leaves(errors)]))
    right = error <= reversible.bound  # False for NaN

    def guarded(cotangents, like):
        return jax.tree.map(
            lambda leaf: leaf if _is_float0(leaf) else jnp.where(right, leaf, jnp.nan), _with_float0(cotangents, like)
        )

    of_state = {"bijector": guarded(of_state, state["bijector"]), ERROR: of_after[ERROR] + error}
    return guarded(of_params, params), of_state, guarded(of_x, of_x), guarded(of_context, context)


_forward.defvjp(_forward_keeping, _backward)


# ------------------------------------------------------------------ forward, keeping little


@dataclass(frozen=True)
class Keep:
    """The walk forward: of each leaf's input one projection is kept, of a ``Whole``'s all of it, and its new state."""

    train: bool
    every: int | None
    """Inputs of how many parts in a row, or of how many layers of a loop, lie between kept ones; None: no more are."""

    def zero(self, x: PyTree, context: PyTree) -> PyTree:
        return zero_log_det(x)

    def __call__(self, part, variables, x, context, back):
        part, whole = _opened(part)
        if isinstance(part, Combinator):
            y, log_det, after, inside = self._through(part, variables, x, context, back)
            return y, log_det, (after, (x, inside) if whole else inside)
        params, state = variables
        if back:
            refuse_measuring(part, state, train=self.train)
        y, log_det, after = applied(part, params, state, x, context, back=back, train=self.train)
        return y, log_det, (after, x if whole else _projection(x))

    def _through(self, part, variables, x, context, back):
        part, every, group = _storing(part, self.every)
        variables = _fold(variables, group)
        y, log_det, outputs = part.go(Keep(self.train, every), variables, x, context, back=back)
        after, kept = part.separated(outputs, 2)
        return y, log_det, _unfold(after, group), kept


@dataclass(frozen=True)
class Whole(Combinator):
    """A bijector whose input is kept, beside what is kept inside."""

    bijector: Bijector

    @property
    def parts(self) -> tuple[Bijector, ...]:
        return (self.bijector,)

    def with_parts(self, parts: Sequence[Bijector]) -> Whole:
        return Whole(*parts)

    def go(
        self, visit: Visit, variables: tuple[PyTree, ...], x: PyTree, context: PyTree, *, back: bool = False
    ) -> tuple[PyTree, PyTree, PyTree]:
        return visit(self.bijector, variables, x, context, back)


def _opened(part: Bijector) -> tuple[Bijector, bool]:
    return (part.bijector, True) if isinstance(part, Whole) else (part, False)


def _storing(part: Combinator, every: int | None) -> tuple[Combinator, int | None, int | None]:
    """The combinator with ``Whole`` where inputs are kept, ``every`` for what is inside, and the size of its groups."""
    if part.times > 1:
        if every is None or every >= part.times:
            return part, None, None
        if part.times % every:
            raise ValueError(
                f"Reversible: expected every to divide the {part.times} layers of a {type(part).__name__}, got {every}."
            )
        return part.in_groups(every, Whole), None, every
    if every is None:
        return part, None, None
    stored = [Whole(one) if place and place % every == 0 else one for place, one in enumerate(part.parts)]
    return part.with_parts(stored), every, None


def _fold(tree: PyTree, group: int | None) -> PyTree:
    return tree if group is None else fold(tree, group)


def _unfold(tree: PyTree, group: int | None) -> PyTree:
    return tree if group is None else unfold(tree)


# ------------------------------------------------------------------ backward


class Value(NamedTuple):
    """An array of y, or of x, and the cotangent of it."""

    value: jax.Array
    cotangent: jax.Array


class Beside(NamedTuple):
    """A context, and beside it what else has a row an example."""

    context: PyTree
    of_log_det: jax.Array


@dataclass(frozen=True)
class Undo:
    """The walk back: from the output to the input, and from cotangents of the output to those of all that went in.

    It carries a ``Value`` in the place of every array, and ``Beside`` in that of the context. Variables: params, state,
    the state after, what was kept, cotangents of the state after. Sums are the cotangents of the context; outputs those
    of params and state, and errors.
    """

    train: bool
    every: int | None

    def zero(self, x: PyTree, context: PyTree) -> PyTree:
        own, _, _ = _apart(context)
        return _without_float0(_zeros(own))

    def __call__(self, part, variables, x, context, back):
        part, whole = _opened(part)
        if not isinstance(part, Combinator):
            return self._leaf(part, whole, variables, x, context, back)
        if not whole:
            return self._through(part, variables, x, context, back)
        params, state, after, (kept, inside), of_after = variables
        y, _ = _values_and_cotangents(x)
        x, of_context, output = self._through(part, (params, state, after, inside, of_after), x, context, back)
        rebuilt, of_x = _values_and_cotangents(x)
        of_params, of_state, errors = output
        x, error = _checked(rebuilt, y, kept, True)
        return jax.tree.map(Value, x, of_x), of_context, (of_params, of_state, (errors, error))

    def _through(self, part, variables, x, context, back):
        part, every, group = _storing(part, self.every)
        params, state, after, kept, of_after = variables
        params, state, after, of_after = _fold((params, state, after, of_after), group)
        variables = (params, state, after, kept, of_after)
        x, of_context, outputs = part.go(Undo(self.train, every), variables, x, context, back=back)
        of_params, of_state, errors = part.separated(outputs, 3)
        return x, of_context, (*_unfold((of_params, of_state), group), errors)

    def _leaf(self, leaf, whole, variables, x, context, back):
        params, state, after, kept, of_after = variables
        y, of_y = _values_and_cotangents(x)
        own_context, of_log_det, turned = _apart(context)

        def apply(params, state, x, context, back):
            return applied(leaf, params, state, x, turned(context), back=back, train=self.train)

        def check(x):
            return _checked(x, y, kept, whole)

        # What forward did is walked back by inverse, and inside an Inverse by forward.
        step = Step(apply, check, self.train, back, params, state, after, own_context, turned, y)
        undone = undo(leaf, step, (of_y, of_log_det, _with_float0(of_after, after)))
        of_params, of_state, of_context = _without_float0((undone.of_params, undone.of_state, undone.of_context))
        return jax.tree.map(Value, undone.x, undone.of_x), of_context, (of_params, of_state, undone.error)


def _values_and_cotangents(x: PyTree) -> tuple[PyTree, PyTree]:
    def is_value(node) -> bool:
        return isinstance(node, Value)

    return tuple(jax.tree.map(lambda value, half=half: value[half], x, is_leaf=is_value) for half in (0, 1))


def _apart(context: Beside | Turn) -> tuple[PyTree, jax.Array, Callable[[PyTree], PyTree]]:
    """The context, the log-det's cotangent, and how the context gets whose turn it is beside it, inside a loop."""
    if isinstance(context, Turn):
        own, of_log_det = context.context
        return own, of_log_det, lambda own: beside(own, context.odd, len(context.odd))
    own, of_log_det = context
    return own, of_log_det, lambda own: own


# ------------------------------------------------------------------ one leaf back


class Step(NamedTuple):
    """What is known of a leaf on the way back."""

    apply: Callable
    """``(params, state, x, context, back) -> (y, log_det, state)``."""
    check: Callable
    """``rebuilt x -> (x, error)``."""
    train: bool
    back: bool
    """Whether inverse leads back; else, inside an ``Inverse``, forward does."""
    params: PyTree
    state: PyTree
    after: PyTree
    context: PyTree
    turned: Callable
    """The context as the leaf takes it."""
    y: PyTree


class Undone(NamedTuple):
    x: PyTree
    of_params: PyTree
    of_state: PyTree
    of_x: PyTree
    of_context: PyTree
    error: jax.Array


@singledispatch
def undo(leaf: Bijector, step: Step, cotangents: PyTree) -> Undone:
    """From the output of one leaf to its input, and from cotangents of ``(y, log_det, state)`` to all others."""
    x, _, _ = step.apply(step.params, step.after, step.y, step.context, step.back)
    x, error = step.check(x)

    def apply(params, state, x, context):
        return step.apply(params, state, x, context, not step.back)

    _, pull = jax.vjp(apply, step.params, step.state, x, step.context)
    of_params, of_state, of_x, of_context = pull(cotangents)
    return Undone(x, of_params, of_state, of_x, of_context, error)


@undo.register
def _(leaf: Coupling, step, cotangents):
    if not step.back:
        return undo.dispatch(Bijector)(leaf, step, cotangents)
    return _undo_coupling(leaf, leaf.mask, lambda context: context, step, cotangents)


@undo.register
def _(leaf: InTurns, step, cotangents):
    coupling = leaf.bijector
    if not step.back or not isinstance(coupling, Coupling):
        return undo.dispatch(Bijector)(leaf, step, cotangents)
    mask = mask_at(step.turned(step.context).odd, coupling)
    return _undo_coupling(coupling, mask, lambda context: step.turned(context).context, step, cotangents)


def _undo_coupling(coupling: Coupling, mask: Mask, own: Callable, step: Step, cotangents) -> Undone:
    # The part that passes is what the network sees in both directions: one evaluation serves both.
    of_y, of_log_det, of_after = cotangents
    passed, changed = mask.split(step.y)

    def network(params, state, passed, context):
        outputs = coupling.outputs(changed)
        return coupling.theta(mask, params, state, passed, own(context), outputs=outputs, train=step.train)

    (theta, _), pull_network = jax.vjp(network, step.params["conditioner"], step.state, passed, step.context)
    inverted, _ = coupling.transform.inverse(step.params["transform"], theta, changed)
    x, error = step.check(mask.merge(passed, inverted))

    _, pull = jax.vjp(partial(coupling.given_theta, mask), step.params["transform"], theta, x)
    of_transform, of_theta, of_x = pull((of_y, of_log_det))
    of_network, of_state, of_passed, of_context = pull_network((of_theta, of_after))
    _, pull_split = jax.vjp(lambda x: mask.split(x)[0], x)
    of_x = of_x + pull_split(of_passed)[0]
    return Undone(x, {"transform": of_transform, "conditioner": of_network}, of_state, of_x, of_context, error)


# ------------------------------------------------------------------ how well the input was rebuilt


def _projection(x: PyTree) -> jax.Array:
    """r·x of each example, r of signs ±1 that look random: ``(batch,)``, in at least float32."""
    return reduce(jnp.add, map(_project, jax.tree.leaves(x)))


def _project(leaf: jax.Array) -> jax.Array:
    # Hashed from the position: nothing to store, and the compiler fuses it into the sum.
    hashed = jax.lax.iota(jnp.uint32, math.prod(leaf.shape[1:])) * jnp.uint32(2654435769)
    signs = 1 - 2 * ((hashed ^ (hashed >> 15)) >> 8 & 1).astype(jnp.int32)
    return sum_over_event(leaf.astype(log_det_dtype(leaf)) * signs.reshape(leaf.shape[1:]))


def _checked(x: PyTree, y: PyTree, kept: PyTree, whole: bool) -> tuple[PyTree, jax.Array]:
    """The input, as it was where it was kept whole, else as it was rebuilt; and the error of what was rebuilt.

    Each example's is measured by its own scale: beside large ones a small one would seem right, however far it is off.
    """
    of_x, of_y = _rms(x), _rms(y)
    nothing = of_x <= 4 * jnp.finfo(of_y.dtype).eps * of_y
    scale = jnp.where(nothing, 0.01 * of_y, of_x) + 1e-3 * jnp.sqrt(jnp.mean(of_x**2))
    if whole:
        differences = jax.tree.map(lambda rebuilt, true: _largest(jnp.abs(rebuilt - true)), x, kept)
        x, difference = kept, jnp.max(jnp.stack(jax.tree.leaves(differences)), axis=0)
    else:
        entries = sum(math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(x))
        difference = jnp.abs(_projection(x) - kept) / math.sqrt(entries)
    return x, jnp.max(difference / (scale + jnp.finfo(scale.dtype).tiny)).astype(jnp.float32)


def _rms(x: PyTree) -> jax.Array:
    """Of each example: ``(batch,)``."""
    leaves = [leaf.astype(log_det_dtype(leaf)) for leaf in jax.tree.leaves(x)]
    entries = sum(math.prod(leaf.shape[1:]) for leaf in leaves)
    return jnp.sqrt(sum(sum_over_event(leaf**2) for leaf in leaves) / entries)


def _largest(a: jax.Array) -> jax.Array:
    """Of each example: ``(batch,)``."""
    return jnp.max(a.reshape(len(a), -1), axis=1)


# ------------------------------------------------------------------ cotangents of whole numbers


def _is_float0(leaf) -> bool:
    return leaf.dtype == jax.dtypes.float0


def _without_float0(tree):
    """The tree with None for cotangents of whole numbers, which no loop carries."""
    return jax.tree.map(lambda leaf: None if _is_float0(leaf) else leaf, tree)


def _with_float0(tree, like):
    def restored(leaf, cotangent):
        return np.zeros(leaf.shape, jax.dtypes.float0) if cotangent is None else cotangent

    return jax.tree.map(restored, like, tree)


def _zeros(tree):
    """Cotangents of a tree on which nothing depends."""

    def zeros(leaf):
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.zeros_like(leaf) if floating else np.zeros(leaf.shape, jax.dtypes.float0)

    return jax.tree.map(zeros, tree)

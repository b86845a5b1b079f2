"""Training memory that does not grow with depth: activations are rebuilt by inversion, and it is measured how well."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial, singledispatch
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nvpjax.bijector import Bijector, PyTree, log_det_dtype, sum_over_event, zero_log_det
from nvpjax.bijectors.coupling import Coupling
from nvpjax.chain import Chain
from nvpjax.multiscale import MultiScale, halves
from nvpjax.repeat import Repeat, fold, unfold

ERROR = "reconstruction_error"
"""The name under which a state keeps the place for the measured error."""


@dataclass(frozen=True)
class Reversible(Bijector):
    """The same bijector with another backward pass: it rebuilds activations from the output instead of keeping them.

    Forward and inverse are those of ``bijector``, and so are gradients, up to rounding. What the backward pass needs
    beside parameters is the input, the output, and a number an example and layer, however many layers there are.
    Chains, repeats and multi-scale flows inside are walked back layer by layer; a coupling evaluates its network once
    for inversion and gradient. Costs: one more evaluation of every layer than plain differentiation.

    **The guard.** In floating point an inverse may not invert: errors grow from layer to layer, and a gradient at
    activations that are off is wrong. So forward keeps of each layer's input one random projection (signs ±1) an
    example, and the backward pass measures with it

        error = max over layers and examples |r·(x̂ − x)| / (√D · (rms(x̂) + rms(y) / 100)),

    which for an error spread over all D entries is about its size relative to x (or y, where x is nearly nothing).
    Where that is above ``bound``, or is no number, all gradients are NaN: a wrong gradient is never given silently.
    ``training.make_train_step`` then skips the step and counts it. The error itself is the gradient of a loss with
    respect to ``state["reconstruction_error"]``, which the train step puts into its metrics.

    ``every=k`` keeps the input of every k-th layer of a chain or repeat too, and goes on from there:
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
        if (self.every is not None and self.every < 1) or not self.bound > 0:
            raise ValueError(f"Reversible: expected every >= 1 and bound > 0, got {self.every} and {self.bound}.")

    def init(self, key, x, context=None):
        params, state = self.bijector.init(key, x, context)
        return params, {"bijector": state, ERROR: jnp.float32(0)}

    def init_inverse(self, key, y, context=None):
        params, state = self.bijector.init_inverse(key, y, context)
        return params, {"bijector": state, ERROR: jnp.float32(0)}

    def forward(self, params, state, x, context=None, *, train=False):
        return _forward(self, train, params, state, x, context)

    def inverse(self, params, state, y, context=None, *, train=False):
        return self.bijector.inverse(params, state["bijector"], y, context, train=train)

    def log_det(self, params, state, x, context=None):
        return self.bijector.log_det(params, state["bijector"], x, context)


def error_places(state: PyTree) -> list[jax.Array]:
    """The leaves of a state whose gradients are the errors that were measured."""
    return [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state) if _is_place(path)]


def with_places(state: PyTree, places: list[jax.Array]) -> PyTree:
    """The state with these leaves in the place of its own: what a gradient with respect to them alone needs."""
    remaining = iter(places)
    return jax.tree_util.tree_map_with_path(lambda path, leaf: next(remaining) if _is_place(path) else leaf, state)


def _is_place(path) -> bool:
    return bool(path) and getattr(path[-1], "key", None) == ERROR


def layers_between_stored(error: float, layers: int, *, bound: float = 1e-3, dtype: Any = jnp.float32) -> int:
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
    y, log_det, after = reversible.bijector.forward(params, state["bijector"], x, context, train=train)
    return y, log_det, {**state, "bijector": after}


def _forward_keeping(reversible, train, params, state, x, context):
    run = Run(train, context, reversible.every, True)
    y, log_det, after, kept = walk(reversible.bijector, run, params, state["bijector"], x)
    return (y, log_det, {**state, "bijector": after}), (params, state, after, kept, y, context)


def _backward(reversible, train, residuals, cotangents):
    params, state, after, kept, y, context = residuals
    of_y, of_log_det, of_after = cotangents
    run = Run(train, context, reversible.every, True)
    variables = (params, state["bijector"], after, kept, y)
    back = walk_back(reversible.bijector, run, *variables, Cotangents(of_y, of_log_det, of_after["bijector"]))
    right = back.error <= reversible.bound  # False for NaN

    def guarded(tree):
        return jax.tree.map(lambda leaf: leaf if _is_float0(leaf) else jnp.where(right, leaf, jnp.nan), tree)

    of_state = {"bijector": guarded(back.of_state), ERROR: of_after[ERROR] + back.error}
    return guarded(back.of_params), of_state, guarded(back.of_x), guarded(back.of_context)


_forward.defvjp(_forward_keeping, _backward)


class Run(NamedTuple):
    """What a walk carries along."""

    train: bool
    context: PyTree
    every: int | None
    """Of a chain or repeat, inputs of how many layers lie between kept ones; None: the first one's is kept alone."""
    keep: bool
    """Whether the input of the bijector at hand is kept whole."""

    def at(self, position: int) -> Run:
        """For a layer of a chain."""
        keep = self.keep if position == 0 else self.every is not None and position % self.every == 0
        return self._replace(keep=keep)


class Cotangents(NamedTuple):
    of_y: PyTree
    of_log_det: jax.Array
    of_after: PyTree
    """Of the state that forward gave."""


class Back(NamedTuple):
    """What walking a bijector back gives."""

    x: PyTree
    of_params: PyTree
    of_state: PyTree
    of_x: PyTree
    of_context: PyTree
    error: jax.Array
    """The largest of its layers."""


# ------------------------------------------------------------------ one layer


@singledispatch
def walk(bijector: Bijector, run: Run, params, state, x):
    """Forward, and what is kept of its input: ``(y, log_det, state, kept)``."""
    y, log_det, after = bijector.forward(params, state, x, run.context, train=run.train)
    return y, log_det, after, x if run.keep else _projection(x)


@singledispatch
def walk_back(bijector: Bijector, run: Run, params, state, after, kept, y, cotangents: Cotangents) -> Back:
    """From the output back to the input, and from cotangents of the output to those of all that went in."""
    x, _ = bijector.inverse(params, after, y, run.context, train=run.train)
    x, error = _checked(x, y, kept, run.keep)

    def forward(params, state, x, context):
        return bijector.forward(params, state, x, context, train=run.train)

    _, pull = jax.vjp(forward, params, state, x, run.context)
    return Back(x, *pull(tuple(cotangents)), error)


@walk_back.register
def _(bijector: Coupling, run, params, state, after, kept, y, cotangents):
    # The part that passes is what the network sees in both directions: one evaluation serves both.
    passed, changed = bijector.mask.split(y)

    def network(params, state, passed, context):
        return bijector.theta(params, state, passed, context, train=run.train)

    (theta, _), pull_network = jax.vjp(network, params["conditioner"], state, passed, run.context)
    changed, _ = bijector.transform.inverse(params["transform"], theta, changed)
    x, error = _checked(bijector.mask.merge(passed, changed), y, kept, run.keep)

    _, pull = jax.vjp(bijector.given_theta, params["transform"], theta, x)
    of_transform, of_theta, of_x = pull((cotangents.of_y, cotangents.of_log_det))
    of_network, of_state, of_passed, of_context = pull_network((of_theta, cotangents.of_after))
    _, pull_split = jax.vjp(lambda x: bijector.mask.split(x)[0], x)
    of_x = of_x + pull_split(of_passed)[0]
    return Back(x, {"transform": of_transform, "conditioner": of_network}, of_state, of_x, of_context, error)


# ------------------------------------------------------------------ layers in a row


@walk.register
def _(bijector: Chain, run, params, state, x):
    total, states, kept = zero_log_det(x), [], []
    for position, layer in enumerate(bijector.bijectors):
        x, log_det, after, of_layer = walk(layer, run.at(position), params[position], state[position], x)
        total += log_det
        states.append(after)
        kept.append(of_layer)
    return x, total, tuple(states), tuple(kept)


@walk_back.register
def _(bijector: Chain, run, params, state, after, kept, y, cotangents):
    of_params, of_state, of_context, error = [], [], _zeros(run.context), jnp.float32(0)
    of_y, of_log_det, of_after = cotangents
    for position in reversed(range(len(bijector.bijectors))):
        back = walk_back(
            bijector.bijectors[position],
            run.at(position),
            params[position],
            state[position],
            after[position],
            kept[position],
            y,
            Cotangents(of_y, of_log_det, of_after[position]),
        )
        y, of_y, error = back.x, back.of_x, jnp.maximum(error, back.error)
        of_params.append(back.of_params)
        of_state.append(back.of_state)
        of_context = _sum(of_context, back.of_context)
    return Back(y, tuple(reversed(of_params)), tuple(reversed(of_state)), of_y, of_context, error)


@walk.register
def _(bijector: MultiScale, run, params, state, x):
    total, latents, states, kept = zero_log_det(x), [], [], []
    for position, scale in enumerate(bijector.scales):
        x, log_det, after, of_scale = walk(scale, run, params[position], state[position], x)
        total += log_det
        states.append(after)
        kept.append(of_scale)
        if position < len(bijector.scales) - 1:
            x, z = halves(x)
            latents.append(z)
    return (*latents, x), total, tuple(states), tuple(kept)


@walk_back.register
def _(bijector: MultiScale, run, params, state, after, kept, y, cotangents):
    of_params, of_state, of_context, error = [], [], _zeros(run.context), jnp.float32(0)
    *latents, h = y
    *of_latents, of_h = cotangents.of_y
    for position in reversed(range(len(bijector.scales))):
        back = walk_back(
            bijector.scales[position],
            run,
            params[position],
            state[position],
            after[position],
            kept[position],
            h,
            Cotangents(of_h, cotangents.of_log_det, cotangents.of_after[position]),
        )
        h, of_h, error = back.x, back.of_x, jnp.maximum(error, back.error)
        of_params.append(back.of_params)
        of_state.append(back.of_state)
        of_context = _sum(of_context, back.of_context)
        if position > 0:
            h = jnp.concatenate([h, latents[position - 1]], axis=-1)
            of_h = jnp.concatenate([of_h, of_latents[position - 1]], axis=-1)
    return Back(h, tuple(reversed(of_params)), tuple(reversed(of_state)), of_h, of_context, error)


# ------------------------------------------------------------------ one layer many times


@walk.register
def _(bijector: Repeat, run, params, state, x):
    if run.every is not None and run.every < bijector.times:
        folded = _folded(bijector, run.every)
        inside = run._replace(every=None, keep=True)
        y, log_det, after, kept = _walk_layers(folded, run, inside, *fold((params, state), run.every), x)
        return y, log_det, unfold(after), kept
    return _walk_layers(bijector, run, run._replace(every=None, keep=False), params, state, x)


def _walk_layers(bijector: Repeat, run: Run, inside: Run, params, state, x):
    def layer(bijector, carry, variables):
        x, total = carry
        y, log_det, after, kept = walk(bijector, inside, *variables, x)
        return (y, total + log_det), (after, kept)

    (y, log_det), (after, kept) = bijector.loop(layer, (x, zero_log_det(x)), (params, state))
    return y, log_det, after, (x if run.keep else _projection(x), kept)


@walk_back.register
def _(bijector: Repeat, run, params, state, after, kept, y, cotangents):
    if run.every is not None and run.every < bijector.times:
        folded = _folded(bijector, run.every)
        inside = run._replace(every=None, keep=True)
        of_after = fold(cotangents.of_after, run.every)
        variables = fold((params, state, after), run.every)
        back = _walk_layers_back(folded, run, inside, *variables, kept, y, cotangents._replace(of_after=of_after))
        return back._replace(of_params=unfold(back.of_params), of_state=unfold(back.of_state))
    inside = run._replace(every=None, keep=False)
    return _walk_layers_back(bijector, run, inside, params, state, after, kept, y, cotangents)


def _walk_layers_back(bijector: Repeat, run: Run, inside: Run, params, state, after, kept, y, cotangents) -> Back:
    of_input, of_layers = kept

    def layer(bijector, carry, variables):
        y, of_y, of_context, error = carry
        params, state, after, kept, of_after = variables
        of_after = _with_float0(of_after, after)
        layer_cotangents = Cotangents(of_y, cotangents.of_log_det, of_after)
        back = walk_back(bijector, inside, params, state, after, kept, y, layer_cotangents)
        carry = (back.x, back.of_x, _sum(of_context, _without_float0(back.of_context)), jnp.maximum(error, back.error))
        return carry, (back.of_params, _without_float0(back.of_state))

    start = (y, cotangents.of_y, _without_float0(_zeros(run.context)), jnp.float32(0))
    variables = (params, state, after, of_layers, _without_float0(cotangents.of_after))
    (x, of_x, of_context, error), (of_params, of_state) = bijector.loop(layer, start, variables, reverse=True)
    x, at_input = _checked(x, y, of_input, run.keep)
    of_state, of_context = _with_float0(of_state, state), _with_float0(of_context, run.context)
    return Back(x, of_params, of_state, of_x, of_context, jnp.maximum(error, at_input))


def _folded(bijector: Repeat, every: int) -> Repeat:
    if bijector.times % every:
        raise ValueError(f"Reversible: expected every to divide the {bijector.times} layers of a Repeat, got {every}.")
    outer_alternates = bijector.alternate and every % 2 == 1
    inner = replace(bijector, times=every)
    return replace(bijector, bijector=inner, times=bijector.times // every, alternate=outer_alternates)


# ------------------------------------------------------------------ how well the input was rebuilt


def _projection(x: PyTree) -> jax.Array:
    """r·x of each example, r of signs ±1 that look random: ``(batch,)``, in at least float32."""
    return sum(_project(leaf) for leaf in jax.tree.leaves(x))


def _project(leaf: jax.Array) -> jax.Array:
    # Hashed from the position: nothing to store, and the compiler fuses it into the sum.
    hashed = jax.lax.iota(jnp.uint32, math.prod(leaf.shape[1:])) * jnp.uint32(2654435769)
    signs = 1 - 2 * ((hashed ^ (hashed >> 15)) >> 8 & 1).astype(jnp.int32)
    return sum_over_event(leaf.astype(log_det_dtype(leaf)) * signs.reshape(leaf.shape[1:]))


def _checked(x: PyTree, y: PyTree, kept: PyTree, whole: bool) -> tuple[PyTree, jax.Array]:
    """The input, as it was where it was kept whole, else as it was rebuilt; and the error of what was rebuilt."""
    scale = _rms(x) + 0.01 * _rms(y)
    if whole:
        differences = jax.tree.map(lambda rebuilt, true: jnp.max(jnp.abs(rebuilt - true)), x, kept)
        x, difference = kept, jnp.max(jnp.stack(jax.tree.leaves(differences)))
    else:
        entries = sum(math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(x))
        difference = jnp.max(jnp.abs(_projection(x) - kept)) / math.sqrt(entries)
    return x, (difference / (scale + jnp.finfo(scale.dtype).tiny)).astype(jnp.float32)


def _rms(x: PyTree) -> jax.Array:
    leaves = [leaf.astype(log_det_dtype(leaf)) for leaf in jax.tree.leaves(x)]
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in leaves) / sum(leaf.size for leaf in leaves))


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


def _sum(tree, other):
    return jax.tree.map(lambda a, b: a if _is_float0(a) else a + b, tree, other)

"""Depth without longer programs: one layer, many times."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params

from nvpjax.bijector import Bijector, zero_log_det
from nvpjax.bijectors.masks import InTurns


@dataclass(frozen=True)
class Repeat(Bijector):
    """A bijector applied ``times`` times, each time with parameters of its own, as one loop.

        forward:  y = f_θₙ(… f_θ₂(f_θ₁(x))),     log_det = Σₖ log_detₖ

    ``params`` and ``state`` are those of the bijector with a leading axis of ``times``. What alternates belongs inside
    (``Repeat(Chain((coupling, other, Reverse())), 16)``), or, where it is the masks alone, ``alternate=True``
    complements them at every second layer: layers 0, 2, 4, … have the masks as they are.

    ``scan=True`` makes the loop a ``lax.scan``, over pairs of layers where ``times`` is even and nothing convolves: the
    program that is compiled does not grow with ``times``.
    ``scan=False`` writes the layers out one after the other. Parameters are the same. By default layers are written out
    on the CPU backend where they convolve (its compiler runs convolutions inside a loop 6 to 12 times slower, jax issue
    12868), and scanned everywhere else.

    Errors: ValueError where the bijector changes the shape of events, ``times`` < 1, or with ``alternate`` a mask that
    does not cut events into equal halves.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Chain, Repeat, Reverse, Triangular
    >>> deep = Repeat(Chain((Triangular(), Reverse())), times=32)
    >>> params, state = deep.init(jax.random.key(0), jnp.ones((3, 2)))
    >>> y, log_det, _ = deep.forward(params, state, jnp.ones((3, 2)))
    >>> params[0]["shift"].shape, log_det.shape
    ((32, 2), (3,))
    """

    bijector: Bijector
    times: int
    scan: bool | None = None
    alternate: bool = False

    def __post_init__(self):
        if not isinstance(self.bijector, Bijector):
            raise TypeError(f"Repeat: expected a Bijector, got {self.bijector!r}.")
        if self.times < 1:
            raise ValueError(f"Repeat: expected times >= 1, got {self.times}.")

    def init(self, key, x, context=None):
        # Layer after layer, not all at once: a layer that measures in init sees what the layers before it make of x.
        def layer(bijector, x, key):
            params, state = bijector.init(key, x, context)
            y, _, _ = bijector.forward(params, state, x, context)
            self._check_shape(x, y)
            return y, (params, state)

        return self.loop(layer, x, jax.random.split(key, self.times))[1]

    def init_inverse(self, key, y, context=None):
        def layer(bijector, y, key):
            params, state = bijector.init_inverse(key, y, context)
            x, _ = bijector.inverse(params, state, y, context)
            self._check_shape(y, x)
            return x, (params, state)

        return self.loop(layer, y, jax.random.split(key, self.times), reverse=True)[1]

    def forward(self, params, state, x, context=None, *, train=False):
        def layer(bijector, carry, variables):
            x, total = carry
            y, log_det, state = bijector.forward(*variables, x, context, train=train)
            return (y, total + log_det), state

        (y, log_det), state = self.loop(layer, (x, zero_log_det(x)), (params, state))
        return y, log_det, state

    def inverse(self, params, state, y, context=None, *, train=False):
        def layer(bijector, carry, variables):
            y, total = carry
            x, log_det = bijector.inverse(*variables, y, context, train=train)
            return (x, total + log_det), None

        (x, log_det), _ = self.loop(layer, (y, zero_log_det(y)), (params, state), reverse=True)
        return x, log_det

    def loop(self, layer, carry, variables, *, reverse=False):
        """Go over the layers as ``lax.scan`` does: ``layer(bijector, carry, variables of one) -> (carry, output)``."""

        def one_of_many(carry, numbered):
            number, of_one = numbered
            return layer(self._layer(number % 2 == 1), carry, of_one)

        one = jax.jit(lambda odd, carry, of_one: layer(self._layer(odd), carry, of_one), static_argnums=0)

        def written_out(carry, variables):
            layers = _unstack(variables)
            outputs = [None] * len(layers)
            for number in reversed(range(len(layers))) if reverse else range(len(layers)):
                carry, outputs[number] = one(number % 2 == 1, carry, layers[number][1])  # equal layers: one trace
            return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)

        variables = (jnp.arange(self.times), variables)
        of_one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), variables)
        convolves = _convolves(jax.make_jaxpr(one_of_many)(carry, of_one).jaxpr)
        scan = not (convolves and jax.default_backend() == "cpu") if self.scan is None else self.scan
        if not scan or self.times == 2:
            return written_out(carry, variables)
        # In pairs no mask is chosen on the device, and between the two nothing is put together or copied: densities of
        # flows of vectors take a quarter less on the CPU. Larger passes bring little more, and compile longer.
        if self.times % 2 == 0 and not convolves:
            carry, outputs = _scan_reading_ahead(written_out, carry, fold(variables, 2), reverse=reverse)
            return carry, unfold(outputs)
        return jax.lax.scan(one_of_many, carry, variables, reverse=reverse)

    def _layer(self, odd: bool | jax.Array) -> Bijector:
        return _with_masks_in_turns(self.bijector, odd) if self.alternate else self.bijector

    def _check_shape(self, before, after):
        before, after = jax.tree.map(lambda a: (a.shape, a.dtype), (before, after))
        if before != after:
            raise ValueError(
                f"Repeat: expected a bijector that keeps shape and dtype of events, got {before} → {after} from "
                f"{self.bijector!r}. Use Chain."
            )


def fold(tree, every: int):
    """Split the leading axis: ``(times, …)`` becomes ``(times / every, every, …)``."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, every, *leaf.shape[1:]), tree)


def unfold(tree):
    """What ``fold`` did, undone."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), tree)


def _unstack(tree) -> list:
    """One tree a layer. By ``lax.split``, whose gradient is a concatenation; that of indexing is a sum over layers."""
    leaves, structure = jax.tree.flatten(tree)
    pieces = [[piece[0] for piece in jax.lax.split(leaf, (1,) * len(leaf))] for leaf in leaves]
    return [structure.unflatten(of_one) for of_one in zip(*pieces, strict=True)]


def _scan_reading_ahead(pair, carry, variables, *, reverse: bool):
    """``lax.scan`` over pairs of layers, in which what is a vector in each, as biases are, is read one pass early.

    Else the CPU's compiler reads biases inside the loops over entries, at an address that it does not know to be fixed,
    and gives up vector instructions there: samples of affine couplings take a sixth longer. Kernels it reads before
    their product anyway, and held early they would be copied.
    """

    def is_early(leaf) -> bool:  # pairs, two layers, entries
        return jax.default_backend() == "cpu" and leaf.ndim <= 3 and jnp.issubdtype(leaf.dtype, jnp.floating)

    def pass_and_read(carry, read):
        carry, held = carry
        now = jax.tree.map(lambda held, read: read if held is None else held, held, read, is_leaf=_is_none)
        held = jax.tree.map(lambda held, read: None if held is None else read, held, read, is_leaf=_is_none)
        carry, outputs = pair(carry, now)
        return (carry, held), outputs

    first, step = (-1, 1) if reverse else (0, -1)
    held = jax.tree.map(lambda leaf: leaf[first] if is_early(leaf) else None, variables)
    shifted = jax.tree.map(lambda leaf: jnp.roll(leaf, step, axis=0) if is_early(leaf) else leaf, variables)
    (carry, _), outputs = jax.lax.scan(pass_and_read, (carry, held), shifted, reverse=reverse)
    return carry, outputs


def _is_none(leaf) -> bool:
    return leaf is None


def _with_masks_in_turns(value: Any, complemented: bool | jax.Array) -> Any:
    """The bijector with every mask in it complemented, where ``complemented`` is true."""
    if hasattr(value, "complement"):
        if isinstance(complemented, bool):
            return value.complement() if complemented else value
        return InTurns(value, value.complement(), complemented)
    if isinstance(value, tuple):
        return tuple(_with_masks_in_turns(entry, complemented) for entry in value)
    if isinstance(value, Bijector):
        own = {field.name: getattr(value, field.name) for field in fields(value)}
        return replace(value, **{name: _with_masks_in_turns(entry, complemented) for name, entry in own.items()})
    return value


def _convolves(jaxpr) -> bool:
    """Whether a convolution is in it, or in a function that it calls."""

    def does(equation) -> bool:
        inner = jaxprs_in_params(equation.params)
        return equation.primitive.name == "conv_general_dilated" or any(map(_convolves, inner))

    return any(map(does, jaxpr.eqns))

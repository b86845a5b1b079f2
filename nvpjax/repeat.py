"""Depth without longer programs: one layer, many times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import jax
import jax.numpy as jnp

from nvpjax.bijector import Bijector, PyTree
from nvpjax.combinator import Combinator, Composite, Visit, added
from nvpjax.convolves import convolves, convolving_layers_are_a_loop
from nvpjax.turns import beside, can_take_turns, complemented, in_turns
from nvpjax.values import expect_at_least


@dataclass(frozen=True)
class Repeat(Combinator):
    """A bijector applied ``times`` times, each time with parameters of its own, as one loop.

        forward:  y = f_θₙ(… f_θ₂(f_θ₁(x))),     log_det = Σₖ log_detₖ

    ``params`` and ``state`` are those of the bijector with a leading axis of ``times``. What alternates belongs inside
    (``Repeat(Chain((coupling, other, Reverse())), 16)``), or, where it is the masks alone, ``alternate=True``
    complements them at every second layer: layers 0, 2, 4, … have the masks as they are.

    ``scan=True`` makes the loop a ``lax.scan``, over pairs of layers where ``times`` is even and nothing convolves: the
    program that is compiled does not grow with ``times``.
    ``scan=False`` writes the layers out one after the other. Parameters are the same. By default layers are written out
    where they convolve, but for TPUs (see ``convolving_layers_are_a_loop``), and are a loop everywhere else.

    Errors: ValueError where the bijector changes the shape of events, ``times`` < 1, or with ``alternate`` no mask that
    has a complement, or one that does not cut events into equal halves.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import Chain, Repeat, Reverse, Triangular
    >>> deep = Repeat(Chain((Triangular(), Reverse())), times=32)
    >>> params, state = deep.init(jax.random.key(0), jnp.ones((3, 2)))
    >>> y, log_det, _ = deep.forward(params, state, jnp.ones((3, 2)))
    >>> params[0]["shift"].shape, log_det.shape
    ((32, 2), (3,))
    """

    bijector: Bijector
    times: int = field()  # without a default, where Combinator has 1
    scan: bool | None = None
    alternate: bool = False

    def __post_init__(self):
        if not isinstance(self.bijector, Bijector):
            raise TypeError(f"Repeat: expected a Bijector, got {self.bijector!r}.")
        expect_at_least(self, 1, "times")
        if self.alternate and not can_take_turns(self.bijector):
            raise ValueError(
                f"Repeat: expected a mask with a complement where alternate=True, got none in {self.bijector!r}. "
                "Give a Coupling, or leave alternate out."
            )

    @property
    def parts(self) -> tuple[Bijector, ...]:
        return (self.bijector,)

    def with_parts(self, parts: Sequence[Bijector]) -> Repeat:
        (bijector,) = parts
        return replace(self, bijector=bijector)

    def keys(self, key: jax.Array, *, back: bool) -> PyTree:
        return jax.random.split(key, self.times)

    def in_groups(self, size: int, wrap: Callable[[Bijector], Composite]) -> Repeat:
        inner = replace(self, times=size)
        in_turns = self.alternate and size % 2 == 1
        return replace(self, bijector=wrap(inner), times=self.times // size, alternate=in_turns)

    def go(
        self, visit: Visit, variables: tuple[PyTree, ...], x: PyTree, context: PyTree, *, back: bool = False
    ) -> tuple[PyTree, PyTree, PyTree]:
        def layer(bijector, carry, of_one, context):
            x, sums = carry
            y, more, output = visit(bijector, of_one, x, context, back)
            self._check_shape(x, y)
            return (y, added(sums, more)), output

        (y, sums), outputs = self._loop(layer, (x, visit.zero(x, context)), variables, context, reverse=back)
        return y, sums, outputs

    def _loop(self, layer, carry, variables, context, *, reverse):
        """Go over the layers as ``lax.scan`` does: ``layer(bijector, carry, variables of one, context)``."""
        batch = len(jax.tree.leaves(carry)[0])

        def one_of_many(carry, numbered):
            number, of_one = numbered
            if not self.alternate:
                return layer(self.bijector, carry, of_one, context)
            return layer(in_turns(self.bijector), carry, of_one, beside(context, number % 2 == 1, batch))

        @partial(jax.jit, static_argnums=0)
        def one(odd, carry, of_one):
            return layer(complemented(self.bijector) if odd else self.bijector, carry, of_one, context)

        def written_out(carry, variables):
            layers = _unstack(variables)
            outputs = [None] * len(layers)
            for number in reversed(range(len(layers))) if reverse else range(len(layers)):
                odd = self.alternate and number % 2 == 1
                carry, outputs[number] = one(odd, carry, layers[number][1])  # equal layers: one trace
            return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)

        variables = (jnp.arange(self.times), variables)
        of_one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), variables)
        jaxpr = jax.make_jaxpr(one_of_many)(carry, of_one).jaxpr
        scan = (convolving_layers_are_a_loop() or not convolves(jaxpr)) if self.scan is None else self.scan
        if not scan or self.times == 2:
            return written_out(carry, variables)
        # In pairs no mask is chosen on the device, and between the two nothing is put together or copied: densities of
        # flows of vectors take a quarter less on the CPU. Larger passes bring little more, and compile longer.
        if self.times % 2 == 0 and not convolves(jaxpr):
            carry, outputs = _scan_reading_ahead(written_out, carry, fold(variables, 2), reverse=reverse)
            return carry, unfold(outputs)
        return jax.lax.scan(one_of_many, carry, variables, reverse=reverse)

    def _check_shape(self, before, after):
        before, after = jax.tree.map(lambda a: (a.shape, a.dtype), (before, after))
        if before != after:
            raise ValueError(
                f"Repeat: expected a bijector that keeps shape and dtype of events, got {before} → {after} from "
                f"{self.bijector!r}. Use Chain."
            )


def fold(tree: PyTree, every: int) -> PyTree:
    """Split the leading axis: ``(times, …)`` becomes ``(times / every, every, …)``."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, every, *leaf.shape[1:]), tree)


def unfold(tree: PyTree) -> PyTree:
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

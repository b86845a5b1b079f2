"""In which dtype a program sums, read from its jaxpr: nothing is run or compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, Literal

NARROW = (jnp.dtype("bfloat16"), jnp.dtype("float16"))
CUTS = {"slice", "dynamic_slice", "gather", "split"}
SUMS = {"reduce_sum", "dot_general", "cumsum", "reduce_window_sum", "scatter-add", "psum"}
TERMS = {
    *("add", "sub", "neg", "mul", "div", "select_n", "max", "min", "convert_element_type", "reduce_precision"),
    *("reshape", "squeeze", "expand_dims", "broadcast_in_dim", "transpose", "concatenate", "slice", "dynamic_slice"),
    *("copy", "copy_p", "optimization_barrier", "add_any", "gather", "rev", "pad"),
}
"""What leaves a sum of terms such a sum, or adds one to another. (A column is one after any function.)"""


def narrow_sums(function: Callable, arguments: tuple) -> str:
    """Say which sum the function's result is made of that passes through bfloat16 or float16; nothing if there is none.

    A sum is what a reduction gives for each row, or for all rows, or what two columns add up to; it stays one through
    additions, multiplications and changes of shape or dtype. What is an input to another function (a logarithm, a
    network's activation) is no term of the result any more: networks may compute in bfloat16, and their outputs be
    summed in float32.
    """
    closed = jax.make_jaxpr(function)(*arguments)
    sums = _followed(closed.jaxpr, [None] * len(closed.jaxpr.invars))
    narrow = [kind for kind in sums if isinstance(kind, _Sum) and kind.narrow]
    return f"{narrow[0].by} in {narrow[0].dtype}" if narrow else ""


class _Sum:
    """A value that is a sum: by which primitive, and the narrowest dtype in which it has been."""

    def __init__(self, by, dtype):
        self.by, self.dtype = by, dtype

    @property
    def narrow(self):
        return self.dtype in NARROW

    def within(self, dtype):
        return _Sum(self.by, dtype) if dtype in NARROW else self


class _Column:
    """One number a row, cut out of an array: where."""

    def __init__(self, place):
        self.place = place


def _worst(kinds):
    sums = [kind for kind in kinds if isinstance(kind, _Sum)]
    return next((one for one in sums if one.narrow), sums[0] if sums else None)


def _columns(equation, given: list):
    """Whether what comes out is a column, or the sum of two."""
    (out, *_), name = equation.outvars, equation.primitive.name
    columns = {kind.place: kind for kind in given if isinstance(kind, _Column)}
    if name in ("add", "sub", "add_any") and len(columns) > 1 and out.aval.ndim <= 1:
        return _Sum("sum of columns", out.aval.dtype)
    if name in CUTS and not columns:
        literals = [str(variable.val) for variable in equation.invars if isinstance(variable, Literal)]
        source = id(equation.invars[0])
        return _Column((source, str(equation.params), *literals))
    return next(iter(columns.values()), None)


def _followed(jaxpr: Jaxpr, inputs: list) -> list:
    """What each output of a jaxpr is, from what its inputs are: a ``_Sum``, a ``_Column`` or None."""
    known = dict(zip(jaxpr.invars, inputs))

    def of(variable):
        return None if isinstance(variable, Literal) else known.get(variable)

    for equation in jaxpr.eqns:
        given, name = [of(variable) for variable in equation.invars], equation.primitive.name
        inner = _inside(equation, given)
        outvars: list[Any] = equation.outvars  # arrays; jax's type allows what has no shape
        for place, variable in enumerate(outvars):
            if inner is not None:
                known[variable] = inner[place]
            elif name in SUMS and variable.aval.ndim <= 1 and equation.params.get("axes", True) != ():
                known[variable] = _Sum(name, variable.aval.dtype)
            elif name in TERMS:
                worst = _worst(given) or _columns(equation, given)
                known[variable] = worst.within(variable.aval.dtype) if isinstance(worst, _Sum) else worst
            else:
                known[variable] = _columns(equation, given)
    return [of(variable) for variable in jaxpr.outvars]


def _inside(equation, given: list) -> list | None:
    """What an equation that holds jaxprs gives; None for one that holds none that its inputs enter."""
    name, params = equation.primitive.name, equation.params
    if name == "while":
        consts = params["cond_nconsts"], params["body_nconsts"]
        body, carried = given[consts[0] : sum(consts)], given[sum(consts) :]
        return _carried(params["body_jaxpr"], body, carried, [])[: len(carried)]
    if name == "scan":
        # Read off the shapes, since JAX 0.12 names them otherwise than 0.10: rows and what is gathered have one axis
        # more outside than inside, what is carried has not; constants, what is carried and rows come in this order.
        inside = _open(params["jaxpr"])
        rows = _rows(equation.invars, inside.invars)
        carry = len(equation.outvars) - _rows(equation.outvars, inside.outvars)
        consts, carried = len(given) - rows - carry, len(given) - rows
        return _carried(inside, given[:consts], given[consts:carried], given[carried:])
    if name == "cond":
        branches = [_followed(_open(branch), given[1:]) for branch in params["branches"]]
        return [_worst(results) for results in zip(*branches)]
    for inner in map(_open, params.values()):
        if isinstance(inner, Jaxpr) and len(inner.invars) == len(given):
            return _followed(inner, given)
    return None


def _rows(outside: list, inside: list) -> int:
    """How many variables of a loop have one axis more outside of it than inside."""
    return sum(len(one.aval.shape) > len(other.aval.shape) for one, other in zip(outside, inside))


def _carried(jaxpr, consts, carry, rows):
    """A loop, until what it carries is known: a sum that is narrow once stays it."""
    while True:
        results = _followed(_open(jaxpr), [*consts, *carry, *rows])
        after = [_worst(pair) for pair in zip(carry, results)]
        if [isinstance(one, _Sum) and one.narrow for one in after] == [
            isinstance(one, _Sum) and one.narrow for one in carry
        ]:
            return [*after, *results[len(carry) :]]
        carry = after


def _open(param: Any) -> Any:
    """A jaxpr without its constants; another parameter as it is."""
    return getattr(param, "jaxpr", param)

"""Operations of a program's matrix products, of all turns of its loops: the compiler counts a loop's body once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax


def operations_of_products(function: Callable, *arguments: Any) -> float:
    """2·m·n·k of every product (m, k) x (k, n), batched ones too; of a ``while`` loop, those of one turn."""
    return _of_jaxpr(jax.make_jaxpr(function)(*arguments).jaxpr)


def _of_jaxpr(jaxpr) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            inner = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2.0 * inner * math.prod(equation.outvars[0].aval.shape)
        turns = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += turns * sum(map(_of_jaxpr, _inner(equation.params)))
    return total


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    """The programs that an operation holds."""
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if hasattr(one, "jaxpr"):
                yield one.jaxpr
            elif hasattr(one, "eqns"):
                yield one

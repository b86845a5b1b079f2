"""Values in words of JSON: dataclasses by the names of their classes, functions by theirs, arrays put aside."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import types
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nvpjax.event import Event

FUNCTIONS = {
    "jax.nn": "celu elu gelu leaky_relu log_sigmoid mish relu relu6 selu sigmoid silu soft_sign softplus tanh",
    "jax.numpy": "abs arcsinh arctan cos exp sin tanh",
}
"""What may be named beside nvpjax's own: functions of numbers."""

Known = Sequence[type | Callable[..., Any]]
"""Classes and functions of somebody else's that may be named too."""


def describe(value: Any, where: str, known: Known) -> tuple[Any, list[np.ndarray]]:
    """Give what json writes for a value, and its arrays. Errors: TypeError for what cannot be described."""
    describing = _Describing(_names(known))
    return describing.describe(value, where), describing.arrays


def make(description: Any, arrays: Sequence[jax.Array], known: Known) -> Any:
    """Give the value that was described. Errors: ValueError, or what a class raises for fields it does not take."""
    return _Making(arrays, {name: one for one, name in _names(known).items()}).make(description)


def _names(known: Known) -> dict[Any, str]:
    """What is known beside nvpjax, and the name it goes by."""
    names = {}
    for one in known:
        if not callable(one) or not hasattr(one, "__qualname__"):
            raise TypeError(f"known: expected classes and functions, got {one!r}.")
        names[one] = f"{one.__module__}.{one.__qualname__}"
    for module, functions in FUNCTIONS.items():
        for function in functions.split():
            names[getattr(importlib.import_module(module), function)] = f"{module}.{function}"
    return names


class _Describing:
    """From a value to what json writes; arrays are put aside."""

    def __init__(self, names: dict[Any, str]):
        self.arrays: list[np.ndarray] = []
        self._names = names

    def describe(self, value: Any, where: str) -> Any:
        if value is None or isinstance(value, (bool, str)):
            return value
        if isinstance(value, enum.Enum):
            return {"enum": self._name(type(value), where), "value": value.name}
        if isinstance(value, int):
            return value
        if isinstance(value, float):
            return {"float": value.hex()}
        if isinstance(value, (jax.Array, np.ndarray)):
            if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
                raise TypeError(f"{where} is a random key: a density holds none.")
            self.arrays.append(np.asarray(value))
            return {"array": len(self.arrays) - 1}
        if isinstance(value, Event):
            return {"event": self._tree(value.like(0), where)}
        if isinstance(value, np.dtype):
            return {"dtype": value.name}
        if isinstance(value, type) and isinstance(getattr(value, "dtype", None), np.dtype):  # jnp.bfloat16
            return {"scalar": value.dtype.name}
        if isinstance(value, type) and issubclass(value, np.generic):
            return {"scalar": np.dtype(value).name}
        if type(value) is tuple or type(value) is list:
            entries = [self.describe(entry, f"{where}[{i}]") for i, entry in enumerate(value)]
            return {type(value).__name__: entries}
        if type(value) is dict:
            keys = [self.describe(key, f"a key of {where}") for key in value]
            return {
                "dict": [[key, self.describe(one, f"{where}[{k!r}]")] for key, (k, one) in zip(keys, value.items())]
            }
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._dataclass(value, where)
        if callable(value):
            return {"function": self._name(value, where)}
        raise TypeError(f"{where} is {value!r}, of {type(value).__name__}: no file can describe it.")

    def _tree(self, tree: Any, where: str) -> Any:
        """Of an event: its shapes stand in for arrays."""
        if isinstance(tree, jax.ShapeDtypeStruct):
            return {"shape": tree.shape[1:], "of": str(tree.dtype)}
        if type(tree) in (tuple, list):
            return {type(tree).__name__: [self._tree(entry, where) for entry in tree]}
        if type(tree) is dict and all(isinstance(key, str) for key in tree):
            return {"dict": [[key, self._tree(entry, where)] for key, entry in tree.items()]}
        raise TypeError(f"events of {type(tree).__name__}: expected arrays, tuples, lists or dicts of them.")

    def _dataclass(self, value: Any, where: str) -> Any:
        name, fields = self._name(type(value), where), {}
        for field in dataclasses.fields(value):
            if not field.init:
                continue
            inner = getattr(value, field.name)
            try:
                fields[field.name] = self.describe(inner, f"{where}.{field.name}")
            except TypeError:
                if inner is not field.default:  # a default that cannot be described will be the default again
                    raise
        return {"class": name, "fields": fields}

    def _name(self, kind: Any, where: str) -> str:
        if kind in self._names:
            return self._names[kind]
        module, name = getattr(kind, "__module__", ""), getattr(kind, "__qualname__", "")
        if f"{module}.".startswith("nvpjax.") and getattr(importlib.import_module(module), name, None) is kind:
            return f"{module}.{name}"
        raise TypeError(
            f"{where} is of your own ({module}.{name}): give it to save and to load, known=({name},). A lambda "
            "or what is made within a function has to become a function or a class of a module first."
        )


class _Making:
    """From what json read to a value."""

    def __init__(self, arrays: Sequence[jax.Array], known: dict[str, Any]):
        self._arrays, self._known = arrays, known

    def make(self, of: Any) -> Any:
        match of:
            case None | bool() | int() | str():
                return of
            case {"float": str(digits)}:
                return float.fromhex(digits)
            case {"array": int(number)} if 0 <= number < len(self._arrays):
                return self._arrays[number]
            case {"event": tree}:
                return Event.of(self.make(tree))
            case {"shape": list(shape), "of": str(dtype)}:
                return jax.ShapeDtypeStruct((0, *shape), jnp.dtype(dtype))
            case {"dtype": str(name)}:
                return jnp.dtype(name)
            case {"scalar": str(name)}:
                return jnp.dtype(name).type
            case {"tuple": list(entries)}:
                return tuple(self.make(entry) for entry in entries)
            case {"list": list(entries)}:
                return [self.make(entry) for entry in entries]
            case {"dict": list(entries)}:
                return {self.make(key): self.make(entry) for key, entry in entries}
            case {"class": str(name), "fields": dict(fields)}:
                kind = self._named(name)
                if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
                    raise ValueError(f"{name} is no class of values")
                return kind(**{field: self.make(value) for field, value in fields.items()})
            case {"enum": str(name), "value": str(member)}:
                kind = self._named(name)
                if not (isinstance(kind, type) and issubclass(kind, enum.Enum)):
                    raise ValueError(f"{name} is no enum")
                return kind[member]
            case {"function": str(name)}:
                function = self._named(name)
                if isinstance(function, (type, types.ModuleType)) or not callable(function):
                    raise ValueError(f"{name} is no function")
                return function
        raise ValueError(f"{of!r:.100} describes nothing")

    def _named(self, name: str) -> Any:
        if name in self._known:
            return self._known[name]
        module, _, attribute = name.rpartition(".")
        if not f"{module}.".startswith("nvpjax."):
            raise ValueError(f"it holds {name}, which is of your own: load(path, known=({attribute},))")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError):
            raise ValueError(f"it holds {name}, which this version of nvpjax does not have") from None
        if getattr(found, "__module__", None) != module:
            raise ValueError(f"{name} is nothing of nvpjax")
        return found

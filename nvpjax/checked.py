"""Wrong calls are refused at every call: one mechanism, which bijectors, distributions and flows inherit.

``init`` is where shapes are known and where a class says what it does not take. So every other call is held against it:
params and state are right for x where they have the shapes that ``init`` gives for such an x and such a context. That
is found without computing anything, once for each shape, and remembered; in a program that is compiled nothing is left.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any


class Call(NamedTuple):
    """How the arguments of a method are to be read, in their order."""

    roles: tuple[str, ...]
    """Of ``key``, ``params``, ``state``, ``x`` and ``context``."""
    maker: str = "init"
    """The method that makes params and state for such an x."""


class Checked:
    """The helper base of what has an ``init``: the methods in ``CALLS`` look at what they are given, then run.

    Only the outermost call looks, once it is past what any batch must be: what is inside was made with the outermost
    one's ``init``.
    """

    CALLS: ClassVar[dict[str, Call]] = {}
    EVENT_AXES: ClassVar[int | None] = None
    """How many axes an event has at least, where it is to be one array; None where it may be a tree."""
    READS_CONTEXT: ClassVar[str | None] = None
    """The method that a context is to have an effect on."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, call in cls.CALLS.items():
            method = cls.__dict__.get(name)
            if method is not None and not getattr(method, "__isabstractmethod__", False):
                setattr(cls, name, _making(method, call) if name == call.maker else _taking(method, call))


def expect_made_for(owner: Checked, maker: str, given: dict[str, PyTree], x: PyTree, context: PyTree) -> None:
    """Raise ValueError where ``given``, params and state by name, has not the shapes that ``maker`` gives for x.

    Raise also what ``maker`` itself raises for such an x.
    """
    made = _made_for(owner, maker, x, context)
    if made is None:
        return
    made = dict(zip(given, made if len(given) > 1 else (made,), strict=True))
    if jax.tree.structure(given) == jax.tree.structure(made):
        pairs = zip(jax.tree.leaves(given), jax.tree.leaves(made))
        if all(jnp.shape(leaf) == like.shape and _kind(leaf) == _kind(like) for leaf, like in pairs):
            return
    got, expected = _by_place(given), _by_place(made)
    of_context = next(
        (place for place in got if context is None and "context" in place and place not in expected), None
    )
    if of_context:
        raise ValueError(
            f"{type(owner).__name__}: expected a context, with which {of_context} was made, {_said(got, of_context)}; "
            "got none. Give one with a row for each x."
        )
    for place in (*expected, *got):
        if got.get(place) != expected.get(place):
            raise ValueError(
                f"{type(owner).__name__}: expected {place} {_said(expected, place)}, as {maker} gives it for x of "
                f"{described(x)} {_said_context(context)}, got {_said(got, place)}. "
                + ("If it was made with a context, give that one too. Else it" if context is None else "It")
                + " was made for another event, with another context or by another bijector, or params and state "
                "changed places."
            )


def expect_batch(owner: Checked, x: PyTree, context: PyTree) -> None:
    """Raise TypeError or ValueError for what is no batch of floating arrays, or has not a row of context for each."""
    name = type(owner).__name__
    leaves = jax.tree.leaves(x)
    if not leaves or not all(map(_is_array, (*leaves, *jax.tree.leaves(context)))):
        got = [leaf for leaf in (*leaves, *jax.tree.leaves(context)) if not _is_array(leaf)]
        raise TypeError(
            f"{name}: expected arrays, or trees of arrays, for x and context, got "
            f"{type(got[0]).__name__ if got else 'no array at all'}. Convert lists and numbers with jnp.asarray."
        )
    for leaf in leaves:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                f"{name}: expected x of a floating dtype, got {leaf.dtype}: what is computed from whole numbers would "
                "be rounded to them. Turn pixels into floats with a Dequantization (PixelLikelihood dequantizes), "
                "other whole numbers with astype."
            )
    axes = owner.EVENT_AXES or 0
    if owner.EVENT_AXES is not None and not _is_array(x):
        raise TypeError(f"{name}: expected one array as x, got a {type(x).__name__}. OnLeaf acts on one of a tree.")
    sizes = {leaf.shape[:1] for leaf in leaves}
    if len(sizes) > 1 or any(0 in leaf.shape or len(leaf.shape) < 1 + axes for leaf in leaves):
        event = ", ".join(["batch", "...", *["entries"] * axes])
        raise ValueError(
            f"{name}: expected x of shape ({event}), one size of batch in all arrays and nothing empty, got "
            f"{described(x)}. A single event is x[None]."
        )
    (batch,) = sizes
    if any(leaf.shape[:1] != batch for leaf in jax.tree.leaves(context)):
        raise ValueError(
            f"{name}: expected a context with a row for each of the {batch[0]} rows of x, got {described(context)}. "
            "One context for all is jnp.repeat(context[None], len(x), axis=0)."
        )


def described(tree: PyTree) -> str:
    """The shapes of a tree of arrays."""
    shapes = jax.tree.map(jnp.shape, tree)
    return f"shape {shapes}" if _is_array(tree) else f"shapes {shapes}"


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Calls in here are parts of one that was looked at: a backward pass, say, which jax runs after it has returned."""
    outer, _thread.inside = _thread.inside, True
    try:
        yield
    finally:
        _thread.inside = outer


class _Thread(threading.local):
    inside = False


_thread = _Thread()


def _making(method: Callable, call: Call) -> Callable:
    """``init``, of which is remembered what it made for which shapes."""

    @functools.wraps(method)
    def making(self, *args, **kwargs):
        call_of, arguments = _read(method, call, self, args, kwargs)
        if not _thread.inside:
            expect_key(type(self).__name__, arguments["key"])
        expect_batch(self, arguments["x"], arguments.get("context"))
        if _thread.inside:
            return method(self, *args, **kwargs)
        x, context = _as_jax_takes(call_of, call)
        with unchecked():
            with _told(self, call.maker, x):
                made = method(*call_of.args, **call_of.kwargs)
            _expect_read(self, call.maker, made, x, context)
        _remember(_memory_key(self, call.maker, x, context), jax.tree.map(_shape_of, made))
        return made

    return making


def _taking(method: Callable, call: Call) -> Callable:
    """A method that takes what ``call.maker`` made."""

    @functools.wraps(method)
    def taking(self, *args, **kwargs):
        if _thread.inside:
            return method(self, *args, **kwargs)
        call_of, arguments = _read(method, call, self, args, kwargs)
        expect_batch(self, arguments["x"], arguments.get("context"))
        x, context = _as_jax_takes(call_of, call)
        given = {name: arguments[name] for name in ("params", "state") if name in call.roles}
        expect_made_for(self, call.maker, given, x, context)
        with unchecked():
            return method(*call_of.args, **call_of.kwargs)

    return taking


def _read(method, call, self, args, kwargs) -> tuple[inspect.BoundArguments, dict[str, Any]]:
    """The arguments, and by their roles, however the class that has the method calls them."""
    bound = _signature(method).bind(self, *args, **kwargs)
    return bound, {role: bound.arguments.get(name) for role, name in _names(bound, call).items()}


def _names(bound: inspect.BoundArguments, call: Call) -> dict[str, str]:
    """What the method calls each role."""
    return dict(zip(call.roles, [*bound.signature.parameters][1:]))


def _as_jax_takes(bound: inspect.BoundArguments, call: Call) -> list[PyTree]:
    """x and context, numpy's arrays put into jax's dtypes, in the call too: where float64 is off, what is computed from
    numpy's asks for it with a warning at each step. A tree without such stays itself, in the order of its keys."""

    def is_numpys(leaf):
        return isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biuf"

    names = _names(bound, call)
    for role in ("x", "context"):
        given = bound.arguments.get(names.get(role, ""))
        if any(map(is_numpys, jax.tree.leaves(given))):
            bound.arguments[names[role]] = jax.tree.map(
                lambda leaf: jnp.asarray(leaf) if is_numpys(leaf) else leaf, given
            )
    return [bound.arguments.get(names.get(role, "")) for role in ("x", "context")]


_signature = functools.lru_cache(maxsize=None)(inspect.signature)


def _expect_read(owner, maker, made, x, context) -> None:
    """Raise ValueError for a context that nothing reads: what comes out would be taken for a conditional density."""
    if owner.READS_CONTEXT is None or not jax.tree.leaves(context):
        return
    like = jax.tree.map(_shape_of, (*made, x, context))
    reader = owner.READS_CONTEXT if maker == "init" else "inverse"
    jaxpr = jax.make_jaxpr(getattr(owner, reader))(*like).jaxpr
    of_context = jaxpr.invars[-len(jax.tree.leaves(context)) :]
    read = {id(variable) for equation in jaxpr.eqns for variable in equation.invars}
    if not any(id(variable) in read for variable in of_context):
        raise ValueError(
            f"{type(owner).__name__}: expected no context, since nothing in it reads one, got {described(context)}. "
            "Leave it out, or give a network that does: MLP, MADE, GatedNet, LabelEmbedding of nvpjax.nets."
        )


# ------------------------------------------------------------------ what init makes, by shape


_memory: dict[Any, PyTree] = {}
MEMORY = 4096
"""How many shapes are remembered."""


def _made_for(owner, maker, x, context):
    """The shapes of what ``maker`` gives; None where it cannot be traced, as Python code that looks at numbers."""
    key = _memory_key(owner, maker, x, context)
    if key is None or key not in _memory:
        try:
            with unchecked(), _told(owner, maker, x):
                made = _traced(owner, maker, x, context)
        except (jax.errors.JAXTypeError, NameError):
            made = None
        _remember(key, made)
        return made
    return _memory[key]


def _traced(owner, maker, x, context):
    """The shapes of what ``maker`` gives. Where it measures over pmap's devices, outside of pmap as well, where a flow
    that was trained there is used: the axis is then one of one device, which changes no shape."""
    make = getattr(owner, maker)
    try:
        return jax.eval_shape(make, jax.random.key(0), x, context)
    except NameError:  # an axis that is not bound
        pass

    def made(key, x, context):
        def measured():
            return make(key, x, context)

        for name in _axis_names(owner):
            measured = _of_one_device(measured, name)
        return measured()

    return jax.eval_shape(made, jax.random.key(0), x, context)


def _of_one_device(make: Callable, axis_name: str) -> Callable:
    mapped = jax.vmap(make, axis_name=axis_name, axis_size=1)
    return lambda: jax.tree.map(lambda leaf: leaf[0], mapped())


def _axis_names(description: Any) -> set[str]:
    """The fields ``axis_name`` of a description and of all that it is made of."""
    if isinstance(description, tuple):
        return set().union(*map(_axis_names, description))
    if not dataclasses.is_dataclass(description):
        return set()
    fields = {field.name: getattr(description, field.name) for field in dataclasses.fields(description)}
    own = {name for name in (fields.pop("axis_name", None),) if isinstance(name, str)}
    return own.union(*map(_axis_names, fields.values()))


@contextlib.contextmanager
def _told(owner: Checked, maker: str, x: PyTree) -> Iterator[None]:
    """Say of what class it is that a shape does not fit, where the error comes from further down."""
    try:
        yield
    except jax.errors.JAXTypeError:  # numbers that are looked at while traced, an axis name that is not bound
        raise
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        if isinstance(error, TypeError | ValueError) and ": expected " in str(error):
            raise
        raise ValueError(
            f"{type(owner).__name__}: expected x and context of shapes that {maker} takes, got {described(x)} "
            f"({type(error).__name__}: {error})"
        ) from error


def _memory_key(owner, maker, x, context):
    key = (owner, type(owner), maker, _events(x), _events(context))
    try:
        hash(key)
    except TypeError:  # a field that does not hash, as a distribution of another library may be
        return None
    return key


def _remember(key, made) -> None:
    if key is None:
        return
    while len(_memory) >= MEMORY:
        _memory.pop(next(iter(_memory)), None)
    _memory[key] = made


def _events(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((leaf.shape[1:], str(leaf.dtype)) for leaf in leaves)


def _shape_of(leaf):
    return jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf) if not _is_array(leaf) else leaf.dtype)


# ------------------------------------------------------------------ words


def _is_array(leaf) -> bool:
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def _kind(leaf) -> str:
    dtype = leaf.dtype if _is_array(leaf) else jnp.result_type(leaf)
    kinds = {"numbers": jnp.floating, "whole numbers": jnp.integer, "keys": jax.dtypes.prng_key}
    return next((name for name, kind in kinds.items() if jnp.issubdtype(dtype, kind)), str(dtype))


def _by_place(trees) -> dict[str, tuple]:
    leaves = jax.tree_util.tree_leaves_with_path(trees, is_leaf=_is_empty)
    return {"".join(map(_step, path)): _form(leaf) for path, leaf in leaves}


def _is_empty(node) -> bool:
    return node is None or (isinstance(node, tuple | list | dict) and not node)


def _form(leaf) -> tuple:
    if _is_empty(leaf):
        return None, "None" if leaf is None else "an empty dict" if isinstance(leaf, dict) else "an empty tuple"
    return jnp.shape(leaf), _kind(leaf)


def _step(entry) -> str:
    name = getattr(entry, "key", getattr(entry, "idx", getattr(entry, "name", entry)))
    return str(name) if name in ("params", "state") else f"[{name!r}]"


def _said(places, place) -> str:
    if place not in places:
        return "nothing"
    shape, kind = places[place]
    return kind if shape is None else f"{kind} of shape {shape}"


def _said_context(context) -> str:
    return "without context" if context is None else f"with a context of {described(context)}"


def expect_key(name: str, key: Any) -> None:
    """Raise TypeError for what is no key."""
    dtype = getattr(key, "dtype", None)
    is_key = dtype is not None and (jnp.issubdtype(dtype, jax.dtypes.prng_key) or dtype == jnp.uint32)
    if not is_key:
        got = f"an array of {dtype}" if dtype is not None else type(key).__name__
        raise TypeError(f"{name}: expected a key first, as jax.random.key(0) gives it, got {got}.")

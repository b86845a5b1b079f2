"""What the checks share: a bijector with parameters, an example, and its programs, each compiled once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from nvpjax.bijector import Bijector, PyTree
from nvpjax.places import is_measured
from nvpjax.testing.tolerances import log_det_tolerance, number_of_layers, rounding, value_tolerance


@jax.jit  # one program: operation by operation there are some for each shape of a parameter
def moved_from_start(key: jax.Array, params: PyTree, size: float = 0.3) -> PyTree:
    """Add normal noise of standard deviation ``size`` to every parameter.

    At initialisation many layers are the identity, and a wrong log-det passes.
    """
    flat, restore = ravel_pytree(params)
    return restore(flat + size * jax.random.normal(key, flat.shape, flat.dtype))


class Options(NamedTuple):
    """What ``examine_bijector`` passes on to the checks."""

    dtypes: tuple[str, ...]
    domain: tuple[float, float]
    parallel: Bijector | None
    axis_name: str


class Point(NamedTuple):
    """Where a bijector is looked at, and in which dtype: numpy arrays of that dtype."""

    dtype: str
    params: PyTree
    state: PyTree
    x: PyTree
    context: PyTree


class Exact(NamedTuple):
    """What is true at a point, by automatic differentiation in float64: one row an example."""

    y: np.ndarray
    log_det: np.ndarray
    log_det_gradient_norm: np.ndarray
    singular_values: np.ndarray
    """Of the Jacobian, NaN where it is not finite."""

    @property
    def jacobian_norm(self) -> np.ndarray:
        return self.singular_values.max(axis=1)

    @property
    def jacobian_inverse_norm(self) -> np.ndarray:
        return 1 / self.singular_values.min(axis=1)

    @property
    def condition(self) -> np.ndarray:
        return self.jacobian_norm * self.jacobian_inverse_norm


class Measured(NamedTuple):
    """What the bijector gives at a point, run in the point's dtype; arrays as float64 rows."""

    y: np.ndarray
    log_det: np.ndarray
    x_again: np.ndarray
    inverse_log_det: np.ndarray
    y_again: np.ndarray


class Program:
    """A function that is compiled once for each form of its arguments, and once for all that lower to one text.

    Many programs of an examination are one under two names: where nothing is measured, training mode is evaluation. To
    trace and to lower takes a small part of the time that the compiler takes.
    """

    def __init__(self, function: Callable, known: dict):
        self._function, self._known = function, known
        self._compiled: dict[Any, Any] = {}
        self._texts: dict[Any, Any] = {}

    def __call__(self, *arguments: PyTree, **options: bool) -> PyTree:
        form = self._form(arguments, options)
        if form not in self._compiled:
            lowered, self._texts[form] = self._lowered(arguments, options)
            self._compiled[form] = self._compile(lowered, self._texts[form])
        return self._compiled[form](*arguments)

    def anew(self, *arguments: PyTree, **options: bool) -> Callable | None:
        """Trace once more: the program, if it reads otherwise than it did, or None."""
        lowered, text = self._lowered(arguments, options)
        same = text is not None and text == self._texts[self._form(arguments, options)]
        return None if same else self._compile(lowered, text)

    def _form(self, arguments, options):
        leaves, structure = jax.tree.flatten(arguments)
        return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves), tuple(options.items())

    def _lowered(self, arguments, options):
        """Trace and lower: the program, and a text that says all it does; None where the text does not."""

        def program(*arguments):  # one name for all, and a new function, which jax has not traced
            return self._function(*arguments, **options)

        lowered = jax.jit(program, keep_unused=True).lower(*arguments)
        text = lowered.as_text()
        (main,) = re.findall(r"@main\(.*", text)
        # A jax that passes constants as further arguments does not write their values.
        whole = len(re.findall(r"%arg\d+:", main)) == len(jax.tree.leaves(arguments))
        return lowered, (text, lowered.in_tree, lowered.out_tree) if whole else None

    def _compile(self, lowered, text):
        if text is None:
            return lowered.compile()
        if text not in self._known:
            self._known[text] = lowered.compile()
        return self._known[text]


class Subject:
    """A bijector under examination.

    Args: as of ``examine_bijector``. Parameters are ``init``'s; ``point`` moves them from there by noise. A state that
    is measured comes from ``train_steps`` forward passes in training mode on the example.
    """

    def __init__(
        self,
        bijector: Bijector,
        example: PyTree,
        context: PyTree,
        seed: int,
        parameter_noise: float,
        train_steps: int,
        in_float64: Bijector | None,
        layers: int | None,
    ):
        self.bijector, self.seed, self.parameter_noise = bijector, seed, parameter_noise
        self.in_float64 = bijector if in_float64 is None else in_float64
        self._layers = layers
        self.x, self.context = (jax.tree.map(lambda a: np.asarray(a, np.float64), tree) for tree in (example, context))
        shapes = [leaf.shape for leaf in jax.tree.leaves(self.x)]
        if not shapes or any(not shape or shape[0] != shapes[0][0] or 0 in shape for shape in shapes):
            raise ValueError(
                f"examine_bijector: expected an example of arrays (batch, *event), all of one batch size, none empty, "
                f"got shapes {shapes}. For one event x, give x[None]."
            )
        self.batch = shapes[0][0]
        known: dict = {}
        self.forward, self.inverse = Program(bijector.forward, known), Program(bijector.inverse, known)
        self.init, self.init_inverse = Program(bijector.init, known), Program(bijector.init_inverse, known)
        self.wide_forward = Program(self.in_float64.forward, known)
        self.wide_inverse = Program(self.in_float64.inverse, known)
        self._jacobian = Program(self._each_jacobian, known)
        self._train_steps = train_steps
        self._results: dict[Any, tuple[Exact, Measured]] = {}

    @cached_property
    def _made(self) -> tuple[PyTree, PyTree]:
        """``init``'s params and state, in float64. Made where a check asks for it: an ``init`` that raises fails it."""
        made = self.init(jax.random.key(self.seed), *self.narrow)
        return jax.tree.map(to_float64, jax.tree.map(np.asarray, made))

    @property
    def start(self) -> PyTree:
        return self._made[0]

    @cached_property
    def state(self) -> PyTree:
        state = self._made[1]
        if not self.measures:
            return state
        with jax.enable_x64(True):
            for _ in range(self._train_steps):
                state = self.wide_forward(self.moved(self.seed), state, self.x, self.context, train=True)[2]
        return jax.tree.map(np.asarray, state)

    @cached_property
    def layers(self) -> int:
        return number_of_layers(self.bijector) if self._layers is None else self._layers

    @property
    def name(self) -> str:
        return type(self.bijector).__name__

    @property
    def measures(self) -> bool:
        """Whether there is a state of numbers that training mode could change."""
        return is_measured(self._made[1])

    @property
    def narrow(self) -> tuple[PyTree, PyTree]:
        """The example and its context in float32."""
        return jax.tree.map(lambda a: a.astype(np.float32), (self.x, self.context))

    @property
    def many(self) -> int:
        """Rows of a large batch: 1,025, fewer of large events, never a power of two."""
        entries = sum(leaf[0].size for leaf in jax.tree.leaves(self.x))
        return max(131, min(1025, 4100 // entries | 1))

    def rounding(self, dtype: str) -> float:
        """What rounding explains, relatively, and what the bijector states of its inverse beside."""
        return rounding(dtype, self.layers) + getattr(self.bijector, "inverse_tolerance", 0.0)

    def moved(self, seed: int, size: float | None = None) -> PyTree:
        """``init``'s parameters plus normal noise."""
        leaves, structure = jax.tree.flatten(self.start)
        size, generator = self.parameter_noise if size is None else size, np.random.default_rng([self.seed, seed])
        return jax.tree.unflatten(structure, [leaf + size * generator.normal(size=leaf.shape) for leaf in leaves])

    def point(
        self, dtype: str = "float32", x: PyTree = None, seed: int | None = None, size: float | None = None
    ) -> Point:
        """The example, or another x of its shape, with parameters moved by the noise of ``seed``, all in ``dtype``."""
        state_dtype = jnp.promote_types(dtype, "float32")
        return Point(
            dtype,
            jax.tree.map(lambda a: a.astype(jnp.dtype(dtype)), self.moved(self.seed if seed is None else seed, size)),
            jax.tree.map(lambda a: a.astype(state_dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, self.state),
            jax.tree.map(lambda a, like: inside(a, like, dtype), self.x if x is None else x, self.x),
            jax.tree.map(lambda a: a.astype(jnp.dtype(dtype)), self.context),
        )

    def results(self, point: Point, key: Any) -> tuple[Exact, Measured]:
        """What is true at a point and what the bijector gives there; kept under ``key``."""
        if key not in self._results:
            self._results[key] = self.exact_or_beside(point), self.measured(point)
        return self._results[key]

    def exact(self, point: Point, train: bool = False) -> Exact:
        """What is true at a point of any number of rows, by automatic differentiation."""
        with jax.enable_x64(True):
            params, state, *batch = jax.tree.map(to_float64, point[1:])
            y, jacobian, gradient = in_pieces(
                lambda piece: self._jacobian(params, state, *piece, train=train), self.batch, tuple(batch)
            )
        finite = np.all(np.isfinite(jacobian), axis=(1, 2))
        jacobian = np.where(finite[:, None, None], jacobian, 0)
        singular_values = np.linalg.svd(jacobian, compute_uv=False)
        log_det = np.linalg.slogdet(jacobian)[1]
        return Exact(
            y=y,
            log_det=np.where(finite, log_det, np.nan),
            log_det_gradient_norm=np.linalg.norm(gradient, axis=1),
            singular_values=np.where(finite[:, None], singular_values, np.nan),
        )

    def exact_or_beside(self, point: Point) -> Exact:
        """``exact``, and where the Jacobian is singular what is true beside, if it is well conditioned there.

        At one point automatic differentiation may say what the map is not: the slope of sign(x)·log(1 + |x|) at 0.
        """
        exact = self.exact(point)
        for near in self.beside(point):
            singular = ~np.isfinite(exact.log_det)
            if not singular.any():
                break
            other = self.exact(near)
            better = singular & (other.condition < 1e8)
            exact = Exact(*(np.where(better[(...,) + (None,) * (a.ndim - 1)], b, a) for a, b in zip(exact, other)))
        return exact

    def beside(self, point: Point) -> Iterator[Point]:
        """Points a billionth of the example's range away, within it, on four sides."""
        for one, other in ((1, 1), (-1, -1), (1, -1), (-1, 1)):

            def nudged(a, like, one=one, other=other):
                a = np.asarray(a, np.float64)
                signs = np.where(np.arange(a[0].size).reshape(a.shape[1:]) % 2, other, one)
                return np.clip(a + BESIDE * np.ptp(like) * signs, like.min(), like.max())

            params, state, context = jax.tree.map(to_float64, (point.params, point.state, point.context))
            yield Point("float64", params, state, jax.tree.map(nudged, point.x, self.x), context)

    def _each_jacobian(self, params, state, x, context, *, train):
        def example(x, context):
            x, context = jax.tree.map(lambda a: a[None], (x, context))
            flat_x, restore = ravel_pytree(x)

            def forward(flat_x):
                y, log_det, _ = self.in_float64.forward(params, state, restore(flat_x), context, train=train)
                flat_y = ravel_pytree(y)[0]
                return (flat_y, log_det[0]), flat_y

            try:
                (jacobian, gradient), flat_y = jax.jacfwd(forward, has_aux=True)(flat_x)
            except TypeError as error:
                if "custom_vjp" not in str(error):
                    raise
                (jacobian, gradient), flat_y = jax.jacrev(forward, has_aux=True)(flat_x)
            return flat_y, jacobian, gradient

        return jax.vmap(example)(x, context)

    def mapped(self, program: Program, point: Point, x: PyTree) -> tuple[PyTree, np.ndarray]:
        """A program's result and log-det at a point, for x with a row for each of its context's.

        In pieces of one size, that of the example or ``many``: few programs serve any number of rows.
        """
        size = self.batch if len(jax.tree.leaves(x)[0]) == self.batch else self.many
        with jax.enable_x64(point.dtype == "float64"):
            return in_pieces(
                lambda piece: tuple(program(point.params, point.state, *piece)[:2]), size, (x, point.context)
            )

    def measured(self, point: Point) -> Measured:
        wide = point.dtype == "float64"
        forward, inverse = (self.wide_forward, self.wide_inverse) if wide else (self.forward, self.inverse)
        y, log_det = self.mapped(forward, point, point.x)
        x_again, inverse_log_det = self.mapped(inverse, point, y)
        # Back in the range of the example, where rounding has left it: how far it was is the round trip's to judge,
        # and beyond its domain forward has no value.
        x_inside = jax.tree.map(lambda a, like: inside(a, like, point.dtype), x_again, self.x)
        y_again, _ = self.mapped(forward, point, x_inside)
        log_det, inverse_log_det = (np.asarray(a, np.float64) for a in (log_det, inverse_log_det))
        return Measured(rows(y), log_det, rows(x_again), inverse_log_det, rows(y_again))

    def tolerances(self, point: Point, exact: Exact) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What rounding explains, for each row: of x after a round trip, of y = f(x), of the log-det."""
        x_scale = np.maximum(np.abs(rows(point.x)).max(axis=1), np.abs(rows(self.x)).max())
        y_scale = np.maximum(np.abs(exact.y).max(axis=1), self._example_y_scale)
        relative = self.rounding(point.dtype)
        of_x = value_tolerance(point.dtype, relative, x_scale, y_scale, exact.jacobian_inverse_norm)
        of_y = value_tolerance(point.dtype, relative, y_scale, x_scale, exact.jacobian_norm)
        dimensions = exact.y.shape[1]
        of_log_det = log_det_tolerance(relative, dimensions, exact.log_det, x_scale, exact.log_det_gradient_norm)
        # The reference rounds too: entries of the Jacobian as any result does, which its condition number enlarges.
        of_log_det += self.rounding("float64") * exact.condition
        return of_x, of_y, of_log_det

    @cached_property
    def _example_y_scale(self) -> float:
        return float(np.abs(self.exact(self.point("float64")).y).max())


BESIDE = 1e-9
"""How far beside a point is looked where there is doubt, as a share of the example's range."""


def in_pieces(run: Callable[[PyTree], PyTree], size: int, batch: PyTree) -> PyTree:
    """Call ``run`` on pieces of ``size`` rows, the last filled up with its last row; put together what it gives."""
    total, pieces = len(jax.tree.leaves(batch)[0]), []
    for start in range(0, total, size):
        chosen = np.minimum(np.arange(start, start + size), total - 1)
        piece = batch if total == size else jax.tree.map(lambda a, chosen=chosen: a[chosen], batch)
        pieces.append(jax.tree.map(np.asarray, run(piece)))
    return pieces[0] if total == size else jax.tree.map(lambda *parts: np.concatenate(parts)[:total], *pieces)


def rows(tree: PyTree) -> np.ndarray:
    """All leaves side by side, one row an example, in float64."""
    leaves = [np.asarray(leaf).astype(np.float64) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def trees(rows: np.ndarray, like: PyTree) -> PyTree:
    """``rows`` undone: leaves shaped as those of ``like`` but for the number of rows."""
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([np.asarray(leaf)[0].size for leaf in leaves])
    parts = np.split(rows, ends[:-1], axis=1)
    shaped = [part.reshape(len(rows), *np.shape(leaf)[1:]) for part, leaf in zip(parts, leaves)]
    return jax.tree.unflatten(structure, shaped)


def inside(a: np.ndarray, like: np.ndarray, dtype: str) -> np.ndarray:
    """``a`` in ``dtype``, rounded so that it stays between the smallest and the largest entry of ``like``.

    An example just below 1 must not round to 1, where a logit has no value.
    """
    low, high = (np.asarray(end).astype(jnp.dtype(dtype)) for end in (like.min(), like.max()))
    if low.astype(np.float64) < like.min():
        low = np.nextafter(low, np.asarray(np.inf, low.dtype))
    if high.astype(np.float64) > like.max():
        high = np.nextafter(high, np.asarray(-np.inf, high.dtype))
    if not low <= high:
        return a.astype(low.dtype)
    return np.clip(a.astype(low.dtype), low, high).astype(low.dtype)


def to_float64(leaf: np.ndarray) -> np.ndarray:
    """Widen what is a number with a point; leave whole numbers as they are."""
    return leaf.astype(np.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

"""What the checks share: a bijector with parameters, an example, and its programs, each compiled once."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from nvpjax.bijector import PyTree
from nvpjax.testing.tolerances import log_det_tolerance, number_of_layers, rounding, value_tolerance


def moved_from_start(key: jax.Array, params: PyTree, size: float = 0.3) -> PyTree:
    """Add normal noise of standard deviation ``size`` to every parameter.

    At initialisation many layers are the identity, and a wrong log-det passes.
    """
    flat, restore = ravel_pytree(params)
    return restore(flat + size * jax.random.normal(key, flat.shape, flat.dtype))


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
    jacobian_norm: np.ndarray
    jacobian_inverse_norm: np.ndarray


class Measured(NamedTuple):
    """What the bijector gives at a point, run in the point's dtype; arrays as float64 rows."""

    y: np.ndarray
    log_det: np.ndarray
    x_again: np.ndarray
    inverse_log_det: np.ndarray
    y_again: np.ndarray


class Subject:
    """A bijector under examination.

    Args: as of ``examine_bijector``. Parameters are ``init``'s; ``point`` moves them from there by noise. A state that
    is measured comes from ``train_steps`` forward passes in training mode on the example.
    """

    def __init__(self, bijector, example, context, seed, parameter_noise, train_steps, in_float64, layers):
        self.bijector, self.seed, self.parameter_noise = bijector, seed, parameter_noise
        self.in_float64 = bijector if in_float64 is None else in_float64
        self.layers = number_of_layers(bijector) if layers is None else layers
        self.x, self.context = (jax.tree.map(lambda a: np.asarray(a, np.float64), tree) for tree in (example, context))
        shapes = [leaf.shape for leaf in jax.tree.leaves(self.x)]
        if not shapes or any(not shape or shape[0] != shapes[0][0] or 0 in shape for shape in shapes):
            raise ValueError(
                f"examine_bijector: expected an example of arrays (batch, *event), all of one batch size, none empty, "
                f"got shapes {shapes}. For one event x, give x[None]."
            )
        self.batch = shapes[0][0]
        self.forward, self.inverse = _programs(bijector)
        self.wide_forward, self.wide_inverse = _programs(self.in_float64)
        narrow = jax.tree.map(lambda a: a.astype(np.float32), (self.x, self.context))
        params, state = jax.jit(bijector.init)(jax.random.key(seed), *narrow)
        self.start = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
        self.state = jax.tree.map(to_float64, jax.tree.map(np.asarray, state))
        if self.measures:
            with jax.enable_x64(True):
                for _ in range(train_steps):
                    moved = self._moved(seed)
                    self.state = self.wide_forward(moved, self.state, self.x, self.context, train=True)[2]
            self.state = jax.tree.map(np.asarray, self.state)
        self._results: dict[Any, tuple[Exact, Measured]] = {}

    @property
    def name(self) -> str:
        return type(self.bijector).__name__

    @property
    def measures(self) -> bool:
        """Whether there is a state of numbers that training mode could change."""
        return any(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(self.state))

    def rounding(self, dtype: str) -> float:
        return rounding(dtype, self.layers)

    def _moved(self, seed):
        leaves, structure = jax.tree.flatten(self.start)
        generator = np.random.default_rng([self.seed, seed])
        return jax.tree.unflatten(
            structure, [leaf + self.parameter_noise * generator.normal(size=leaf.shape) for leaf in leaves]
        )

    def point(self, dtype: str = "float32", x: PyTree = None, seed: int | None = None) -> Point:
        """The example, or another x of its shape, with parameters moved by the noise of ``seed``, all in ``dtype``."""
        state_dtype = jnp.promote_types(dtype, "float32")
        return Point(
            dtype,
            jax.tree.map(lambda a: a.astype(jnp.dtype(dtype)), self._moved(self.seed if seed is None else seed)),
            jax.tree.map(lambda a: a.astype(state_dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, self.state),
            jax.tree.map(lambda a, like: inside(a, like, dtype), self.x if x is None else x, self.x),
            jax.tree.map(lambda a: a.astype(jnp.dtype(dtype)), self.context),
        )

    def results(self, point: Point, key: Any) -> tuple[Exact, Measured]:
        """What is true at a point and what the bijector gives there; kept under ``key``."""
        if key not in self._results:
            self._results[key] = self.exact(point), self.measured(point)
        return self._results[key]

    def exact(self, point: Point) -> Exact:
        with jax.enable_x64(True):
            wide = jax.tree.map(to_float64, point[1:])
            y, jacobian, gradient = (np.asarray(a) for a in self._exact_program(*wide))
        with np.errstate(all="ignore"):
            if not np.all(np.isfinite(jacobian)):
                singular = np.full(jacobian.shape[:2], np.nan)
            else:
                singular = np.linalg.svd(jacobian, compute_uv=False)
            return Exact(
                y=y,
                log_det=np.linalg.slogdet(jacobian)[1],
                log_det_gradient_norm=np.linalg.norm(gradient, axis=1),
                jacobian_norm=singular.max(axis=1),
                jacobian_inverse_norm=1 / singular.min(axis=1),
            )

    @cached_property
    def _exact_program(self):
        def example(params, state, x, context):
            x, context = jax.tree.map(lambda a: a[None], (x, context))
            flat_x, restore = ravel_pytree(x)

            def forward(flat_x):
                y, log_det, _ = self.in_float64.forward(params, state, restore(flat_x), context)
                flat_y = ravel_pytree(y)[0]
                return (flat_y, log_det[0]), flat_y

            try:
                (jacobian, gradient), flat_y = jax.jacfwd(forward, has_aux=True)(flat_x)
            except TypeError as error:
                if "custom_vjp" not in str(error):
                    raise
                (jacobian, gradient), flat_y = jax.jacrev(forward, has_aux=True)(flat_x)
            return flat_y, jacobian, gradient

        return jax.jit(jax.vmap(example, in_axes=(None, None, 0, 0)))

    def measured(self, point: Point) -> Measured:
        wide = point.dtype == "float64"
        forward, inverse = (self.wide_forward, self.wide_inverse) if wide else (self.forward, self.inverse)
        with jax.enable_x64(wide):
            y, log_det, _ = forward(*point[1:])
            x_again, inverse_log_det = inverse(point.params, point.state, y, point.context)
            # Back in the range of the example, where rounding has left it: how far it was is the round trip's to judge,
            # and beyond its domain forward has no value.
            x_inside = jax.tree.map(lambda a, like: inside(np.asarray(a), like, point.dtype), x_again, self.x)
            y_again, _, _ = forward(point.params, point.state, x_inside, point.context)
        log_det, inverse_log_det = (np.asarray(a, np.float64) for a in (log_det, inverse_log_det))
        return Measured(rows(y), log_det, rows(x_again), inverse_log_det, rows(y_again))

    @np.errstate(all="ignore")  # where the Jacobian is not finite, nothing is explained: a tolerance of NaN fails
    def tolerances(self, point: Point, exact: Exact) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What rounding explains, for each row: of x after a round trip, of y = f(x), of the log-det."""
        x_scale = np.maximum(np.abs(rows(point.x)).max(axis=1), np.abs(rows(self.x)).max())
        y_scale = np.maximum(np.abs(exact.y).max(axis=1), self._example_y_scale)
        of_x = value_tolerance(point.dtype, self.layers, x_scale, y_scale, exact.jacobian_inverse_norm)
        of_y = value_tolerance(point.dtype, self.layers, y_scale, x_scale, exact.jacobian_norm)
        dimensions = exact.y.shape[1]
        of_log_det = log_det_tolerance(
            point.dtype, self.layers, dimensions, exact.log_det, x_scale, exact.log_det_gradient_norm
        )
        # The reference rounds too: entries of the Jacobian as any result does, which its condition number enlarges.
        of_log_det += self.rounding("float64") * exact.jacobian_norm * exact.jacobian_inverse_norm
        return of_x, of_y, of_log_det

    @cached_property
    def _example_y_scale(self) -> float:
        return float(np.abs(self.exact(self.point("float64")).y).max())


def _programs(bijector):
    return jax.jit(bijector.forward, static_argnames="train"), jax.jit(bijector.inverse, static_argnames="train")


def rows(tree: PyTree) -> np.ndarray:
    """All leaves side by side, one row an example, in float64."""
    leaves = [np.asarray(leaf).astype(np.float64) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def inside(a: np.ndarray, like: np.ndarray, dtype: str) -> np.ndarray:
    """``a`` in ``dtype``, rounded so that it stays between the smallest and the largest entry of ``like``.

    An example just below 1 must not round to 1, where a logit has no value.
    """
    dtype = jnp.dtype(dtype)
    low, high = (np.asarray(end).astype(dtype) for end in (like.min(), like.max()))
    if low.astype(np.float64) < like.min():
        low = np.nextafter(low, np.asarray(np.inf, dtype))
    if high.astype(np.float64) > like.max():
        high = np.nextafter(high, np.asarray(-np.inf, dtype))
    if not low <= high:
        return a.astype(dtype)
    return np.clip(a.astype(dtype), low, high).astype(dtype)


def to_float64(leaf):
    """Widen what is a number with a point; leave whole numbers as they are."""
    return leaf.astype(np.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

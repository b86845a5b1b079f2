"""The checks, one function each: it raises ``AssertionError``, or gives its worst error as a share of what is allowed.

Two tables: ``POINTWISE`` checks look at one point (parameters, x, dtype), and are run at many that hypothesis draws;
``STRUCTURAL`` checks look at the example, once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from nvpjax.testing.subject import Exact, Measured, Point, Subject, rows, to_float64
from nvpjax.testing.tolerances import log_det_tolerance


class NotRun(Exception):
    """The check does not apply to this bijector, or not here; the message says why."""


# ---------------------------------------------------------------------------------------------------------------------
# Pointwise: (subject, point, exact, measured) -> worst share of what is allowed
# ---------------------------------------------------------------------------------------------------------------------


def round_trip(subject: Subject, point: Point, exact: Exact, measured: Measured) -> float:
    """x against inverse(forward(x))."""
    of_x, _, _ = subject.tolerances(point, exact)
    require(np.all(np.isfinite(of_x)), f"expected a Jacobian that can be inverted, got log|det J| = {exact.log_det}")
    return at_most(measured.x_again - rows(point.x), of_x, "x − inverse(forward(x))")


def round_trip_of_latents(subject: Subject, point: Point, exact: Exact, measured: Measured) -> float:
    """y against forward(inverse(y))."""
    of_x, of_y, _ = subject.tolerances(point, exact)
    require(np.all(np.isfinite(of_x)), f"expected a Jacobian that can be inverted, got log|det J| = {exact.log_det}")
    return at_most(measured.y_again - measured.y, of_y + exact.jacobian_norm * of_x, "y − forward(inverse(y))")


def log_det_against_jacobian(subject: Subject, point: Point, exact: Exact, measured: Measured) -> float:
    """forward's log_det against slogdet of the Jacobian, all entries of it, by automatic differentiation in float64."""
    _, _, of_log_det = subject.tolerances(point, exact)
    return at_most(measured.log_det - exact.log_det, of_log_det, "log_det − log|det J|")


def log_det_of_inverse(subject: Subject, point: Point, exact: Exact, measured: Measured) -> float:
    """inverse's log_det against minus forward's."""
    of_x, _, of_log_det = subject.tolerances(point, exact)
    allowed = 2 * of_log_det + exact.log_det_gradient_norm * of_x
    return at_most(measured.inverse_log_det + measured.log_det, allowed, "log_det of inverse + log_det of forward")


POINTWISE: dict[str, Callable[[Subject, Point, Exact, Measured], float]] = {
    "round trip": round_trip,
    "round trip of latents": round_trip_of_latents,
    "log-det against the Jacobian": log_det_against_jacobian,
    "log-det of the inverse": log_det_of_inverse,
}


# ---------------------------------------------------------------------------------------------------------------------
# Structural: (subject, options) -> worst share of what is allowed
# ---------------------------------------------------------------------------------------------------------------------


def value(subject: Subject, options) -> float:
    """Equal by value, hashable, printable, frozen."""
    bijector = subject.bijector
    other = _rebuilt(bijector)
    require(bijector == other, "expected a bijector built anew from the same fields to be equal")
    require(hash(bijector) == hash(other), "expected a bijector built anew from the same fields to have the same hash")
    require(subject.name in repr(bijector), f"expected the class's name in repr, got {bijector!r}")
    for field in dataclasses.fields(bijector):
        try:
            setattr(bijector, field.name, getattr(bijector, field.name))
        except AttributeError:
            continue
        raise AssertionError(f"expected frozen fields, but {field.name} can be set")
    return 0.0


def shapes(subject: Subject, options) -> float:
    """Batch axis kept; log_det of shape (batch,) and at least float32; x's shape and dtype after a round trip."""
    for dtype in options.dtypes:
        point = subject.point(dtype)
        bijector = subject.in_float64 if dtype == "float64" else subject.bijector
        with jax.enable_x64(dtype == "float64"):
            y, log_det, state = jax.eval_shape(bijector.forward, *point[1:])
            x, inverse_log_det = jax.eval_shape(bijector.inverse, *point[1:3], y, point.context)
        for a in (log_det, inverse_log_det):
            require(
                a.shape == (subject.batch,) and a.dtype == jnp.promote_types(dtype, "float32"),
                f"expected one log_det a row, {jnp.promote_types(dtype, 'float32')}, got {a.shape} {a.dtype}",
            )
        for leaf in jax.tree.leaves(y):
            require(leaf.shape[:1] == (subject.batch,), f"expected the batch first in y, got {leaf.shape}")
            require(leaf.dtype == dtype, f"expected y in x's dtype {dtype}, got {leaf.dtype}")
        require(_form(x) == _form(point.x), f"expected inverse to give {_form(point.x)}, got {_form(x)}")
        require(_form(state) == _form(point.state), f"expected state to keep its form, got {_form(state)}")
    return 0.0


def log_det_by_itself(subject: Subject, options) -> float:
    """log_det() against forward's second result."""
    point = subject.point()
    _, measured = subject.results(point, "example")
    by_itself = np.asarray(jax.jit(subject.bijector.log_det)(*point[1:]), np.float64)
    return at_most(by_itself - measured.log_det, _allowed(subject, point)[1], "log_det() − forward's")


def batch_of_one(subject: Subject, options) -> float:
    """The first example alone against the first example in its batch."""
    point = subject.point()
    x, context = jax.tree.map(lambda a: a[:1], (point.x, point.context))
    y, log_det, _ = subject.forward(point.params, point.state, x, context)
    return _same(subject, point, y, log_det, slice(0, 1), "of an example alone")


def order_of_the_batch(subject: Subject, options) -> float:
    """The batch in reverse order against the results in reverse order."""
    point = subject.point()
    x, context = jax.tree.map(lambda a: a[::-1], (point.x, point.context))
    y, log_det, _ = subject.forward(point.params, point.state, x, context)
    return _same(subject, point, y, log_det, slice(None, None, -1), "of the batch in reverse order")


def jit(subject: Subject, options) -> float:
    """Run operation by operation against compiled."""
    point = subject.point()
    y, log_det, _ = subject.bijector.forward(*point[1:])
    return _same(subject, point, y, log_det, slice(None), "without jit")


def vmap(subject: Subject, options) -> float:
    """jax.vmap over batches of one against the batch."""
    point = subject.point()

    def one(x, context):
        y, log_det, _ = subject.bijector.forward(point.params, point.state, *_with_batch((x, context)))
        return jax.tree.map(lambda a: a[0], (y, log_det))

    y, log_det = jax.jit(jax.vmap(one))(point.x, point.context)
    return _same(subject, point, y, log_det, slice(None), "under vmap")


def scan(subject: Subject, options) -> float:
    """jax.lax.scan over batches of one, the state carried along, against the batch."""
    point = subject.point()

    def one(state, row):
        y, log_det, state = subject.bijector.forward(point.params, state, *_with_batch(row))
        return state, jax.tree.map(lambda a: a[0], (y, log_det))

    carried = jax.tree.map(jnp.asarray, point.state)
    state, (y, log_det) = jax.jit(lambda state, rows: jax.lax.scan(one, state, rows))(carried, (point.x, point.context))
    unchanged = jax.tree.map(lambda a, b: np.array_equal(a, b), state, point.state)
    require(all(jax.tree.leaves(unchanged)), "expected forward to leave the state as it is outside of training")
    return _same(subject, point, y, log_det, slice(None), "under scan")


def grad(subject: Subject, options) -> float:
    """Gradients of both directions against central differences, in float64, along a random direction.

    Allowed: what doubling the step changes (the truncation error is a third of it), and rounding divided by the step.
    """
    point = subject.point("float64")
    with jax.enable_x64(True):
        y = jax.tree.map(np.asarray, subject.wide_forward(*point[1:])[0])
    forward = _gradient_error(
        lambda params, x: subject.in_float64.forward(params, point.state, x, point.context)[:2], point.params, point.x
    )
    inverse = _gradient_error(
        lambda params, y: subject.in_float64.inverse(params, point.state, y, point.context), point.params, y
    )
    return max(at_most(*forward, "gradient of forward"), at_most(*inverse, "gradient of inverse"))


def finite_gradients(subject: Subject, options) -> float:
    """Gradients of y and log_det by parameters and x are finite: at the example, where all x are equal, at zero."""
    gradients = jax.jit(jax.grad(_total(subject), argnums=(0, 2)))
    point = subject.point()
    repeated = jax.tree.map(lambda a: np.full_like(a, a.flat[0]), point.x)
    zero = jax.tree.map(lambda a: np.zeros_like(a) if a.min() <= 0 <= a.max() else a, point.x)
    for where, x in (("at the example", point.x), ("at one value everywhere", repeated), ("at zero", zero)):
        for leaf in jax.tree.leaves(gradients(point.params, point.state, x, point.context)):
            require(np.all(np.isfinite(leaf)), f"expected finite gradients {where}, got {np.asarray(leaf)}")
    return 0.0


def devices(subject: Subject, options) -> float:
    """pmap over two devices against one; training mode too, and init, where a ``parallel`` bijector is given."""
    if jax.local_device_count() < 2:
        raise NotRun("one device only (jax.config.update('jax_num_cpu_devices', 2) gives two)")
    if subject.batch < 2:
        raise NotRun("a batch of one cannot be divided")
    point, two = subject.point(), jax.local_devices()[:2]
    even = slice(0, subject.batch // 2 * 2)
    whole = jax.tree.map(lambda a: a[even], (point.x, point.context))
    shards = jax.tree.map(lambda a: a.reshape(2, len(a) // 2, *a.shape[1:]), whole)

    def run(bijector, train):
        def forward(x, context):
            return bijector.forward(point.params, point.state, x, context, train=train)

        # The CPU backend of JAX 0.10 hangs where steps with collectives queue up.
        return jax.block_until_ready(jax.pmap(forward, axis_name=options.axis_name, devices=two)(*shards))

    y, log_det = jax.tree.map(_joined, run(subject.bijector, False)[:2])
    worst = _same(subject, point, y, log_det, even, "on two devices")
    if options.parallel is not None:
        one = subject.forward(point.params, point.state, *whole, train=True)
        many = run(options.parallel, True)
        allowed_y, allowed_log_det = (a.max() for a in _allowed(subject, point))
        scale = max(1.0, max((np.abs(leaf).max() for leaf in jax.tree.leaves(one[2])), default=1.0))
        worst = max(
            worst,
            at_most(rows(jax.tree.map(_joined, many[0])) - rows(one[0]), allowed_y, "y in training on two devices"),
            at_most(_joined(many[1]) - np.asarray(one[1]), allowed_log_det, "log_det in training on two devices"),
            *(
                at_most(np.ravel(np.asarray(a)[0] - np.asarray(b)), scale * 1e-5, "state in training on two devices")
                for a, b in zip(jax.tree.leaves(many[2]), jax.tree.leaves(one[2]))
            ),
        )
        key = jax.random.key(subject.seed)
        one = jax.tree.leaves(jax.jit(subject.bijector.init)(key, *whole))
        init = jax.pmap(lambda x, c: options.parallel.init(key, x, c), axis_name=options.axis_name, devices=two)
        for a, b in zip(jax.tree.leaves(jax.block_until_ready(init(*shards))), one):
            a, b = np.asarray(a)[0], np.asarray(b)
            worst = max(worst, at_most(np.ravel(a - b), 1e-5 * (1 + np.abs(b).max()), "init on two devices"))
    return worst


def training_mode(subject: Subject, options) -> float:
    """Forward with train=True and back with the state it returns; where training settles, evaluation gives the same."""
    if not subject.measures:
        raise NotRun("no state that is measured")
    point = subject.point("float64")
    exact = subject.exact(point)
    of_x, of_y, of_log_det = (allowed.max() for allowed in subject.tolerances(point, exact))
    with jax.enable_x64(True):
        y, log_det, state = subject.wide_forward(*point[1:], train=True)
        require(_form(state) == _form(point.state), f"expected state to keep its form in training, got {_form(state)}")
        x_again, inverse_log_det = subject.wide_inverse(point.params, state, y, point.context, train=True)

        def step(state, _):
            return subject.in_float64.forward(point.params, state, point.x, point.context, train=True)[2], None

        settled, _ = jax.jit(lambda state: jax.lax.scan(step, state, length=400))(
            jax.tree.map(jnp.asarray, point.state)
        )
        y_train, log_det_train, _ = subject.wide_forward(point.params, settled, point.x, point.context, train=True)
        y_eval, log_det_eval, _ = subject.wide_forward(point.params, settled, point.x, point.context)
    # After 400 steps on one batch an average with momentum 0.9 is the batch's own to 1e-18, with 0.99 to 2 percent.
    return max(
        at_most(rows(x_again) - rows(point.x), of_x, "x − inverse(forward(x)) in training mode"),
        at_most(np.asarray(inverse_log_det + log_det), 2 * of_log_det, "log-dets of both directions in training mode"),
        at_most(rows(y_eval) - rows(y_train), of_y, "evaluation − training, after 400 steps on one batch"),
        at_most(np.asarray(log_det_eval - log_det_train), of_log_det, "log_det in evaluation − in training"),
    )


def far_ends(subject: Subject, options) -> float:
    """log_det at |x| from 10 to 10,000, or close to the ends of the domain, in float32: finite, and that of float64."""
    low, high = options.domain
    places = [sign * size for size in (10.0, 90.0, 1e3, 1e4) for sign in (-1, 1)]
    places = [place for place in places if low < place < high]
    for end, inward in ((low, 1), (high, -1)):
        if np.isfinite(end):
            reach = high - low if np.isfinite(high - low) else 1.0
            places += [end + inward * share * reach for share in (1e-6, 1e-3)]
    point, worst = subject.point(), 0.0
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(subject.bijector.log_det(*point[1:3], x, point.context))))
    for place in places:
        where = f"at x = {place:g}"
        x = jax.tree.map(lambda a, place=place: np.full_like(a, place), point.x)
        y, log_det, _ = subject.forward(point.params, point.state, x, point.context)
        log_det = np.asarray(log_det, np.float64)
        require(np.all(np.isfinite(log_det)), f"expected a finite log_det {where}, got {log_det}")
        require(not np.any(np.isnan(rows(y))), f"expected no NaN {where}, got {rows(y)}")
        require(np.all(np.isfinite(rows(gradient(x)))), f"expected a finite gradient of log_det {where}")
        wide = Point("float64", *jax.tree.map(to_float64, (point.params, point.state, x, point.context)))
        exact = subject.exact(wide)
        with jax.enable_x64(True):
            truth = np.asarray(subject.wide_forward(*wide[1:])[1])
        gradient_norm = np.where(np.isfinite(exact.log_det_gradient_norm), exact.log_det_gradient_norm, np.inf)
        allowed = log_det_tolerance("float32", subject.layers, exact.y.shape[1], truth, abs(place), gradient_norm)
        # Further out the Jacobian itself has no digits left: 1 − tanh² rounds to 0 or to an epsilon, in float64 too.
        known = np.isfinite(exact.log_det) & (exact.jacobian_inverse_norm < 1e9)
        worst = max(
            worst,
            at_most(log_det - truth, allowed, f"log_det in float32 − float64 {where}"),
            at_most(np.where(known, log_det - exact.log_det, 0), allowed, f"log_det − log|det J| {where}"),
        )
    return worst


PIECE = 4096
"""Rows of one call of the density check; the grids' steps squared are multiples of it."""


def density(subject: Subject, options) -> float:
    """∫|det J| dx over a box, on a 2-D grid, against the area of f(box), which its edge alone tells.

    In other words: the density |det J|/area that f pulls back from the uniform one on f(box) integrates to one over
    the box, whatever the range of f. By Green's theorem area = |∮ y₁ dy₂| along the image of the edge, where log_det
    plays no part. The allowed error is what coarser grids change, and a thousandth.
    """
    leaves = jax.tree.leaves(subject.x)
    if len(leaves) != 1 or leaves[0].shape[1:] != (2,):
        raise NotRun("needs events of shape (2,)")
    point = subject.point("float64")
    low, high = leaves[0].min(), leaves[0].max()
    context = jax.tree.map(lambda a: a[:1], point.context)

    repeated = jax.tree.map(lambda a: np.repeat(a, PIECE, axis=0), context)

    def mapped(x):
        """y and log_det of many x, in pieces of one size: one program serves the edge and every grid."""
        with jax.enable_x64(True):
            pieces = [
                subject.wide_forward(point.params, point.state, x[start : start + PIECE], repeated)[:2]
                for start in range(0, len(x), PIECE)
            ]
        return tuple(np.concatenate([np.asarray(piece[part]) for piece in pieces]) for part in (0, 1))

    def integral(steps):
        middles = low + (high - low) * (np.arange(steps) + 0.5) / steps
        grid = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2)
        return np.exp(mapped(grid)[1]).sum() * ((high - low) / steps) ** 2

    side = low + (high - low) * np.arange(PIECE) / PIECE
    bottom, right = np.full_like(side, low), np.full_like(side, high)
    # Counter-clockwise, each side without its last corner.
    edge = [(side, bottom), (right, side), (low + high - side, right), (bottom, low + high - side)]
    y = mapped(np.concatenate([np.stack(part, axis=1) for part in edge]))[0]
    next_y = np.roll(y, -1, axis=0)
    area = abs(np.sum((y[:, 0] + next_y[:, 0]) * (next_y[:, 1] - y[:, 1])) / 2)
    fine, *others = (integral(steps) / area for steps in (256, 192, 128))
    spread = max(abs(other - fine) for other in others)
    return at_most(np.array([fine - 1]), spread + 1e-3, "integral of the density − 1")


STRUCTURAL: dict[str, Callable[[Subject, object], float]] = {
    "value": value,
    "shapes": shapes,
    "log-det by itself": log_det_by_itself,
    "batch of one": batch_of_one,
    "order of the batch": order_of_the_batch,
    "jit": jit,
    "vmap": vmap,
    "scan": scan,
    "grad": grad,
    "finite gradients": finite_gradients,
    "devices": devices,
    "training mode": training_mode,
    "far ends": far_ends,
    "density": density,
}


# ---------------------------------------------------------------------------------------------------------------------
# What they share
# ---------------------------------------------------------------------------------------------------------------------


def require(condition, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def at_most(error, allowed, what: str) -> float:
    """Raise unless every |error| of a row is at most what the row is allowed; give the worst share. NaN raises."""
    error = np.abs(np.asarray(error, np.float64))
    largest = error.max(axis=1) if error.ndim == 2 else error
    allowed = np.broadcast_to(allowed, largest.shape)
    with np.errstate(all="ignore"):
        share = np.where(error.any() if error.ndim == 0 else largest != 0, largest / allowed, 0.0)
    if not np.all(share <= 1):
        row = int(np.argmax(np.where(np.isnan(share), np.inf, share)))
        raise AssertionError(f"{what}, row {row}: {largest[row]:.3e}, where at most {allowed[row]:.3e} is explained")
    return float(share.max(initial=0.0))


def _allowed(subject: Subject, point: Point):
    """What two ways of computing the same may differ by at the example: of y, of log_det."""
    exact, _ = subject.results(point, "example")
    _, of_y, of_log_det = subject.tolerances(point, exact)
    return of_y, of_log_det


def _same(subject: Subject, point: Point, y, log_det, chosen: slice, what: str) -> float:
    """Compare with the batch's own results, in those rows."""
    _, measured = subject.results(point, "example")
    allowed_y, allowed_log_det = _allowed(subject, point)
    log_det = np.asarray(log_det, np.float64)
    require(log_det.shape == measured.log_det[chosen].shape, f"expected one log_det a row {what}, got {log_det.shape}")
    return max(
        at_most(rows(y) - measured.y[chosen], allowed_y[chosen], f"y {what} − y"),
        at_most(log_det - measured.log_det[chosen], allowed_log_det[chosen], f"log_det {what} − log_det"),
    )


def _total(subject: Subject):
    def total(params, state, x, context):
        y, log_det, _ = subject.bijector.forward(params, state, x, context)
        return jnp.sum(log_det) + sum(jnp.sum(leaf) for leaf in jax.tree.leaves(y))

    return total


def _gradient_error(function, *arguments):
    """The error of the directional derivative by reverse mode, and what is allowed, by the best of three steps."""
    with jax.enable_x64(True):
        flat, restore = ravel_pytree(arguments)
        flat = np.asarray(flat)
        generator = np.random.default_rng(0)
        direction = generator.normal(size=flat.shape)
        direction /= max(1.0, np.linalg.norm(direction))
        shape = jax.eval_shape(lambda flat: ravel_pytree(function(*restore(flat)))[0], flat)
        weights = generator.normal(size=shape.shape)

        @jax.jit
        def total(flat):
            return jax.value_and_grad(lambda flat: jnp.sum(weights * ravel_pytree(function(*restore(flat)))[0]))(flat)

        derivative = float(np.asarray(total(flat)[1]) @ direction)
        size = float(np.abs(total(flat)[0])) + float(np.abs(weights).sum())
        candidates = []
        for step in (1e-4, 1e-5, 1e-6):
            at = {k: float(total(flat + k * step * direction)[0]) for k in (-2, -1, 1, 2)}
            coarse, fine = (at[2] - at[-2]) / (4 * step), (at[1] - at[-1]) / (2 * step)
            allowed = abs(coarse - fine) + 100 * np.finfo(np.float64).eps * size / step + 1e-6 * abs(fine)
            candidates.append((abs(derivative - fine) / allowed, derivative - fine, allowed))
    _, error, allowed = min(candidates)
    return np.array([error]), allowed


def _rebuilt(part):
    """A bijector built anew from its fields, and the frozen dataclasses among them likewise."""
    if isinstance(part, tuple) and type(part) is tuple:
        return tuple(_rebuilt(item) for item in part)
    if dataclasses.is_dataclass(part) and part.__dataclass_params__.frozen:
        return type(part)(**{field.name: _rebuilt(getattr(part, field.name)) for field in dataclasses.fields(part)})
    return part


def _with_batch(tree):
    return jax.tree.map(lambda a: a[None], tree)


def _joined(a):
    a = np.asarray(a)
    return a.reshape(-1, *a.shape[2:])


def _form(tree):
    return jax.tree.map(lambda a: (tuple(a.shape), str(a.dtype)), tree)

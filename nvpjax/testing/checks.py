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

from nvpjax.testing.elsewhere import changes_of_form, density, far_ends, far_parameters
from nvpjax.testing.precision import narrow_sums
from nvpjax.testing.subject import BESIDE, Exact, Measured, Options, Point, Subject, rows
from nvpjax.testing.verdicts import NotRun, Seen, at_most, require

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
    error = measured.log_det - exact.log_det
    return at_most(*_or_beside(subject, point, measured.log_det, error, of_log_det), "log_det − log|det J|")


def log_det_of_inverse(subject: Subject, point: Point, exact: Exact, measured: Measured) -> float:
    """inverse's log_det against minus forward's."""
    of_x, _, of_log_det = subject.tolerances(point, exact)
    allowed = 2 * of_log_det + exact.log_det_gradient_norm * of_x
    error = measured.inverse_log_det + measured.log_det
    judged = _or_beside(subject, point, -measured.inverse_log_det, error, allowed)
    return at_most(*judged, "log_det of inverse + log_det of forward")


def _or_beside(subject, point, log_det, error, allowed):
    """The error of a log_det and what is allowed; where that is not kept, those against the Jacobian beside.

    Where a map has a kink, its log_det and automatic differentiation may each take another side.
    """
    for near in subject.beside(point):
        wrong = ~(np.abs(error) <= allowed)
        if np.shape(error) != np.shape(allowed) or not wrong.any():
            break
        exact = subject.exact(near)
        of_x, _, of_log_det = subject.tolerances(point, exact)
        nudge = BESIDE * np.ptp(rows(subject.x)) * exact.y.shape[1] ** 0.5
        beside, allowed_there = log_det - exact.log_det, of_log_det + exact.log_det_gradient_norm * (nudge + of_x)
        better = wrong & (np.abs(beside) <= allowed_there)
        error, allowed = np.where(better, beside, error), np.where(better, allowed_there, allowed)
    return error, allowed


POINTWISE: dict[str, Callable[[Subject, Point, Exact, Measured], float]] = {
    "round trip": round_trip,
    "round trip of latents": round_trip_of_latents,
    "log-det against the Jacobian": log_det_against_jacobian,
    "log-det of the inverse": log_det_of_inverse,
}


# ---------------------------------------------------------------------------------------------------------------------
# Structural: (subject, options) -> worst share of what is allowed, or what was Seen
# ---------------------------------------------------------------------------------------------------------------------


def value(subject: Subject, options: Options) -> float:
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


def pure(subject: Subject, options: Options) -> float:
    """init, forward and inverse, traced and run a second time with the same arguments, give the same, bit by bit."""
    point, key = subject.point(), jax.random.key(subject.seed)
    y, _, _ = subject.forward(*point[1:])
    for name, program, arguments in (
        ("init", subject.init, (key, *subject.narrow)),
        ("forward", subject.forward, point[1:]),
        ("inverse", subject.inverse, (point.params, point.state, y, point.context)),
    ):
        once, again = program(*arguments), program(*arguments)
        require(_same_bits(once, again), f"expected {name} to give the same for the same arguments, run twice")
        another = program.anew(*arguments)
        if another is not None:
            require(
                _same_bits(once, another(*arguments)),
                f"expected {name} to give the same for the same arguments, traced twice: it depends on something else",
            )
    return 0.0


def shapes(subject: Subject, options: Options) -> float:
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


def sums_of_the_log_det(subject: Subject, options: Options) -> float:
    """No sum that makes up log_det is in bfloat16 or float16, for x and parameters that are: traced, not run."""
    narrow = [dtype for dtype in options.dtypes if jnp.promote_types(dtype, "float32") != dtype]
    if not narrow:
        raise NotRun("no dtype narrower than float32 among those asked for")
    for dtype in narrow:
        params, state, x, context = subject.point(dtype)[1:]
        y, _, _ = jax.eval_shape(subject.bijector.forward, params, state, x, context)
        for name, of in (("forward", x), ("inverse", y)):
            function = getattr(subject.bijector, name)
            summed = narrow_sums(lambda *given, function=function: function(*given)[1], (params, state, of, context))
            require(not summed, f"expected {name}'s log_det summed in at least float32 for x in {dtype}, got {summed}")
    return 0.0


def log_det_by_itself(subject: Subject, options: Options) -> float:
    """log_det() against forward's second result."""
    point = subject.point()
    _, measured = subject.results(point, "example")
    by_itself = np.asarray(jax.jit(subject.bijector.log_det)(*point[1:]), np.float64)
    return at_most(by_itself - measured.log_det, _allowed(subject, point)[1], "log_det() − forward's")


def batch_of_one(subject: Subject, options: Options) -> float:
    """The first example alone against the first example in its batch."""
    point = subject.point()
    x, context = jax.tree.map(lambda a: a[:1], (point.x, point.context))
    y, log_det, _ = subject.forward(point.params, point.state, x, context)
    return _same(subject, point, y, log_det, slice(0, 1), "of an example alone")


def order_of_the_batch(subject: Subject, options: Options) -> float:
    """The batch in reverse order against the results in reverse order."""
    point = subject.point()
    x, context = jax.tree.map(lambda a: a[::-1], (point.x, point.context))
    y, log_det, _ = subject.forward(point.params, point.state, x, context)
    return _same(subject, point, y, log_det, slice(None, None, -1), "of the batch in reverse order")


def large_batch(subject: Subject, options: Options) -> Seen:
    """The rows of the example again and again, in a batch that no power of two divides, against the example's."""
    point = subject.point("float64")
    exact, measured = subject.results(point, ("example", "float64"))
    of_x, of_y, of_log_det = subject.tolerances(point, exact)
    repeated = np.arange(subject.many) % subject.batch
    x, context = jax.tree.map(lambda a: a[repeated], (point.x, point.context))
    large = point._replace(x=x, context=context)
    y, log_det = subject.mapped(subject.wide_forward, large, x)
    small_y, _ = subject.mapped(subject.wide_forward, point, point.x)
    given = jax.tree.map(lambda a: a[repeated], small_y)
    x, inverse_log_det = subject.mapped(subject.wide_inverse, large, given)
    what = f"in a batch of {subject.many}"
    return Seen(
        max(
            at_most(rows(y) - measured.y[repeated], of_y[repeated], f"y {what} − y"),
            at_most(log_det - measured.log_det[repeated], of_log_det[repeated], f"log_det {what} − log_det"),
            at_most(rows(x) - measured.x_again[repeated], of_x[repeated], f"x of inverse {what} − x"),
            at_most(
                inverse_log_det - measured.inverse_log_det[repeated],
                (2 * of_log_det + exact.log_det_gradient_norm * of_x)[repeated],
                f"log_det of inverse {what} − log_det of inverse",
            ),
        ),
        subject.many,
    )


def jit(subject: Subject, options: Options) -> float:
    """Run operation by operation against compiled."""
    point = subject.point()
    y, log_det, _ = subject.bijector.forward(*point[1:])
    return _same(subject, point, y, log_det, slice(None), "without jit")


def vmap(subject: Subject, options: Options) -> float:
    """jax.vmap over batches of one against the batch."""
    point = subject.point()

    def one(x, context):
        y, log_det, _ = subject.bijector.forward(point.params, point.state, *_with_batch((x, context)))
        return jax.tree.map(lambda a: a[0], (y, log_det))

    y, log_det = jax.jit(jax.vmap(one))(point.x, point.context)
    return _same(subject, point, y, log_det, slice(None), "under vmap")


def scan(subject: Subject, options: Options) -> float:
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


def grad(subject: Subject, options: Options) -> float:
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


def finite_gradients(subject: Subject, options: Options) -> float:
    """Gradients of y and log_det by parameters and x are finite: at the example, where all x are equal, at zero."""
    gradients = jax.jit(jax.grad(_total(subject), argnums=(0, 2)))
    point = subject.point()
    repeated = jax.tree.map(lambda a: np.full_like(a, a.flat[0]), point.x)
    zero = jax.tree.map(lambda a: np.zeros_like(a) if a.min() <= 0 <= a.max() else a, point.x)
    for where, x in (("at the example", point.x), ("at one value everywhere", repeated), ("at zero", zero)):
        for leaf in jax.tree.leaves(gradients(point.params, point.state, x, point.context)):
            require(np.all(np.isfinite(leaf)), f"expected finite gradients {where}, got {np.asarray(leaf)}")
    return 0.0


def devices(subject: Subject, options: Options) -> float:
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
    parallel = options.parallel
    if parallel is not None:
        one = subject.forward(point.params, point.state, *whole, train=True)
        many = run(parallel, True)
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
        init = jax.pmap(lambda x, c: parallel.init(key, x, c), axis_name=options.axis_name, devices=two)
        for a, b in zip(jax.tree.leaves(jax.block_until_ready(init(*shards))), one):
            a, b = np.asarray(a)[0], np.asarray(b)
            worst = max(worst, at_most(np.ravel(a - b), 1e-5 * (1 + np.abs(b).max()), "init on two devices"))
    return worst


def training_mode(subject: Subject, options: Options) -> float:
    """Forward with train=True and back with the state it returns; where training settles, evaluation gives the same.

    Where nothing is measured training mode has a Jacobian, and the log-dets of both directions are held against it;
    where there is no state at all it is evaluation. Both modes of both directions read the context, or neither does.
    """
    # What is measured is measured on another batch than before: of the same one, running averages are the batch's own.
    x = jax.tree.map(_third, subject.x) if subject.measures else None
    point = subject.point("float64", x)
    try:
        with jax.enable_x64(True):
            y, log_det, state = subject.wide_forward(*point[1:], train=True)
            x_again, inverse_log_det = subject.wide_inverse(point.params, state, y, point.context, train=True)
    except ValueError as error:
        if "expected train=False" not in str(error):
            raise
        raise NotRun("it refuses train=True, as what measures does where it is turned round") from error
    require(_form(state) == _form(point.state), f"expected state to keep its form in training, got {_form(state)}")
    exact = subject.exact(point, train=not subject.measures)
    of_x, of_y, of_log_det = subject.tolerances(point, exact)
    if subject.measures:  # by the batch at hand: a row has no Jacobian of its own
        of_x, of_y, of_log_det = (allowed.max() for allowed in (of_x, of_y, of_log_det))
        worst = _settled(subject, point, of_y, of_log_det)
    else:
        worst = at_most(np.asarray(log_det) - exact.log_det, of_log_det, "log_det − log|det J| in training mode")
    if not jax.tree.leaves(point.state):
        _, measured = subject.results(point, ("example", "float64"))
        worst = max(worst, at_most(rows(y) - measured.y, of_y, "y in training mode − y, without a state"))
    _read_context_alike(subject, point, y, state)
    return max(
        worst,
        at_most(rows(x_again) - rows(point.x), of_x, "x − inverse(forward(x)) in training mode"),
        at_most(
            np.asarray(inverse_log_det + log_det),
            2 * of_log_det + (0 if subject.measures else exact.log_det_gradient_norm * of_x),
            "log-dets of both directions in training mode",
        ),
    )


def _read_context_alike(subject, point, y, state):
    others = jax.tree.map(lambda a: np.roll(a, 1, axis=0), point.context)
    if all(np.array_equal(*pair) for pair in zip(jax.tree.leaves(others), jax.tree.leaves(point.context))):
        return

    def reads(program, state, x, train):
        with jax.enable_x64(True):
            results = [program(point.params, state, x, context, train=train)[:2] for context in (point.context, others)]
        return not _same_bits(*results)

    for name, program, x in (("forward", subject.wide_forward, point.x), ("inverse", subject.wide_inverse, y)):
        in_training, in_evaluation = reads(program, state, x, True), reads(program, point.state, x, False)
        require(
            in_training == in_evaluation,
            f"expected {name} to read the context in both modes, got: in training {in_training}, in evaluation "
            f"{in_evaluation}",
        )


def _settled(subject, point, of_y, of_log_det):
    """After 400 steps on one batch an average with momentum 0.9 is the batch's own to 1e-18, with 0.99 to 2 percent."""

    def step(state, _):
        return subject.in_float64.forward(point.params, state, point.x, point.context, train=True)[2], None

    with jax.enable_x64(True):
        start = jax.tree.map(jnp.asarray, point.state)
        settled, _ = jax.jit(lambda state: jax.lax.scan(step, state, length=400))(start)
        y_train, log_det_train, _ = subject.wide_forward(point.params, settled, point.x, point.context, train=True)
        y_eval, log_det_eval, _ = subject.wide_forward(point.params, settled, point.x, point.context)
    return max(
        at_most(rows(y_eval) - rows(y_train), of_y, "evaluation − training, after 400 steps on one batch"),
        at_most(np.asarray(log_det_eval - log_det_train), of_log_det, "log_det in evaluation − in training"),
    )


def init_inverse(subject: Subject, options: Options) -> float:
    """init_inverse makes from y what init makes from x, inverse then gives x's form; and it normalises as init does.

    Where init measures its batch so that forward gives the same moments for another, narrower one, inverse is to do so
    by init_inverse: else the wrong side was measured.
    """
    key, (*_, x, context) = jax.random.key(subject.seed), subject.point()
    made = params, state = subject.init(key, x, context)
    y, _, _ = subject.forward(params, state, x, context)
    back = subject.init_inverse(key, y, context)
    require(_form(back) == _form(made), f"expected init_inverse to make {_form(made)} as init does, got {_form(back)}")
    x_again, _ = subject.inverse(*back, y, context)
    require(_form(x_again) == _form(x), f"expected inverse to give {_form(x)} from it, got {_form(x_again)}")
    require(np.all(np.isfinite(rows(x_again))), "expected finite x by inverse with what init_inverse makes")

    other_x = jax.tree.map(_third, x)
    other = subject.init(key, other_x, context)
    if subject.batch < 2 or _same_bits(made, other):
        return 0.0
    other_y, _, _ = subject.forward(params, state, other_x, context)
    other_back = subject.init_inverse(key, other_y, context)

    def follows(program, own, with_own, others, with_others):
        """How much of what the batch moves the moments by is left where each batch is measured."""
        first, *more = (
            _moments(program(*variables, batch, context)[0])
            for batch, variables in ((own, with_own), (others, with_others), (others, with_own))
        )
        left, moved = (np.abs(moments - first).sum(axis=1) for moments in more)
        return np.where(moved > 1e-3, left / np.maximum(moved, 1e-3), 0.0)

    forwards = follows(subject.forward, x, made, other_x, other)
    backwards = follows(subject.inverse, y, back, other_y, other_back)
    for moment, by_init, by_init_inverse in zip(("mean", "deviation"), forwards, backwards):
        require(
            by_init > 0.5 or by_init_inverse < 0.5,
            f"expected inverse to give the same {moment} for every batch that init_inverse measures, as forward does "
            f"with init: of a batch's own {moment} {by_init:.0%} is left there, {by_init_inverse:.0%} here",
        )
    return 0.0


def _third(a):
    """The batch drawn together to a third of its range, at its lower end."""
    return (a.min() + (a - a.min()) / 3).astype(a.dtype)


def _moments(tree):
    """Mean and log of the standard deviation over the batch and all positions, of each channel that varies."""
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]
    channels = [leaf.reshape(-1, leaf.shape[-1] if leaf.ndim > 1 else 1) for leaf in leaves]
    deviations = np.concatenate([channel.std(axis=0) for channel in channels])
    means = np.concatenate([channel.mean(axis=0) for channel in channels])
    return np.stack([means, np.log(np.maximum(deviations, np.finfo(np.float32).tiny))])


STRUCTURAL: dict[str, Callable[[Subject, Options], float | Seen]] = {
    "value": value,
    "pure": pure,
    "shapes": shapes,
    "sums of the log-det": sums_of_the_log_det,
    "log-det by itself": log_det_by_itself,
    "batch of one": batch_of_one,
    "order of the batch": order_of_the_batch,
    "large batch": large_batch,
    "jit": jit,
    "vmap": vmap,
    "scan": scan,
    "grad": grad,
    "finite gradients": finite_gradients,
    "devices": devices,
    "training mode": training_mode,
    "init_inverse": init_inverse,
    "changes of form": changes_of_form,
    "far parameters": far_parameters,
    "far ends": far_ends,
    "density": density,
}


# ---------------------------------------------------------------------------------------------------------------------
# What they share
# ---------------------------------------------------------------------------------------------------------------------


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
    if type(part) is tuple:
        return tuple(_rebuilt(item) for item in part)
    if _is_frozen(part):
        return type(part)(**{field.name: _rebuilt(getattr(part, field.name)) for field in dataclasses.fields(part)})
    return part


def _is_frozen(part) -> bool:
    of_dataclass = getattr(part, "__dataclass_params__", None)
    return of_dataclass is not None and of_dataclass.frozen and not isinstance(part, type)


def _with_batch(tree):
    return jax.tree.map(lambda a: a[None], tree)


def _joined(a):
    a = np.asarray(a)
    return a.reshape(-1, *a.shape[2:])


def _same_bits(one, other):
    leaves, others = jax.tree.leaves(one), jax.tree.leaves(other)
    return len(leaves) == len(others) and all(map(_equal, leaves, others))


def _equal(a, b):
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        a, b = jax.random.key_data(a), jax.random.key_data(b)
    return np.array_equal(a, b, equal_nan=jnp.issubdtype(a.dtype, jnp.floating))


def _form(tree):
    return jax.tree.map(lambda a: (tuple(a.shape), str(a.dtype)), tree)

"""Checks that leave the example: where a map changes its form, at parameters far away, far out, over a whole box."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from nvpjax.testing.subject import Exact, Measured, Options, Point, Subject, rows, to_float64, trees
from nvpjax.testing.tolerances import log_det_tolerance
from nvpjax.testing.verdicts import NotRun, Seen, at_most, require

# ---------------------------------------------------------------------------------------------------------------------
# Changes of form
# ---------------------------------------------------------------------------------------------------------------------

NARROWEST = 1e-9
"""How closely a change of form is found, as a share of the path that it is on."""
PEAKS = 4
"""How many places are looked at on each path, for y and for log_det."""
SHARP = 1e-2
"""A second difference that is so large a share of the first ones at the narrowest scale is a change of form."""
SIDES = (1e-3, 1e-6)
"""How far on both sides of it is looked, as a share of the path."""


def changes_of_form(subject: Subject, options: Options) -> Seen:
    """Round trips and log-dets on both sides of every kink and jump, and the latents between, in float64.

    They are found by search along straight paths: all entries together from the example's lowest value to its highest,
    and four times as far to both sides where the domain lets it; one entry alone. A network of ReLUs has kinks and may
    jump; what is asked holds on both sides all the same.
    """
    point = subject.point("float64")
    paths = _Paths(subject, point, options.domain)
    found = _search(paths)
    if not found:
        return Seen(0.0, len(paths), "none found")
    path = np.repeat([place[0] for place in found], 2 * len(SIDES))
    offsets = np.tile([sign * size for size in SIDES for sign in (-1, 1)], len(found))
    middle = np.repeat([(low + high) / 2 for _, low, high in found], 2 * len(SIDES))
    beside = paths.point_at(path, middle + offsets)
    exact, measured = subject.exact(beside), subject.measured(beside)
    of_x, of_y, _ = subject.tolerances(beside, exact)
    errors, allowed, known = _errors(beside, exact, measured), *_allowed(subject, beside, exact)
    nan = np.isnan(measured.y).any(axis=1) | np.isnan(measured.log_det)
    require(not nan.any(), f"expected no NaN beside a change of form, at {_said(beside, nan)}")
    # Where rounding takes x across the place, both sides' results are right.
    apart = known & (of_x < 0.1 * np.abs(offsets) * paths.length(path))
    wrong = apart & ~(errors <= allowed)
    worst, where = 0.0, f"beside a change of form, first at {_said(beside, wrong.any(axis=0))}"
    for error, most, what in zip(errors[:, apart], allowed[:, apart], ERRORS):
        worst = max(worst, at_most(error, most, f"{what} {where}"))
    # The latents between: those that neither side gives are a gap, those that both give an overlap.
    of_y = np.where(known, of_y + exact.jacobian_norm * of_x, np.inf).reshape(len(found), -1).max(axis=1)
    worst = max(worst, _latents_between(subject, paths, found, of_y))
    skipped = f", no digits left at {np.sum(~apart)} of {len(apart)} points beside" if not apart.all() else ""
    return Seen(worst, len(apart), f"{len(found)} found{skipped}")


ERRORS = ("log_det − log|det J|", "x − inverse(forward(x))", "log_det of inverse + log_det of forward")


def _errors(point: Point, exact: Exact, measured: Measured) -> np.ndarray:
    """The sizes of the ``ERRORS``, each of every row."""
    return np.abs(
        [
            measured.log_det - exact.log_det,
            np.abs(measured.x_again - rows(point.x)).max(axis=1),
            measured.inverse_log_det + measured.log_det,
        ]
    )


def _allowed(subject: Subject, point: Point, exact: Exact) -> tuple[np.ndarray, np.ndarray]:
    """What rounding explains of each of the ``ERRORS`` in float64, and the rows of which that can be said."""
    of_x, of_y, of_log_det = subject.tolerances(point, exact)
    x_scale = np.maximum(np.abs(rows(point.x)).max(axis=1), np.abs(rows(subject.x)).max())
    # How much larger a rounding of y is in x, or one of x in y, as shares of both.
    conditioning = np.maximum(of_x / x_scale, of_y / np.abs(exact.y).max(axis=1)) / subject.rounding("float64")
    # An entry of the Jacobian is known to a rounding of y by the scale of x: so far the log-det is.
    of_log_det = of_log_det + subject.rounding("float64") * conditioning
    of_both = 2 * of_log_det + exact.log_det_gradient_norm * of_x
    return np.array([of_log_det, of_x, of_both]), np.isfinite(exact.log_det) & (conditioning < CONDITION)


CONDITION = 1e8
"""The worst conditioning that is looked at: beyond it half of float64's digits are gone."""


def _latents_between(subject, paths, found, of_y):
    path, low, high = (np.array(column) for column in zip(*found))
    sides = paths.point_at(path, low), paths.point_at(path, high)
    below, above = (subject.mapped(subject.wide_forward, side, side.x)[0] for side in sides)
    point, worst = sides[0], 0.0
    # Not the middle, which may be the very place.
    for share in (0.3, 0.7):
        latents = jax.tree.map(lambda a, b, share=share: a + share * (b - a), below, above)
        x, _ = subject.mapped(subject.wide_inverse, point, latents)
        again, _ = subject.mapped(subject.wide_forward, point, x)
        error, asked = rows(again) - rows(latents), np.isfinite(of_y)
        where = f"between both sides of {_said(point, asked & ~(np.abs(error).max(axis=1) <= 2 * of_y))}"
        worst = max(worst, at_most(error[asked], 2 * of_y[asked], f"y − forward(inverse(y)) {where}"))
    return worst


class _Paths:
    """Straight paths through the example's box, each run through by t from 0 to 1."""

    def __init__(self, subject: Subject, point: Point, domain: tuple[float, float]):
        self.subject, self.point = subject, point
        x = rows(point.x)
        low, high = (
            np.concatenate([np.full(leaf[0].size, end(leaf)) for leaf in jax.tree.leaves(point.x)])
            for end in (np.min, np.max)
        )
        reach = 4 * (high - low)
        inward = 1e-6 * (np.minimum(domain[1], high + reach) - np.maximum(domain[0], low - reach))
        self.low = np.minimum(low, np.maximum(low - reach, domain[0] + inward))
        self.high = np.maximum(high, np.minimum(high + reach, domain[1] - inward))
        starts, ends = [low, self.low], [high, self.high]
        entries = x.shape[1]
        alone = sorted({0, entries // 2, entries - 1}) if subject.many > 4 * 131 else [entries - 1]
        for place in alone if entries > 1 else ():
            for row, end in ((starts, low), (ends, high)):
                row.append(np.where(np.arange(entries) == place, end, x[0]))
        self.start, self.end = np.array(starts), np.array(ends)
        self.context = jax.tree.map(lambda a: a[:1], point.context)

    def __len__(self):
        return len(self.start)

    def length(self, path):
        """The largest change of an entry on the way."""
        return np.abs(self.end - self.start).max(axis=1)[path]

    def point_at(self, path: np.ndarray, t: np.ndarray) -> Point:
        x = self.start[path] + t[:, None] * (self.end - self.start)[path]
        x = trees(np.clip(x, self.low, self.high), self.point.x)
        return self.point._replace(x=x, context=jax.tree.map(lambda a: np.repeat(a, len(t), axis=0), self.context))

    def values(self, path, t):
        """y and, last, log_det; 0 where they are not finite, so that what is not is a jump."""
        point = self.point_at(path, t)
        y, log_det = self.subject.mapped(self.subject.wide_forward, point, point.x)
        return np.nan_to_num(np.column_stack([rows(y), log_det]), posinf=0, neginf=0)


def _search(paths: _Paths) -> list[tuple[int, float, float]]:
    """Where y or log_det has a kink or jumps: (path, t on one side, t on the other)."""
    number = paths.subject.many // len(paths)
    grid = np.linspace(0, 1, number)
    path = np.repeat(np.arange(len(paths)), number)
    values = paths.values(path, np.tile(grid, len(paths))).reshape(len(paths), number, -1)
    brackets = []
    for each in range(len(paths)):
        for column, sharpness in enumerate(_sharpness(values[each], paths.subject)):
            padded = np.pad(sharpness, 1)
            peaks = np.flatnonzero((sharpness > 0) & (sharpness >= padded[:-2]) & (sharpness >= padded[2:]))
            for peak in peaks[np.argsort(-sharpness[peaks])][:PEAKS]:
                brackets.append((each, column, grid[peak], grid[peak + 2]))
    while brackets and max(high - low for *_, low, high in brackets) > NARROWEST:
        number = max(5, paths.subject.many // len(brackets))
        grids = np.array([np.linspace(low, high, number) for *_, low, high in brackets])
        path = np.repeat([bracket[0] for bracket in brackets], number)
        values = paths.values(path, grids.ravel()).reshape(len(brackets), number, -1)
        narrower = []
        for (each, column, *_), grid, value in zip(brackets, grids, values):
            sharpness = _sharpness(value, paths.subject)[column]
            peak = int(np.argmax(sharpness))
            if grid[peak + 2] - grid[peak] > NARROWEST or sharpness[peak] > SHARP:
                narrower.append((each, column, grid[peak], grid[peak + 2]))
        brackets = narrower
    found: dict = {}
    for each, _, low, high in brackets:
        found.setdefault((each, round(low / 1e-7)), (each, low, high))
    return list(found.values())


def _sharpness(values: np.ndarray, subject: Subject) -> np.ndarray:
    """The second differences as a share of the first ones around: near 1 at a jump, as its step is smaller elsewhere.

    Of y, the sharpest entry's, and of log_det. What rounding makes of it counts as a first difference.
    """
    steps = np.abs(np.diff(values, axis=0))
    second = np.abs(np.diff(values, 2, axis=0))
    rounding = 100 * subject.rounding("float64") * np.abs(values).max(axis=0) + np.finfo(np.float64).tiny
    share = second / (steps[1:] + steps[:-1] + np.median(steps, axis=0) + rounding)
    return np.stack([share[:, :-1].max(axis=1), share[:, -1]])


def _said(point: Point, chosen) -> str:
    """The first of the chosen rows."""
    return f"x = {rows(point.x)[int(np.argmax(chosen))]}"


# ---------------------------------------------------------------------------------------------------------------------
# Far parameters
# ---------------------------------------------------------------------------------------------------------------------

FAR = (1.0, 3.0, 10.0)
"""Standard deviations of the noise on parameters."""
SEEDS = range(8)


def far_parameters(subject: Subject, options: Options) -> Seen:
    """log-dets of both directions and the round trip with parameters far from the start and of both signs, in float64.

    Looked at is where the exact Jacobian is finite and well conditioned. A NaN fails, unless y has grown beyond all
    measure before, on the way there.
    """
    if not jax.tree.leaves(subject.start):
        raise NotRun("no parameters")
    worst, looked_at, skipped = 0.0, 0, 0
    for size in FAR:
        for seed in SEEDS:
            point = subject.point("float64", seed=seed, size=size)
            exact, measured = subject.exact(point), subject.measured(point)
            where = f"with parameters of seed {seed} at {size:g} standard deviations"
            require(
                not _is_nan(measured.y, measured.log_det) or _overflows(subject, seed, size),
                f"expected no NaN in y and log_det {where}",
            )
            errors, allowed, known = _errors(point, exact, measured), *_allowed(subject, point, exact)
            looked_at, skipped = looked_at + known.sum(), skipped + (~known).sum()
            for error, most, what in zip(errors[:, known], allowed[:, known], ERRORS):
                worst = max(worst, at_most(error, most, f"{what} {where}"))
    detail = f"{skipped} of {looked_at + skipped} rows not looked at: no digits left"
    if not looked_at:
        raise NotRun(detail)
    return Seen(worst, int(looked_at), detail if skipped else "")


def _is_nan(y, log_det) -> bool:
    return bool(np.isnan(y).any() or np.isnan(log_det).any())


def _overflows(subject: Subject, seed: int, size: float) -> bool:
    """Whether y is huge before it is NaN, on the straight way from init's parameters to those of this size."""
    low, high, largest = 0.0, size, np.inf
    for _ in range(40):
        middle = (low + high) / 2
        point = subject.point("float64", seed=seed, size=middle)
        y, log_det = subject.mapped(subject.wide_forward, point, point.x)
        if _is_nan(rows(y), log_det):
            high = middle
        else:
            low, largest = middle, np.abs(rows(y)).max()
    return not largest < 1e50


# ---------------------------------------------------------------------------------------------------------------------
# Far ends
# ---------------------------------------------------------------------------------------------------------------------


def far_ends(subject: Subject, options: Options) -> Seen:
    """At |x| from 10 to 10,000, or close to the ends of the domain: values, log-dets, their gradients, round trips.

    In float32 log_det is finite, has a finite gradient, and is that of float64, as y is. Where the exact Jacobian has
    digits left it is the log-det's, and inverse takes x back, in float64. Where it has none, as of 1 − tanh² that has
    rounded to 0, log_det claims no more volume than rounding may hide.
    """
    low, high = options.domain
    places = [sign * size for size in (10.0, 90.0, 1e3, 1e4) for sign in (-1, 1)]
    places = [place for place in places if low < place < high]
    for end, inward in ((low, 1), (high, -1)):
        if np.isfinite(end):
            reach = high - low if np.isfinite(high - low) else 1.0
            places += [end + inward * share * reach for share in (1e-6, 1e-3)]
    point, worst, without_jacobian, without_inverse = subject.point(), 0.0, [], []
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(subject.bijector.log_det(*point[1:3], x, point.context))))
    usual = subject.exact(subject.point("float64")).jacobian_norm.max()
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
        wide_y, truth = subject.mapped(subject.wide_forward, wide, wide.x)
        x_again, _ = subject.mapped(subject.wide_inverse, wide, wide_y)
        gradient_norm = np.where(np.isfinite(exact.log_det_gradient_norm), exact.log_det_gradient_norm, np.inf)
        allowed = log_det_tolerance(subject.rounding("float32"), exact.y.shape[1], truth, abs(place), gradient_norm)
        known = np.isfinite(exact.log_det) & (exact.jacobian_inverse_norm < 1e9)
        # By how much its entries may be off, a singular value is at most: more volume there cannot be.
        hidden = 1e-9 * np.maximum(usual, exact.jacobian_norm)
        most = np.log(exact.singular_values + hidden[:, None]).sum(axis=1)
        above = np.where(np.isfinite(most), np.maximum(truth - most, 0), 0)
        of_x, _, _ = subject.tolerances(wide, exact)
        invertible = of_x < 1e-3 * abs(place)
        _, of_y, _ = subject.tolerances(point._replace(x=x), exact)
        in_reach = np.isfinite(of_y) & (np.abs(exact.y).max(axis=1) < np.finfo(np.float32).max / 2)
        without_jacobian += [place] * (not known.all())
        without_inverse += [place] * (not invertible.all())
        worst = max(
            worst,
            at_most(log_det - truth, allowed, f"log_det in float32 − float64 {where}"),
            at_most(log_det[known] - exact.log_det[known], allowed[known], f"log_det − log|det J| {where}"),
            at_most(above, 1e-3 + allowed, f"log_det above the most that J can hide {where}"),
            at_most(
                rows(x_again)[invertible] - rows(x)[invertible], of_x[invertible], f"x − inverse(forward(x)) {where}"
            ),
            at_most(rows(y)[in_reach] - exact.y[in_reach], of_y[in_reach], f"y in float32 − float64 {where}"),
        )
    detail = [
        f"no digits of {what} at x = {', '.join(f'{place:g}' for place in those)}"
        for what, those in (("the Jacobian", without_jacobian), ("x in y", without_inverse))
        if those
    ]
    return Seen(worst, len(places), "; ".join(detail))


# ---------------------------------------------------------------------------------------------------------------------
# Density
# ---------------------------------------------------------------------------------------------------------------------


def density(subject: Subject, options: Options) -> Seen:
    """∫|det J| dx over a box, on a 2-D grid, against the area of f(box), which its edge alone tells.

    In other words: the density |det J|/area that f pulls back from the uniform one on f(box) integrates to one over
    the box, whatever the range of f. By Green's theorem area = |∮ y₁ dy₂| along the image of the edge, where log_det
    plays no part. Cells are graded: smaller where y or log_det changes fast. The allowed error is what coarser grids
    change, and a thousandth.
    """
    leaves = jax.tree.leaves(subject.x)
    if len(leaves) != 1 or leaves[0].shape[1:] != (2,):
        raise NotRun("needs events of shape (2,)")
    point = subject.point("float64")
    low, high = leaves[0].min(), leaves[0].max()
    like = point.x

    def mapped(x):
        context = jax.tree.map(lambda a: np.repeat(a[:1], len(x), axis=0), point.context)
        y, log_det = subject.mapped(subject.wide_forward, point._replace(context=context), trees(x, like))
        return rows(y), np.asarray(log_det)

    first, second = (_graded(mapped, axis, low, high) for axis in (0, 1))

    def integral(steps):
        edges = first(steps), second(steps)
        (across, up), widths = ((edge[1:] + edge[:-1]) / 2 for edge in edges), [np.diff(edge) for edge in edges]
        grid = np.stack(np.meshgrid(across, up, indexing="ij"), axis=-1).reshape(-1, 2)
        return widths[0] @ np.exp(mapped(grid)[1]).reshape(steps, steps) @ widths[1]

    # Counter-clockwise, each side without its last corner.
    across, up = first(EDGE)[:-1], second(EDGE)[:-1]
    back, down = first(EDGE)[:0:-1], second(EDGE)[:0:-1]
    bottom, top = np.full(EDGE, low), np.full(EDGE, high)
    edge = [(across, bottom), (top, up), (back, top), (bottom, down)]
    y = mapped(np.concatenate([np.stack(part, axis=1) for part in edge]))[0]
    next_y = np.roll(y, -1, axis=0)
    steps = np.linalg.norm(next_y - y, axis=1)
    if steps.max() > 0.01 * steps.sum():
        raise NotRun("the map jumps at the edge of the box")
    area = abs(np.sum((y[:, 0] + next_y[:, 0]) * (next_y[:, 1] - y[:, 1])) / 2)
    fine, *others = (integral(steps) / area for steps in (256, 192, 128))
    spread = max(abs(other - fine) for other in others)
    return Seen(at_most(np.array([fine - 1]), spread + 1e-3, "integral of the density − 1"))


EDGE = 1024
"""Points on each side of the box."""


def _graded(mapped, axis: int, low: float, high: float):
    """Divisions of one axis into so many cells: ``(cells) -> edges``.

    A third of them are of one width, a third take equal shares of what y moves by, a third of what log_det changes by,
    on three lines across the box. Divided anew four times, each time where the last division says.
    """
    at = np.linspace(low, high, 257)
    share, before = np.linspace(0, 1, len(at)), at
    for _ in range(4):
        moves = [np.diff(at) / (high - low)]
        lines = []
        for other in (low, (low + high) / 2, high):
            line = np.full((len(at), 2), other)
            line[:, axis] = at
            lines.append(line)
        y, log_det = mapped(np.concatenate(lines))
        for values in (y, log_det[:, None]):
            step = np.abs(np.diff(np.nan_to_num(values).reshape(3, len(at), -1), axis=1)).sum(axis=(0, 2))
            moves.append(step / step.sum() if step.sum() else moves[0])
        share = np.concatenate([[0], np.cumsum(sum(moves))])
        share, before = share / share[-1], at
        at = np.interp(np.linspace(0, 1, len(at)), share, before)
    return lambda cells: np.interp(np.linspace(0, 1, cells + 1), share, before)

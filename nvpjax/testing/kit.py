"""Running the checks on a bijector, and the report of what came out."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple, TypedDict, Unpack

import numpy as np

from nvpjax.bijector import Bijector, PyTree
from nvpjax.testing.checks import POINTWISE, STRUCTURAL
from nvpjax.testing.subject import Options, Subject
from nvpjax.testing.verdicts import NotRun, Seen

CHECKS = (*STRUCTURAL, *POINTWISE)
"""The names of all checks."""

LADDER = ("bfloat16", "float16", "float32", "float64")


class CheckResult(NamedTuple):
    """What became of one check."""

    check: str
    outcome: str
    """passed, failed or not run."""
    cases: int
    """How many points (x, parameters, dtype) were looked at."""
    worst: float
    """The largest error, as a share of what rounding explains."""
    seconds: float
    detail: str
    """Why it failed, with the smallest example that was found, why it was not run, or what it could not look at."""


@dataclass(frozen=True)
class Report:
    """What ``examine_bijector`` found: one result a check, and the seed that gives the same again."""

    bijector: str
    seed: int
    results: tuple[CheckResult, ...] = field(repr=False)
    seconds: float = field(compare=False)

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        return tuple(result for result in self.results if result.outcome == "failed")

    @property
    def cases(self) -> int:
        return sum(result.cases for result in self.results)

    def __str__(self) -> str:
        lines = [f"{self.bijector}: {len(self.results)} checks, {self.cases} cases, seed {self.seed}"]
        for result in self.results:
            share = [f"worst error {result.worst:.0%} of what rounding explains"] if result.outcome == "passed" else []
            said = "; ".join(share + [result.detail] * bool(result.detail))
            lines.append(f"  {result.outcome:8} {result.check:28} {result.cases:4} cases  {said}")
        return "\n".join(lines)


class Asked(TypedDict, total=False):
    """The options of ``examine_bijector``, for what passes them on."""

    cases: int
    seed: int
    dtypes: tuple[str, ...]
    domain: tuple[float, float]
    parallel: Bijector | None
    axis_name: str
    checks: Collection[str]
    parameter_noise: float
    train_steps: int
    in_float64: Bijector | None
    layers: int | None


def examine_bijector(
    bijector: Bijector,
    example: PyTree,
    context: PyTree = None,
    *,
    cases: int = 10,
    seed: int = 0,
    dtypes: tuple[str, ...] = LADDER,
    domain: tuple[float, float] = (-np.inf, np.inf),
    parallel: Bijector | None = None,
    axis_name: str = "devices",
    checks: Collection[str] = CHECKS,
    parameter_noise: float = 0.3,
    train_steps: int = 2,
    in_float64: Bijector | None = None,
    layers: int | None = None,
) -> Report:
    """Run the checks on a bijector and report, without raising: what passed, what failed and where, what was not run.

    Parameters are ``init``'s plus normal noise, so that no layer is at its start; a state is measured on the example.

    Args:
        bijector: yours or ours; a foreign one through ``nvpjax.testing.adapters``.
        example: ``(batch, *event)``, of small events (Jacobians are D x D) and two rows or more. Values are drawn
            between its smallest and its largest entry: give it where the bijector is to be invertible.
        context: ``(batch, ...)``, for bijectors that take one.
        cases: how many points hypothesis draws beside the example, for each pointwise check; 0 does without hypothesis.
        seed: of the draws, of ``init`` and of the noise.
        dtypes: the ladder. Log-dets are held against float64 in all of them.
        domain: of forward, ends excluded, for the checks that look beyond the example: far ends, changes of form.
        parallel: the same bijector with an ``axis_name``, where it has one: devices are then checked in training too.
        axis_name: the pmap axis of ``parallel``.
        checks: names from ``CHECKS``.
        parameter_noise: standard deviation of the noise on parameters.
        train_steps: forward passes in training mode that the state comes from.
        in_float64: the same bijector for float64, where it holds arrays of its own, as foreign ones do.
        layers: how many elementary bijectors it is made of, where they cannot be counted, as inside a foreign one.

    >>> import jax.numpy as jnp
    >>> from nvpjax import Softplus
    >>> report = examine_bijector(Softplus(), jnp.array([[-1.0, 2.0], [0.5, 0.1]]), cases=0)
    >>> report.failures
    ()
    """
    unknown = [check for check in checks if check not in CHECKS]
    if unknown:
        raise ValueError(f"examine_bijector: expected checks among {CHECKS}, got {unknown}.")
    started = time.perf_counter()
    options = Options(tuple(dtypes), domain, parallel, axis_name)
    subject = Subject(bijector, example, context, seed, parameter_noise, train_steps, in_float64, layers)
    results = []
    for name in CHECKS:
        if name in checks:
            if name in POINTWISE:
                results.append(_run(name, lambda name=name: _pointwise(subject, name, options.dtypes, cases)))
            else:
                results.append(_run(name, lambda name=name: STRUCTURAL[name](subject, options)))
    try:
        described = textwrap.shorten(repr(bijector), 120, placeholder=" ...")
    except Exception:  # the check of values has said so
        described = subject.name
    return Report(described, seed, tuple(results), time.perf_counter() - started)


def check_bijector(bijector: Bijector, example: PyTree, context: PyTree = None, **options: Unpack[Asked]) -> Report:
    """Run the checks on a bijector, and raise ``AssertionError`` with every check that failed and its smallest example.

    Args: as of ``examine_bijector``.

    >>> import jax.numpy as jnp
    >>> from nvpjax import Logit
    >>> report = check_bijector(Logit(alpha=0.05), jnp.array([[0.1, 0.7], [0.4, 0.9]]), domain=(0, 1), cases=0)
    >>> len(report.failures)
    0
    """
    report = examine_bijector(bijector, example, context, **options)
    if report.failures:
        failed = "\n".join(f"  {result.check}: {result.detail}" for result in report.failures)
        raise AssertionError(f"{report.bijector}, seed {report.seed}: {len(report.failures)} checks failed\n{failed}")
    return report


def _run(name, check) -> CheckResult:
    started = time.perf_counter()

    def result(outcome, worst, cases, detail):
        return CheckResult(name, outcome, cases, worst, time.perf_counter() - started, detail)

    try:
        with np.errstate(all="ignore"):  # what is not finite fails a comparison, and needs no warning beside it
            found = check()
        return result("passed", *(found if isinstance(found, Seen) else Seen(found)))
    except NotRun as reason:
        return result("not run", 0.0, 0, str(reason))
    except AssertionError as error:
        return result("failed", np.inf, 1, str(error) or "AssertionError without words")
    except Exception as error:  # a bijector that cannot be run is a finding of the examination, not its end
        first_line = (str(error).strip().splitlines() or [""])[0]
        return result("failed", np.inf, 1, f"{type(error).__name__}: {first_line}")


def _pointwise(subject: Subject, name: str, dtypes, cases: int) -> Seen:
    """Run a pointwise check at the example and at drawn points, in every dtype."""
    shares = []

    def at(dtype, x, parameter_seed, key):
        point = subject.point(dtype, x, parameter_seed)
        try:
            shares.append(POINTWISE[name](subject, point, *subject.results(point, key)))
        except AssertionError as error:
            where = "the example" if x is None else f"x = {point.x}"
            raise AssertionError(f"{error}; in {dtype}, at {where}, parameters of seed {parameter_seed}") from None

    for dtype in dtypes:
        at(dtype, None, subject.seed, "example" if dtype == "float32" else ("example", dtype))
    if cases:
        from nvpjax.testing.strategies import run_at_drawn_points

        run_at_drawn_points(subject, at, dtypes, cases)
    return Seen(max(shares), len(shares))

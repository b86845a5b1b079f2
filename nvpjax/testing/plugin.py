"""A pytest plugin: the fixture ``check_bijector``, and a line at the end that says how much was checked.

In your ``conftest.py``:

    pytest_plugins = ["nvpjax.testing.plugin"]

and in a test:

    def test_my_bijector(check_bijector):
        check_bijector(MyBijector(), example)

The fixture takes the arguments of ``nvpjax.testing.check_bijector``. Options of the command line: ``--bijector-cases``
and ``--bijector-seed``, for a longer search or another one; ``--bijector-report`` prints what all checks measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nvpjax.testing import Report

KEY = "nvpjax.testing"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("nvpjax", "checks of bijectors")
    group.addoption("--bijector-cases", type=int, default=10, help="points drawn for each check (default: 10)")
    group.addoption("--bijector-seed", type=int, default=0, help="seed of points and parameters (default: 0)")
    group.addoption("--bijector-report", action="store_true", help="print each bijector's checks and worst errors")


@pytest.fixture
def check_bijector(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Callable[..., Report]:
    """``nvpjax.testing.check_bijector`` with the command line's number of cases and seed, counted in the summary."""
    # Imported here, so that the plugin does not import jax before a conftest has set it up.
    from nvpjax.testing import check_bijector as check

    def run(bijector, example, context=None, **options):
        options.setdefault("cases", request.config.getoption("--bijector-cases"))
        options.setdefault("seed", request.config.getoption("--bijector-seed"))
        report = check(bijector, example, context, **options)
        ran = sum(result.outcome != "not run" for result in report.results)
        record_property(KEY, (ran, report.cases, str(report), report.seconds))
        return report

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    checked = [value for report in reports for key, value in getattr(report, "user_properties", ()) if key == KEY]
    if not checked:
        return
    if config.getoption("--bijector-report"):
        for *_, text, seconds in checked:
            terminalreporter.write_line(f"{text}\n  {seconds:.1f} s")
    runs, cases, seconds = (sum(value[place] for value in checked) for place in (0, 1, 3))
    terminalreporter.write_line(
        f"nvpjax.testing: {len(checked)} bijectors, {runs} checks, {cases} cases passed in {seconds:.0f} s "
        f"(seed {config.getoption('--bijector-seed')})"
    )

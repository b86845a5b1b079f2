"""Types: every public signature says them, and users' programs that a type checker takes run as well.

What the type checker says is part of ``make lint``: ``tests/typing/check.py``.
"""

import importlib
import inspect
import pkgutil
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import get_type_hints

import pytest

import nvpjax
from conftest import LIBRARIES
from nvpjax.testing import examine_bijector
from nvpjax.testing.kit import Asked
from tests.typing import programs, wrong_programs
from tests.typing.check import MARK, WRONG, marked

KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY
OF_OTHER_LIBRARIES = {f"nvpjax.ecosystem.{name}": library for name, library in LIBRARIES.items()}
MODULES = [
    module.name
    for module in pkgutil.walk_packages(nvpjax.__path__, "nvpjax.")
    if find_spec(OF_OTHER_LIBRARIES.get(module.name, "jax"))
]
"""Those that can be imported here: ``make ecosystem-test`` looks at the others."""
PROGRAMS = [
    program
    for program in vars(programs).values()
    if inspect.isfunction(program)
    and program.__module__ == programs.__name__
    and not inspect.signature(program).parameters
]


def functions(value) -> Iterator:
    """A public function, or those of a public class: methods, properties and ``__init__``."""
    if inspect.isclass(value):
        for name, member in vars(value).items():
            if name == "__init__" or not name.startswith("_"):
                member = member.fget if isinstance(member, property) else getattr(member, "func", member)
                yield inspect.unwrap(getattr(member, "__func__", member))
    elif callable(value):
        yield inspect.unwrap(value)


def written_in(module) -> Iterator:
    """Its public functions, without those that it imports, or that dataclasses and named tuples make."""
    for name, value in vars(module).items():
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__:
            for function in functions(value):
                if inspect.isfunction(function) and function.__code__.co_filename == module.__file__:
                    yield function


def without_types(function) -> list[str]:
    signature = inspect.signature(function)
    missing = [
        name
        for place, (name, parameter) in enumerate(signature.parameters.items())
        if parameter.annotation is parameter.empty and not (place == 0 and name in ("self", "cls"))
    ]
    returns = signature.return_annotation is signature.empty and function.__name__ != "__init__"
    return missing + ["what it returns"] * returns


@pytest.mark.parametrize("name", MODULES)
def test_public_signatures_say_their_types(name):
    found = {function.__qualname__: without_types(function) for function in written_in(importlib.import_module(name))}
    assert not {function: missing for function, missing in found.items() if missing}


def test_what_is_looked_at():
    found = {f"{name}.{f.__qualname__}" for name in MODULES for f in written_in(importlib.import_module(name))}
    assert len(found) > 400
    assert found >= {
        "nvpjax.bijectors.coupling.Coupling.forward_with_mask",
        "nvpjax.chain.Chain.parts",
        "nvpjax.event.Event.of",
        "nvpjax.fit.fit",
        "nvpjax.nets.conditioner.Network.apply",
        "nvpjax.testing.subject.Subject.__init__",
        "nvpjax.testing.subject.Subject.layers",
    }


def test_options_of_checks_are_those_of_examine_bijector():
    parameters, types = inspect.signature(examine_bijector).parameters.values(), get_type_hints(examine_bijector)
    options = {parameter.name: types[parameter.name] for parameter in parameters if parameter.kind is KEYWORD_ONLY}
    assert get_type_hints(Asked) == options


def test_type_checkers_are_told_that_there_are_types():
    assert files(nvpjax).joinpath("py.typed").is_file()
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["package-data"]["nvpjax"] == ["py.typed"]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_programs_run(program):
    program()


def test_wrong_programs_are_marked():
    assert len(marked(WRONG)) > 80 and wrong_programs.__file__ == str(WRONG)
    assert all(len(line.split(MARK)) == 2 for line in WRONG.read_text().splitlines() if "# wrong" in line)

"""Every bijector that seven other libraries have, by name, and what it is here: a page of docs, looked up anew.

Usage: python -m experiments.kit.names [--out docs/what_peers_have.md]

Walks the installed libraries, and ends with an error where one of their bijectors has no row, where a row names what
is not there any more, or where ours is not. Needs ``pip install .[peers,peers-torch]``.
"""

from __future__ import annotations

import builtins
import importlib
import inspect
import pkgutil
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import tyro

import nvpjax
import nvpjax.continuous
import nvpjax.ecosystem.distrax
import nvpjax.ecosystem.tfp
import nvpjax.nets
from experiments import command_line
from experiments.errors import UserError
from experiments.kit.names_rows import ROWS
from experiments.runs.files import write_atomically

LIBRARIES = {
    "distrax": ("distrax", ("distrax",), "distrax.Bijector"),
    "flowjax": ("flowjax", ("flowjax.bijections",), "flowjax.bijections.AbstractBijection"),
    "bijx": ("bijx", ("bijx.*",), "bijx.Bijection"),
    "TFP": (
        "tfp-nightly",
        ("tensorflow_probability.substrates.jax.bijectors",),
        "tensorflow_probability.substrates.jax.bijectors.Bijector",
    ),
    "zuko": ("zuko", ("zuko.transforms",), "torch.distributions.transforms.Transform"),
    "nflows": ("nflows", ("nflows.transforms.*",), "nflows.transforms.base.Transform"),
    "normflows": ("normflows", ("normflows.flows.*",), "normflows.flows.Flow"),
}
"""Of each its package, the modules whose public names are walked, ``*`` for all below, and the class of a bijector."""

HEAD = """# What other libraries have

Every bijector of seven libraries, by their names, and what it is here; where it is not, the reason. Splines,
polynomials, mixtures, integrals and maps of circles are transforms here, and `Coupling(mask, transform, network)` is
the bijector.
`python -m experiments.kit.names` walks the installed libraries and fails where one of them has something that is not
in this table: {versions}.

"""


@dataclass(frozen=True)
class Arguments:
    out: Path = Path(__file__).parents[2] / "docs" / "what_peers_have.md"
    """File of the page."""


def bijectors_of(library: str) -> set[str]:
    """The public names of the bijectors of an installed library."""
    _, modules, base = LIBRARIES[library]
    module, name = base.rsplit(".", 1)
    of_one = getattr(importlib.import_module(module), name)
    found = set()
    for module in modules:
        for member in _modules(module):
            classes = inspect.getmembers(member, inspect.isclass)
            found |= {name for name, value in classes if issubclass(value, of_one) and not name.startswith("_")}
    return found


def _modules(name):
    package = importlib.import_module(name.removesuffix(".*"))
    yield package
    if name.endswith(".*"):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "test" not in module.name:
                yield importlib.import_module(module.name)


def differences() -> list[str]:
    """What is in a library and not in the table, or the other way about; what ours names that we have not."""
    said = []
    for library in LIBRARIES:
        there, listed = bijectors_of(library), [name for row in ROWS for name in row.theirs.get(library, "").split()]
        said += [f"{library} has {name}, which has no row" for name in sorted(there - set(listed))]
        said += [f"{library} has no {name}, which has a row" for name in sorted(set(listed) - there)]
        said += [f"{library}'s {name} has two rows" for name in sorted(set(listed)) if listed.count(name) > 1]
    ours = (nvpjax, nvpjax.nets, nvpjax.continuous, nvpjax.ecosystem.tfp, nvpjax.ecosystem.distrax, builtins)
    for row in ROWS:
        for code in re.findall(r"`([^`]*)`", row.ours):
            for name in re.findall(r"\b[A-Z]\w*[a-z]\w*", code):
                if not any(hasattr(module, name) for module in ours):
                    said.append(f"nvpjax has no {name}, which has a row")
    return said


def page() -> str:
    versions = ", ".join(f"{library} {version(package)}" for library, (package, *_) in LIBRARIES.items())
    text = HEAD.format(versions=versions)
    text += "| here | " + " | ".join(LIBRARIES) + " |\n" + "|---" * (1 + len(LIBRARIES)) + "|\n"
    for row in ROWS:
        cells = [", ".join(f"`{name}`" for name in row.theirs.get(library, "").split()) for library in LIBRARIES]
        text += f"| {row.ours} | " + " | ".join(cells) + " |\n"
    return text


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.kit.names", description=__doc__)
    )
    if said := differences():
        raise UserError("; ".join(said) + ": bring experiments/kit/names_rows.py up to date")
    write_atomically(options.out, page())
    number = sum(len(names.split()) for row in ROWS for names in row.theirs.values())
    print(f"names: {number} bijectors of {len(LIBRARIES)} libraries in {len(ROWS)} rows, {options.out}")


if __name__ == "__main__":
    command_line.run(main)

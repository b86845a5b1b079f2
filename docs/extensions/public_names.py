"""``.. names::`` documents public names by their docstrings; the build fails where one of the library has no place.

    .. names:: nvpjax
       :members:

       Flow Density

``members`` shows the public methods too. Every name in the ``__all__`` of ``MODULES`` belongs on exactly one page.
"""

from __future__ import annotations

import importlib
import inspect

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

MODULES = (
    "nvpjax",
    "nvpjax.nets",
    "nvpjax.models",
    "nvpjax.testing",
    "nvpjax.training",
    "nvpjax.parallel",
    "nvpjax.ecosystem.numpyro",
    "nvpjax.ecosystem.samplers",
    "nvpjax.ecosystem.distrax",
    "nvpjax.ecosystem.tfp",
)
DOCUMENTED = "nvpjax_documented"
LOG = logging.getLogger(__name__)


class Names(SphinxDirective):
    required_arguments = 1
    has_content = True
    option_spec = {"members": directives.flag}

    def run(self) -> list[nodes.Node]:
        module = importlib.import_module(self.arguments[0])
        lines: list[str] = []
        for name in " ".join(self.content).split():
            value = getattr(module, name)
            kind = "class" if inspect.isclass(value) else "function" if callable(value) else "data"
            lines += [f".. auto{kind}:: {module.__name__}.{name}"]
            if kind == "class" and "members" in self.options:
                lines += ["   :members:"]
            lines += [""]
            self.env.metadata[self.env.docname].setdefault(DOCUMENTED, "")
            self.env.metadata[self.env.docname][DOCUMENTED] += f" {id_of(module, name)}"
        node = nodes.section()
        node.document = self.state.document
        self.state.nested_parse(StringList(lines, source=self.env.docname), self.content_offset, node)
        return node.children


def id_of(module, name: str) -> str:
    """The name of the object itself: what two modules offer is one."""
    value = getattr(module, name)
    return f"{getattr(value, '__module__', module.__name__)}.{getattr(value, '__qualname__', name)}"


def public_names() -> set[str]:
    found = set()
    for name in MODULES:
        module = importlib.import_module(name)
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == name and key[0] != "_"]
        found |= {id_of(module, key) for key in getattr(module, "__all__", own)}
    return found


def check(app, env) -> None:
    """Warn, which fails the build, of names on no page or on two."""
    documented = [name for page in env.metadata.values() for name in page.get(DOCUMENTED, "").split()]
    for name in sorted(public_names() - set(documented)):
        LOG.warning("%s is on no page of docs/reference", name)
    for name in sorted({name for name in documented if documented.count(name) > 1}):
        LOG.warning("%s is on two pages of docs/reference", name)


def setup(app):
    app.add_directive("names", Names)
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

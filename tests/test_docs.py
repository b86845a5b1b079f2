"""What the site's own code does: formulas of docstrings as MathML, docstrings as reStructuredText."""

import importlib.util
import inspect
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import nvpjax

pytest.importorskip("docutils", reason="make docs installs it")
EXTENSIONS = Path(__file__).parent.parent / "docs" / "extensions"


def extension(name):
    spec = importlib.util.spec_from_file_location(f"docs_{name}", EXTENSIONS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def drawn(formula):
    """The tree of a formula, its text in order with scripts in brackets: _[…] and ^[…]."""

    def text(node):
        inner = [text(child) for child in node]
        match node.tag:
            case "msub":
                return f"{inner[0]}_[{inner[1]}]"
            case "msup":
                return f"{inner[0]}^[{inner[1]}]"
            case "msubsup":
                return f"{inner[0]}_[{inner[1]}]^[{inner[2]}]"
            case "msqrt":
                return f"√[{''.join(inner)}]"
            case "mover":
                return f"{inner[0]}{inner[1]}!"
            case "mspace":
                return " "
        return (node.text or "") + "".join(inner)

    return text(ElementTree.fromstring(extension("formulas").mathml(formula)))


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("y = (x + t)·exp(s)", "y = (x + t)·exp(s)"),
        ("xᵢ₋₁ + W⁻¹y", "x_[i−1] + W^[−1]y"),
        ("T_θᵢ⁻¹(yᵢ)", "T_[θi]^[−1](y_[i])"),
        ("log p_Z(f(x))", "log p_[Z](f(x))"),
        ("√(σ² + ε) / √D", "√[σ^[2] + ε] / √[D]"),
        ("KL(q ‖ p̃)", "KL(q ‖ p~!)"),
        ("f_φ's log_det, F'(x)", "f_[φ]'s log_det, F^[′](x)"),
        ("``(batch, D)`` at least", "(batch, D) at least"),
    ],
)
def test_formulas(formula, expected):
    assert drawn(formula) == expected


def test_every_formula_of_a_docstring_is_well_formed():
    formulas = extension("formulas")
    number = 0
    for name in nvpjax.__all__:
        for paragraph in (inspect.getdoc(getattr(nvpjax, name)) or "").split("\n\n"):
            if paragraph.startswith("    "):
                ElementTree.fromstring(formulas.mathml(paragraph))
                number += 1
    assert number > 40


def test_docstrings_become_paragraphs_formulas_and_lists():
    docstring = """One sentence |x|.

    y = x

Shapes: x ``(a|b)``.

Args:
    first: of
        two lines.
    second: one.

>>> 1
1""".splitlines()
    assert (
        "\n".join(extension("formulas").of_docstring(docstring)).rstrip()
        == r"""One sentence \|x\|.

.. formula::

    y = x

**Shapes.** x ``(a|b)``.

**Args.**

- ``first``: of two lines.
- ``second``: one.

>>> 1
1"""
    )

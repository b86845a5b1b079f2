"""Formulas as this project writes them, in Unicode, set as MathML, which every browser draws without a script.

    y = x·exp(s) + t,     log_det = Σᵢ log|∂yᵢ/∂xᵢ|

Letters alone are variables, longer words are upright, raised and lowered characters are scripts of what stands before
them, ``_θ`` is a lowered θ, √ reaches over the bracket that follows. Two spaces or more keep their distance; after a
first word with a colon they begin the second column.

As a directive, ``formula``, and in docstrings, where every indented block is one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from html import escape
from textwrap import dedent

from docutils import nodes
from docutils.parsers.rst import Directive

RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀᵗⁿᵏ", "0123456789+−Ttnk"))
LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋ᵢⱼₖₙₗₘₜ", "0123456789+−ijknlmt"))
ACCENTS = {"\u0302": "^", "\u0303": "~", "\u0304": "¯"}
TOKEN = re.compile(
    r"``(?P<code>[^`]+)``"
    r"|(?P<accented>\w[\u0302-\u0304])"
    r"|(?P<possessive>'s\b)"
    r"|(?P<article>(?<=[a-z] )a(?= [a-z]{2}))"
    r"|(?P<word>[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*(?:[._/-](?=[A-Za-z])[A-Za-z0-9]+)*(?:'s\b)?)"
    r"|(?P<number>\d[\d,]*(?:\.\d+)?)"
    r"|(?P<space> +)"
    r"|(?P<other>.)"
)


def mathml(formula: str) -> str:
    """A block of lines, as one table that is set left."""
    table = "".join(f"<mtr>{_cells(line)}</mtr>" for line in dedent(formula.strip("\n")).splitlines())
    return f'<div class="formula"><math display="block"><mtable columnalign="left">{table}</mtable></math></div>'


def _cells(line: str) -> str:
    label = re.match(r"([a-z][\w ]*:) {2,}", line)
    if label is None:
        return f'<mtd columnspan="2">{_row(line)}</mtd>'
    return f"<mtd>{_row(label[1])}</mtd><mtd>{_row(line[label.end() :])}</mtd>"


def _row(text: str) -> str:
    """A line's cell: its pieces, each with the scripts that follow it."""
    pieces: list[str] = []
    tokens = list(_tokens(text))
    while tokens:
        kind, token = tokens.pop(0)
        if kind == "other" and token == "√" and tokens:
            under = _bracket(tokens) if tokens[0][1] == "(" else [tokens.pop(0)]
            inner = "".join(token for _, token in under)
            pieces.append(f"<msqrt>{_row(inner.removeprefix('(').removesuffix(')'))}</msqrt>")
            continue
        lowered, raised = _scripts(tokens)
        pieces.append(_with_scripts(_piece(kind, token), lowered, raised))
    return f"<mrow>{''.join(pieces)}</mrow>"


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Pairs of kind and text; a letter and the accents that follow it are one."""
    text = unicodedata.normalize("NFC", text)
    for match in TOKEN.finditer(text):
        kind, token = match.lastgroup or "other", match[match.lastgroup or 0]
        if kind == "word" and "_" in token and len(token.split("_")[0]) == 1:  # p_Z: a letter and what is below it
            letter, _, below = token.partition("_")
            yield "other", letter
            yield "lowered", below
        else:
            yield kind, token


def _bracket(tokens: list[tuple[str, str]]) -> list[tuple[str, str]]:
    depth, taken = 0, []
    while tokens:
        taken.append(tokens.pop(0))
        depth += {"(": 1, ")": -1}.get(taken[-1][1], 0)
        if depth == 0:
            break
    return taken


def _scripts(tokens: list[tuple[str, str]]) -> tuple[str, str]:
    """Take what is lowered and raised off the front."""
    lowered, raised = "", ""
    while tokens:
        kind, token = tokens[0]
        if token in RAISED:
            raised += RAISED[token]
        elif token == "'":
            raised += "′"
        elif token in LOWERED:
            lowered += LOWERED[token]
        elif kind == "lowered":
            lowered += token
        elif token == "_" and len(tokens) > 1 and not tokens[1][1].isspace():
            lowered += tokens[1][1]
            del tokens[0]
        else:
            break
        del tokens[0]
    return lowered, raised


def _piece(kind: str, token: str) -> str:
    shown = escape(token)
    if kind == "code":
        return f'<mtext class="code">{shown}</mtext>'
    if kind == "space":
        return f'<mspace width="{0.3 * len(token):.1f}em"/>'
    if kind == "number":
        return f"<mn>{shown}</mn>"
    if kind in ("article", "possessive") or (kind == "word" and len(token) > 1):
        return f"<mtext>{shown}</mtext>"
    if kind == "accented":
        return f'<mover accent="true"><mi>{shown[0]}</mi><mo stretchy="false">{ACCENTS[token[1:]]}</mo></mover>'
    if token.isalpha():
        return f"<mi>{shown}</mi>"
    space = ' lspace="0" rspace="0"' if token in "|‖/" else ""
    return f'<mo stretchy="false"{space}>{shown}</mo>'


def _with_scripts(base: str, lowered: str, raised: str) -> str:
    below, above = (f"<mrow><mi>{escape(text)}</mi></mrow>" for text in (lowered, raised))
    if lowered and raised:
        return f"<msubsup>{base}{below}{above}</msubsup>"
    if lowered:
        return f"<msub>{base}{below}</msub>"
    return f"<msup>{base}{above}</msup>" if raised else base


class Formula(Directive):
    """``.. formula::`` with a block of lines."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        return [nodes.raw("", mathml("\n".join(self.content)), format="html")]


LEADS = re.compile(r"^(Shapes|Args|Errors|Reference|References|Parameters|Metrics|Result|Reading order): ?")


def of_docstring(lines: list[str]) -> list[str]:
    """A docstring of this project as reStructuredText: blocks that are indented become formulas, bars are only bars."""
    paragraphs = re.split(r"\n\n+", "\n".join(lines).strip("\n"))
    out: list[str] = []
    for paragraph in paragraphs:
        if paragraph.lstrip().startswith(">>>"):
            out += paragraph.splitlines()
        elif paragraph.startswith("    "):
            out += [".. formula::", "", *paragraph.splitlines()]
        else:
            out += _text(paragraph).splitlines()
        out.append("")
    return out


def _text(paragraph: str) -> str:
    """A paragraph; where it is a list of arguments, an entry each."""
    halves = re.split(r"(``.*?``)", paragraph, flags=re.DOTALL)
    plain = "".join(half if half.startswith("``") else half.replace("|", "\\|") for half in halves)
    plain = LEADS.sub(lambda match: f"**{match[1]}.** ", plain, count=1)
    title, _, rest = plain.partition("\n")
    if not rest.startswith("    "):
        return plain
    entries = dedent(rest).replace("\n    ", " ").splitlines()
    return "\n".join([title.rstrip(), "", *(re.sub(r"^(\w+):", r"- ``\1``:", entry) for entry in entries)])


def setup(app):
    app.add_directive("formula", Formula)
    app.connect("autodoc-process-docstring", lambda _app, _what, _name, _object, _options, lines: _replace(lines))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _replace(lines: list[str]) -> None:
    lines[:] = of_docstring(lines)

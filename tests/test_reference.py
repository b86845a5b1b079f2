"""Every public name is on a page of the reference: the site's build says so too, a quarter of an hour later."""

import importlib
import re
from pathlib import Path

import pytest

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"


@pytest.mark.parametrize("module", ["nvpjax", "nvpjax.nets", "nvpjax.models", "nvpjax.testing"])
def test_every_public_name_is_on_a_page(module):
    pages = "\n".join(page.read_text() for page in REFERENCE.glob("*.rst"))
    blocks = re.findall(r"^\.\. names:: \S+\n((?:(?:   .*)?\n)*)", pages, re.MULTILINE)
    documented = {word for block in blocks for word in block.split()}
    public = {name for name in importlib.import_module(module).__all__ if name[0] != "_"}
    assert public - documented == set()

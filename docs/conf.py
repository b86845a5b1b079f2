"""The site: `make docs` builds it into docs/_build/html and runs every tutorial.

An error in a cell, a warning, and a link that leads nowhere fail the build. `make docs DOCS=reduced` runs the same
cells with fewer steps and seeds, for continuous integration.
"""

import os
import sys
from pathlib import Path

import nvpjax

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "extensions"))
# For the pages' own cells, and the programs that these start.
os.environ["PYTHONPATH"] = f"{HERE / 'extensions'}:{HERE.parent}:{os.environ.get('PYTHONPATH', '')}"

project = "nvpjax"
version = release = nvpjax.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_copybutton", "formulas", "public_names"]
exclude_patterns = ["_build", "extensions"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

nb_execution_mode = os.environ.get("DOCS_EXECUTION", "force")
nb_execution_timeout = 1800
nb_execution_raise_on_error = True
nb_merge_streams = True
os.environ.setdefault("DOCS", "full")  # tutorials read it: "reduced" runs fewer steps and seeds

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_inherit_docstrings = False

html_theme = "furo"
html_title = "nvpjax"
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["nvpjax.css"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f5fa8", "color-brand-content": "#1f5fa8"},
    "dark_css_variables": {"color-brand-primary": "#7ab4f5", "color-brand-content": "#7ab4f5"},
}
copybutton_prompt_text = ">>> "

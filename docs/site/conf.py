"""The documentation site (``make docs``): settings of Sphinx, and what is made at each build.

The pages are those of ``docs/`` as a code host shows them. At the start of a build
``reference.py`` writes ``docs/reference/`` from registry and docstrings, and ``notebook_pages.py``
writes ``docs/notebooks/``, which are run; git ignores both folders. At its end ``board_page.py``
writes the leaderboard page of the committed records into the site.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import board_page  # noqa: E402 - it lies beside this file
import notebook_pages  # noqa: E402
import reference  # noqa: E402
from docstrings import escape  # noqa: E402
from groups import with_toctrees  # noqa: E402
from pygments.lexers.special import TextLexer  # noqa: E402
from sphinx.highlighting import lexers  # noqa: E402

import dabench  # noqa: E402

project, author, release = "dabench", "the authors of dabench", dabench.__version__
copyright = "the authors of dabench, MIT licence"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
exclude_patterns = ["site"]

# links between pages are those of plain Markdown: '#a-heading' as a code host spells it
myst_heading_anchors = 4
myst_enable_extensions = ["html_image"]  # <img width=...> is how a code host is told a size
# a code host draws the first; here its text stands, since drawing it needs a browser's script
lexers["mermaid"] = lexers["csv"] = TextLexer()

# notebooks run at each build whose code or records differ; what fails or warns fails the build
nb_execution_mode = "cache"
nb_execution_in_temp = True
nb_execution_timeout = -1  # a slow machine is no error; who builds may set a limit
nb_execution_raise_on_error = True
nb_output_stderr = "error"
nb_merge_streams = True  # what a cell prints is one block

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_type_aliases = {name: name for name in ("FloatArray", "IntArray", "Init", "Kind")}
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_attr_annotations = False

html_theme = "furo"
smartquotes = False  # '--seed' is an option and no dash
html_title = f"dabench {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
templates_path = ["templates"]
# the theme's own, with the leaderboard page above the contents: no page that Sphinx knows
html_sidebars = {
    "**": [
        *("sidebar/brand.html", "sidebar/search.html", "sidebar/scroll-start.html"),
        *("board.html", "sidebar/navigation.html", "sidebar/scroll-end.html"),
    ]
}
html_context = {"board_page": board_page.PAGE}
html_copy_source = False
html_show_sourcelink = False
html_show_search_summary = False  # it asks for the pages found, which a browser denies to files


def write_pages(app: Any) -> None:
    """Make the generated pages, before Sphinx looks which pages there are."""
    reference.write(Path(app.srcdir))
    notebook_pages.write(Path(app.srcdir))
    notebook_pages.forget(Path(app.env.mystnb_config.execution_cache_path))
    notebook_pages.prepare()


def escape_docstring(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Keep formulas as they are written: ``|x|`` and ``m_c`` mean something to Sphinx."""
    lines[:] = escape(lines)


def keep_colons(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Put together again what napoleon takes for ``type: meaning`` of an attribute."""
    first = [line.removeprefix(":type: ") for line in lines if line.startswith(":type: ")]
    if what in ("attribute", "property", "data") and first:
        said = [line for line in lines if line and not line.startswith(":type: ")]
        lines[:] = [f"{first[0]}: {' '.join(said)}", ""]


def name_aliases(
    app: Any,
    what: str,
    name: str,
    obj: Any,
    options: Any,
    signature: str | None,
    result: str | None,
) -> tuple[str | None, str | None]:
    """Show ``IntArray | None`` as it is written."""
    found = re.compile(r"TypeAliasForwardRef\('(\w+)'\)")
    return signature and found.sub(r"\1", signature), result and found.sub(r"\1", result)


def read_page(app: Any, name: str, source: list[str]) -> None:
    """Lead links to what is made here, and make the navigation of the lists on the start page."""
    source[0] = board_page.linked(notebook_pages.linked(source[0]))
    if name == "index":
        source[0] = with_toctrees(source[0], {"Reference": reference.PAGES})


def write_board(app: Any, failed: Exception | None) -> None:
    """Put the leaderboard page beside the others; it is a page of its own kind."""
    if failed is None and app.builder.format == "html":
        board_page.write(Path(app.outdir), Path(app.doctreedir))


def setup(app: Any) -> None:
    """Register the steps above."""
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", escape_docstring, priority=400)
    app.connect("autodoc-process-docstring", keep_colons, priority=600)
    app.connect("autodoc-process-signature", name_aliases)
    app.connect("source-read", read_page)
    app.connect("build-finished", write_board)

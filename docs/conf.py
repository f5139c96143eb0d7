"""Sphinx: ``python -m sphinx -W docs FOLDER`` builds these pages, without a network and without a GPU."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils.nodes import make_id
from sphinx.util import logging

import convcore

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "convcore"
version = release = convcore.__version__
copyright = "the convcore authors, BSD-3-Clause"

extensions = ["sphinx.ext.autodoc", "numpydoc", "myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"convcore {version}"
html_show_sphinx = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["tables.css"]

# Headings are linked to as on the pages of a repository: docs/definitions.md#notation.
myst_heading_anchors = 4
# Blocks of code say what language they are in. Those that do not are formulas and shell sessions.
highlight_language = "text"

# The docstrings say in words what an argument may be: signatures are easier to read without types.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
# What the extra `cuda` brings is needed to import the modules, not to read about them.
if importlib.util.find_spec("numba_cuda") is None:
    autodoc_mock_imports = ["numba", "numba_cuda", "llvmlite", "cuda"]
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# A reference to what is not there is an error. The types in signatures are not looked up.
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*")]

_DEFINITION = re.compile(r"^Definition: docs/([\w/.-]+)\.md#([\w-]+)$")
#: Pages and ids that docstrings link to, checked when the pages are written.
_linked: set[tuple[str, str]] = set()


def _link_definition(
    app: Sphinx, what: str, name: str, thing: object, options: Any, lines: list[str]
) -> None:
    """Make a link of the line of a docstring that says where an operation is defined."""
    for number, line in enumerate(lines):
        found = _DEFINITION.match(line)
        if found:
            page, heading = found.group(1), make_id(found.group(2))
            _linked.add((page, heading))
            text = found.group(2).replace("-", " ")
            lines[number] = f"Definition: `{text} <../{page}.html#{heading}>`__"


def _check_definitions(app: Sphinx, exception: Exception | None) -> None:
    """Warn of every link of a docstring that leads nowhere."""
    if exception is not None or app.builder.name != "html":
        return
    for page, heading in sorted(_linked):
        if f'id="{heading}"' not in Path(app.outdir, f"{page}.html").read_text():
            logging.getLogger(__name__).warning("no heading %s in docs/%s.md", heading, page)


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", _link_definition)
    app.connect("build-finished", _check_definitions)

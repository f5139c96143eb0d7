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
html_css_files = ["pages.css"]

# Headings are linked to as on the pages of a repository: docs/definitions.md#notation.
myst_heading_anchors = 4
# Blocks of code say what language they are in. Those that do not are formulas and shell sessions.
highlight_language = "text"
# `name` in a docstring is an argument or an attribute.
default_role = "literal"

# The docstrings say in words what an argument may be: signatures are easier to read without types.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
# `convcore.cuda` cannot be imported without what the extra `cuda` brings: then its page is left out.
if importlib.util.find_spec("numba_cuda") is None:
    autodoc_mock_imports = ["numba"]
    exclude_patterns.append("api/cuda.rst")
    suppress_warnings = ["toc.excluded"]
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# A reference to what is not there is an error. The types in signatures are not looked up.
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*")]

_DEFINITION = re.compile(r"^Definition: docs/([\w/.-]+)\.md#([\w-]+)$")


def _link_definition(
    app: Sphinx, what: str, name: str, thing: object, options: Any, lines: list[str]
) -> None:
    """Make a link of the line of a docstring that says where an operation is defined."""
    for number, line in enumerate(lines):
        if found := _DEFINITION.match(line):
            page, anchor = found.groups()
            headings = re.findall(r"^## (.+)$", Path(app.srcdir, f"{page}.md").read_text(), re.MULTILINE)
            # Sphinx's own identifiers have no underscores.
            heading = next((h for h in headings if make_id(h) == make_id(anchor)), None)
            if heading is None:
                logging.getLogger(__name__).warning("%s: docs/%s.md has no section %s", name, page, anchor)
            else:
                lines[number] = f"Definition: `{heading} <../{page}.html#{make_id(heading)}>`__"


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", _link_definition)

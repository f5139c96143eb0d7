"""Sphinx: ``python -m sphinx -W docs FOLDER`` builds these pages, without a network and without a GPU."""

from __future__ import annotations

import importlib.util
import re
from typing import TYPE_CHECKING, Any

import convcore

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "convcore"
version = release = convcore.__version__
copyright = "the convcore authors, BSD-3-Clause"

extensions = ["sphinx.ext.autodoc", "numpydoc", "myst_parser"]
html_theme = "furo"
html_title = "convcore"
html_show_sphinx = False
html_copy_source = False

# Headings are linked to as on the pages of a repository: docs/definitions.md#notation.
myst_heading_anchors = 4
# Code blocks that are a shell's session or plain text are marked as such; nothing is guessed.
highlight_language = "python"

# The docstrings say in words what an argument may be: signatures are easier to read without types.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
# What the extra `cuda` brings is needed to import the modules, not to read about them.
autodoc_mock_imports = [name for name in ("numba", "numba_cuda") if importlib.util.find_spec(name) is None]
if autodoc_mock_imports:
    autodoc_mock_imports = ["numba", "numba_cuda", "llvmlite"]
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# A reference to a function that is not there is an error. What types are called in signatures is not looked up.
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*")]

_DEFINITION = re.compile(r"^Definition: docs/([\w/.-]+)\.md#([\w-]+)$")


def _linked(app: Sphinx, what: str, name: str, thing: object, options: Any, lines: list[str]) -> None:
    """Make a link of the line of a docstring that says where an operation is defined."""
    for number, line in enumerate(lines):
        found = _DEFINITION.match(line)
        if found:
            page, anchor = found.groups()
            lines[number] = f"Definition: `{anchor.replace('-', ', ')} <../{page}.html#{anchor}>`__"


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", _linked)

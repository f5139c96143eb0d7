"""A record of a run -> one HTML file that needs nothing else: no network, no server, no other file."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from convcore.study.blobs import Blobs
from convcore.writers import write_bytes

__all__ = ["Report"]

#: In the order in which they are read: what comes later may use what came before.
SCRIPTS = (
    "base", "chart", "window", "arithmetic", "workings", "value_maps", "spreadsheet", "animation",
    "functions", "curves", "roofline", "ct", "layout", "network", "table", "feature_maps", "layer",
    "about", "main",
)  # fmt: skip
STYLES = ("style", "spreadsheet")


class Report:
    """What :func:`convcore.study.study` found, to be saved or shown in a notebook.

    Attributes
    ----------
    record
        The data as JSON has them; arrays are named by number.

    Examples
    --------
    >>> import numpy as np, convcore
    >>> model = convcore.load_model(convcore.data.path("sonar.keras"))
    >>> report = model.study(np.full((1, 60), 0.2, np.float32))
    >>> report.save("sonar.html").name
    'sonar.html'
    """

    def __init__(self, record: dict[str, Any], blobs: Blobs) -> None:
        self.record = record
        self._blobs = blobs

    def html(self) -> str:
        """Return the whole page."""
        parts = {
            "title": html.escape(f"{self.record['model']['name']}: every layer"),
            "style": "\n".join(_web(f"{name}.css") for name in STYLES),
            "study": _in_script(self.record),
            "blobs": "\n".join(self._blob_scripts()),
            "scripts": _script(),
        }
        # In one pass: what is filled in may hold such a mark itself.
        return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], _web("index.html"))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to a file, whole or not at all, and return its path.

        Raises
        ------
        InputError
            The file cannot be written.
        """
        # A file's name may hold bytes that are no text.
        return write_bytes(path, self.html().encode("utf-8", "replace"))

    def _repr_html_(self) -> str:
        """In a notebook: the page in a frame of its own, so that its style is not the notebook's."""
        page = html.escape(self.html(), quote=True)
        return f'<iframe srcdoc="{page}" title="convcore study" width="100%" height="900"></iframe>'

    def _blob_scripts(self) -> Iterator[str]:
        for number, encoded in enumerate(self._blobs.encoded):
            yield f'<script type="text/plain" id="blob-{number}">{encoded}</script>'


def _web(name: str) -> str:
    return (resources.files("convcore.study") / "web" / name).read_text("utf-8")


def _in_script(record: dict[str, Any]) -> str:
    """JSON in which no name of the model ends the script that it stands in."""
    text = json.dumps(record, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _script() -> str:
    """All scripts in one function, so that nothing of theirs is seen from outside."""
    texts = "\n".join(_web(f"{name}.js") for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{texts}}})();'

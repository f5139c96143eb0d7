"""Optional packages, imported when they are first needed: importing convcore's rooms must stay cheap."""

from __future__ import annotations

import importlib
from typing import Any

from convcore.errors import MissingExtraError

__all__ = ["import_cv2", "import_markdown_it", "import_matplotlib", "import_pydicom", "import_pygments"]


def import_pydicom() -> Any:
    """Return the module ``pydicom``, or raise :class:`MissingExtraError` saying how to get it."""
    return _import("pydicom", "reading and writing DICOM")


def import_cv2() -> Any:
    """Return the module ``cv2``, or raise :class:`MissingExtraError` saying how to get it."""
    return _import("cv2", "reading and drawing pictures", "OpenCV")


def import_matplotlib() -> Any:
    """Return the module ``matplotlib``, or raise :class:`MissingExtraError` saying how to get it."""
    return _import("matplotlib", "drawing charts", extra="app")


def import_markdown_it() -> Any:
    """Return the module ``markdown_it``, or raise :class:`MissingExtraError` saying how to get it."""
    return _import("markdown_it", "writing the article's pages", "markdown-it-py")


def import_pygments() -> Any:
    """Return the module ``pygments``, or raise :class:`MissingExtraError` saying how to get it."""
    return _import("pygments", "writing the article's pages")


def _import(name: str, purpose: str, called: str = "", extra: str = "app") -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtraError(
            purpose,
            f"needs the package {called or name}, which is not installed",
            remedy=f'Install it with: pip install "convcore[{extra}]"',
        ) from None

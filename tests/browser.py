"""Headless Chromium that opens pages from the file system, for tests of what the report shows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

__all__ = ["Browser", "NotAvailable", "Page"]

#: What the system calls it, where Playwright has not brought its own.
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class NotAvailable(Exception):  # noqa: N818 - a reason to skip
    """No page can be opened here; the text says why."""


class Page:
    """An open page, and everything it complained of or asked the network for.

    Attributes
    ----------
    page
        Playwright's own page.
    complaints
        Errors and warnings of the console, and exceptions that nobody caught.
    requests
        Addresses asked for, but the page's own and those that carry their data in them.
    """

    def __init__(self, page: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))
        page.on("request", lambda request: self._asked(request.url))

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _asked(self, address: str) -> None:
        own = self._address.partition("#")[0]
        if not address.startswith(("data:", "blob:")) and address.partition("#")[0] != own:
            self.requests.append(address)

    def goto(self, path: Path, fragment: str = "") -> None:
        """Open the file at `path`, at ``#fragment``."""
        self._address = path.as_uri() + (f"#{fragment}" if fragment else "")
        self.page.goto(self._address)

    def evaluate(self, script: str, argument: Any = None) -> Any:
        """Run JavaScript in the page and return what it gives, as JSON has it."""
        return self.page.evaluate(script, argument)

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, wherever the focus is."""
        for key in keys:
            self.page.keyboard.press(key)

    def focused(self, script: str) -> Any:
        """`script` of the element that has the focus, called ``e`` in it."""
        return self.evaluate(f"(() => {{ const e = document.activeElement; return {script}; }})()")


class Browser:
    """One Chromium; every page has a fresh profile.

    Raises
    ------
    NotAvailable
        Playwright or a browser is missing.
    """

    def __init__(self) -> None:
        try:
            from playwright.sync_api import Error, sync_playwright
        except ImportError:
            raise NotAvailable("the package playwright is not installed") from None
        self._playwright = sync_playwright().start()
        try:
            own = Path(self._playwright.chromium.executable_path)
            found = str(own) if own.exists() else next(filter(None, map(shutil.which, _NAMES)), None)
            if found is None:
                raise NotAvailable("no Chromium: neither Playwright's nor the system's")
            # In a container root has no sandbox to be had; the pages are our own.
            self._chromium = self._playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except (NotAvailable, Error) as reason:
            self._playwright.stop()
            raise NotAvailable(str(reason)) from None

    def open(
        self, path: Path, fragment: str = "", *, width: int = 1280, height: int = 900, dark: bool = False
    ) -> Page:
        """Open a file, without a network, in a window of `width` x `height` pixels."""
        context = self._chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            offline=True,
        )
        context.set_default_timeout(8000)
        opened = Page(context.new_page())
        opened.goto(path, fragment)
        return opened

    def close(self) -> None:
        self._chromium.close()
        self._playwright.stop()

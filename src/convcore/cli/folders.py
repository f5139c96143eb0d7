"""Result folders: a command's whole folder appears at once, or nothing does."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convcore.cli import UsageError
from convcore.errors import InputError

__all__ = ["check_folder", "whole_folder"]


def check_folder(out: Path, *, overwrite: bool = False, remedy: str) -> None:
    """Raise :class:`UsageError` where `out` is a file, or a folder that holds something already.

    Parameters
    ----------
    overwrite
        Accept a folder that is not empty.
    remedy
        What to do about a folder that is not empty, in words.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"-o {out}: is a file; the results need a folder")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise UsageError(f"-o {out}: the folder is not empty; {remedy}")


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Give a folder beside `out` to write into, and make it `out` once everything is written.

    What was at `out` is replaced. If the block raises, nothing is left behind, and `out` is as it was.

    Raises
    ------
    InputError
        The folder cannot be made.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise InputError(str(out), f"cannot be written: {error.strerror}") from None
    try:
        # mkdtemp makes it private; results are for whoever may read the place they are put in.
        umask = os.umask(0)
        os.umask(umask)
        folder.chmod(0o777 & ~umask)
        yield folder
        _swap(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _swap(folder: Path, out: Path) -> None:
    if not out.is_dir():
        folder.replace(out)
        return
    old = folder.with_name(f"{folder.name}.old")
    try:
        out.replace(old)
        folder.replace(out)
    except BaseException:
        # Between the two renames there is no `out`: Ctrl-C there must not leave it under another name.
        if old.exists() and not out.exists():
            old.replace(out)
        raise
    shutil.rmtree(old)

"""The small models that ship with convcore, and a picture for one of them.

``README.md`` beside this file says how each was trained.
"""

from __future__ import annotations

from pathlib import Path

from convcore.errors import ArgumentError

_FOLDER = Path(__file__).parent


def names() -> tuple[str, ...]:
    """Names of the shipped files."""
    return tuple(sorted(p.name for p in _FOLDER.iterdir() if p.suffix in {".keras", ".toml", ".png"}))


def path(name: str) -> Path:
    """Return the path of the shipped file `name`.

    Examples
    --------
    >>> path("sonar.keras").name
    'sonar.keras'
    """
    if name not in names():
        raise ArgumentError("convcore.data.path", "no such file ships", got=name, expected=names())
    return _FOLDER / name

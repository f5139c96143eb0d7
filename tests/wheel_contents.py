"""Checks what is in a wheel: ``python tests/wheel_contents.py WHEEL``. Needs nothing but Python."""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

MOST_BYTES = 3_000_000
EXPECTED = (
    r"convcore/_native\.abi3\.so",
    r"convcore/_capi\.abi3\.so",
    r"convcore/lib/libconvcore\.so\.\d+",
    r"convcore/lib/cmake/convcore/convcore-config\.cmake",
    r"convcore/lib/pkgconfig/convcore\.pc",
    r"convcore/include/convcore\.h",
    r"convcore/__init__\.pxd",
    r"convcore/_capi\.pxd",
    r"convcore/py\.typed",
    r"convcore/data/spreadsheet\.keras",
    r"convcore/data/spreadsheet\.png",
)


def main(path: Path) -> None:
    """Raise SystemExit with what is wrong."""
    with zipfile.ZipFile(path) as wheel:
        infos = {info.filename: info for info in wheel.infolist()}
        objects = {name: wheel.read(name) for name in infos if re.search(r"\.so(\.|$)", name)}
    for pattern in EXPECTED:
        if not any(re.fullmatch(pattern, name) for name in infos):
            raise SystemExit(f"{path.name} has no {pattern}")
    for name, content in objects.items():
        if b".symtab\0" in content or b".debug_info\0" in content:
            raise SystemExit(f"{name} is not stripped")
    size = path.stat().st_size
    if size >= MOST_BYTES:
        raise SystemExit(f"{path.name} has {size} bytes, expected fewer than {MOST_BYTES}")
    largest = sorted(infos.values(), key=lambda info: -info.compress_size)[:5]
    print(f"{path.name}: {size} bytes; compressed, the largest:")
    for info in largest:
        print(f"{info.compress_size:10} {info.file_size:10} {info.filename}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

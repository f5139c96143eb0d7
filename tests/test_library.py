"""The shared library: one for the whole process, nothing exported but the contract, found by whoever asks."""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import convcore as cc
from convcore import _native

elffile = pytest.importorskip("elftools.elf.elffile", reason="pyelftools is not installed")
if sys.platform != "linux":
    pytest.skip("reads ELF files", allow_module_level=True)

LIBRARY, EXTENSION = Path(cc.get_library()), Path(_native.__file__)


def header() -> str:
    return Path(cc.get_include(), "convcore.h").read_text()


def contract() -> set[str]:
    """Functions that convcore.h declares."""
    text = re.sub(r"/\*.*?\*/", "", header(), flags=re.DOTALL)
    return set(re.findall(r"^CC_API\b[^;(]*?\b(cc_\w+)\(", text, flags=re.MULTILINE))


def exported(elf: Any) -> set[str]:
    return {
        symbol.name
        for symbol in elf.get_section_by_name(".dynsym").iter_symbols()
        if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] in ("STB_GLOBAL", "STB_WEAK")
    }


def dynamic(elf: Any, tag: str) -> list[str]:
    names = {"DT_NEEDED": "needed", "DT_SONAME": "soname", "DT_RUNPATH": "runpath", "DT_RPATH": "rpath"}
    return [
        getattr(entry, names[tag])
        for entry in elf.get_section_by_name(".dynamic").iter_tags()
        if entry["d_tag"] == f"{tag}"
    ]


def test_nothing_is_exported_but_the_contract() -> None:
    assert len(contract()) > 10
    with LIBRARY.open("rb") as file:
        assert exported(elffile.ELFFile(file)) == contract()
    with EXTENSION.open("rb") as file:
        assert exported(elffile.ELFFile(file)) == {"PyInit__native"}


def test_the_file_s_name_is_the_version_of_its_abi() -> None:
    version = ctypes.CDLL(str(LIBRARY)).cc_abi_version()
    assert f"#define CC_ABI_VERSION {version}\n" in header()
    assert LIBRARY.name == f"libconvcore.so.{version}"
    with LIBRARY.open("rb") as file:
        assert dynamic(elffile.ELFFile(file), "DT_SONAME") == [LIBRARY.name]


def test_the_extension_module_links_the_library_beside_it() -> None:
    with EXTENSION.open("rb") as file:
        elf = elffile.ELFFile(file)
        assert LIBRARY.name in dynamic(elf, "DT_NEEDED")
        found = dynamic(elf, "DT_RUNPATH") + dynamic(elf, "DT_RPATH")
    assert found == ["$ORIGIN/lib"]
    assert LIBRARY.parent == EXTENSION.parent / "lib"


def test_python_and_c_share_one_pool() -> None:
    c = ctypes.CDLL(str(LIBRARY))
    before = cc.get_num_threads()
    try:
        c.cc_set_num_threads(3)
        assert cc.get_num_threads() == 3
        cc.set_num_threads(2)
        assert c.cc_get_num_threads() == 2
    finally:
        cc.set_num_threads(before)


@pytest.mark.parametrize("path", [LIBRARY, EXTENSION], ids=["library", "extension"])
def test_no_stack_is_executable_and_no_code_is_relocated(path: Path) -> None:
    executable = 1
    with path.open("rb") as file:
        elf = elffile.ELFFile(file)
        (stack,) = (s for s in elf.iter_segments() if s["p_type"] == "PT_GNU_STACK")
        tags = {entry["d_tag"] for entry in elf.get_section_by_name(".dynamic").iter_tags()}
    assert not stack["p_flags"] & executable
    assert "DT_TEXTREL" not in tags


def test_loading_the_library_leaves_denormals_alone() -> None:
    # gcc -ffast-math links crtfastmath.o, whose constructor flushes denormals in every thread of the process.
    smallest = float.fromhex("0x1p-1074")
    half = sys.float_info.min / 2
    assert half > 0 and half / 2**51 == smallest

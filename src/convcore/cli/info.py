"""``convcore info``: the machine as convcore sees it, and what a C compiler is told to find the library."""

from __future__ import annotations

import argparse
import shlex

from convcore import linking
from convcore.cli.terminal import print_json
from convcore.config import show_config

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    c = parser.add_argument_group("for builds, on one line and nothing else")
    c.add_argument("--cflags", action="store_true", help="the C compiler's flags")
    c.add_argument("--libs", action="store_true", help="the linker's flags")
    c.add_argument("--cmakedir", action="store_true", help="the folder of the CMake package")
    c.add_argument("--pkgconfigdir", action="store_true", help="the folder of convcore.pc")


def run(args: argparse.Namespace) -> int:
    """Print the configuration."""
    words: list[str] = []
    if args.cflags:
        words.append(f"-I{linking.get_include()}")
    if args.libs:
        words += [linking.get_library(), f"-Wl,-rpath,{linking.get_library_dir()}"]
    if args.cmakedir:
        words.append(linking.get_cmake_dir())
    if args.pkgconfigdir:
        words.append(linking.get_pkgconfig_dir())
    if words:
        print(shlex.join(words))
    elif args.json:
        print_json(show_config("dicts"))
    else:
        show_config()
    return 0

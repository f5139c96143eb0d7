"""Where C compilers, linkers, CMake and pkg-config find the C library that Python uses."""

from __future__ import annotations

from pathlib import Path

import convcore
from convcore.errors import ConvcoreError

__all__ = ["get_cmake_dir", "get_include", "get_library", "get_library_dir", "get_pkgconfig_dir"]


def get_include() -> str:
    """Return the directory of ``convcore.h``, for a C compiler's ``-I``.

    Raises
    ------
    ConvcoreError
        The header was not installed with the package.

    Examples
    --------
    >>> Path(get_include(), "convcore.h").is_file()
    True
    """
    return str(_installed("get_include", "include/convcore.h").parent)


def get_library() -> str:
    """Return the path of the shared library, which the extension module itself has loaded.

    The file's name ends in the version of its ABI, ``CC_ABI_VERSION`` of convcore.h. Linkers take the path in
    place of ``-lconvcore``, and ``ctypes.CDLL`` takes it too.

    Raises
    ------
    ConvcoreError
        The library was not installed with the package.

    Examples
    --------
    >>> import ctypes
    >>> ctypes.CDLL(get_library()).cc_abi_version() >= 1
    True
    """
    return str(_installed("get_library", "lib/libconvcore.*"))


def get_library_dir() -> str:
    """Return the directory of the shared library, to look in when linking and at run time (``-Wl,-rpath``).

    Raises
    ------
    ConvcoreError
        The library was not installed with the package.

    Examples
    --------
    >>> Path(get_library_dir()) == Path(get_library()).parent
    True
    """
    return str(Path(get_library()).parent)


def get_cmake_dir() -> str:
    """Return the directory of the CMake package, for ``-Dconvcore_DIR=`` or ``CMAKE_PREFIX_PATH``.

    Raises
    ------
    ConvcoreError
        The CMake package was not installed with the Python package.

    Examples
    --------
    >>> Path(get_cmake_dir(), "convcore-config.cmake").is_file()
    True
    """
    return str(_installed("get_cmake_dir", "lib/cmake/convcore/convcore-config.cmake").parent)


def get_pkgconfig_dir() -> str:
    """Return the directory of ``convcore.pc``, for ``PKG_CONFIG_PATH``.

    Raises
    ------
    ConvcoreError
        The file was not installed with the package.

    Examples
    --------
    >>> Path(get_pkgconfig_dir(), "convcore.pc").is_file()
    True
    """
    return str(_installed("get_pkgconfig_dir", "lib/pkgconfig/convcore.pc").parent)


def _installed(where: str, pattern: str) -> Path:
    """The installed file that matches; an editable installation has one folder of Python and one of files."""
    for folder in convcore.__path__:
        for found in sorted(Path(folder).glob(pattern)):
            return found
    raise ConvcoreError(where, f"{pattern} is not installed", remedy="Install convcore again.")

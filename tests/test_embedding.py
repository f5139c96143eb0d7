"""A stranger's C program, CMake project, Cython package and Numba function, from docs/embedding.md alone.

Every section of the document becomes a folder with its files; its commands are typed there and must print
what the document says. So text and truth cannot part.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import convcore as cc
from convcore import _capi, reference
from convcore.activations import NAMES, native

from .tolerance import ulp_difference

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "embedding.md"
#: What the commands of a section need beside convcore: programs, and importable packages.
NEEDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "C and C++": (("cc", "c++"), ()),
    "CMake": (("cc", "cmake"), ()),
    "Cython": (("cc",), ("Cython", "setuptools", "pip")),
    "Numba": ((), ("numba",)),
    "SciPy": ((), ("scipy",)),
    "CUDA": ((), ("numba_cuda",)),
}


def section(title: str) -> str:
    (text,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", DOCUMENT.read_text(), re.DOTALL | re.M)
    return str(text)


def files(text: str) -> dict[str, str]:
    """Name and content of every file that a section shows: a block after a line that begins with its name."""
    return dict(re.findall(r"^`([\w.]+)`[^\n]*:\n\n```\w+\n(.*?)^```", text, re.DOTALL | re.MULTILINE))


def sessions(text: str) -> list[tuple[str, str]]:
    """Commands and what they print."""
    return re.findall(r"^```bash\n(.*?)^```\n\n```text\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def environment() -> dict[str, str]:
    """This process's, in which programs of this interpreter's folder come first."""
    variables = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    variables.pop("NUMBA_ENABLE_CUDASIM", None)
    if shutil.which("ninja"):
        variables["CMAKE_GENERATOR"] = "Ninja"
    # An editable installation keeps its .pxd files where only Python's import hook looks.
    sources = {str(Path(folder).parent) for folder in cc.__path__ if Path(folder, "__init__.pxd").is_file()}
    variables["PYTHONPATH"] = os.pathsep.join(sorted(sources))
    return variables


@pytest.mark.parametrize("title", NEEDS)
def test_the_document_s_commands_do_what_it_says(title: str, tmp_path: Path) -> None:
    programs, packages = NEEDS[title]
    missing = [name for name in programs if not shutil.which(name)]
    missing += [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    text = section(title)
    for name, content in files(text).items():
        (tmp_path / name).write_text(content)
    found = sessions(text)
    assert found
    # `convcore` as a function: the console script may be another environment's.
    prelude = f"set -euo pipefail\nconvcore() {{ '{sys.executable}' -m convcore \"$@\"; }}\n"
    prelude += (
        f"pip() {{ '{sys.executable}' -m pip -q \"$@\"; }}\npython() {{ '{sys.executable}' \"$@\"; }}\n"
    )
    for commands, printed in found:
        if "pkg-config" in commands and not shutil.which("pkg-config"):
            continue  # the document says "where the system has it" and goes on without
        done = subprocess.run(
            ["bash", "-c", prelude + commands],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.endswith(printed), done.stdout + done.stderr


def test_the_examples_are_the_document_s() -> None:
    shown = {
        "c": files(section("C and C++")),
        "cmake": files(section("CMake")),
        "cython": files(section("Cython")),
        ".": files(section("Numba")),
    }
    for folder, of_section in shown.items():
        for name, content in of_section.items():
            path = ROOT / "examples" / folder / name
            if name != "version.cpp":
                assert path.read_text() == content, path
    for folder in ("c", "cmake", "cython"):
        there = {path.name for path in (ROOT / "examples" / folder).iterdir() if path.is_file()}
        assert there <= set(shown[folder])


def declared() -> set[str]:
    text = re.sub(r"/\*.*?\*/", "", Path(cc.get_include(), "convcore.h").read_text(), flags=re.DOTALL)
    names = set(re.findall(r"\b(?:cc_\w+(?=\()|CC_[A-Z0-9_]+\b)", text)) - {"CC_API"}
    for fields in re.findall(r"typedef struct \w+ \{(.*?)\} \w+;", text, re.DOTALL):
        public = re.sub(r"void \(\*kernel\)[^;]*;", "", fields)
        names.update(re.findall(r"\b(\w+)(?:\[\w+\])?[;,]", public))
    return names


def test_the_pxd_declares_all_of_the_header() -> None:
    pxd = (ROOT / "src" / "convcore" / "_capi.pxd").read_text()
    missing = [name for name in declared() if not re.search(rf"\b{name}\b", pxd)]
    assert missing == []
    functions = {name for name in declared() if name.startswith("cc_")}
    assert set(_capi.__pyx_capi__) == functions | {"activation_callback"}


@pytest.mark.parametrize("standard", ["c11", "c++11"])
def test_the_header_compiles_without_a_warning(standard: str, tmp_path: Path) -> None:
    compiler = "c++" if "++" in standard else "cc"
    if not shutil.which(compiler):
        pytest.skip(f"no compiler {compiler}")
    source = tmp_path / ("a.cpp" if "++" in standard else "a.c")
    source.write_text('#include "convcore.h"\nint main(void) { cc_step s; return (int)sizeof s == 0; }\n')
    flags = [f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{cc.get_include()}"]
    subprocess.run([compiler, *flags, "-c", source, "-o", tmp_path / "a.o"], check=True)


class _Activation(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("parameter", ctypes.c_float * 3))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("rrelu", "noisy_relu")])
def test_one_number_at_a_time(name: str) -> None:
    from convcore._native import ACTIVATIONS

    kind, parameters = native(name, {}, "test")
    struct = _Activation(ACTIVATIONS[kind], (ctypes.c_float * 3)(*parameters))
    function = ctypes.CDLL(cc.get_library()).cc_activation_f64
    function.restype, function.argtypes = ctypes.c_double, (ctypes.c_double, ctypes.c_void_p)
    x = np.concatenate([np.linspace(-20, 20, 4001), [-0.0, np.inf, -np.inf, np.nan, 1e-300, -700.0, 700.0]])
    got = [function(value, ctypes.addressof(struct)) for value in x]
    rounded = {
        "leaky_relu": {"negative_slope": float(np.float32(0.2))},
        "hard_sigmoid": {"slope": float(np.float32(1 / 6))},
    }
    exact = reference.ACTIVATIONS[name](x, **rounded.get(name, {}))
    # The same formulas with another library's exp and erfc, each a unit or two off, and a few roundings;
    # where an exponential's argument is rounded, its size shows in units: 2 t^2 <= 800 in gelu's erfc(t).
    allowed = {"gelu": 1024}.get(name, 8)
    tiny = np.abs(exact) < np.finfo(np.float64).smallest_normal
    assert ulp_difference(got, exact, np.float64)[~tiny].max() <= allowed
    assert (np.abs(np.array(got)[tiny]) < 2 * np.finfo(np.float64).smallest_normal).all()


def _pointer(array: np.ndarray) -> ctypes.c_void_p:  # type: ignore[type-arg]
    return ctypes.c_void_p(array.ctypes.data)


def test_plain_functions_are_python_s() -> None:
    c = ctypes.CDLL(cc.get_library())
    random = np.random.default_rng(5)
    i64, f32 = ctypes.c_int64, ctypes.c_float

    def ints(*values: int) -> list[ctypes.c_int64]:
        return [i64(v) for v in values]

    x = random.standard_normal((2, 9, 8, 3), np.float32)
    w, bias = random.standard_normal((3, 2, 3, 5), np.float32), random.standard_normal(5, np.float32)
    y = np.empty((2, 5, 4, 5), np.float32)  # "same", stride 2: one row above and none beside
    kernel_arguments = (
        _pointer(w),
        *ints(3, 2, 5),
        _pointer(bias),
        *ints(2, 1, 0),
        1,
        _pointer(y),
        *ints(5, 4),
    )
    assert c.cc_conv2d_f32(_pointer(x), *ints(2, 9, 8, 3), *kernel_arguments) == 0
    np.testing.assert_array_equal(y, cc.conv2d(x, w, bias, strides=2, padding="same", activation="relu"))

    y = np.empty((2, 4, 3, 3), np.float32)
    assert c.cc_max_pool2d_f32(_pointer(x), *ints(2, 9, 8, 3, 3, 2), _pointer(y)) == 0
    np.testing.assert_array_equal(y, cc.max_pool(x, 3, strides=2))

    x, w = random.standard_normal((4, 7), np.float32), random.standard_normal((7, 5), np.float32)
    y = np.empty((4, 5), np.float32)
    assert c.cc_dense_f32(_pointer(x), *ints(4, 7), _pointer(w), i64(5), _pointer(bias), 16, _pointer(y)) == 0
    np.testing.assert_array_equal(y, cc.dense(x, w, bias, activation="tanh"))

    y = np.empty_like(x)
    assert c.cc_softmax_f32(_pointer(x), *ints(4, 7), _pointer(y)) == 0
    np.testing.assert_array_equal(y, cc.softmax(x))

    expected = cc.leaky_relu(x, negative_slope=0.25)
    assert c.cc_activation_f32(_pointer(x), i64(28), 3, f32(0.25), f32(0), f32(0), _pointer(x)) == 0
    np.testing.assert_array_equal(x, expected)

    raw = random.integers(-2000, 3000, 100).astype(np.int16)
    y = np.empty(100, np.float32)
    scale = (ctypes.c_double(1.5), ctypes.c_double(-1024))
    assert c.cc_hu_rescale_i16(_pointer(raw), i64(100), *scale, _pointer(y)) == 0
    np.testing.assert_array_equal(y, cc.hu_rescale(raw, slope=1.5, intercept=-1024))


def test_plain_functions_refuse_what_makes_no_sense() -> None:
    c = ctypes.CDLL(cc.get_library())
    argument, shape = 1, 2
    x = _pointer(np.zeros(64, np.float32))
    size = [ctypes.c_int64(v) for v in (1, 4, 4, 1)]
    one, zero = ctypes.c_int64(1), ctypes.c_int64(0)

    def conv(
        h_out: int, *, activation: int = 0, kernel: ctypes.c_void_p = x, stride: ctypes.c_int64 = one
    ) -> int:
        rest = (kernel, *[ctypes.c_int64(2)] * 2, one, None, stride, zero, zero, activation)
        return int(c.cc_conv2d_f32(x, *size, *rest, x, ctypes.c_int64(h_out), ctypes.c_int64(3)))

    assert conv(3, activation=5) == argument  # elu has a parameter
    assert conv(3, activation=99) == argument
    assert conv(3, kernel=ctypes.c_void_p(0)) == argument
    assert conv(3, stride=zero) == argument
    assert conv(-3) == shape
    assert c.cc_max_pool2d_f32(x, *size, ctypes.c_int64(5), one, x) == shape
    assert c.cc_max_pool2d_f32(x, *size, zero, one, x) == argument
    assert c.cc_max_pool2d_f32(None, *size, one, one, x) == argument
    assert c.cc_softmax_f32(x, zero, one, x) == shape

"""Kernel cases replayed without Python: beside the installed library, and on AArch64 in an emulator."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import convcore as cc
from convcore import _native, reference

from .kernel_cases import SIZES, Case, cases
from .replay_file import write_cases
from .test_kernels_values import CURVED, SPECIAL, TINY, rounded
from .tolerance import relative_bound

ROOT = Path(__file__).parents[1]
TOOLCHAIN = ROOT / "cmake" / "aarch64-linux-gnu.cmake"
CROSS_COMPILER = "aarch64-linux-gnu-gcc"
THREADS = ("1", "3", "7")


def _environment() -> dict[str, str]:
    """Without the settings that would change what is tested."""
    ours = ("CONVCORE_ISA", "CONVCORE_NUM_THREADS", "OMP_NUM_THREADS")
    return {name: value for name, value in os.environ.items() if name not in ours}


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, env=_environment(), timeout=500)


def _must(*command: str | Path) -> str:
    done = _run(*command)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, linked to the library that is installed."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("no C compiler to build tests/c/replay.c with")
    program = tmp_path_factory.mktemp("native") / "replay"
    sources = [ROOT / "tests" / "c" / name for name in ("replay.c", "check.c")]
    library = cc.get_library()
    search = f"-Wl,-rpath,{Path(library).parent}"
    _must(
        compiler, "-std=c11", "-O1", f"-I{cc.get_include()}", *sources, library, search, "-lm", "-o", program
    )
    return program


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the C tests for AArch64."""
    for tool, package in (
        ("cmake", "cmake"),
        (CROSS_COMPILER, "gcc-aarch64-linux-gnu"),
        ("qemu-aarch64", "qemu-user"),
    ):
        if shutil.which(tool) is None:
            pytest.skip(
                f"{tool} is not installed (Debian: {package}): nothing to make or run AArch64 programs with"
            )
    folder = tmp_path_factory.mktemp("aarch64")
    options = (f"-DCMAKE_TOOLCHAIN_FILE={TOOLCHAIN}", "-DCMAKE_BUILD_TYPE=None", "-DCONVCORE_TESTS=ON")
    _must("cmake", "-S", ROOT, "-B", folder, *options)
    _must("cmake", "--build", folder, "--parallel", str(os.cpu_count() or 1))
    return folder


def _written(folder: Path, *lists: Sequence[Case]) -> Path:
    path = folder / "cases"
    write_cases(path, [case for some in lists for case in some])
    return path


def _special_cases() -> Iterator[Case]:
    """NaN, infinities and denormals, in which instruction sets differ."""
    with np.errstate(over="ignore", invalid="ignore"):
        for name, options in [*CURVED, ("relu", {}), ("relu", {"max_value": 6.0})]:
            exact = reference.ACTIVATIONS[name](SPECIAL, **rounded(options))
            near = exact.astype(np.float32)
            expected = np.where(np.isinf(near), near, exact)  # what rounds to infinity is right as infinity
            bound = 2 * np.spacing(np.abs(near)).astype(np.float64)
            call = partial(getattr(cc, name), **options)
            yield Case(f"special {name} {options}", "activation_f32", call, (SPECIAL,), expected, bound)
        for c in (1, 3, 16, 19):
            x = np.zeros((1, 6, 6, c), np.float32)
            x[0, 1, 1], x[0, 4, 4], x[0, :2, 4:], x[0, 2, 0] = np.nan, np.inf, -np.inf, TINY
            pairs, steps = ((0, 0),) * 2, (2, 2)
            for name, kernel in (("max_pool", "max_pool_f32"), ("average_pool", "average_pool_f32")):
                exact = getattr(reference, name)(x, (2, 2), steps, pairs)
                call = partial(getattr(cc, name), pool_size=2)
                yield Case(f"special {name} {c}", kernel, call, (x,), exact, float(TINY))
            exact = reference.global_max_pool(x)
            yield Case(f"special global_max_pool {c}", "global_max_pool_f32", cc.global_max_pool, (x,), exact)
            w = np.full((3, 3, c, 5), 0.5, np.float32)
            exact = reference.conv(x, w, strides=(1, 1), dilation=(1, 1), padding=((1, 1),) * 2)
            exact = np.where(np.isnan(exact), exact, np.maximum(exact, 0))
            call = partial(cc.conv2d, padding="same", activation="relu")
            bound = (9 * c + 1) * float(TINY)  # of denormals, every product may be rounded away
            yield Case(f"special conv2d {c}", "conv_direct_f32", call, (x, w), exact, bound)
        row = SPECIAL.clip(-50, 50)
        rows = np.stack([np.nan_to_num(row), row, -row])
        exact = reference.softmax(rows)
        # The least are denormals: exp and the quotient are each rounded by half of the smallest one.
        bound = relative_bound(100 + row.size + 6, exact) + float(TINY)
        yield Case("special softmax", "softmax_f32", cc.softmax, (rows,), exact, bound)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole list, at a few sizes."""
    return _written(tmp_path_factory.mktemp("small"), cases(3), cases(17))


@pytest.fixture(scope="module")
def special(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _written(tmp_path_factory.mktemp("special"), list(_special_cases()))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough work for threads to share."""
    return _written(tmp_path_factory.mktemp("large"), cases(33, size=12))


def _reported(printed: str, isa: str) -> tuple[int, int]:
    """Cases and failures."""
    words = printed.splitlines()[-1].replace(",", "").split()
    assert words[:2] == ["replay:", f"{isa}:"], printed
    return int(words[2]), int(words[-2])


@pytest.mark.parametrize("isa", _native.isas())
def test_beside_the_installed_library(replay: Path, small: Path, isa: str) -> None:
    assert _reported(_must(replay, small, isa), isa) == (len(cases(3)) + len(cases(17)), 0)


@pytest.mark.parametrize("isa", _native.isas())
def test_special_values_beside_the_installed_library(replay: Path, special: Path, isa: str) -> None:
    assert _reported(_must(replay, special, isa), isa)[1] == 0


@pytest.mark.parametrize("isa", _native.isas()[-1:])
def test_threads_beside_the_installed_library(replay: Path, large: Path, isa: str) -> None:
    assert _reported(_must(replay, large, isa, *THREADS), isa)[1] == 0


def test_a_number_out_of_bounds_is_found(replay: Path, tmp_path: Path) -> None:
    """The test of the test: an expected number that is wrong by a little more than its bound."""
    case = next(c for c in cases(3) if c.name == "dense")
    path = _written(tmp_path, [case])
    count = case.expected.size
    whole = bytearray(path.read_bytes())
    at = len(whole) - 16 * count + 8 * (count // 2)  # values, then bounds, end the file
    (value,), (bound,) = struct.unpack_from("<d", whole, at), struct.unpack_from("<d", whole, at + 8 * count)
    assert bound > 0
    for change, found in ((0.25, False), (2.5, True)):
        struct.pack_into("<d", whole, at, value + change * bound)
        path.write_bytes(whole)
        done = _run(replay, path, "scalar")
        assert done.returncode == int(found), done.stdout
        assert _reported(done.stdout, "scalar") == (1, int(found))
        assert ("dense: 1 of" in done.stdout) == found


def test_an_exact_number_has_no_tolerance(replay: Path, tmp_path: Path) -> None:
    case = next(c for c in cases(3) if c.name == "max_pool 2-D (2, 2) {}")
    path = _written(tmp_path, [case])
    whole = bytearray(path.read_bytes())
    at = len(whole) - 16 * case.expected.size
    (bits,) = struct.unpack_from("<q", whole, at)
    struct.pack_into("<q", whole, at, bits + 1)  # the next double
    path.write_bytes(whole)
    assert _run(replay, path, "scalar").returncode == 1


def test_other_bits_are_found(replay: Path, tmp_path: Path) -> None:
    path = _written(tmp_path, [c for c in cases(3) if c.name in ("dense", "relu", "border")])
    assert _reported(_must(replay, path, "scalar", "1", "2", "3"), "scalar") == (3, 0)
    done = _run(replay, "--spoil", path, "scalar", "1", "2", "3")
    assert done.returncode == 1 and _reported(done.stdout, "scalar") == (3, 6)
    assert "relu: 3 threads give other bits than 1" in done.stdout


def test_a_file_cut_short_is_refused(replay: Path, tmp_path: Path) -> None:
    path = _written(tmp_path, [c for c in cases(3) if c.name == "dense"])
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        done = _run(replay, path, "scalar")
        assert done.returncode == 2 and done.stderr.startswith("replay: "), (length, done)


def test_neon_in_an_emulator(emulated: Path, small: Path) -> None:
    printed = _must("qemu-aarch64", emulated / "replay", small, "neon")
    assert _reported(printed, "neon") == (len(cases(3)) + len(cases(17)), 0)


def test_special_values_of_neon_in_an_emulator(emulated: Path, special: Path) -> None:
    assert _reported(_must("qemu-aarch64", emulated / "replay", special, "neon"), "neon")[1] == 0


def test_neon_threads_in_an_emulator(emulated: Path, large: Path) -> None:
    assert _reported(_must("qemu-aarch64", emulated / "replay", large, "neon", *THREADS), "neon")[1] == 0


@pytest.mark.parametrize("program", ["contract_check", "threads_check", "steps_check 8"])
def test_the_c_tests_in_an_emulator(emulated: Path, program: str) -> None:
    name, *words = program.split()
    assert " 0 failures" in _must("qemu-aarch64", emulated / name, *words)


@pytest.mark.slow
def test_every_float_in_an_emulator(emulated: Path) -> None:
    assert "\n0 failures" in _must("qemu-aarch64", emulated / "elementwise_check", "check", "262139")


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["scalar", "neon"])
def test_every_size_in_an_emulator(emulated: Path, tmp_path: Path, isa: str) -> None:
    for channels in SIZES:
        path = _written(tmp_path, cases(channels))
        assert _reported(_must("qemu-aarch64", emulated / "replay", path, isa), isa)[1] == 0

"""The kernels of :mod:`cuda_samples`: how each is run, what it must give and be made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from .cuda_compile import LOCAL_MEMORY, Gate, Kernel
from .ptx import launch
from .tolerance import assert_within, dot_bound, relative_bound, ulp_difference

__all__ = ["CASES", "CONV_SHARED_BYTES", "Case", "sample"]

Array = NDArray[Any]

#: As the kernel has it: 3 stages of 64 rows of 36 words and 32 rows of 72.
CONV_SHARED_BYTES = 3 * 4 * (64 * 36 + 32 * 72)

_LINE, _ROWS = "float32[::1]", "float32[:, ::1]"


def sample(name: str, signature: str, capability: tuple[int, int] = (9, 0), **options: Any) -> Kernel:
    """Return a kernel of this folder's samples."""
    return Kernel(f"{Path(__file__).with_name('cuda_samples.py')}:{name}", signature, capability, **options)


@dataclass(frozen=True)
class Case:
    """A kernel, and a function that runs its PTX and compares the results."""

    signature: str
    check: Callable[[str], None]
    gate: Gate = field(default_factory=Gate)
    products: int = 0


def _normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _unwritten(*shape: int) -> Array:
    return np.full(shape, np.nan, np.float32)


# ---- matrix products -------------------------------------------------------------------------------


def _gemm_float32(ptx: str) -> None:
    m, n, k = 128, 64, 32
    a, b, c = _normal(k, m), _normal(k, n, seed=1), _unwritten(m, n)
    launch(ptx, (m // 64, n // 64), 64, [a, b, c, np.int32(k)])
    exact = a.T.astype(np.float64) @ b
    assert_within(c, exact, dot_bound(k, np.abs(a.T).astype(np.float64) @ np.abs(b)))


def _halves(kind: str, x: Array) -> tuple[Array, Array]:
    """Bits of 16 and the numbers that they stand for."""
    if kind == "f16":
        half = x.astype(np.float16)
        return half.view(np.uint16), half.astype(np.float64)
    bits = (x.view(np.uint32) >> 16).astype(np.uint16)
    return bits, (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def _gemm_halves(kind: str) -> Callable[[str], None]:
    def check(ptx: str) -> None:
        m, n, k = 32, 48, 64
        a_bits, a = _halves(kind, _normal(m, k))
        b_bits, b = _halves(kind, _normal(k, n, seed=1))
        c = _unwritten(m, n)
        launch(ptx, (m // 16, n // 16), 32, [a_bits, b_bits, c, np.int32(k)])
        assert_within(c, a @ b, dot_bound(k, np.abs(a) @ np.abs(b)))

    return check


def _conv_tf32(ptx: str) -> None:
    height, width, channels, outputs = 8, 16, 64, 64
    x = _normal(height, width, channels)
    w, bias = _normal(3, 3, channels, outputs, seed=1), _normal(outputs, seed=2)
    y = _unwritten(height * width, outputs)
    arguments = [x, w, bias, y, np.int32(height), np.int32(width), np.int32(channels)]
    launch(ptx, (height * width // 64, outputs // 64), 128, arguments, shared_bytes=CONV_SHARED_BYTES)
    exact = np.maximum(_convolved(x, w, bias), 0)
    sizes = _convolved(np.abs(x), np.abs(w), np.abs(bias))
    # Each operand is cut to 11 significant bits, which loses up to 2^-10 of it.
    cut = 2 * 2.0**-10 + 2.0**-20
    assert_within(y.reshape(exact.shape), exact, cut * sizes + dot_bound(9 * channels + 1, sizes * (1 + cut)))
    # The bound is for the worst case; random signs must stay far below it.
    assert np.linalg.norm(y.reshape(exact.shape) - exact) <= cut * np.linalg.norm(exact)


def _convolved(x: Array, w: Array, bias: Array) -> Array:
    """3x3 convolution with "same" padding, in float64."""
    height, width, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0))).astype(np.float64)
    return bias + sum(
        padded[i : i + height, j : j + width] @ w[i, j].astype(np.float64) for i in range(3) for j in range(3)
    )


# ---- one thing each --------------------------------------------------------------------------------


def _neighbours(ptx: str) -> None:
    x, y = _normal(192), _unwritten(192)
    launch(ptx, 3, 64, [x, y])
    rows = np.pad(x.reshape(3, 64), ((0, 0), (1, 1)))
    assert (y.reshape(3, 64)[:, ::-1] == rows[:, 1:-1] + rows[:, :-2] + rows[:, 2:]).all()


def _warp_sums(ptx: str) -> None:
    x, sums, counts = _normal(192), _unwritten(6, 2), np.zeros(6, np.int32)
    launch(ptx, 3, 64, [x, sums, counts])
    warps = x.reshape(6, 32).astype(np.float64)
    assert_within(sums[:, 0], warps.sum(1), dot_bound(32, np.abs(warps).sum(1)))
    assert (sums[:, 1] == 2 * warps[:, 4]).all()  # 5 ^ 1 and 5 - 1
    assert (counts == (warps > 0).sum(1)).all()


def _histogram(ptx: str) -> None:
    x = np.random.default_rng(0).integers(0, 100, 128).astype(np.float32)
    bins, total = np.zeros(8, np.uint32), np.zeros(1, np.float32)
    launch(ptx, 2, 64, [x, bins, total])
    assert (bins == np.bincount(x.astype(int) % 8, minlength=8)).all()
    assert total[0] == x.sum()


def _spilled(ptx: str) -> None:
    x, y, k = _normal(64), _unwritten(64), 3
    launch(ptx, 2, 32, [x, y, np.int32(k)])
    own = {(j * k) % 32: x * np.float32(j) for j in range(32)}
    assert (y == own[k % 32] + own[(k * 7 + 1) % 32]).all()


def _functions(ptx: str) -> None:
    x, y = 10 * _normal(64), _unwritten(9, 64)
    launch(ptx, 2, 32, [x, y])
    v = x.astype(np.float64)
    table = np.array([3, 1, 4, 1, 5, 9, 2, 6], np.float32)
    shifted = (x + np.float32(0.1)).astype(np.float64)
    exact = {
        0: np.exp(v),
        2: np.sqrt(np.abs(v)),
        3: 1 / shifted,
        4: np.tanh(v),
        5: special.erfc(v),
        6: np.sin(v),
    }
    # Units in the last place that CUDA's manual allows.
    allowed = {0: 2, 2: 0.5, 3: 0.5, 4: 2, 5: 4, 6: 2}
    for row, values in exact.items():
        assert ulp_difference(y[row], values).max() <= allowed[row], row
    # The sum before the logarithm is rounded too.
    assert_within(y[1], np.log1p(np.abs(v)), relative_bound(2, 1 + np.log1p(np.abs(v))))
    assert (y[7] == np.floor(x) + np.ceil(x)).all()
    assert (y[8] == table[np.arange(64) % 8]).all()


def _integers(ptx: str) -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(-(2**40), 2**40, 64)
    b = rng.integers(1, 2**20, 64) * rng.choice([-1, 1], 64)
    y = np.zeros((9, 64), np.int64)
    launch(ptx, 2, 32, [a, b, y])
    bits = [f"{v % 2**64:064b}" for v in a.tolist()]
    low = [f"{v % 2**32:032b}"[::-1] for v in a.tolist()]
    assert (y[0] == a // b).all()
    assert (y[1] == a % b).all()
    assert y[2].tolist() == [v.count("1") for v in bits]
    assert y[3].tolist() == [64 - len(v.lstrip("0")) for v in bits]
    assert (y[4].astype(np.uint32) == [int(v, 2) for v in low]).all()
    assert (y[5] == np.minimum(a, b) - np.maximum(a, b)).all()
    assert (y[6] == (a << (b & 31)) ^ (a >> (b & 15))).all()
    assert (y[7] == a.astype(np.int32).astype(np.int64) * b.astype(np.int32)).all()
    assert (y[8] == (a / b).astype(np.int64)).all()


def _copies(ptx: str) -> None:
    x, y = _normal(100), _unwritten(128)
    launch(ptx, 2, 64, [x, y, np.int32(100)])
    expected = np.append(x, np.zeros(28, np.float32)).reshape(2, 64)[:, ::-1]
    assert (y == expected.ravel()).all()


_CALLS = (*LOCAL_MEMORY, "CALL")

CASES = {
    "gemm_float32": Case(
        f"({_ROWS}, {_ROWS}, {_ROWS}, int32)",
        _gemm_float32,
        Gate({"FFMA": 64, "LDG.128": 2, "STS.128": 2, "LDS.128": 4, "STG.128": 16}, _CALLS, 128),
        128 * 64 * 32,
    ),
    "gemm_bfloat16": Case(
        f"(uint16[:, ::1], uint16[:, ::1], {_ROWS}, int32)",
        _gemm_halves("bf16"),
        Gate({"LDGSTS.128": 2, "LDSM.M88.4": 1, "LDSM.MT88.2": 2, "HMMA.16816.F32.BF16": 2}, _CALLS, 64),
        32 * 48 * 64,
    ),
    "gemm_float16": Case(
        f"(uint16[:, ::1], uint16[:, ::1], {_ROWS}, int32)",
        _gemm_halves("f16"),
        Gate({"LDGSTS.128": 2, "LDSM.M88.4": 1, "LDSM.MT88.2": 2, "HMMA.16816.F32": 2}, _CALLS, 64),
        32 * 48 * 64,
    ),
    "conv_tf32": Case(
        f"(float32[:, :, ::1], float32[:, :, :, ::1], {_LINE}, {_ROWS}, int32, int32, int32)",
        _conv_tf32,
        Gate({"LDGSTS.128": 8, "HMMA.1688.F32.TF32": 32}, LOCAL_MEMORY, 128),
        8 * 16 * 9 * 64 * 64,
    ),
    "neighbours": Case(f"({_LINE}, {_LINE})", _neighbours, Gate({"BAR.SYNC": 3, "LDS": 2, "STS": 2}, _CALLS)),
    "warp_sums": Case(f"({_LINE}, {_ROWS}, int32[::1])", _warp_sums, Gate({"SHFL": 4, "POPC": 1})),
    "histogram": Case(f"({_LINE}, uint32[::1], {_LINE})", _histogram, Gate({"ATOMS": 1}, _CALLS)),
    "spilled": Case(f"({_LINE}, {_LINE}, int32)", _spilled, Gate({"STL": 1, "LDL": 1}, ())),
    "functions": Case(f"({_LINE}, {_ROWS})", _functions, Gate({"MUFU.EX2": 1, "MUFU.RCP": 1}, ())),
    "integers": Case(
        "(int64[::1], int64[::1], int64[:, ::1])", _integers, Gate({"POPC": 1, "BREV": 1, "CALL": 1})
    ),
    "copies": Case(f"({_LINE}, {_LINE}, int32)", _copies, Gate({"LDGSTS.E": 1, "LDGDEPBAR": 1}, _CALLS)),
}

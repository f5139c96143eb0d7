"""Kernels read and write nothing outside their arrays: pages that nobody may touch lie on both sides."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import pytest

import convcore as cc
from convcore import _native
from convcore.errors import ArgumentError
from convcore.ops import arrays as ops_arrays
from convcore.ops.call import instruction_set

from .kernel_cases import Case, cases
from .memory import Array, forget_guarded, guarded, guarded_copy

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="forks, to survive a segmentation fault"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def run_between_forbidden_pages(case: Case, at_end: bool) -> None:
    arrays = [guarded_copy(a, at_end=at_end) for a in case.arrays]
    out = guarded(case.expected.shape, case.dtype, at_end=at_end)
    case.call(*arrays, out=out)
    forget_guarded()


def random_cases(seed: int, count: int) -> Iterator[Case]:
    """Yield `count` windows of random size, stride, padding, dilation and groups."""
    rng = np.random.default_rng(seed)
    while count:
        rank = int(rng.integers(1, 4))
        axes = partial(rng.integers, size=rank)
        c, groups = int(rng.integers(1, 20)), int(rng.integers(1, 4))
        sizes, kernel = axes(1, (60, 14, 7)[rank - 1]), axes(1, 5)
        options = {
            "strides": axes(1, 4).tolist(),
            "padding": rng.integers(0, 4, (rank, 2)).tolist() if rng.random() < 0.5 else "same",
        }
        dilated = options | {"dilation_rate": axes(1, 4).tolist()}
        x = rng.standard_normal((2, *sizes, c * groups)).astype(np.float32)
        w = rng.standard_normal((*kernel, c, groups * int(rng.integers(1, 40)))).astype(np.float32)
        d = rng.standard_normal((*kernel, c * groups, int(rng.integers(1, 4)))).astype(np.float32)
        calls: list[tuple[Callable[..., Array], tuple[Array, ...]]] = [
            (partial(getattr(cc, f"conv{rank}d"), groups=groups, **dilated), (x, w)),
            (partial(getattr(cc, f"conv{rank}d_transpose"), **dilated), (x, d.swapaxes(-1, -2))),
            (partial(cc.max_pool, pool_size=kernel, **options), (x,)),
            (partial(cc.average_pool, pool_size=kernel, **options), (x,)),
        ]
        if rank < 3:
            calls.append((partial(getattr(cc, f"depthwise_conv{rank}d"), **dilated), (x, d)))
        call, arrays = calls[rng.integers(len(calls))]
        try:
            expected = call(*arrays)
        except ArgumentError:
            continue  # an output that would be empty
        count -= 1
        yield Case(f"{call} {[a.shape for a in arrays]}", "any", call, arrays, expected)


def crash_of_child(test_cases: Iterable[Case], isa: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the cases in a child process; return the name of the case that it died of, or nothing."""
    log = os.memfd_create("last case")
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        faulthandler.disable()  # a crash is an answer here
        try:
            for case in test_cases:
                for at_end in (True, False):
                    # Workspaces and packed weights too; they begin on a cache line.
                    monkeypatch.setattr(
                        ops_arrays,
                        "aligned_floats",
                        lambda n, at_end=at_end: guarded((n,), np.float32, at_end=at_end, alignment=64),
                    )
                    os.lseek(log, 0, os.SEEK_SET)
                    os.write(log, f"{case.name} ({'end' if at_end else 'start'})\n".encode())
                    with instruction_set(isa):
                        run_between_forbidden_pages(case, at_end)
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    _, status = os.waitpid(child, 0)
    with os.fdopen(log) as file:
        file.seek(0)
        last = file.readline().rstrip()
    if os.WIFSIGNALED(status):
        return f"{last}: {signal.Signals(os.WTERMSIG(status)).name}"
    return "" if os.WEXITSTATUS(status) == 0 else f"{last}: raised"


@pytest.mark.parametrize("channels", [1, 3, 15, 16, 17, 33])
@pytest.mark.parametrize("isa", _native.isas())
def test_no_access_outside(isa: str, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert crash_of_child(cases(channels), isa, monkeypatch) == ""


@pytest.mark.parametrize("count", [150, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("isa", _native.isas())
def test_no_access_outside_random_windows(isa: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert crash_of_child(random_cases(count, count), isa, monkeypatch) == ""


def test_the_trap_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_beyond(x: np.ndarray, out: np.ndarray) -> np.ndarray:
        out[...] = np.lib.stride_tricks.as_strided(x, (x.size + 1,))[1:]
        return out

    x = np.zeros(8, np.float32)
    case = Case("reads one element too many", "none", read_beyond, (x,), x)
    assert "SIGSEGV" in crash_of_child([case], _native.isas()[0], monkeypatch)

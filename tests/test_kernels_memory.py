"""Kernels read and write nothing outside their arrays: pages that nobody may touch lie on both sides."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys

import numpy as np
import pytest

from convcore import _native
from convcore.ops import call as call_module
from convcore.ops.call import instruction_set

from .kernel_cases import Case, cases
from .memory import guarded, guarded_copy

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, to survive a segmentation fault"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def run_between_forbidden_pages(case: Case, at_end: bool) -> None:
    arrays = [guarded_copy(a, at_end=at_end) for a in case.arrays]
    out = guarded(case.expected.shape, case.dtype, at_end=at_end)
    case.call(*arrays, out=out)


def crash_of_child(test_cases: list[Case], isa: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the cases in a child process; return the name of the case that it died of, or nothing."""
    read, write = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        faulthandler.disable()  # a crash is an answer here
        try:
            for at_end in (True, False):
                # Workspaces and packed weights too; they begin on a cache line.
                monkeypatch.setattr(
                    call_module,
                    "aligned_floats",
                    lambda n, at_end=at_end: guarded((n,), np.float32, at_end=at_end, alignment=64),
                )
                for case in test_cases:
                    os.write(write, f"{case.name} ({'end' if at_end else 'start'})\n".encode())
                    with instruction_set(isa):
                        run_between_forbidden_pages(case, at_end)
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    os.close(write)
    with os.fdopen(read) as pipe:
        last = pipe.read().splitlines()[-1]
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"{last}: {signal.Signals(os.WTERMSIG(status)).name}"
    return "" if os.WEXITSTATUS(status) == 0 else f"{last}: raised"


@pytest.mark.parametrize("channels", [1, 3, 15, 16, 17, 33])
@pytest.mark.parametrize("isa", _native.isas())
def test_no_access_outside(isa: str, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert crash_of_child(cases(channels), isa, monkeypatch) == ""


def test_the_trap_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_beyond(x: np.ndarray, out: np.ndarray) -> np.ndarray:
        out[...] = np.lib.stride_tricks.as_strided(x, (x.size + 1,))[1:]
        return out

    x = np.zeros(8, np.float32)
    case = Case("reads one element too many", "none", read_beyond, (x,), x)
    assert "SIGSEGV" in crash_of_child([case], _native.isas()[0], monkeypatch)

"""Threads and instruction sets as the environment and the caller want them; fork; Ctrl-C; the GIL."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import convcore as cc
from convcore import _native
from convcore.errors import ArgumentError, DeviceError
from convcore.ops.call import instruction_set

VARIABLES = ("CONVCORE_NUM_THREADS", "OMP_NUM_THREADS", "CONVCORE_ISA")


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = cc.get_num_threads()
    yield
    cc.set_num_threads(before)


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in VARIABLES} | variables
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60
    )


def threads_of(**variables: str) -> int:
    done = run("import convcore; print(convcore.get_num_threads())", **variables)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_thread_variables() -> None:
    assert threads_of(CONVCORE_NUM_THREADS="3") == 3
    assert threads_of(OMP_NUM_THREADS="5") == 5
    assert threads_of(CONVCORE_NUM_THREADS="3", OMP_NUM_THREADS="5") == 3
    default = threads_of()
    for nonsense in ("0", "-2", "many", "", "100000"):
        assert threads_of(CONVCORE_NUM_THREADS=nonsense) == default


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_affinity_is_honoured() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "import convcore; print(convcore.get_num_threads())"
    )
    assert run(code).stdout.strip() == "1"
    assert threads_of() <= len(os.sched_getaffinity(0))


def test_set_num_threads() -> None:
    for threads in (1, 2, 256):
        cc.set_num_threads(threads)
        assert cc.get_num_threads() == threads
    for bad in (0, -1, 257):
        with pytest.raises(ArgumentError, match="1 to 256"):
            cc.set_num_threads(bad)
    assert cc.get_num_threads() == 256
    with pytest.raises(TypeError):
        cc.set_num_threads("two")  # type: ignore[arg-type]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc")
def test_one_thread_starts_no_worker() -> None:
    code = (
        "import os, numpy as np, convcore as cc\n"
        "tasks = lambda: len(os.listdir('/proc/self/task'))\n"
        "before = tasks(); x = np.ones((8, 64, 64, 8), np.float32)\n"
        "for n in (1, 3):\n"
        "    cc.set_num_threads(n); cc.relu(x); print(tasks() - before)\n"
    )
    assert run(code).stdout.split() == ["0", "2"]


@pytest.mark.parametrize("isa", _native.isas())
def test_a_forced_instruction_set_really_runs(isa: str) -> None:
    code = (
        "import convcore as cc; from convcore import _native;"
        "v = (0, 0, 'float32', (8,), (1,));"
        "step = _native.Step('activation', x=v, out=v);"
        "print(cc.show_config('dicts')['instruction_set'], step.isa)"
    )
    done = run(code, CONVCORE_ISA=isa)
    assert done.stdout.split() == [isa, isa], done.stderr


def test_instruction_sets_differ_where_they_may() -> None:
    """A proof by the numbers: without FMA a sum of products rounds differently."""
    if "avx2" not in _native.isas():
        pytest.skip("one kind of rounding only on this CPU")
    code = (
        "import numpy as np, convcore as cc; r = np.random.default_rng(0);"
        "x, w = (r.standard_normal(s).astype(np.float32) for s in ((8, 100), (100, 8)));"
        "print(cc.dense(x, w).tobytes().hex())"
    )
    by_isa = {isa: run(code, CONVCORE_ISA=isa).stdout for isa in _native.isas()}
    assert by_isa["sse2"] == by_isa["scalar"] != by_isa["avx2"]
    if "avx512" in by_isa:
        assert by_isa["avx512"] == by_isa["avx2"]


@pytest.mark.parametrize("name", ["avx9", "AVX2 ", "neon"])
def test_an_unknown_instruction_set_is_an_error(name: str) -> None:
    done = run("import numpy as np, convcore as cc; cc.relu(np.zeros(3, np.float32))", CONVCORE_ISA=name)
    assert done.returncode != 0
    assert "DeviceError: CONVCORE_ISA" in done.stderr and "scalar" in done.stderr
    with pytest.raises(DeviceError, match="instruction set"), instruction_set(name):
        cc.relu(np.zeros(3, np.float32))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("times", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_predict_fork_predict(times: int) -> None:
    x, w = np.ones((2, 40, 40, 16), np.float32), np.ones((3, 3, 16, 16), np.float32)
    cc.set_num_threads(2)
    expected = cc.conv2d(x, w)
    for _ in range(times):
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # a hanging child dies and fails the test
            same = all(cc.conv2d(x, w).tobytes() == expected.tobytes() for _ in range(3))
            os._exit(0 if same else 1)
        assert cc.conv2d(x, w).tobytes() == expected.tobytes()
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_while_another_thread_computes() -> None:
    x, w = np.ones((2, 40, 40, 16), np.float32), np.ones((3, 3, 16, 16), np.float32)
    cc.set_num_threads(2)
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            cc.conv2d(x, w)

    other = threading.Thread(target=compute)
    other.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                cc.conv2d(x, w)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        other.join()


LONG = (
    "import os, signal, sys, threading, time, numpy as np, convcore as cc\n"
    "sent = []\n"
    "def interrupt(): sent.append(time.perf_counter()); os.kill(os.getpid(), signal.SIGINT)\n"
    "x, w = np.ones((1, 600, 600, 64), np.float32), np.ones((7, 7, 64, 256), np.float32)\n"
    "cc.relu(x)\n"
    "threading.Timer(0.3, interrupt).start()\n"
    "try: cc.conv2d(x, w, padding='same'); print('finished')\n"
    "except KeyboardInterrupt: print(time.perf_counter() - sent[0])\n"
    "print(cc.conv2d(x[:, :5, :5], w[:1, :1]).sum())\n"
)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_ctrl_c_is_heard_within_half_a_second(threads: str) -> None:
    done = run(LONG, CONVCORE_NUM_THREADS=threads, CONVCORE_ISA="scalar")
    delay, works_afterwards = done.stdout.split()
    assert float(delay) < 0.5
    assert float(works_afterwards) == 25 * 64 * 256


def test_other_python_threads_run_meanwhile() -> None:
    x, w = np.ones((1, 300, 300, 32), np.float32), np.ones((5, 5, 32, 64), np.float32)
    cc.set_num_threads(1)
    began, ended = threading.Event(), threading.Event()

    def compute() -> None:
        with instruction_set("scalar"):
            began.set()
            cc.conv2d(x, w)
        ended.set()

    thread = threading.Thread(target=compute)
    thread.start()
    began.wait()
    turns = 0
    while not ended.is_set():
        time.sleep(0.001)
        turns += 1
    thread.join()
    assert turns > 10


def test_a_call_from_another_thread_sees_the_main_one_s_setting() -> None:
    cc.set_num_threads(3)
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(cc.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [3]


def test_an_idle_pool_sleeps() -> None:
    code = (
        "import time, numpy as np, convcore as cc; cc.set_num_threads(4);"
        "cc.relu(np.ones((8, 64, 64, 8), np.float32)); time.sleep(0.05); t = time.process_time();"
        "time.sleep(0.5); print(time.process_time() - t)"
    )
    assert float(run(code).stdout) < 0.05


def test_the_names_of_the_cpu_and_its_instruction_sets() -> None:
    assert _native.isas()[0] == "scalar"
    assert _native.default_isa() in _native.isas()
    assert re.search(r"\w", _native.cpu_name())


def test_a_step_is_timed_from_the_call_on() -> None:
    """Its time is never less than its share of the work, even if other threads did all of it first."""
    threads, rows = 4, 200
    x, y = np.ones((rows, 1), np.float32), np.empty((rows, 1), np.float32)
    column = ("float32", (rows, 1), (1, 1))
    step = _native.Step("probe", probe="fma", value=0.5, x=(0, 0, *column), out=(1, 0, *column))
    program = _native.Program([step])
    alone: list[float] = []
    shared: list[float] = []
    for _ in range(100):
        program.run([x, y], threads=1, seconds=alone)
        program.run([x, y], threads=threads, seconds=shared)
    assert min(shared) > min(alone) / threads / 2


def test_num_threads_holds_for_its_block() -> None:
    cc.set_num_threads(4)
    with cc.num_threads(2):
        assert cc.get_num_threads() == 2
        with cc.num_threads(3):
            assert cc.get_num_threads() == 3
            with cc.num_threads(None):
                assert cc.get_num_threads() == 3
        assert cc.get_num_threads() == 2
        cc.set_num_threads(5)  # the process's, which this block overrides
        assert cc.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError), cc.num_threads(1):
            1 / 0  # noqa: B018
        assert cc.get_num_threads() == 2
    assert cc.get_num_threads() == 5

    @cc.num_threads(7)
    def inside() -> int:
        return cc.get_num_threads()

    assert [inside(), inside(), cc.get_num_threads()] == [7, 7, 5]
    for bad in (0, 257, True, "2"):
        with (
            pytest.raises(ArgumentError, match=r"num_threads: num_threads, got .*1 to 256"),
            cc.num_threads(
                bad  # type: ignore[arg-type]
            ),
        ):
            pass


def test_num_threads_is_this_context_s_alone() -> None:
    cc.set_num_threads(4)
    inside, leave, seen = threading.Event(), threading.Event(), []

    def other() -> None:
        with cc.num_threads(3):
            seen.append(cc.get_num_threads())
            inside.set()
            leave.wait()
        seen.append(cc.get_num_threads())

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait()
    with cc.num_threads(2):  # begins after the other's block, and ends after it
        assert cc.get_num_threads() == 2
        leave.set()
        thread.join()
        assert cc.get_num_threads() == 2
    assert seen == [3, 4] and cc.get_num_threads() == 4


def test_num_threads_in_tasks_of_asyncio() -> None:
    async def task(threads: int) -> bool:
        with cc.num_threads(threads):
            for _ in range(5):
                await asyncio.sleep(0)
                if cc.get_num_threads() != threads:
                    return False
        return True

    async def all_tasks() -> list[bool]:
        return list(await asyncio.gather(*(task(n) for n in (1, 2, 3))))

    assert asyncio.run(all_tasks()) == [True, True, True]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc")
def test_who_starts_workers() -> None:
    """A call's own number, then the context's, then the process's: seen by the workers that exist."""
    code = (
        "import os, numpy as np, convcore as cc\n"
        "tasks = lambda: len(os.listdir('/proc/self/task'))\n"
        "before = tasks(); x = np.ones((8, 64, 64, 8), np.float32); w = np.ones((1, 1, 8, 8), np.float32)\n"
        "k = cc.prepare_conv2d(w); k2 = cc.prepare_conv2d(w, num_threads=6)\n"
        "cc.set_num_threads(1)\n"
        "cc.relu(x); cc.relu(x); print(tasks() - before)\n"
        "cc.relu(x, num_threads=2); print(tasks() - before)\n"
        "with cc.num_threads(3): cc.relu(x, num_threads=1); print(tasks() - before); cc.relu(x)\n"
        "print(tasks() - before)\n"
        "with cc.num_threads(4): k(x); k(x)\n"
        "print(tasks() - before)\n"
        "k(x, num_threads=5); print(tasks() - before)\n"
        "k2(x); print(tasks() - before)\n"
        "cc.set_num_threads(8); k(x); print(tasks() - before)\n"
    )
    assert run(code).stdout.split() == ["0", "1", "1", "2", "3", "4", "5", "7"]


def test_threadpoolctl_limits_and_lists_the_pool() -> None:
    pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")
    code = (
        "import threadpoolctl, numpy as np, convcore as cc\n"
        "cc.relu(np.zeros(3, np.float32)); cc.set_num_threads(4)\n"
        "[own] = [p for p in threadpoolctl.threadpool_info() if p['user_api'] == 'convcore']\n"
        "print(own['num_threads'], own['version'] == cc.__version__, own['architecture'] != '')\n"
        "with threadpoolctl.threadpool_limits(2): print(cc.get_num_threads())\n"
        "with threadpoolctl.threadpool_limits({'convcore': 3}): print(cc.get_num_threads())\n"
        "with threadpoolctl.threadpool_limits({'openblas': 3}): print(cc.get_num_threads())\n"
        "with threadpoolctl.threadpool_limits(1000, 'convcore'): print(cc.get_num_threads())\n"
        "print(cc.get_num_threads())\n"
    )
    done = run(code)
    assert done.stdout.split() == ["4", "True", "True", "2", "3", "4", "256", "4"], done.stderr
    late = "import convcore as cc; cc.get_num_threads(); import threadpoolctl, convcore.threadpool\n"
    late += "with threadpoolctl.threadpool_limits(1): print(cc.get_num_threads())"
    assert run(late).stdout.strip() == "1"
    assert (
        run("import sys, convcore as cc; cc.relu; print('threadpoolctl' in sys.modules)").stdout.strip()
        == "False"
    )


def test_fork_inside_a_block_and_with_recorded_calls() -> None:
    """A child has its parent's settings and recordings, and a pool of its own."""
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    code = (
        "import os, signal, warnings, numpy as np, convcore as cc\n"
        "warnings.simplefilter('ignore')\n"
        "x, w = np.ones((2, 40, 40, 16), np.float32), np.ones((3, 3, 16, 16), np.float32)\n"
        "k = cc.prepare_conv2d(w)\n"
        "with cc.num_threads(3):\n"
        "    y = [cc.conv2d(x, w).tobytes() for _ in range(3)][-1]; k(x); k(x)\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        signal.alarm(20)\n"
        "        same = cc.conv2d(x, w).tobytes() == y == k(x).tobytes() and cc.get_num_threads() == 3\n"
        "        os._exit(0 if same else 1)\n"
        "    print(os.waitpid(child, 0)[1], k(x).tobytes() == y)\n"
    )
    done = run(code)
    assert done.stdout.split() == ["0", "True"], done.stderr


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc")
def test_a_model_uses_the_threads_of_the_block() -> None:
    code = (
        "import os, numpy as np, convcore as cc\n"
        "from convcore import data\n"
        "tasks = lambda: len(os.listdir('/proc/self/task'))\n"
        "model = cc.load_model(data.path('lung_segmentation.keras'))\n"
        "x = np.zeros((1, *model.plan.inputs[0][1]), np.float32)\n"
        "cc.set_num_threads(1); model.predict(x); model(x); before = tasks()\n"
        "with cc.num_threads(2): model.predict(x); print(tasks() - before)\n"
        "with cc.num_threads(3): model(x); print(tasks() - before)\n"
    )
    done = run(code)
    assert done.stdout.split() == ["1", "2"], done.stderr

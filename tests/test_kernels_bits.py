"""The same bits, whatever the threads and whatever the batch an image sits in."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import convcore as cc
from convcore import _native
from convcore.ops.call import instruction_set

from .kernel_cases import cases


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = cc.get_num_threads()
    yield
    cc.set_num_threads(before)


@pytest.mark.parametrize("isa", _native.isas())
def test_any_number_of_threads(isa: str) -> None:
    for case in cases(33, batch=3, size=24):
        results = set()
        for threads in (1, 2, 3, 4, 7):
            cc.set_num_threads(threads)
            with instruction_set(isa):
                results.add(case.call(*case.arrays).tobytes())
        assert len(results) == 1, case.name


@pytest.mark.parametrize("isa", _native.isas())
@pytest.mark.parametrize("channels", [1, 3, 16, 33])
def test_any_batch(isa: str, channels: int) -> None:
    for case in cases(channels, batch=8, size=7):
        if not case.batched:
            continue
        x, *rest = case.arrays
        with instruction_set(isa):
            together = case.call(x, *rest)
            for i in range(len(x)):
                alone = case.call(x[i : i + 1], *rest)
                assert alone.tobytes() == together[i : i + 1].tobytes(), f"{case.name}, image {i}"


@pytest.mark.parametrize("isa", _native.isas())
def test_a_dense_row_in_a_long_batch(isa: str) -> None:
    """More rows than a tile and than an item, more channels than a block, outputs that end anywhere."""
    rng = np.random.default_rng(5)
    for channels, outputs in ((60, 1), (60, 16), (513, 17), (1031, 33), (1500, 60)):
        x = rng.standard_normal((100, channels), np.float32)
        w = rng.standard_normal((channels, outputs), np.float32)
        for activation in ("linear", "relu", "sigmoid"):
            wide = np.full((100, outputs + 3), 7, np.float32)
            with instruction_set(isa):
                cc.dense(x, w, activation=activation, out=wide[:, :outputs])
                rows = [cc.dense(x[i : i + 1], w, activation=activation) for i in (0, 41, 83, 84, 99)]
                together = cc.dense(x, w, activation=activation)
            assert together.tobytes() == wide[:, :outputs].tobytes()
            assert (wide[:, outputs:] == 7).all()
            assert np.concatenate(rows).tobytes() == together[[0, 41, 83, 84, 99]].tobytes()


def test_many_python_threads_at_once() -> None:
    cc.set_num_threads(2)
    test_cases = cases(17, batch=2, size=12)
    expected = [case.call(*case.arrays).tobytes() for case in test_cases]

    def everything(_: int) -> list[bytes]:
        return [case.call(*case.arrays).tobytes() for case in test_cases]

    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(everything, range(8)):
            assert got == expected

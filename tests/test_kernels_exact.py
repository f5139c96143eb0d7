"""Every kernel on every instruction set, at awkward sizes, against the reference."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from convcore import _native
from convcore.ops.call import instruction_set

from .kernel_cases import SIZES, cases
from .memory import AWKWARD, Array, gaps, reverse, transpose
from .tolerance import assert_within


def test_the_list_reaches_every_kernel_of_the_manifest() -> None:
    manifest = Path(__file__).parents[1] / "csrc" / "kernels.def"
    names = re.findall(r"^CC_KERNEL\((\w+)\)", manifest.read_text(), re.MULTILINE)
    assert set(names) == {case.kernel for case in cases(3)}


@pytest.mark.parametrize("channels", SIZES)
@pytest.mark.parametrize("isa", _native.isas())
def test_against_the_reference(isa: str, channels: int) -> None:
    for case in cases(channels):
        with instruction_set(isa):
            got = case.call(*case.arrays)
        assert got.dtype == case.dtype, case.name
        try:
            assert_within(got, case.expected, case.bound)
        except AssertionError as error:
            raise AssertionError(f"{case.name}: {error}") from None


@pytest.mark.parametrize("isa", _native.isas())
@pytest.mark.parametrize("layout", AWKWARD, ids=lambda f: f.__name__)
def test_strides_of_inputs_change_nothing(isa: str, layout: object) -> None:
    assert callable(layout)
    for channels in (3, 17):
        for case in cases(channels):
            awkward = [layout(a) for a in case.arrays]
            with instruction_set(isa):
                plain, got = case.call(*case.arrays), case.call(*awkward)
            assert plain.tobytes() == got.tobytes(), case.name


@pytest.mark.parametrize("isa", _native.isas())
@pytest.mark.parametrize("layout", [gaps, reverse, transpose], ids=lambda f: f.__name__)
def test_strides_of_out_change_nothing(isa: str, layout: object) -> None:
    assert callable(layout)
    for case in cases(17):
        with instruction_set(isa):
            plain = case.call(*case.arrays)
            out: Array = layout(np.zeros_like(plain))
            got = case.call(*case.arrays, out=out)
        assert got is out
        assert plain.tobytes() == got.tobytes(), case.name


@pytest.mark.parametrize("isa", _native.isas())
def test_nothing_is_written_between_the_elements_of_out(isa: str) -> None:
    for case in cases(17):
        if case.dtype != np.float32:
            continue  # only NaN cannot be a result by chance
        out = gaps(np.zeros(case.expected.shape, np.float32))
        assert out.base is not None
        with instruction_set(isa):
            case.call(*case.arrays, out=out)
        assert np.isnan(out.base).sum() == out.base.size - out.size, case.name

"""The equipment that tests kernels without a GPU, on kernels of its own: compiler, gates and emulator."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from .cuda_compile import LOCAL_MEMORY, LONG_DIVISION, Compiled, Compiler, Gate, MachineCode
from .cuda_sample_cases import CASES, sample
from .ptx import parse


def compiled(compiler: Compiler, name: str, capability: tuple[int, int] = (9, 0)) -> Compiled:
    return compiler.compile(sample(name, CASES[name].signature, capability))


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)], ids=["sm_80", "sm_90"])
@pytest.mark.parametrize("name", CASES)
def test_a_kernel_is_made_of_what_it_should_be_and_computes_it(
    cuda_compiler: Compiler, name: str, capability: tuple[int, int]
) -> None:
    made = compiled(cuda_compiler, name, capability)
    assert f".target sm_{capability[0]}{capability[1]}" in made.ptx
    assert parse(made.ptx).name == ("kernel" if name in ("gemm_bfloat16", "gemm_float16") else name)
    CASES[name].gate.check(made)
    assert CASES[name].products <= 5_000_000
    CASES[name].check(made.ptx)


def test_registers_in_memory_are_refused(cuda_compiler: Compiler) -> None:
    made = compiled(cuda_compiler, "spilled")
    with pytest.raises(
        AssertionError, match=r"spilled for sm_90: \d+ LDL, expected none; \d+ STL, expected none"
    ):
        Gate().check(made)


def test_what_is_missing_is_named_with_what_is_there(cuda_compiler: Compiler) -> None:
    made = compiled(cuda_compiler, "conv_tf32")
    with pytest.raises(AssertionError) as caught:
        Gate({"LDSM.4": 8, "FFMA": 1}, most_registers=40).check(made)
    message = str(caught.value)
    assert message.startswith(
        "conv_tf32 for sm_90: 0 LDSM.4, expected at least 8; 0 FFMA, expected at least 1; "
    )
    assert "registers, expected at most 40" in message
    assert "HMMA.1688.F32.TF32" in message


def test_calls_are_counted(cuda_compiler: Compiler) -> None:
    """A 64-bit division is a function of NVIDIA's: the linker's code has the call that ptxas hides."""
    made = compiled(cuda_compiler, "integers")
    with pytest.raises(AssertionError, match=r"\d+ CALL, expected none; 1 div_s64, expected none"):
        Gate(has_not=("CALL", *LONG_DIVISION)).check(made)
    # A division of float32 calls another, for operands that are hardly ever met.
    made = compiled(cuda_compiler, "functions")
    assert made.code.count("CALL") > 0
    Gate(has_not=LONG_DIVISION).check(made)


def test_spills_and_warnings_are_refused() -> None:
    code = MachineCode({"FFMA": 1}, (), 32, 16, 0, ("warning C7509: potential serialization",))
    made = Compiled(sample("gemm_float32", "()"), "", code, Path())
    with pytest.raises(AssertionError, match="16 bytes of registers spilled; warning C7509"):
        Gate().check(made)


def test_a_bound_on_registers_spills_them(cuda_compiler: Compiler) -> None:
    """The linker's report is read right: a kernel compiled for too many threads spills."""
    crowded = dataclasses.replace(
        sample("gemm_float32", CASES["gemm_float32"].signature), launch_bounds=(1024, 2)
    )
    made = cuda_compiler.compile(crowded)
    assert made.code.registers <= 32
    assert made.code.spill_bytes > 0
    with pytest.raises(AssertionError, match=r"bytes of registers spilled"):
        Gate().check(made)


def test_families_are_counted_by_their_parts() -> None:
    code = MachineCode({"LDG.E.128": 2, "LDG.E": 3, "LDGSTS.E.BYPASS.128": 5}, (), 1, 0, 0, ())
    assert [code.count(f) for f in ("LDG", "LDG.128", "LDG.E", "LDGSTS.128", "LDS", "128")] == [
        5,
        2,
        5,
        5,
        0,
        0,
    ]


def test_what_cannot_be_compiled_says_why(cuda_compiler: Compiler) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)copies for sm_90 cannot be compiled.*Error"):
        cuda_compiler.compile(sample("copies", "(int32, int32, int32)"))
    # The process lives on.
    assert compiled(cuda_compiler, "copies").code.count("LDGSTS") == 1


def test_the_files_are_left_to_look_at(cuda_compiler: Compiler) -> None:
    made = compiled(cuda_compiler, "copies")
    assert (made.folder / "kernel.ptx").read_text() == made.ptx
    assert "LDGSTS" in (made.folder / "kernel.sass").read_text()
    assert compiled(cuda_compiler, "copies") is made


def test_gates_without_local_memory_are_the_default() -> None:
    assert Gate().has_not == LOCAL_MEMORY

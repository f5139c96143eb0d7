"""The emulator is tested by planting faults: in the PTX of kernels that pass, and in kernels by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest

from .cuda_compile import Compiler
from .cuda_sample_cases import CASES, CONV_SHARED_BYTES, sample
from .ptx import (
    BarrierDivergence,
    Endless,
    Fault,
    LateCopy,
    Misaligned,
    OutOfBounds,
    PartialWarp,
    Pointer,
    Race,
    Trap,
    Uninitialised,
    launch,
)
from .ptx.snippets import kernel

# ---- in real kernels -------------------------------------------------------------------------------

#: True for the first lanes of every warp only.
_SOME_LANES = (
    "{{ .reg .pred q; .reg .b32 t; mov.u32 t, %tid.x; and.b32 t, t, 31; setp.lt.u32 q, t, 7; @q {0} }}"
)
#: True for the first warp only.
_FIRST_WARP = "{{ .reg .pred q; .reg .b32 t; mov.u32 t, %tid.x; setp.lt.u32 q, t, 32; @q {0} }}"


def planted(ptx: str, pattern: str, replacement: str, which: int = 0) -> str:
    """Replace one match of a pattern."""
    found = list(re.finditer(pattern, ptx))
    assert len(found) > which, f"{len(found)} matches of {pattern}"
    return ptx[: found[which].start()] + found[which].expand(replacement) + ptx[found[which].end() :]


def _missing(count: int, of: str) -> list[tuple[str, str, int]]:
    return [(of, "", i) for i in range(count)]


_BARRIER = r"bar\.sync\s+0;"
_MMA = r"mma\.sync[^;]*;"
_ADDRESS = r"\[(%r\w*)(?:\+\d+)?\]"
# Up to an address, which is the last group.
_LOAD = rf"(ld\.global\.f32\s+%f\d+,\s+){_ADDRESS}"
_LOAD4 = rf"(ld\.global\.v4\.f32 \{{[^}}]*\}}, ){_ADDRESS}"
_LOAD4_SHARED = rf"(ld\.shared\.v4\.f32 \{{[^}}]*\}}, ){_ADDRESS}"
_STORE4 = rf"(st\.global\.v4\.f32 ){_ADDRESS}"
_COPY_TO = rf"(cp\.async\S* ){_ADDRESS}"
_COPY_FROM = rf"(cp\.async\S* \[[^\]]*\], ){_ADDRESS}"
_MATRIX = rf"(ldmatrix\S* \{{[^}}]*\}}, ){_ADDRESS}"


_FAULTS: list[tuple[str, type[Exception], str, tuple[str, str, int]]] = [
    # A barrier is missing: before others read, or before others write again.
    *(("neighbours", Race, f"barrier {m[2]}", m) for m in _missing(3, _BARRIER)),
    *(("gemm_float32", Race, f"barrier {m[2]}", m) for m in _missing(2, _BARRIER)),
    *(("conv_tf32", Race, f"barrier {m[2]}", m) for m in _missing(2, _BARRIER)),
    *(("gemm_bfloat16", Race, f"barrier {m[2]}", m) for m in _missing(2, _BARRIER)),
    *(("histogram", Race, f"barrier {m[2]}", m) for m in _missing(2, _BARRIER)),
    ("copies", Race, "barrier 0", (_BARRIER, "", 0)),
    # A copy is used too early.
    ("conv_tf32", LateCopy, "one group too many is left", (r"wait_group 2", "wait_group 3", 0)),
    ("conv_tf32", LateCopy, "no wait", (r"cp\.async\.wait_group 2;", "", 0)),
    ("conv_tf32", LateCopy, "no commit", (r"cp\.async\.commit_group;", "", 0)),
    ("gemm_bfloat16", LateCopy, "one group too many is left", (r"wait_group 0", "wait_group 1", 0)),
    ("copies", LateCopy, "no commit", (r"cp\.async\.commit_group;", "", 0)),
    # Wrong numbers: the border is not zero, a fragment's registers are exchanged.
    ("conv_tf32", AssertionError, "no zero-fill", (r"(cp\.async[^;]*, 16), %r\d+;", r"\1;", 0)),
    ("copies", AssertionError, "no zero-fill", (r"(cp\.async[^;]*, 4), %r\d+;", r"\1;", 0)),
    (
        "conv_tf32", AssertionError, "A's registers are exchanged",
        (r"(mma\.sync\S* \{[^}]*\}, \{)(%r\d+),(%r\d+)", r"\1\3,\2", 5),
    ),
    (
        "conv_tf32", AssertionError, "B's registers are exchanged",
        (r"(mma\.sync\S* \{[^}]*\}, \{[^}]*\}, \{)(%r\d+),(%r\d+)", r"\1\3,\2", 17),
    ),
    (
        "gemm_bfloat16", AssertionError, "A's registers are exchanged",
        (r"(mma\.sync\S* \{[^}]*\}, \{%r\d+,)(%r\d+),(%r\d+)", r"\1\3,\2", 1),
    ),
    (
        "gemm_float16", AssertionError, "a matrix is not transposed",
        (r"(ldmatrix\.sync\.aligned\.m8n8\.x2)\.trans", r"\1", 0),
    ),
    # Addresses beyond an array's end, or before its start.
    ("gemm_float32", OutOfBounds, "a store too far", (_STORE4, r"\1[\2+24576]", 0)),
    ("gemm_float32", OutOfBounds, "a load too early", (_LOAD4, r"\1[\2+-16]", 0)),
    ("conv_tf32", OutOfBounds, "a copy from too far", (_COPY_FROM, r"\1[\2+32768]", 0)),
    ("conv_tf32", OutOfBounds, "a copy to too far", (_COPY_TO, r"\1[\2+65536]", 0)),
    ("spilled", OutOfBounds, "local memory", (rf"(st\.local\.f32\s+){_ADDRESS}", r"\1[\2+128]", 3)),
    # Two blocks write one tile.
    ("neighbours", Race, "the wrong block", (r"(mov\.u32\s+%r\d+), %ctaid\.x;", r"\1, 0;", 0)),
    # Addresses between.
    ("gemm_float32", Misaligned, "a load of 16 bytes", (_LOAD4, r"\1[\2+4]", 0)),
    ("gemm_float32", Misaligned, "a shared load of 16 bytes", (_LOAD4_SHARED, r"\1[\2+8]", 1)),
    ("gemm_bfloat16", Misaligned, "a copy to", (_COPY_TO, r"\1[\2+8]", 0)),
    ("gemm_bfloat16", Misaligned, "a copy from", (_COPY_FROM, r"\1[\2+8]", 0)),
    ("gemm_bfloat16", Misaligned, "a row of a matrix", (_MATRIX, r"\1[\2+2]", 0)),
    ("neighbours", Misaligned, "a load of 4 bytes", (_LOAD, r"\1[\2+2]", 0)),
    # Shared memory that nobody wrote.
    ("neighbours", Uninitialised, "a store is missing", (r"st\.shared\.f32[^;]*;", "", 0)),
    ("gemm_float32", Uninitialised, "a store is missing", (r"st\.shared\.v4[^;]*;", "", 2)),
    ("conv_tf32", Uninitialised, "a copy is missing", (r"cp\.async\.cg[^;]*;", "", 6)),
    ("histogram", Uninitialised, "a store is missing", (r"st\.shared\.u32[^;]*;", "", 0)),
    # Some lanes only.
    ("conv_tf32", PartialWarp, "mma", (f"({_MMA})", _SOME_LANES.format(r"\1"), 9)),
    ("gemm_bfloat16", PartialWarp, "ldmatrix", (r"(ldmatrix[^;]*;)", _SOME_LANES.format(r"\1"), 0)),
    ("warp_sums", PartialWarp, "shfl", (r"(shfl\.sync[^;]*;)", _SOME_LANES.format(r"\1"), 1)),
    ("warp_sums", PartialWarp, "vote", (r"(vote\.sync[^;]*;)", _SOME_LANES.format(r"\1"), 0)),
    ("histogram", BarrierDivergence, "the first warp", (f"({_BARRIER})", _FIRST_WARP.format(r"\1"), 1)),
    (
        "neighbours", BarrierDivergence, "the first warp has returned",
        (f"({_BARRIER})", _FIRST_WARP.format("ret;") + r" \1", 1),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "caught", "plant"),
    [pytest.param(n, c, p, id=f"{n}-{c.__name__}-{what}".replace(" ", "_")) for n, c, what, p in _FAULTS],
)
def test_a_planted_fault_is_found(
    cuda_compiler: Compiler, name: str, caught: type[Exception], plant: tuple[str, str, int]
) -> None:
    ptx = cuda_compiler.compile(sample(name, CASES[name].signature)).ptx
    CASES[name].check(ptx)  # without the fault it passes
    with pytest.raises(caught) as error:
        CASES[name].check(planted(ptx, *plant))
    assert type(error.value) is caught
    if issubclass(caught, Fault):
        assert re.search(r"thread \d+ \(warp \d+, lane \d+\): ", str(error.value))
        assert re.search(r"\n  in \w+, block \(\d, \d, \d\)\n  at PTX line \d+: \S+", str(error.value))


def test_too_little_shared_memory_is_found(cuda_compiler: Compiler) -> None:
    ptx = cuda_compiler.compile(sample("conv_tf32", CASES["conv_tf32"].signature)).ptx
    x, w = np.zeros((8, 8, 32), np.float32), np.zeros((3, 3, 32, 64), np.float32)
    arguments = [x, w, np.zeros(64, np.float32), np.zeros((64, 64), np.float32), *np.int32([8, 8, 32])]
    launch(ptx, 1, 128, arguments, shared_bytes=CONV_SHARED_BYTES)
    # The last row's last 32 bytes are padding.
    launch(ptx, 1, 128, arguments, shared_bytes=CONV_SHARED_BYTES - 32)
    with pytest.raises(OutOfBounds, match="of 55248 bytes of shared memory"):
        launch(ptx, 1, 128, arguments, shared_bytes=CONV_SHARED_BYTES - 48)


def test_an_array_of_one_element_less_is_found(cuda_compiler: Compiler) -> None:
    ptx = cuda_compiler.compile(sample("gemm_float32", CASES["gemm_float32"].signature)).ptx
    a, b, c = (np.zeros((8, 64), np.float32) for _ in range(3))
    with pytest.raises(OutOfBounds, match=r"writes element 512 of argument 2, which has 512 float32"):
        launch(ptx, 1, 64, [a, b, c, np.int32(8)])
    with pytest.raises(OutOfBounds, match=r"reads element 512 of argument 0, which has 512 float32"):
        launch(ptx, 1, 64, [a, np.zeros((16, 64), np.float32), np.zeros((64, 64), np.float32), np.int32(16)])


def test_a_view_that_begins_between_two_addresses_is_found(cuda_compiler: Compiler) -> None:
    ptx = cuda_compiler.compile(sample("gemm_float32", CASES["gemm_float32"].signature)).ptx
    b, c = np.zeros((8, 64), np.float32), np.zeros((64, 64), np.float32)
    memory = np.zeros(8 * 64 + 4, np.float32)
    launch(ptx, 1, 64, [memory[4:].reshape(8, 64), b, c, np.int32(8)])
    with pytest.raises(Misaligned, match="of an access of 16 bytes is 4 bytes past a multiple of 16"):
        launch(ptx, 1, 64, [memory[1:-3].reshape(8, 64), b, c, np.int32(8)])


# ---- by hand ---------------------------------------------------------------------------------------

_PLACES = """
    mov.u32 %r0, %tid.x; mov.u32 %r1, row; mad.lo.u32 %r2, %r0, 4, %r1;
    xor.b32 %r3, %r0, 1; mad.lo.u32 %r3, %r3, 4, %r1;  // the neighbour's
    xor.b32 %r4, %r0, 32; mad.lo.u32 %r4, %r4, 4, %r1;  // the other warp's
"""


def _shared(body: str, *arrays: np.ndarray) -> None:
    """Run two warps with their own word, a neighbour's (%r3) and the other warp's (%r4) of shared memory."""
    text = kernel(_PLACES + body, ["u64"] * len(arrays), outside=".shared .align 16 .b8 row[256];")
    launch(text, 1, 64, [Pointer(a) for a in arrays])


def test_a_barrier_of_a_warp_orders_its_lanes() -> None:
    _shared("st.shared.b32 [%r2], %r0; bar.warp.sync -1; ld.shared.b32 %r5, [%r3];")
    with pytest.raises(Race, match="reads byte 4 of row, which thread 1 wrote"):
        _shared("st.shared.b32 [%r2], %r0; ld.shared.b32 %r5, [%r3];")
    _shared(
        "st.shared.b32 [%r2], %r0; bar.warp.sync -1; ld.shared.b32 %r5, [%r3]; bar.warp.sync -1;"
        "st.shared.b32 [%r2], %r5;"
    )
    with pytest.raises(Race, match="writes byte 0 of row, which thread 1 read with no barrier since"):
        _shared(
            "st.shared.b32 [%r2], %r0; bar.warp.sync -1; ld.shared.b32 %r5, [%r3]; st.shared.b32 [%r2], %r5;"
        )


def test_a_barrier_of_a_warp_does_not_order_others() -> None:
    with pytest.raises(Race, match="reads byte 128 of row, which thread 32 wrote"):
        _shared("st.shared.b32 [%r2], %r0; bar.warp.sync -1; ld.shared.b32 %r5, [%r4];")
    _shared("st.shared.b32 [%r2], %r0; bar.sync 0; ld.shared.b32 %r5, [%r4];")


def test_who_reads_again_after_a_barrier_may_write() -> None:
    _shared(
        "st.shared.b32 [%r2], %r0; bar.warp.sync -1; ld.shared.b32 %r5, [%r3]; bar.warp.sync -1;"
        "ld.shared.b32 %r5, [%r2]; st.shared.b32 [%r2], %r5;"
    )


def test_several_readers_are_all_remembered() -> None:
    read_by_all = "st.shared.b32 [%r2], %r0; bar.sync 0; ld.shared.b32 %r5, [%r1+252];"
    with pytest.raises(Race, match="writes byte 252 of row, which several threads read"):
        _shared(read_by_all + "setp.eq.u32 %p1, %r0, 63; @%p1 st.shared.b32 [%r2], %r0;")
    _shared(read_by_all + "bar.sync 0; setp.eq.u32 %p1, %r0, 63; @%p1 st.shared.b32 [%r2], %r0;")


def test_one_value_at_one_place_is_allowed_within_a_warp() -> None:
    _shared("setp.lt.u32 %p1, %r0, 32; @%p1 st.shared.b32 [%r1], 7;")
    with pytest.raises(Race, match=r"writes byte 0 of row, and thread \d+ does at the same time"):
        _shared("setp.lt.u32 %p1, %r0, 32; @%p1 st.shared.b32 [%r1], %r0;")
    with pytest.raises(Race, match="at the same time"):
        _shared("st.shared.b32 [%r1], 7;")


def test_halves_of_a_word_are_different_places() -> None:
    halves = "mad.lo.u32 %r2, %r0, 2, %r1; cvt.u16.u32 %h1, %r0; st.shared.b16 [%r2], %h1;"
    _shared(halves + "bar.sync 0; ld.shared.b16 %h2, [%r2];")
    with pytest.raises(Race, match="reads byte 2 of row, which thread 1 wrote"):
        _shared(halves + "xor.b32 %r3, %r0, 1; mad.lo.u32 %r3, %r3, 2, %r1; ld.shared.b16 %h2, [%r3];")


def test_atomic_operations_race_with_others_only() -> None:
    begin = "setp.eq.u32 %p1, %r0, 0; @%p1 st.shared.b32 [%r1], 0; bar.sync 0; red.shared.add.u32 [%r1], 1;"
    _shared(begin + "red.shared.add.u32 [%r1], 1; bar.sync 0; ld.shared.b32 %r5, [%r1];")
    with pytest.raises(Race, match="which an atomic operation wrote with no barrier since"):
        _shared(begin + "ld.shared.b32 %r5, [%r1];")


_COPY = """
    ld.param.u64 %rd0, [p0]; mad.wide.u32 %rd1, %r0, 4, %rd0;
    cp.async.ca.shared.global [%r2], [%rd1], 4;
"""


def test_groups_of_copies_are_finished_in_order() -> None:
    x = np.arange(128, dtype=np.float32)
    second = "cp.async.ca.shared.global [%r2+256], [%rd1+256], 4;"
    text = (
        kernel(
            _PLACES + _COPY + f"cp.async.commit_group; {second} cp.async.commit_group; {{0}}",
            ["u64"],
            outside=".shared .align 16 .b8 row[512];",
        )
        .replace("{{", "{")
        .replace("}}", "}")
    )

    def run(body: str) -> None:
        launch(text.replace("{0}", body), 1, 64, [Pointer(x)])

    run("cp.async.wait_group 1; ld.shared.f32 %f0, [%r2];")
    run("cp.async.wait_group 0; ld.shared.f32 %f0, [%r2+256];")
    run("cp.async.wait_all; ld.shared.f32 %f0, [%r2+256];")
    with pytest.raises(
        LateCopy, match=r"reads byte 256 of row, where a cp.async is on its way: thread 0 has not"
    ):
        run("cp.async.wait_group 1; ld.shared.f32 %f0, [%r2+256];")
    with pytest.raises(LateCopy, match=r"writes byte 256 of row"):
        run("cp.async.wait_group 1; st.shared.f32 [%r2+256], %f0;")


def test_a_copy_of_no_group_is_finished_by_waiting_for_all() -> None:
    x = np.arange(64, dtype=np.float32)
    _shared(_COPY + "cp.async.wait_all; ld.shared.f32 %f0, [%r2];", x)
    with pytest.raises(LateCopy):
        _shared(_COPY + "cp.async.wait_group 0; ld.shared.f32 %f0, [%r2];", x)


def test_one_s_own_wait_shows_a_copy_to_oneself_only() -> None:
    x = np.arange(64, dtype=np.float32)
    wait = "cp.async.commit_group; cp.async.wait_group 0;"
    _shared(_COPY + wait + "bar.sync 0; ld.shared.f32 %f0, [%r4];", x)
    with pytest.raises(Race, match="reads byte 128 of row, which thread 32 wrote with no barrier since"):
        _shared(_COPY + wait + "ld.shared.f32 %f0, [%r4];", x)
    with pytest.raises(LateCopy):  # a barrier is no wait
        _shared(_COPY + "cp.async.commit_group; bar.sync 0; ld.shared.f32 %f0, [%r4];", x)


def test_a_copy_reads_no_more_than_it_is_told() -> None:
    x, y = np.arange(1, 7, dtype=np.float32), np.zeros(8, np.float32)
    body = """
        ld.param.u64 %rd0, [p0]; ld.param.u64 %rd1, [p1]; mul.wide.u32 %rd2, %r0, 16;
        add.u64 %rd0, %rd0, %rd2; add.u64 %rd1, %rd1, %rd2; mad.lo.u32 %r2, %r0, 16, %r1;
        setp.eq.u32 %p1, %r0, 0; selp.u32 %r5, 16, {0}, %p1;
        setp.lt.u32 %p2, %r0, 2;
        @%p2 cp.async.cg.shared.global [%r2], [%rd0], 16, %r5; cp.async.wait_all;
        @%p2 ld.shared.v4.f32 {{%f0, %f1, %f2, %f3}}, [%r2];
        @%p2 st.global.v4.f32 [%rd1], {{%f0, %f1, %f2, %f3}};
    """
    _shared(body.format(8), x, y)
    assert y.tolist() == [1, 2, 3, 4, 5, 6, 0, 0]
    with pytest.raises(OutOfBounds, match=r"thread 1 .*reads element 6 of argument 0, which has 6 float32"):
        _shared(body.format(12), x, y)
    with pytest.raises(Fault, match=r"thread 1 .*reads 20 bytes for a copy of 16"):
        _shared(body.format(20), x, y)


def test_shared_memory_through_generic_addresses_is_watched_too() -> None:
    generic = "".join(
        f"cvt.u64.u32 {wide}, {narrow}; cvta.shared.u64 {wide}, {wide};"
        for wide, narrow in (("%rd0", "%r2"), ("%rd1", "%r3"))
    )
    _shared(generic + "st.b32 [%rd0], %r0; bar.sync 0; ld.b32 %r5, [%rd1];")
    with pytest.raises(Race, match="reads byte 4 of row"):
        _shared(generic + "st.b32 [%rd0], %r0; ld.b32 %r5, [%rd1];")


_OWN_PLACE = "ld.param.u64 %rd0, [p0]; mad.wide.u32 %rd1, %r0, 4, %rd0; mov.u32 %r5, %ctaid.x;"


def _blocks(body: str, blocks: int = 2, **options: bool) -> None:
    """Run blocks of two warps on an array of 128 words at %rd0; %rd1 is the thread's own place."""
    text = kernel(_PLACES + _OWN_PLACE + body, ["u64"], outside=".shared .align 16 .b8 row[256];")
    launch(text, blocks, 64, [Pointer(np.zeros(128, np.uint32))], **options)


def test_blocks_do_not_write_what_others_have() -> None:
    write = "st.global.u32 [%rd1], %r0;"
    _blocks(write, blocks=1)
    with pytest.raises(
        Race, match=r"writes element 0 of argument 0, .* which thread 0 of block number 0 has written"
    ):
        _blocks(write)
    _blocks("mul.wide.u32 %rd2, %r5, 256; add.u64 %rd1, %rd1, %rd2;" + write)
    _blocks(write, watch_global=False)


def test_blocks_do_not_read_what_others_have_written() -> None:
    first = "setp.eq.u32 %p1, %r5, 0; @%p1 st.global.u32 [%rd1], %r0;"
    with pytest.raises(Race, match=r"(?s)thread 0 .*reads element 0 of argument 0, .*block \(1, 0, 0\)"):
        _blocks(first + "ld.global.u32 %r6, [%rd1];")
    _blocks(first + "ld.global.u32 %r6, [%rd1+256];")


def test_a_barrier_shows_a_block_s_writes_to_its_threads() -> None:
    exchange = "st.global.u32 [%rd1], %r0; {} xor.b32 %r6, %r0, 32; mad.wide.u32 %rd2, %r6, 4, %rd0;"
    _blocks(exchange.format("bar.sync 0;") + "ld.global.u32 %r7, [%rd2];", blocks=1)
    with pytest.raises(Race, match=r"reads element 32 of argument 0, .* which thread 32 of block number 0"):
        _blocks(exchange.format("") + "ld.global.u32 %r7, [%rd2];", blocks=1)


def test_two_values_at_one_place_at_once_are_a_race() -> None:
    _blocks("st.global.u32 [%rd0], 7;", blocks=1)
    with pytest.raises(
        Race, match=r"writes element 0 of argument 0, .* another thread does at the same time"
    ):
        _blocks("st.global.u32 [%rd0], %r0;", blocks=1)


def test_atomic_operations_of_all_blocks_meet() -> None:
    add = "red.global.add.u32 [%rd0], 1;"
    _blocks(add)
    with pytest.raises(
        Race, match=r"reads element 0 .* which an atomic operation of block number 0 has written"
    ):
        _blocks("setp.eq.u32 %p1, %r5, 0; @%p1 " + add + "@!%p1 ld.global.u32 %r6, [%rd0];")
    with pytest.raises(Race, match=r"updates element 0 .* which thread \d+ of block number 0 has written"):
        _blocks("setp.eq.u32 %p1, %r5, 0; @%p1 st.global.u32 [%rd0], 0; @!%p1 " + add)


def test_a_null_pointer_is_in_no_array() -> None:
    x = np.zeros(4, np.float32)
    with pytest.raises(OutOfBounds, match=r"reads element -\d+ of argument 0"):
        _shared("mov.u64 %rd0, 0; ld.global.f32 %f0, [%rd0];", x)


def test_barriers_at_two_places_are_not_one() -> None:
    with pytest.raises(
        BarrierDivergence, match=r"32 of 64 threads do not arrive: thread 0 waits at PTX line"
    ):
        _shared("setp.lt.u32 %p1, %r0, 32; @%p1 bra A; bar.sync 0; bra B; A: bar.sync 0; B: mov.u32 %r5, 0;")


def test_a_barrier_of_some_lanes_is_none() -> None:
    with pytest.raises(BarrierDivergence, match=r"56 of 64 threads do not arrive: thread 8 has returned"):
        _shared("setp.lt.u32 %p1, %r0, 8; @%p1 bar.sync 0;")


def test_a_trap_is_a_fault() -> None:
    with pytest.raises(Trap, match=r"thread 9 \(warp 0, lane 9\): trap"):
        _shared("setp.eq.u32 %p1, %r0, 9; @%p1 trap;")


def test_a_loop_without_end_is_a_fault() -> None:
    body = "mov.u32 %r0, %tid.x; A: setp.ge.u32 %p1, %r0, 40; @%p1 bra A;"
    with pytest.raises(
        Endless, match=r"(?s)thread 40 \(warp 1, lane 8\): more than 1000 instructions.*bra A"
    ):
        launch(kernel(body), 1, 64, [], most_instructions=1000)


def test_what_a_kernel_must_not_write_is_told() -> None:
    x = np.zeros(64, np.float32)
    x.flags.writeable = False
    with pytest.raises(ValueError, match="the kernel writes argument 0, which may not be written"):
        _shared("ld.param.u64 %rd0, [p0]; st.global.f32 [%rd0], 0f3F800000;", x)


def test_nothing_is_left_for_the_next_block() -> None:
    text = kernel(
        _PLACES
        + "mov.u32 %r5, %ctaid.x; setp.eq.u32 %p1, %r5, 0;"
        + "@%p1 st.shared.b32 [%r2], %r0; ld.shared.b32 %r6, [%r2];",
        outside=".shared .align 16 .b8 row[256];",
    )
    launch(text, 1, 64, [])
    with pytest.raises(Uninitialised, match=r"(?s)nobody has written.*block \(1, 0, 0\)"):
        launch(text, 2, 64, [])

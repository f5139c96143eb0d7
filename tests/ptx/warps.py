"""Instructions of whole warps: tensor-core products, matrix loads, shuffles, votes.

Source: NVIDIA, Parallel Thread Execution ISA, chapters 9.7.9 (shfl), 9.7.13 (vote) and 9.7.14 (mma,
ldmatrix).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .faults import PartialWarp, UnknownInstruction
from .lanes import Decoder, Lanes, Mask, Run, list_of
from .parser import Instruction

__all__ = ["FAMILIES"]

Array = NDArray[Any]

_LANE = np.arange(32)
_GROUP, _IN_GROUP = _LANE >> 2, _LANE & 3


# ---- tensor cores ----------------------------------------------------------------------------------


def _places(corners: list[tuple[int, int]], packed: int) -> tuple[Array, Array]:
    """Row and column of every element of a fragment: (registers, elements of one, lanes).

    A register's first lane has the element at its corner; groups of four lanes go down the rows, the lanes of
    one along the columns, `packed` elements each.
    """
    rows = np.array([[_GROUP + r for _ in range(packed)] for r, _ in corners])
    columns = np.array([[packed * _IN_GROUP + c + e for e in range(packed)] for _, c in corners])
    return rows, columns


def _order(rows: Array, columns: Array, shape: tuple[int, int]) -> Array:
    """For each element of a matrix in C order, which of the flattened fragment it is."""
    order = np.empty(shape, np.int64)
    order[rows.ravel(), columns.ravel()] = np.arange(rows.size)
    return order.ravel()


def _unpacked(words: Array, kind: str) -> Array:
    """Registers (registers, lanes) as numbers (registers, elements of one, lanes)."""
    if kind == "tf32":  # the lower 13 bits do not count
        return (words & np.uint32(0xFFFFE000)).view(np.float32)[:, None]
    if kind == "bf16":
        halves = np.stack([words << np.uint32(16), words & np.uint32(0xFFFF0000)], 1)
        return halves.view(np.float32)
    return words.view(np.float16).reshape(*words.shape, 2).transpose(0, 2, 1)


def _multiply(lanes: Lanes, ins: Instruction) -> Run:
    """``D = A B + C``: in float64, rounded once, where a GPU truncates here and there on the way."""
    kind = ins.parts[-3]
    shapes = {("m16n8k8", "tf32"): 8, ("m16n8k16", "bf16"): 16, ("m16n8k16", "f16"): 16,
              ("m16n8k8", "bf16"): 8, ("m16n8k8", "f16"): 8, ("m16n8k4", "tf32"): 4}  # fmt: skip
    depth = shapes.get((ins.parts[3], kind))
    if depth is None or ins.parts[4:] != ["row", "col", "f32", kind, kind, "f32"]:
        raise UnknownInstruction(str(ins))
    packed = 1 if kind == "tf32" else 2
    half = 4 * packed  # columns of A that one register covers
    steps = range(0, depth, half)
    a_order = _order(*_places([(r, c) for c in steps for r in (0, 8)], packed), (16, depth))
    # B's lanes go along its columns: as its transpose it is laid out like A.
    b_order = _order(*_places([(0, c) for c in steps], packed), (8, depth))
    d_rows, d_columns = _places([(0, 0), (8, 0)], 2)
    d_order = (d_rows * 8 + d_columns).reshape(4, 32)
    outs = [lanes.target(o, np.float32) for o in list_of(ins.operands[0])]
    a, b = ([lanes.read(o, np.uint32) for o in list_of(p)] for p in ins.operands[1:3])
    c = [lanes.read(o, np.float32) for o in list_of(ins.operands[3])]
    if (len(outs), len(a), len(b), len(c)) != (4, 2 * len(steps), len(steps), 4):
        raise UnknownInstruction(str(ins))

    def matrix(fragment: list[Array], order: Array, rows: int) -> Array:
        numbers = _unpacked(np.stack(fragment), kind).astype(np.float64)
        per_warp = numbers.reshape(-1, lanes.warps, 32).transpose(1, 0, 2).reshape(lanes.warps, -1)
        return per_warp[:, order].reshape(lanes.warps, rows, depth)

    def run(mask: Mask) -> None:
        lanes.whole_warps(mask, "mma")
        product = matrix(a, a_order, 16) @ matrix(b, b_order, 8).transpose(0, 2, 1)
        sums = product.reshape(lanes.warps, 128)[:, d_order].transpose(1, 0, 2).reshape(4, -1)
        for out, d in zip(outs, sums + np.stack(c), strict=True):
            np.copyto(out, d, where=mask, casting="unsafe")

    return run


def _load_matrices(lanes: Lanes, ins: Instruction) -> Run:
    """8x8 matrices of 16 bits: lane l gets elements (l / 4, 2 (l % 4)) and the next, or the transpose's."""
    parts = [p.removesuffix("::cta") for p in ins.parts]
    count = {"x1": 1, "x2": 2, "x4": 4}.get(parts[4] if len(parts) > 4 else "")
    transposed = "trans" in parts
    rest = [p for p in parts if p != "trans"]
    if count is None or rest != ["ldmatrix", "sync", "aligned", "m8n8", parts[4], "shared", "b16"]:
        raise UnknownInstruction(str(ins))
    outs = [lanes.target(o, np.uint32) for o in list_of(ins.operands[0])]
    address = lanes.address(ins.operands[1])
    # Which row and column of its matrix are a lane's two elements: (elements, lanes).
    rows, columns = np.stack([_GROUP] * 2), np.stack([2 * _IN_GROUP, 2 * _IN_GROUP + 1])
    if transposed:
        rows, columns = columns, rows

    def run(mask: Mask) -> None:
        warps = lanes.whole_warps(mask, "ldmatrix")
        givers = (warps[:, None] * 32 + np.arange(8 * count)).ravel()
        starts = address()[givers]
        # (warps, matrices, elements, lanes)
        places = starts.reshape(-1, count, 8)[:, :, rows] + 2 * columns
        readers = np.broadcast_to(warps[:, None, None, None] * 32 + _LANE, places.shape)
        lanes.shared.instruction = ins
        data = lanes.shared.load_for(givers, starts, readers.ravel(), places.ravel())
        halves = data.reshape(-1, count, 8, 8)[:, :, rows, columns].astype(np.uint32)
        words = halves[:, :, 0] | halves[:, :, 1] << np.uint32(16)
        receivers = (warps[:, None] * 32 + _LANE).ravel()
        for i, out in enumerate(outs):
            out[receivers] = words[:, i].ravel()

    return run


# ---- shuffles, votes and barriers of a warp --------------------------------------------------------


def _of_warps(lanes: Lanes, values: Array) -> Array:
    """Values of threads as (warps, 32); lanes that do not exist have 0."""
    out = np.zeros(lanes.warps * 32, values.dtype)
    out[: lanes.count] = values
    return out.reshape(-1, 32)


def _members(lanes: Lanes, mask: Mask, named: Array, what: str) -> Array:
    """The active lanes (warps, 32), which must be those that the member mask names."""
    active = _of_warps(lanes, np.broadcast_to(np.asarray(mask, bool), lanes.count))
    exists = _of_warps(lanes, np.ones(lanes.count, bool))
    wanted = _of_warps(lanes, named)[:, :, None] >> np.arange(32, dtype=np.uint32) & np.uint32(1) == 1
    # (warps, lane, lanes that it names)
    wrong = active & ~(wanted & exists[:, None] == active[:, None]).all(2)
    if wrong.any():
        warp, lane = (int(v) for v in np.argwhere(wrong)[0])
        names = np.flatnonzero(wanted[warp, lane] & exists[warp] & ~active[warp]).tolist()
        raise PartialWarp(
            f"{what} names lanes that do not take part: {names}; {int(active[warp].sum())} lanes do",
            warp * 32 + lane,
        )
    return active


def _shuffle(lanes: Lanes, ins: Instruction) -> Run:
    mode = ins.parts[2] if len(ins.parts) > 2 else ""
    if ins.opcode != f"shfl.sync.{mode}.b32" or mode not in ("up", "down", "bfly", "idx"):
        raise UnknownInstruction(str(ins))
    names = ins.operands[0].split("|")
    out = lanes.target(names[0], np.uint32)
    valid = lanes.target(names[1], np.bool_) if len(names) > 1 else None
    source, by, bounds, named = (lanes.read(o, np.uint32) for o in ins.operands[1:])

    def run(mask: Mask) -> None:
        active = _members(lanes, mask, named, "shfl")
        b, c = (_of_warps(lanes, v).astype(np.int64) for v in (by, bounds))
        b, clamp, segment = b & 31, c & 31, c >> 8 & 31
        lowest = _LANE & segment
        last = lowest | clamp & ~segment
        at = {"up": _LANE - b, "down": _LANE + b, "bfly": _LANE ^ b, "idx": lowest | b & ~segment}[mode]
        ok = at >= last if mode == "up" else at <= last
        at = np.where(ok, at, _LANE)
        if (lost := active & ~np.take_along_axis(active, at, 1)).any():
            warp, lane = (int(v) for v in np.argwhere(lost)[0])
            raise PartialWarp(
                f"shfl reads lane {int(at[warp, lane])}, which does not take part", warp * 32 + lane
            )
        moved = np.take_along_axis(_of_warps(lanes, source), at, 1).ravel()[: lanes.count]
        np.copyto(out, moved, where=mask)
        if valid is not None:
            np.copyto(valid, ok.ravel()[: lanes.count], where=mask)

    return run


def _vote(lanes: Lanes, ins: Instruction) -> Run:
    mode = ins.parts[2] if len(ins.parts) > 2 else ""
    if mode not in ("all", "any", "uni", "ballot") or ins.parts[1] != "sync":
        raise UnknownInstruction(str(ins))
    out = lanes.target(ins.operands[0], np.uint32 if mode == "ballot" else np.bool_)
    condition, named = lanes.predicate(ins.operands[1]), lanes.read(ins.operands[2], np.uint32)

    def run(mask: Mask) -> None:
        active = _members(lanes, mask, named, "vote")
        true = _of_warps(lanes, condition()) & active
        if mode == "ballot":
            result = _ballot(true)
        else:
            every, some = (true == active).all(1), true.any(1)
            result = {"all": every, "any": some, "uni": every | ~some}[mode]
        np.copyto(out, np.repeat(result, 32)[: lanes.count], where=mask)

    return run


def _ballot(lanes_of_warps: Array) -> Array:
    return (lanes_of_warps.astype(np.uint32) << np.arange(32, dtype=np.uint32)).sum(1, dtype=np.uint32)


def _active_mask(lanes: Lanes, ins: Instruction) -> Run:
    out = lanes.target(ins.operands[0], np.uint32)

    def run(mask: Mask) -> None:
        active = _of_warps(lanes, np.broadcast_to(np.asarray(mask, bool), lanes.count))
        np.copyto(out, np.repeat(_ballot(active), 32)[: lanes.count], where=mask)

    return run


def _warp_barrier(lanes: Lanes, ins: Instruction) -> Run:
    """``bar.warp.sync``: orders the memory accesses of the lanes that it names."""
    named = lanes.read(ins.operands[0], np.uint32)

    def run(mask: Mask) -> None:
        active = _members(lanes, mask, named, "bar.warp.sync")
        lanes.shared.instruction = ins
        everyone = _of_warps(lanes, np.ones(lanes.count, bool))
        # Some lanes of a warp order nothing that the shadow of shared memory could keep.
        lanes.shared.synchronise_warps(np.flatnonzero((active == everyone).all(1)))

    return run


FAMILIES: dict[str, Decoder] = {
    "mma": _multiply,
    "ldmatrix": _load_matrices,
    "shfl": _shuffle,
    "vote": _vote,
    "activemask": _active_mask,
    "bar.warp": _warp_barrier,
}

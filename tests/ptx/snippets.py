"""Small kernels by hand: a few instructions between loads of inputs and stores of results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .machine import Pointer, launch

__all__ = ["apply", "kernel"]

_REGISTERS = """
    .reg .pred %p<16>;
    .reg .b16 %h<32>;
    .reg .b32 %r<64>;
    .reg .f32 %f<32>;
    .reg .b64 %rd<64>;
    .reg .f64 %fd<32>;
"""
_KINDS = {"f4": ("f32", "%f"), "f8": ("f64", "%fd"), "u1": ("u8", "%h"), "i1": ("s8", "%h")}
_KINDS |= {f"{k}2": ("b16", "%h") for k in "iuf"} | {f"{k}4": ("b32", "%r") for k in "iu"}
_KINDS |= {f"{k}8": ("b64", "%rd") for k in "iu"}


def kernel(body: str, parameters: Sequence[str] = (), outside: str = "") -> str:
    """Return PTX of one kernel with a body, ``.u64`` parameters (p0, p1, ...) and variables outside of it."""
    listed = ", ".join(f".param .{kind} p{i}" for i, kind in enumerate(parameters))
    head = f".version 8.0\n.target sm_80\n.address_size 64\n{outside}\n.visible .entry snippet({listed})\n"
    return f"{head}{{{_REGISTERS}{body}\nret;\n}}\n"


def apply(
    text: str, *inputs: NDArray[Any], results: Sequence[Any], block: int | None = None
) -> list[NDArray[Any]]:
    """Run a text for each row of some arrays of one length, a thread for each.

    In the text {a}, {b} and so on stand for registers with the inputs, {x}, {y} and so on for those that the
    results, of the dtypes `results`, are stored from.
    """
    count = len(inputs[0])
    outputs = [np.zeros(count, dtype) for dtype in results]
    names: dict[str, str] = {}
    before = [
        "mov.u32 %r0, %tid.x;",
        "mov.u32 %r1, %ctaid.x;",
        "mov.u32 %r2, %ntid.x;",
        "mad.lo.u32 %r0, %r1, %r2, %r0;",
    ]
    after: list[str] = []
    for i, (array, letter) in enumerate(
        zip([*inputs, *outputs], [*"abcdefgh"[: len(inputs)], *"xyzuvw"], strict=False)
    ):
        kind, prefix = _KINDS[array.dtype.str[1:]]
        register = names[letter] = f"{prefix}{i + 16}"
        place = [
            f"ld.param.u64 %rd{i}, [p{i}];",
            f"mad.wide.u32 %rd{i}, %r0, {array.itemsize}, %rd{i};",
        ]
        if i < len(inputs):
            before += [*place, f"ld.global.{kind} {register}, [%rd{i}];"]
        else:
            after += [*place, f"st.global.{kind} [%rd{i}], {register};"]
    ptx = kernel("\n".join([*before, text.format(**names), *after]), ["u64"] * (len(inputs) + len(outputs)))
    size = block or count
    launch(
        ptx,
        count // size,
        size,
        [Pointer(np.ascontiguousarray(a)) for a in inputs] + [Pointer(a) for a in outputs],
    )
    return outputs

"""What the operations with a sliding window share: checks, the window's fields, the last step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from numpy.typing import DTypeLike, NDArray

from convcore import shapes
from convcore.errors import ArgumentError
from convcore.ops.arrays import ArrayInput, Axes, Float, Output, as_float, as_map, channels_last
from convcore.ops.call import Call
from convcore.shapes import Padding, Pairs, Sizes


def window(
    kernel: Sizes, strides: Sizes, dilation: Sizes = (1, 1, 1), low: Sizes = (0, 0, 0)
) -> dict[str, Any]:
    """Return the fields of a step that describe a window, with missing axes (d, or d and h) filled in."""

    def triple(values: Sizes, missing: int) -> tuple[int, ...]:
        return (missing,) * (3 - len(values)) + tuple(values)

    return {
        "kernel": triple(kernel, 1),
        "stride": triple(strides, 1),
        "dilation": triple(dilation, 1),
        "pad_low": triple(low, 0),
    }


def map_inputs(
    rank: int, where: str, x: ArrayInput, w: ArrayInput, data_format: str, dtype: DTypeLike | None
) -> tuple[Float, Float]:
    """Return the input channels-last and the kernel, both of the right number of axes and not empty."""
    a = as_map(x, data_format, where, dtype, rank)
    kernel = as_float(w, "w", where, dtype)
    check_kernel(kernel, rank, "w", where)
    return a, kernel


def check_kernel(kernel: NDArray[Any], rank: int, name: str, where: str) -> None:
    if kernel.ndim != rank + 2 or 0 in kernel.shape:
        raise ArgumentError(
            where, f"shape of {name}", got=kernel.shape, expected=f"{rank} axes and 2 of channels, none empty"
        )
    check_taps(kernel.shape[:rank], name, where)


def check_taps(taps: Sizes, name: str, where: str) -> None:
    """Raise unless the library can slide a kernel of so many `taps` along each axis."""
    if max(taps) > shapes.MOST_STEPS:
        raise ArgumentError(
            where, f"taps of {name}", got=taps, expected=f"at most {shapes.MOST_STEPS} along an axis"
        )


def channels_error(where: str, x: NDArray[Any], w: NDArray[Any], expected: str) -> ArgumentError:
    got = f"{x.shape[-1]} input channels, w {w.shape}"
    return ArgumentError(where, "kernel and input do not fit", got=got, expected=expected)


@contextmanager
def sizes_named(where: str, y: NDArray[Any], fields: Mapping[str, Any]) -> Iterator[None]:
    """Name the sizes of a window if the library refuses the step that is made inside.

    Every argument was within its own limit; which sizes are too large only together depends on the
    kernel that the library would choose. `y` is the result (channels last), `fields` the step's.
    """
    try:
        yield
    except ArgumentError as error:
        names = {"kernel": "kernel", "stride": "strides", "dilation": "dilation", "pad_low": "padding"}
        rank = y.ndim - 2
        sizes = ", ".join(f"{names[f]} {fields[f][-rank:]}" for f in names if f in fields)
        raise ArgumentError(
            where,
            "kernel, padding and input are too large together",
            got=f"{sizes} for a result of shape {y.shape}",
            expected="at most 2**40 elements to work on, and 2**24 in a window that sees one channel",
        ) from error


def run_last(call: Call, result: Output, data_format: str, where: str, **last: Any) -> Any:
    """Append the last step, whose kernel needs neighbouring output channels, run, return the result."""
    y = channels_last(result.array, data_format, where)
    neighbours = y.shape[-1] == 1 or y.strides[-1] == y.itemsize
    if result.array.size:
        target = y if neighbours else call.scratch(y.shape, where)
        with sizes_named(where, y, last):
            call.step(out=call.map_view(target), **last)
        if not neighbours:
            call.step("copy", x=call.map_view(target), out=call.map_view(y))
        call.run()
    return result.finish()


def conv_geometry(
    where: str, x: NDArray[Any], kernel: Sizes, strides: Axes, dilation_rate: Axes, padding: Padding
) -> tuple[Sizes, Sizes, Pairs, Sizes]:
    """Return strides, dilation, padding pairs and output sizes of a convolution of `x` (channels last)."""
    rank, sizes = len(kernel), x.shape[1:-1]
    steps = shapes.spatial_tuple(strides, rank, "strides", where)
    dilation = shapes.spatial_tuple(dilation_rate, rank, "dilation_rate", where)
    pairs = shapes.conv_padding(padding, sizes, kernel, steps, dilation, where)
    return steps, dilation, pairs, shapes.conv_output(sizes, kernel, steps, dilation, pairs, where)

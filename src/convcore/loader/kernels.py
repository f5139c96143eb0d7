"""Convolution kernels, from every order in which Keras has stored them.

Keras 2 and 3 store (k..., in, out), whatever the data format. Keras 1 stored Theano-ordered layers
as (out, in, k...), 1-D kernels with a second spatial axis of 1, and transposed kernels the other way
round. Theano computes true convolutions, so its kernels are also rotated by half a turn.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from convcore.loader.call import LayerCall
from convcore.loader.lazy import Weight

Layout = tuple[tuple[int, ...], Callable[[np.ndarray], np.ndarray] | None]


def conv_kernel(call: LayerCall, kernel_size: tuple[int, ...], depth: int, filters: int) -> Weight:
    """The kernel of a convolution, (k..., depth, filters); `depth` is channels per group."""
    rank = len(kernel_size)
    layouts: list[Layout] = [((*kernel_size, depth, filters), None)]
    if rank == 1:
        (k,) = kernel_size
        layouts.append(((k, 1, depth, filters), lambda w: w[:, 0]))
        layouts.append(((filters, depth, k, 1), lambda w: w[..., 0].transpose(2, 1, 0)))
    else:
        axes = (*range(2, rank + 2), 1, 0)
        layouts.append(((filters, depth, *kernel_size), lambda w: w.transpose(axes)))
    if call.era.old_kernels and rank > 1 and call.settings.channels_first:
        layouts.reverse()  # where both orders have the same shape, the file's version decides
    return call.weight("kernel", *_turned(call, layouts, rank))


def transposed_kernel(call: LayerCall, kernel_size: tuple[int, ...], depth: int, filters: int) -> Weight:
    """The kernel of a transposed convolution, (k..., filters, depth)."""
    rank = len(kernel_size)
    swapped = (*range(rank), rank + 1, rank)
    moved = (*range(2, rank + 2), 0, 1)
    layouts: list[Layout] = [((*kernel_size, filters, depth), None)]
    if call.era.old_kernels:
        old: list[Layout] = [
            ((*kernel_size, depth, filters), lambda w: w.transpose(swapped)),
            ((filters, depth, *kernel_size), lambda w: w.transpose(moved)),
        ]
        layouts = (old[::-1] if call.settings.channels_first else old) + layouts
    return call.weight("kernel", *_turned(call, layouts, rank))


def depthwise_kernel(
    call: LayerCall, name: str, kernel_size: tuple[int, ...], depth: int, multiplier: int
) -> Weight:
    """The kernel of a depthwise convolution, (k..., depth, multiplier)."""
    rank = len(kernel_size)
    return call.weight(name, *_turned(call, [((*kernel_size, depth, multiplier), None)], rank))


def _turned(call: LayerCall, layouts: list[Layout], rank: int) -> list[Layout]:
    if not call.era.flip:
        return layouts
    half_turn = (slice(None, None, -1),) * rank

    def turn(change: Callable[[np.ndarray], np.ndarray] | None) -> Callable[[np.ndarray], np.ndarray]:
        return lambda w: (change(w) if change else w)[half_turn]

    return [(shape, turn(change)) for shape, change in layouts]

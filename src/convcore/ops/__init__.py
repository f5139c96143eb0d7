"""The public operations on NumPy arrays: check the arguments, make the steps, one call into the library.

One file per family. None of them holds the GIL while it computes, beyond some microseconds, and all may be
called from many threads at once. ``csrc/convcore.h`` has the equations, :mod:`convcore.reference` the
definitions in NumPy.
"""

from __future__ import annotations

from convcore.ops.convolution import conv1d, conv2d, conv3d
from convcore.ops.depthwise import depthwise_conv1d, depthwise_conv2d, separable_conv1d, separable_conv2d
from convcore.ops.elementwise import (
    celu,
    elu,
    exponential,
    gelu,
    hard_sigmoid,
    hard_silu,
    leaky_divide,
    leaky_relu,
    mish,
    noisy_relu,
    prelu,
    relu,
    rrelu,
    selu,
    sigmoid,
    silu,
    softplus,
    softsign,
    tanh,
)
from convcore.ops.filters import convolve, correlate
from convcore.ops.layers import batch_norm, dense, softmax
from convcore.ops.medical import hu_rescale
from convcore.ops.pooling import average_pool, global_average_pool, global_max_pool, max_pool
from convcore.ops.resampling import crop, resample, resize, upsample, zero_pad
from convcore.ops.transposed import conv1d_transpose, conv2d_transpose, conv3d_transpose

__all__ = [
    "average_pool",
    "batch_norm",
    "celu",
    "conv1d",
    "conv1d_transpose",
    "conv2d",
    "conv2d_transpose",
    "conv3d",
    "conv3d_transpose",
    "convolve",
    "correlate",
    "crop",
    "dense",
    "depthwise_conv1d",
    "depthwise_conv2d",
    "elu",
    "exponential",
    "gelu",
    "global_average_pool",
    "global_max_pool",
    "hard_sigmoid",
    "hard_silu",
    "hu_rescale",
    "leaky_divide",
    "leaky_relu",
    "max_pool",
    "mish",
    "noisy_relu",
    "prelu",
    "relu",
    "resample",
    "resize",
    "rrelu",
    "selu",
    "separable_conv1d",
    "separable_conv2d",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "tanh",
    "upsample",
    "zero_pad",
]

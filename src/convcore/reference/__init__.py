"""Every operation in plain float64 NumPy: the executable definition, slow and obvious.

Spatial arrays are channels-last, ``(n, spatial..., c)`` with 1, 2 or 3 spatial axes. Arguments are
already resolved (see :mod:`convcore.shapes`): strides are tuples, padding is (low, high) pairs.
Everything is computed and returned in float64, except :func:`hu_rescale`, which returns the type
asked for.
"""

from __future__ import annotations

from convcore.reference.activations import ACTIVATIONS
from convcore.reference.convolution import conv, conv_transpose, depthwise_conv
from convcore.reference.hounsfield import hu_rescale
from convcore.reference.layers import affine, batch_norm, dense, prelu, softmax
from convcore.reference.network import evaluate, evaluate_node
from convcore.reference.pooling import average_pool, global_average_pool, global_max_pool, max_pool
from convcore.reference.resampling import resample_linear, resize, upsample
from convcore.reference.sampling import noisy_relu_sample, philox_normal, philox_uniform, rrelu_sample

__all__ = [
    "ACTIVATIONS",
    "affine",
    "average_pool",
    "batch_norm",
    "conv",
    "conv_transpose",
    "dense",
    "depthwise_conv",
    "evaluate",
    "evaluate_node",
    "global_average_pool",
    "global_max_pool",
    "hu_rescale",
    "max_pool",
    "noisy_relu_sample",
    "philox_normal",
    "philox_uniform",
    "prelu",
    "resample_linear",
    "resize",
    "rrelu_sample",
    "softmax",
    "upsample",
]

"""Kernels of convolutional networks and CT pre-processing, and an engine for Keras-trained models.

Nothing is loaded until it is used: ``import convcore`` reads this file and no other.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

#: Where each public name lives.
_HOMES = {
    "convcore.engine": ("Model", "load_model"),
    "convcore._native": ("get_num_threads", "set_num_threads"),
    "convcore.config": ("show_config",),
    "convcore.linking": (
        "get_cmake_dir", "get_include", "get_library", "get_library_dir", "get_pkgconfig_dir",
    ),
    "convcore.threads": ("num_threads",),
    "convcore.ops": (
        "average_pool", "batch_norm", "celu", "conv1d", "conv1d_transpose", "conv2d", "conv2d_transpose",
        "conv3d", "conv3d_transpose", "convolve", "correlate", "crop", "dense", "depthwise_conv1d",
        "depthwise_conv2d", "elu", "exponential", "gelu", "global_average_pool", "global_max_pool",
        "hard_sigmoid", "hard_silu", "hu_rescale", "leaky_divide", "leaky_relu", "max_pool", "mish",
        "noisy_relu", "prelu", "relu", "resample", "resize", "rrelu", "selu", "separable_conv1d",
        "separable_conv2d", "sigmoid", "silu", "softmax", "softplus", "softsign", "tanh", "upsample",
        "zero_pad",
    ),
    "convcore.ops.prepared": (
        "PreparedKernel", "prepare_batch_norm", "prepare_conv1d", "prepare_conv1d_transpose",
        "prepare_conv2d", "prepare_conv2d_transpose", "prepare_conv3d", "prepare_conv3d_transpose",
        "prepare_dense", "prepare_depthwise_conv1d", "prepare_depthwise_conv2d",
        "prepare_separable_conv1d", "prepare_separable_conv2d",
    ),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

if TYPE_CHECKING:
    from convcore._native import get_num_threads as get_num_threads
    from convcore._native import set_num_threads as set_num_threads
    from convcore.config import show_config as show_config
    from convcore.engine import Model as Model
    from convcore.engine import load_model as load_model
    from convcore.linking import get_cmake_dir as get_cmake_dir
    from convcore.linking import get_include as get_include
    from convcore.linking import get_library as get_library
    from convcore.linking import get_library_dir as get_library_dir
    from convcore.linking import get_pkgconfig_dir as get_pkgconfig_dir
    from convcore.ops import *  # noqa: F403
    from convcore.ops.prepared import *  # noqa: F403
    from convcore.threads import num_threads as num_threads


if not TYPE_CHECKING:  # type checkers would take any name for one of these

    def __getattr__(name: str) -> Any:
        if name not in _HOME_OF:
            raise AttributeError(f"module 'convcore' has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOME_OF[name]), name)
        globals()[name] = value  # the next look-up does not come here
        return value


def __dir__() -> list[str]:
    return sorted({*_HOME_OF, "__version__"})

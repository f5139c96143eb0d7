"""The simple kernels of convcore.cuda, as they are compiled for a GPU."""

from __future__ import annotations

import re
from pathlib import Path

import convcore

from .cuda_compile import Kernel

__all__ = ["FLOAT64_KERNELS", "NAMES", "kernel", "written_kernels"]

_ACTIVATION = "int64, float32, float32, float32"
_SIZES = "UniTuple(int64, 3)"
_PLACES = "UniTuple(float64, 3)"
_MAP, _ROWS, _LINE, _ANY = (f"float32[{', '.join(':' * axes)}]" for axes in (5, 2, 1, 8))
_CONV = f"({_MAP}, {_MAP}, {_MAP}, {_LINE}, {_SIZES}, {_SIZES}, {_SIZES}, boolean, {_ACTIVATION})"
_HU = "{0}[:, :], int16[:, :], float64[:], float64[:], boolean, int64, boolean, float64"

#: Signatures, with arrays of any strides as :mod:`convcore.cuda.step` passes them.
_SIGNATURES = {
    "convolution:conv_kernel": _CONV,
    "convolution:depthwise_kernel": _CONV,
    "convolution:conv_transpose_kernel": _CONV,
    "pooling:max_pool_kernel": f"({_MAP}, {_MAP}, {_SIZES}, {_SIZES}, {_SIZES})",
    "pooling:average_pool_kernel": f"({_MAP}, {_MAP}, {_SIZES}, {_SIZES}, {_SIZES}, boolean)",
    "pooling:global_max_pool_kernel": f"({_MAP}, {_MAP})",
    "pooling:global_average_pool_kernel": f"({_MAP}, {_MAP})",
    "elementwise:activation_kernel": f"({_ANY}, {_ANY}, {_ACTIVATION})",
    "elementwise:binary_kernel": f"({_ANY}, {_ANY}, {_ANY}, int64, {_ACTIVATION})",
    "elementwise:affine_kernel": f"({_ROWS}, {_ROWS}, {_LINE}, {_LINE}, {_ACTIVATION})",
    "elementwise:sample_kernel": f"({_ANY}, {_ANY}, int64, uint64, float32, float32)",
    "rows:dense_kernel": f"({_ROWS}, {_ROWS}, {_ROWS}, {_LINE}, {_ACTIVATION})",
    "rows:softmax_kernel": f"({_ROWS}, {_ROWS})",
    "rows:batch_norm_affine_kernel": f"({', '.join([_LINE] * 6)}, float64)",
    "resampling:linear_kernel": f"({_MAP}, {_MAP}, {_PLACES}, {_PLACES})",
    "resampling:nearest_kernel": f"({_MAP}, {_MAP}, {_PLACES}, {_PLACES})",
    "resampling:pad_kernel": f"({_MAP}, {_MAP}, {_SIZES}, int64, float32)",
    "copy:copy_kernel": f"({_ANY}, {_ANY})",
    "copy:fill_kernel": f"({_ANY}, float32)",
    "copy:from_bfloat16_kernel": f"({_ANY.replace('float', 'uint')}, {_ANY.replace('float32', 'uint16')})",
    "copy:to_bfloat16_kernel": f"({_ANY.replace('float32', 'uint16')}, {_ANY.replace('float', 'uint')})",
    "hounsfield:hu_kernel": f"({_HU.format('float32')})",
    "hounsfield:hu_int16_kernel": f"({_HU.format('int16')})",
}

#: ``module:function`` of each.
NAMES = tuple(_SIGNATURES)

#: Those that compute in float64 by definition: places of samples, HU, a quantile, what batch norm multiplies.
FLOAT64_KERNELS = frozenset(
    {
        "elementwise:sample_kernel",
        "rows:batch_norm_affine_kernel",
        "resampling:linear_kernel",
        "resampling:nearest_kernel",
        "hounsfield:hu_kernel",
        "hounsfield:hu_int16_kernel",
    }
)


def kernel(name: str, capability: tuple[int, int] = (9, 0)) -> Kernel:
    """Return the kernel ``module:function`` for a compute capability."""
    return Kernel(f"convcore.cuda.kernels.{name}", _SIGNATURES[name], capability)


def written_kernels() -> set[str]:
    """Every kernel in the package's source: the functions right below ``@cuda.jit``."""
    folder = Path(convcore.__file__).parent / "cuda" / "kernels"
    return {
        f"{path.stem}:{name}"
        for path in folder.glob("*.py")
        for name in re.findall(r"^@cuda\.jit\ndef (\w+)", path.read_text(), re.M)
    }

"""numba.cuda, imported in one place.

numba-cuda 0.30 asks NumPy for ``row_stack``, which NumPy 2.5 no longer has; the name is lent to it for
the time of its import.

Numba warns of every launch of fewer than 128 blocks, which small arrays need; a caller of convcore chooses
none, so this is off unless NUMBA_CUDA_LOW_OCCUPANCY_WARNINGS is set in the environment.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from convcore.errors import MissingExtraError

__all__ = ["cuda", "simulated", "types"]


def _import() -> Any:
    lent = not hasattr(np, "row_stack")
    if lent:
        np.row_stack = np.vstack  # noqa: NPY201
    try:
        import numba.cuda.np.arrayobj
        import numba_cuda  # noqa: F401 - the CUDA target that Numba itself carries does not suffice
    except ImportError as error:
        raise MissingExtraError(
            "convcore.cuda",
            f"needs numba-cuda, which cannot be imported ({error})",
            remedy='Install it with: pip install "convcore[cuda]"',
        ) from error
    finally:
        if lent:
            del np.row_stack  # noqa: NPY201
    if "NUMBA_CUDA_LOW_OCCUPANCY_WARNINGS" not in os.environ:
        numba.cuda.config.CUDA_LOW_OCCUPANCY_WARNINGS = 0
    return numba.cuda


#: The module ``numba.cuda``.
cuda: Any = _import()

#: Whether kernels run in Numba's simulator, on NumPy arrays (NUMBA_ENABLE_CUDASIM=1): slow, and for tests.
simulated: bool = bool(cuda.config.ENABLE_CUDASIM)

#: The types of kernels' arguments.
types: Any = cuda.types

"""A GPU in NumPy: runs the PTX that Numba compiles, on the CPU, and refuses what a GPU would not forgive.

    from .ptx import Pointer, launch
    launch(ptx, grid, block, [x, w, y, np.int32(7)], shared_bytes=4096)

One block at a time, its threads as lanes of arrays. It is strict where hardware is only sometimes lucky:
races on shared memory and between blocks, asynchronous copies that are not waited for, accesses outside an
array or at odd addresses, shared memory that nobody wrote, instructions of whole warps without all lanes,
barriers that not all threads reach.

It finds what happens with the sizes at hand. A barrier that keeps two stages of a ring apart, for one, is
only missed with a number of steps that lets them meet.

Left out are what Hopper adds (mbarrier, TMA, wgmma), calls, barriers of some of a block's threads, and
textures. The rounding of tensor cores is idealised; see :mod:`.warps`. Approximate functions are exact; see
:mod:`.floats`.
"""

from . import faults
from .faults import *  # noqa: F403 - its own list says what
from .machine import Pointer, launch
from .parser import parse

__all__ = ["Pointer", "launch", "parse"]
__all__ += faults.__all__

# `from convcore cimport ...`: the C contract, without the GIL. docs/embedding.md shows how.
from convcore._capi cimport *


cdef inline int import_convcore() except -1:
    """Raise ImportError if the installed library's ABI is not that of the header compiled against.

    Call it once, at the top of the module that cimports from here.
    """
    if cc_abi_version() != CC_ABI_VERSION:
        raise ImportError(
            f"built for version {CC_ABI_VERSION} of convcore's ABI and found {cc_abi_version()}: build it again"
        )
    return 0

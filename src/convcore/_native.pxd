# What _native calls. It links the library's functions itself; their types are _capi.pxd's, which has them all.
from libc.stdint cimport int32_t, int64_t, uint64_t

from convcore._capi cimport (
    CC_ABI_VERSION, CC_ERROR_FILE, CC_ERROR_MEMORY, CC_ISA_COUNT, CC_MAX_RANK, CC_OK, CC_OPERATION_COUNT,
    CC_PACKED_VERSION, cc_isa, cc_poll_fn, cc_run_options, cc_status, cc_step, cc_view,
)

cdef extern from "convcore.h" nogil:
    int cc_abi_version()
    cc_status cc_choose(cc_step *step)
    cc_status cc_pack(const cc_step *step, const float *weights, const float *bias, float *packed)
    cc_status cc_pack_file(
        const cc_step *step, int file, int64_t offset, const float *bias, float *packed, int *finite)
    cc_status cc_run(const cc_step *steps, int64_t count, void *const *buffers, const cc_run_options *options)
    cc_status cc_default_isa(cc_isa *isa)
    int cc_isa_supported(cc_isa isa)
    const char *cc_isa_name(cc_isa isa)
    cc_status cc_isa_by_name(const char *name, cc_isa *isa)
    const char *cc_cpu_name()
    int cc_get_num_threads()
    cc_status cc_set_num_threads(int threads)
    const char *cc_num_threads_origin()
    const char *cc_status_text(cc_status status)

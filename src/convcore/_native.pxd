# The C contract as Cython sees it; csrc/convcore.h explains every name.
from libc.stdint cimport int32_t, int64_t, uint64_t

cdef extern from "convcore.h" nogil:
    ctypedef enum cc_status:
        CC_OK
        CC_ERROR_MEMORY
        CC_ERROR_FILE

    ctypedef enum cc_isa:
        CC_ISA_COUNT

    enum:
        CC_ABI_VERSION
        CC_MAX_RANK
        CC_OPERATION_COUNT
        CC_PACKED_VERSION

    ctypedef struct cc_view:
        int32_t buffer
        int32_t type
        int32_t rank
        int64_t offset
        int64_t shape[8]
        int64_t ld[8]
        int64_t ld_block
        int32_t halo_low[3]
        int32_t halo_high[3]

    ctypedef struct cc_window:
        int64_t kernel[3]
        int64_t stride[3]
        int64_t dilation[3]
        int64_t pad_low[3]

    ctypedef struct cc_activation:
        int32_t kind
        float parameter[3]

    ctypedef struct cc_hu:
        int32_t has_padding
        int32_t padding_value
        int32_t padding_is_hu
        float padding_to
        const double *slope
        const double *intercept

    ctypedef struct cc_step:
        int32_t operation
        int32_t isa
        cc_view in_ "in"
        cc_view in2
        cc_view out
        cc_window window
        int64_t groups
        int32_t flip
        int32_t include_padding
        int32_t binary
        int32_t sample
        int32_t probe
        int32_t linear
        int32_t accuracy
        int32_t pool
        float value
        int32_t edge
        double edge_value
        uint64_t seed
        double resize_scale[3]
        double resize_offset[3]
        cc_activation activation
        cc_hu hu
        const float *weights
        int32_t workspace_buffer
        int64_t workspace_offset
        const char *algorithm
        int64_t packed_floats
        int64_t workspace_bytes
        int32_t need_low[3]
        int32_t need_high[3]
        double flops
        double bytes

    ctypedef int (*cc_poll_fn)(void *argument) noexcept nogil

    ctypedef struct cc_run_options:
        int32_t threads
        cc_poll_fn poll
        void *poll_argument
        double *seconds

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

# The C contract as Cython sees it; csrc/convcore.h explains every name. The functions are those of the shared
# library, reached through this module's capsules: whoever cimports them needs the header and links nothing.
from libc.stdint cimport int16_t, int32_t, int64_t, uint64_t

cdef extern from "convcore.h" nogil:
    enum:
        CC_ABI_VERSION
        CC_PACKED_VERSION

    ctypedef enum cc_status:
        CC_OK
        CC_ERROR_ARGUMENT
        CC_ERROR_SHAPE
        CC_ERROR_TYPE
        CC_ERROR_MEMORY
        CC_ERROR_ISA
        CC_ERROR_CANCELLED
        CC_ERROR_FILE

    ctypedef enum cc_isa:
        CC_ISA_SCALAR
        CC_ISA_SSE2
        CC_ISA_AVX2
        CC_ISA_AVX512
        CC_ISA_NEON
        CC_ISA_COUNT

    ctypedef enum cc_type:
        CC_F32
        CC_I8
        CC_U8
        CC_I16
        CC_U16
        CC_I32
        CC_F64

    enum:
        CC_MAX_RANK
        CC_SPATIAL
        CC_MAX_PHASES

    enum:
        CC_BLOCK

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

    ctypedef enum cc_operation:
        CC_CONV
        CC_DEPTHWISE_CONV
        CC_CONV_TRANSPOSE
        CC_DENSE
        CC_MAX_POOL
        CC_AVERAGE_POOL
        CC_GLOBAL_MAX_POOL
        CC_GLOBAL_AVERAGE_POOL
        CC_AFFINE
        CC_ACTIVATION
        CC_SAMPLE
        CC_SOFTMAX
        CC_BINARY
        CC_COPY
        CC_FILL
        CC_BORDER
        CC_RESIZE
        CC_HU_RESCALE
        CC_PROBE
        CC_FILTER
        CC_OPERATION_COUNT

    ctypedef struct cc_window:
        int64_t kernel[3]
        int64_t stride[3]
        int64_t dilation[3]
        int64_t pad_low[3]

    ctypedef enum cc_activation_kind:
        CC_LINEAR
        CC_RELU
        CC_RELU_GENERAL
        CC_LEAKY_RELU
        CC_LEAKY_DIVIDE
        CC_ELU
        CC_CELU
        CC_SELU
        CC_GELU
        CC_GELU_TANH
        CC_SILU
        CC_SOFTPLUS
        CC_SOFTSIGN
        CC_SIGMOID
        CC_HARD_SIGMOID
        CC_HARD_SILU
        CC_TANH
        CC_EXPONENTIAL
        CC_MISH
        CC_ACTIVATION_KIND_COUNT

    ctypedef struct cc_activation:
        int32_t kind
        float parameter[3]

    ctypedef enum cc_sample_kind:
        CC_RRELU
        CC_NOISY_RELU

    ctypedef enum cc_accuracy:
        CC_DIRECT
        CC_STANDARD
        CC_FAST

    ctypedef enum cc_binary:
        CC_ADD
        CC_SUBTRACT
        CC_MULTIPLY
        CC_MAXIMUM
        CC_MINIMUM
        CC_PRELU

    ctypedef enum cc_probe:
        CC_PROBE_FMA
        CC_PROBE_READ
        CC_PROBE_WRITE
        CC_PROBE_COPY

    ctypedef enum cc_edge:
        CC_EDGE_CONSTANT
        CC_EDGE_NEAREST
        CC_EDGE_REFLECT
        CC_EDGE_MIRROR
        CC_EDGE_WRAP

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
        int64_t scratch_bytes
        int64_t phases
        int64_t period
        int64_t items[3]
        int32_t need_low[3]
        int32_t need_high[3]
        double flops
        double bytes
        int64_t detail[48]

    ctypedef int (*cc_poll_fn)(void *argument) noexcept nogil

    ctypedef struct cc_run_options:
        int32_t threads
        cc_poll_fn poll
        void *poll_argument
        double *seconds

cdef int cc_abi_version() noexcept nogil
cdef cc_status cc_choose(cc_step *step) noexcept nogil
cdef cc_status cc_pack(
    const cc_step *step, const float *weights, const float *bias, float *packed) noexcept nogil
cdef cc_status cc_pack_file(
    const cc_step *step, int file, int64_t offset, const float *bias, float *packed,
    int *finite) noexcept nogil
cdef cc_status cc_run(
    const cc_step *steps, int64_t count, void *const *buffers,
    const cc_run_options *options) noexcept nogil
cdef cc_status cc_conv2d_f32(
    const float *x, int64_t n, int64_t h, int64_t w, int64_t c, const float *kernel,
    int64_t kh, int64_t kw, int64_t f, const float *bias, int64_t stride, int64_t pad_top,
    int64_t pad_left, int32_t activation, float *y, int64_t oh, int64_t ow) noexcept nogil
cdef cc_status cc_max_pool2d_f32(
    const float *x, int64_t n, int64_t h, int64_t w, int64_t c, int64_t size,
    int64_t stride, float *y) noexcept nogil
cdef cc_status cc_dense_f32(
    const float *x, int64_t rows, int64_t columns, const float *weights, int64_t units,
    const float *bias, int32_t activation, float *y) noexcept nogil
cdef cc_status cc_softmax_f32(const float *x, int64_t rows, int64_t columns, float *y) noexcept nogil
cdef cc_status cc_activation_f32(
    const float *x, int64_t count, int32_t kind, float a, float b, float c, float *y) noexcept nogil
cdef cc_status cc_hu_rescale_i16(
    const int16_t *raw, int64_t count, double slope, double intercept, float *hu) noexcept nogil
cdef double cc_activation_f64(double x, const cc_activation *activation) noexcept nogil
cdef cc_status cc_default_isa(cc_isa *isa) noexcept nogil
cdef int cc_isa_supported(cc_isa isa) noexcept nogil
cdef const char *cc_isa_name(cc_isa isa) noexcept nogil
cdef cc_status cc_isa_by_name(const char *name, cc_isa *isa) noexcept nogil
cdef const char *cc_cpu_name() noexcept nogil
cdef int cc_get_num_threads() noexcept nogil
cdef cc_status cc_set_num_threads(int threads) noexcept nogil
cdef const char *cc_num_threads_origin() noexcept nogil
cdef const char *cc_status_text(cc_status status) noexcept nogil

# cc_activation_f64 with the signature of SciPy's callbacks: `activation` points to a cc_activation.
cdef double activation_callback(double x, void *activation) noexcept nogil

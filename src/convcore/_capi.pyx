# cython: language_level=3
"""The C contract as capsules, by the names of convcore.h: ``__pyx_capi__``.

Cython's ``cimport``, Numba's ``get_cython_function_address`` and SciPy's ``LowLevelCallable.from_cython`` read it.
Every function passes on to the shared library that Python's own calls use.
"""

from libc.stdint cimport int16_t, int32_t, int64_t

cdef extern from "convcore.h" nogil:
    int abi_version "cc_abi_version"()
    cc_status choose "cc_choose"(cc_step *step)
    cc_status pack "cc_pack"(const cc_step *step, const float *weights, const float *bias, float *packed)
    cc_status pack_file "cc_pack_file"(
        const cc_step *step, int file, int64_t offset, const float *bias, float *packed, int *finite)
    cc_status run "cc_run"(
        const cc_step *steps, int64_t count, void *const *buffers, const cc_run_options *options)
    cc_status conv2d_f32 "cc_conv2d_f32"(
        const float *x, int64_t n, int64_t h, int64_t w, int64_t c, const float *kernel, int64_t kh,
        int64_t kw, int64_t f, const float *bias, int64_t stride, int64_t pad_top, int64_t pad_left,
        int32_t activation, float *y, int64_t oh, int64_t ow)
    cc_status max_pool2d_f32 "cc_max_pool2d_f32"(
        const float *x, int64_t n, int64_t h, int64_t w, int64_t c, int64_t size, int64_t stride,
        float *y)
    cc_status dense_f32 "cc_dense_f32"(
        const float *x, int64_t rows, int64_t columns, const float *weights, int64_t units,
        const float *bias, int32_t activation, float *y)
    cc_status softmax_f32 "cc_softmax_f32"(const float *x, int64_t rows, int64_t columns, float *y)
    cc_status activation_f32 "cc_activation_f32"(
        const float *x, int64_t count, int32_t kind, float a, float b, float c, float *y)
    cc_status hu_rescale_i16 "cc_hu_rescale_i16"(
        const int16_t *raw, int64_t count, double slope, double intercept, float *hu)
    double activation_f64 "cc_activation_f64"(double x, const cc_activation *activation)
    cc_status default_isa "cc_default_isa"(cc_isa *isa)
    int isa_supported "cc_isa_supported"(cc_isa isa)
    const char *isa_name "cc_isa_name"(cc_isa isa)
    cc_status isa_by_name "cc_isa_by_name"(const char *name, cc_isa *isa)
    const char *cpu_name "cc_cpu_name"()
    int get_num_threads "cc_get_num_threads"()
    cc_status set_num_threads "cc_set_num_threads"(int threads)
    const char *num_threads_origin "cc_num_threads_origin"()
    const char *status_text "cc_status_text"(cc_status status)


cdef int cc_abi_version() noexcept nogil:
    return abi_version()


cdef cc_status cc_choose(cc_step *step) noexcept nogil:
    return choose(step)


cdef cc_status cc_pack(
    const cc_step *step, const float *weights, const float *bias, float *packed) noexcept nogil:
    return pack(step, weights, bias, packed)


cdef cc_status cc_pack_file(
    const cc_step *step, int file, int64_t offset, const float *bias, float *packed,
    int *finite) noexcept nogil:
    return pack_file(step, file, offset, bias, packed, finite)


cdef cc_status cc_run(
    const cc_step *steps, int64_t count, void *const *buffers,
    const cc_run_options *options) noexcept nogil:
    return run(steps, count, buffers, options)


cdef cc_status cc_conv2d_f32(
    const float *x, int64_t n, int64_t h, int64_t w, int64_t c, const float *kernel,
    int64_t kh, int64_t kw, int64_t f, const float *bias, int64_t stride,
    int64_t pad_top, int64_t pad_left, int32_t activation, float *y, int64_t oh, int64_t ow) noexcept nogil:
    return conv2d_f32(x, n, h, w, c, kernel, kh, kw, f, bias, stride, pad_top, pad_left, activation, y, oh, ow)


cdef cc_status cc_max_pool2d_f32(
    const float *x, int64_t n, int64_t h, int64_t w, int64_t c, int64_t size,
    int64_t stride, float *y) noexcept nogil:
    return max_pool2d_f32(x, n, h, w, c, size, stride, y)


cdef cc_status cc_dense_f32(
    const float *x, int64_t rows, int64_t columns, const float *weights, int64_t units,
    const float *bias, int32_t activation, float *y) noexcept nogil:
    return dense_f32(x, rows, columns, weights, units, bias, activation, y)


cdef cc_status cc_softmax_f32(const float *x, int64_t rows, int64_t columns, float *y) noexcept nogil:
    return softmax_f32(x, rows, columns, y)


cdef cc_status cc_activation_f32(
    const float *x, int64_t count, int32_t kind, float a, float b, float c, float *y) noexcept nogil:
    return activation_f32(x, count, kind, a, b, c, y)


cdef cc_status cc_hu_rescale_i16(
    const int16_t *raw, int64_t count, double slope, double intercept, float *hu) noexcept nogil:
    return hu_rescale_i16(raw, count, slope, intercept, hu)


cdef double cc_activation_f64(double x, const cc_activation *activation) noexcept nogil:
    return activation_f64(x, activation)


cdef cc_status cc_default_isa(cc_isa *isa) noexcept nogil:
    return default_isa(isa)


cdef int cc_isa_supported(cc_isa isa) noexcept nogil:
    return isa_supported(isa)


cdef const char *cc_isa_name(cc_isa isa) noexcept nogil:
    return isa_name(isa)


cdef cc_status cc_isa_by_name(const char *name, cc_isa *isa) noexcept nogil:
    return isa_by_name(name, isa)


cdef const char *cc_cpu_name() noexcept nogil:
    return cpu_name()


cdef int cc_get_num_threads() noexcept nogil:
    return get_num_threads()


cdef cc_status cc_set_num_threads(int threads) noexcept nogil:
    return set_num_threads(threads)


cdef const char *cc_num_threads_origin() noexcept nogil:
    return num_threads_origin()


cdef const char *cc_status_text(cc_status status) noexcept nogil:
    return status_text(status)


cdef double activation_callback(double x, void *activation) noexcept nogil:
    return activation_f64(x, <const cc_activation *>activation)

/* convcore.h - the whole C contract of libconvcore.
 *
 * One idea carries everything: a *step* is one operation on tensors whose addresses are not known yet
 * (they are offsets into numbered buffers). A step is filled in by the caller, completed by
 * cc_choose() - which checks it, picks the algorithm and says how much memory it wants - and executed,
 * alone or in an array, by cc_run(). Steps are plain data: they can be copied, printed and run by many
 * threads at once, each with its own buffers.
 *
 *     cc_step step = {.operation = CC_CONV, .isa = cc_best_isa(), ...shapes, window...};
 *     cc_choose(&step);                             // algorithm, workspace, size of packed weights
 *     cc_pack(&step, kernel, bias, packed);         // once
 *     step.weights = packed;
 *     cc_run(&step, 1, buffers, NULL);              // as often as you like
 *
 * All arithmetic is float32 unless a type says otherwise. Memory steps ("ld") are in elements.
 * Spatial tensors have rank 5, (n, d, h, w, c): a 2-D image has d = 1, a 1-D signal d = h = 1.
 *
 * Same step, same instruction set: the same bits, whatever the number of threads and whatever the
 * batch. Nothing here changes the caller's floating-point modes, prints, or exits.
 */
#ifndef CONVCORE_H
#define CONVCORE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raise it when a struct or a function changes so that what was compiled before no longer fits; the library's
 * file name ends in it. */
#define CC_ABI_VERSION 1

/* What cc_pack writes, which people keep in files: raise it when a step's packed floats change their order,
 * or their values, in any way. */
#define CC_PACKED_VERSION 2

#if defined(_WIN32)
#define CC_API
#else
#define CC_API __attribute__((visibility("default")))
#endif

typedef enum cc_status {
    CC_OK = 0,
    CC_ERROR_ARGUMENT,  /* a field has a value that the operation is not defined for */
    CC_ERROR_SHAPE,     /* shapes of inputs, weights and output do not fit together */
    CC_ERROR_TYPE,      /* an element type that the operation does not take */
    CC_ERROR_MEMORY,    /* an allocation failed; nothing was computed */
    CC_ERROR_ISA,       /* this CPU lacks the instruction set asked for */
    CC_ERROR_CANCELLED, /* the poll function asked to stop; outputs are incomplete */
    CC_ERROR_FILE,      /* weights could not be read from their file, or it ends before they do */
} cc_status;

/* Instruction sets, of each kind of machine the worst first. Every one of them has every kernel. */
typedef enum cc_isa {
    CC_ISA_SCALAR, /* portable C, no vectors: the first row of the table and the one to read */
    CC_ISA_SSE2,
    CC_ISA_AVX2,   /* with FMA */
    CC_ISA_AVX512, /* F, BW, DQ, VL */
    CC_ISA_NEON,   /* AArch64's, which all of its processors have */
    CC_ISA_COUNT
} cc_isa;

typedef enum cc_type { CC_F32, CC_I8, CC_U8, CC_I16, CC_U16, CC_I32, CC_F64 } cc_type;

enum { CC_MAX_RANK = 8, CC_SPATIAL = 3, CC_MAX_PHASES = 3 };

/* Channels of a blocked view lie in blocks of so many: one cache line of floats on every instruction set. */
enum { CC_BLOCK = 16 };

/* Element (i0, i1, ...) lies at base(buffer) + offset + i0*ld[0] + i1*ld[1] + ..., in elements. Memory
 * steps may be negative and, in inputs, 0. A view has at most 2^40 elements, and |offset| and every
 * shape*|ld| are at most 2^41; the halo counts as shape there. ld must be 1 for the channels of `out` of
 * CC_CONV, CC_CONV_TRANSPOSE and CC_BORDER, and for the columns of both sides of CC_DENSE and CC_PROBE.
 *
 * CC_CONV, CC_CONV_TRANSPOSE and CC_BORDER, and no others, also take spatial views with blocked channels,
 * which they read and write without rearranging: channel c lies at c / 16 * ld_block + c % 16. Whoever
 * writes such a view writes whole blocks. Operations on each channel alone see the same memory as a plain
 * view with a block for an image of 16 channels. */
typedef struct cc_view {
    int32_t buffer;
    int32_t type; /* cc_type */
    int32_t rank;
    int64_t offset;
    int64_t shape[CC_MAX_RANK];
    int64_t ld[CC_MAX_RANK];
    int64_t ld_block; /* 0: plain channels */
    /* Spatial views: so many cells before and after d, h and w lie in memory too. In an input they are
     * known to hold zeros, so that windows may reach into them; CC_BORDER is what writes them. */
    int32_t halo_low[CC_SPATIAL], halo_high[CC_SPATIAL];
} cc_view;

typedef enum cc_operation {
    /* y[n,o,f] = b[f] + sum over taps t and channels c of the group of f:
     *            x[n, o*stride + t*dilation - pad_low, c] * w[t,c,f]      (x is 0 outside)
     * flip reverses every tap axis: true convolution. in, out rank 5; w (kd,kh,kw,ic/groups,oc).
     * pool = 2 replaces y by the maximum of each whole 2x2 square of (h, w), after the activation, which
     * must be linear or relu; CC_ERROR_ARGUMENT where the algorithm chosen cannot. */
    CC_CONV,
    /* y[n,o,c*m+j] = b + sum over t of x[n, o*stride + t*dilation - pad_low, c] * w[t,c,j];
     * w (kd,kh,kw,ic,m).
     * CC_CONV and CC_DEPTHWISE_CONV also compute in double, if in and out are CC_F64: in2 is one row of b, then w;
     * no weights are packed, and the activation is linear or relu. */
    CC_DEPTHWISE_CONV,
    /* The adjoint of CC_CONV: y[n,o,f] = b[f] + sum over i,t,c with i*stride + t*dilation - pad_low = o
     * of x[n,i,c] * w[t,f,c]; w (kd,kh,kw,oc,ic). */
    CC_CONV_TRANSPOSE,
    /* y[r,f] = b[f] + sum over c of x[r,c] * w[c,f]; in, out rank 2; w (ic,oc). */
    CC_DENSE,
    /* Largest, or mean, value of the window, rank 5. Padding never wins and, unless include_padding,
     * never counts. NaN in a window gives NaN. */
    CC_MAX_POOL,
    CC_AVERAGE_POOL,
    /* The same over all of d, h, w: out is rank 5 with d = h = w = 1. */
    CC_GLOBAL_MAX_POOL,
    CC_GLOBAL_AVERAGE_POOL,
    /* y[r,c] = x[r,c] * scale[c] + offset[c]: one multiplication and one addition, rounded once where
     * the instruction set has FMA. in, out rank 2; weights: scale[oc], then offset[oc]. */
    CC_AFFINE,
    /* y = f(x), any rank; see cc_activation. */
    CC_ACTIVATION,
    /* y = f(x, random), any rank up to 8: element i (row-major) uses number i of the stream `seed`. */
    CC_SAMPLE,
    /* y[r,:] = exp(x[r,:] - max) / sum; in, out rank 2. */
    CC_SOFTMAX,
    /* y = in (op) in2, equal shapes; broadcasting is ld = 0. See cc_binary. */
    CC_BINARY,
    /* y = x: any strides on both sides, so permuting, cropping, repeating and concatenating. */
    CC_COPY,
    /* y = value. */
    CC_FILL,
    /* Zeros into the halo of `out`, a spatial view; its cells are left alone. */
    CC_BORDER,
    /* Linear or nearest interpolation along d, h, w; rank 5. The source position of output index o on
     * axis a is o*resize_scale[a] + resize_offset[a], clamped to the volume. */
    CC_RESIZE,
    /* DICOM PS3.3 C.11.1: y = slope[z]*raw + intercept[z], raw == padding_value handled first; rank 2,
     * one row per slice. See cc_hu. */
    CC_HU_RESCALE,
    /* Works one unit of the machine as hard as it can, so that its limit can be measured; in, out rank 2
     * with as many rows. See cc_probe. */
    CC_PROBE,
    /* y[n,o,c] = sum over taps t of x[n, o + t - pad_low, c] * w[t], and of what `edge` says lies beyond the edge;
     * flip reverses every tap axis. in, out rank 5; in2: w (kd,kh,kw), of the type that sums are in, float32 or, for
     * any type of in and out, CC_F64. in is float32 or has 8 or 16 bits; so has out, in which integers are rounded
     * half to even and saturated, and NaN is the lowest. stride and dilation must be 1; no weights are packed.
     * accuracy: CC_DIRECT sums products; CC_STANDARD may take Fourier transforms of images of float32 sums, which are
     * within about 4 u log2(n) |x|_2 |w|_2 for the n samples of a pair of tiles, and spread NaN over it; CC_FAST
     * does wherever it can. */
    CC_FILTER,
    CC_OPERATION_COUNT
} cc_operation;

typedef struct cc_window {
    int64_t kernel[CC_SPATIAL]; /* (d, h, w) */
    int64_t stride[CC_SPATIAL];
    int64_t dilation[CC_SPATIAL];
    int64_t pad_low[CC_SPATIAL]; /* where the window stops, the output's shape says */
} cc_window;

/* Elementwise functions; a, b, c are `parameter[0..2]`. NaN gives NaN. */
typedef enum cc_activation_kind {
    CC_LINEAR,
    CC_RELU,         /* max(x, 0) */
    CC_RELU_GENERAL, /* x > c ? min(x, b) : a*(x - c): Keras's slope a, ceiling b, strict threshold c */
    CC_LEAKY_RELU,   /* x >= 0 ? x : a*x */
    CC_LEAKY_DIVIDE, /* x >= 0 ? x : x/a: Xu et al. 2015 */
    CC_ELU,          /* x > 0 ? x : a*(exp(x) - 1) */
    CC_CELU,         /* x > 0 ? x : a*(exp(x/a) - 1) */
    CC_SELU,
    CC_GELU,         /* x/2 * (1 + erf(x/sqrt 2)) */
    CC_GELU_TANH,    /* x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))) */
    CC_SILU,         /* x * sigmoid(x) */
    CC_SOFTPLUS,     /* log(1 + exp(x)) */
    CC_SOFTSIGN,     /* x / (1 + |x|) */
    CC_SIGMOID,
    CC_HARD_SIGMOID, /* clip(a*x + 1/2, 0, 1) */
    CC_HARD_SILU,    /* x * clip(x/6 + 1/2, 0, 1) */
    CC_TANH,
    CC_EXPONENTIAL,
    CC_MISH,         /* x * tanh(softplus(x)) */
    CC_ACTIVATION_KIND_COUNT
} cc_activation_kind;

typedef struct cc_activation {
    int32_t kind; /* cc_activation_kind */
    float parameter[3];
} cc_activation;

typedef enum cc_sample_kind {
    CC_RRELU,      /* x >= 0 ? x : x/r, r uniform in (parameter[0], parameter[1]): Xu et al. 2015 */
    CC_NOISY_RELU, /* max(0, x + z), z normal with mean 0 and variance sigmoid(x): Nair & Hinton 2010 */
} cc_sample_kind;

typedef enum cc_accuracy {
    CC_DIRECT,   /* sums of products as the equations state them */
    CC_STANDARD, /* and Winograd's F(4x4, 3x3), on small maps F(2x2, 3x3): 2.5 to 6 times the error (rms, of
                    64 to 512 channels; see docs/kernels.md); NaN fills a tile */
    CC_FAST,     /* and F(6x6, 3x3): about four times the error of F(4x4, 3x3) */
} cc_accuracy;

typedef enum cc_binary {
    CC_ADD,
    CC_SUBTRACT,
    CC_MULTIPLY,
    CC_MAXIMUM, /* NaN in either operand gives NaN */
    CC_MINIMUM,
    CC_PRELU, /* max(in, 0) + in2*min(in, 0): He et al. 2015 */
} cc_binary;

typedef enum cc_probe {
    CC_PROBE_FMA,   /* v = v*value + (1 - value), in registers, from x[r,0] until v is 1: y[r,:] = v */
    CC_PROBE_READ,  /* y[r,:] = sum over c of x[r,c] */
    CC_PROBE_WRITE, /* y = value, past the caches where the instruction set can; x is not read */
    CC_PROBE_COPY,  /* y = x, written the same way; equal shapes */
} cc_probe;

/* What CC_FILTER reads beyond a b c d. */
typedef enum cc_edge {
    CC_EDGE_CONSTANT, /* edge_value */
    CC_EDGE_NEAREST,  /* a a a | a b c d | d d d */
    CC_EDGE_REFLECT,  /* c b a | a b c d | d c b */
    CC_EDGE_MIRROR,   /* d c b | a b c d | c b a */
    CC_EDGE_WRAP,     /* b c d | a b c d | a b c */
} cc_edge;

typedef struct cc_hu {
    int32_t has_padding;   /* 0: no value is padding */
    int32_t padding_value; /* the stored value that means "outside the scan" */
    int32_t padding_is_hu; /* 1: padding becomes padding_to; 0: the raw value becomes 0, then the
                              equation is applied (the article's literal order) */
    float padding_to;
    const double *slope; /* one per row of `in` */
    const double *intercept;
} cc_hu;

struct cc_call; /* what a kernel is given beside its step; private */

typedef struct cc_step {
    /* What to compute: set by the caller. Fields that the operation does not name are ignored. */
    int32_t operation; /* cc_operation */
    int32_t isa;       /* cc_isa */
    cc_view in, in2, out;
    cc_window window;
    int64_t groups;
    int32_t flip;
    int32_t include_padding;
    int32_t binary; /* cc_binary */
    int32_t sample; /* cc_sample_kind */
    int32_t probe;  /* cc_probe */
    int32_t linear; /* CC_RESIZE: 1 linear, 0 nearest (position to float32, then down) */
    int32_t accuracy; /* cc_accuracy: which algorithms may be chosen */
    int32_t pool;     /* CC_CONV: 0 or 1, or 2 to take maxima of 2x2 */
    float value;
    int32_t edge; /* cc_edge */
    double edge_value;
    uint64_t seed;
    double resize_scale[CC_SPATIAL], resize_offset[CC_SPATIAL];
    cc_activation activation; /* also fused behind CC_CONV, _DEPTHWISE_CONV, _CONV_TRANSPOSE, _DENSE,
                                 _AFFINE and _BINARY */
    cc_hu hu;
    const float *weights;     /* as written by cc_pack */
    int32_t workspace_buffer; /* where the step may scribble: `workspace_bytes` from */
    int64_t workspace_offset; /* this byte of that buffer, 64-byte aligned */

    /* How: set by cc_choose. */
    const char *algorithm; /* for people */
    void (*kernel)(const struct cc_step *step, const struct cc_call *call, int64_t begin, int64_t end);
    int64_t packed_floats;
    int64_t workspace_bytes;
    int64_t scratch_bytes;        /* for each thread; cc_run has it */
    int64_t phases;               /* phase p runs after phase p-1 is complete; it has */
    int64_t period;               /* items[p % period] independent items */
    int64_t items[CC_MAX_PHASES];
    int32_t need_low[CC_SPATIAL], need_high[CC_SPATIAL]; /* halo of a blocked `in` that spares a copy of it */
    double flops, bytes;          /* least arithmetic and memory traffic of the operation itself */
    int64_t detail[48];           /* the algorithm's own geometry */
} cc_step;

/* Called on the calling thread every few tens of milliseconds; non-zero cancels the run. */
typedef int (*cc_poll_fn)(void *argument);

typedef struct cc_run_options {
    int32_t threads; /* 0: cc_get_num_threads() */
    cc_poll_fn poll; /* may be NULL */
    void *poll_argument;
    double *seconds; /* may be NULL; else one wall time per step */
} cc_run_options;

/* CC_ABI_VERSION of the library that is loaded: whoever finds it at run time (dlopen, capsules) compares. */
CC_API int cc_abi_version(void);

/* Checks a step and fills in the second half of it. Views may come back in an equivalent, shorter form
 * (adjacent axes joined), so set them afresh before choosing again for other shapes. */
CC_API cc_status cc_choose(cc_step *step);

/* Rearranges weights, given in the layout that the operation's comment states (C order, float32), into
 * step->packed_floats floats at `packed` (64-byte aligned). bias may be NULL. For CC_AFFINE, weights is
 * scale and bias is offset. */
CC_API cc_status cc_pack(const cc_step *step, const float *weights, const float *bias, float *packed);

/* cc_pack for CC_CONV and CC_DENSE where the weights are still in a file, in the same layout, from byte
 * `offset` of the descriptor `file`: read piece by piece (pread), never held as a whole. *finite becomes 0
 * if NaN or infinity is among them, else 1. After an error `packed` holds nothing of use. */
CC_API cc_status cc_pack_file(const cc_step *step, int file, int64_t offset, const float *bias, float *packed,
                              int *finite);

/* Runs chosen steps in order, in one parallel region. options may be NULL. */
CC_API cc_status cc_run(const cc_step *steps, int64_t count, void *const *buffers, const cc_run_options *options);

/* ---- whole operations on arrays in C order --------------------------------------------------------------
 *
 * For whoever has such arrays and no wish to fill in a step. They run on cc_default_isa() and
 * cc_get_num_threads() threads and allocate what they need; the weights are packed in every call, so with
 * weights that stay, or strides, groups, dilation and fused steps that these lack, keep a step.
 *
 * `activation` is a cc_activation_kind that has no parameters; `bias` may be NULL. */

/* CC_CONV of images x (n, h, w, c) with kernel (kh, kw, c, f) to y (n, oh, ow, f), cross-correlated; outside x
 * there are zeros. No padding: pad 0 and oh = (h - kh) / stride + 1. "same": oh = ceil(h / stride) and
 * pad_top = max((oh - 1) * stride + kh - h, 0) / 2; likewise for ow and pad_left. */
CC_API cc_status cc_conv2d_f32(const float *x, int64_t n, int64_t h, int64_t w, int64_t c, const float *kernel,
                               int64_t kh, int64_t kw, int64_t f, const float *bias, int64_t stride,
                               int64_t pad_top, int64_t pad_left, int32_t activation, float *y, int64_t oh,
                               int64_t ow);

/* CC_MAX_POOL of whole windows, size x size: y is (n, (h - size) / stride + 1, (w - size) / stride + 1, c). */
CC_API cc_status cc_max_pool2d_f32(const float *x, int64_t n, int64_t h, int64_t w, int64_t c, int64_t size,
                                   int64_t stride, float *y);

/* CC_DENSE: x (rows, columns) times weights (columns, units) to y (rows, units). */
CC_API cc_status cc_dense_f32(const float *x, int64_t rows, int64_t columns, const float *weights, int64_t units,
                              const float *bias, int32_t activation, float *y);

/* CC_SOFTMAX of every row. */
CC_API cc_status cc_softmax_f32(const float *x, int64_t rows, int64_t columns, float *y);

/* CC_ACTIVATION of any kind; a, b and c are its parameters, where it has any. y may be x. */
CC_API cc_status cc_activation_f32(const float *x, int64_t count, int32_t kind, float a, float b, float c, float *y);

/* CC_HU_RESCALE of stored values that have no padding value. */
CC_API cc_status cc_hu_rescale_i16(const int16_t *raw, int64_t count, double slope, double intercept, float *hu);

/* One value in double precision, within a few units in the last place; NaN if there is no such function. */
CC_API double cc_activation_f64(double x, const cc_activation *activation);

/* ISA of this process: the best that the CPU and the operating system have, or what CONVCORE_ISA forces.
 * CC_ERROR_ISA if that is not there. */
CC_API cc_status cc_default_isa(cc_isa *isa);
CC_API int cc_isa_supported(cc_isa isa);
CC_API const char *cc_isa_name(cc_isa isa);
CC_API cc_status cc_isa_by_name(const char *name, cc_isa *isa);
CC_API const char *cc_cpu_name(void);

/* Threads used by cc_run, the caller's own among them. At first: CONVCORE_NUM_THREADS, else
 * OMP_NUM_THREADS, else what affinity and container limits leave. */
CC_API int cc_get_num_threads(void);
CC_API cc_status cc_set_num_threads(int threads);
/* Where that number comes from: the variable's name, "affinity", "container", "cpus" or "cc_set_num_threads". */
CC_API const char *cc_num_threads_origin(void);

CC_API const char *cc_status_text(cc_status status);

#ifdef __cplusplus
}
#endif
#endif

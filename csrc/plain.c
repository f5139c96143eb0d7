/* The plain functions of the contract: a step filled in, chosen, packed and run for arrays in C order. */
#include "convcore.h"

#include <math.h>
#include <stdlib.h>

enum { IN, OUT, WORKSPACE, BUFFERS };
enum { ALIGNMENT = 64 };

/* An array in C order. Its sizes are checked by cc_choose, so nothing here may overflow on the way to it. */
static cc_view array(int32_t buffer, cc_type type, int32_t rank, const int64_t *shape)
{
    cc_view v = {.buffer = buffer, .type = type, .rank = rank};
    uint64_t ld = 1;
    for (int32_t a = rank - 1; a >= 0; a--) {
        v.shape[a] = shape[a];
        v.ld[a] = (int64_t)ld;
        ld *= (uint64_t)shape[a];
    }
    return v;
}

/* A step without window, on the process's instruction set. */
static cc_status begin(cc_step *step, cc_operation operation)
{
    cc_isa isa;
    const cc_status status = cc_default_isa(&isa);
    *step = (cc_step){.operation = operation, .isa = isa, .groups = 1, .workspace_buffer = WORKSPACE};
    for (int a = 0; a < CC_SPATIAL; a++)
        step->window.kernel[a] = step->window.stride[a] = step->window.dilation[a] = 1;
    return status;
}

/* Functions with parameters are left to cc_activation_f32. */
static int has_no_parameters(int32_t activation)
{
    switch (activation) {
    case CC_RELU_GENERAL:
    case CC_LEAKY_RELU:
    case CC_LEAKY_DIVIDE:
    case CC_ELU:
    case CC_CELU:
    case CC_HARD_SIGMOID:
        return 0;
    default:
        return 1;
    }
}

static void *aligned(int64_t bytes)
{
    return aligned_alloc(ALIGNMENT, ((size_t)bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
}

/* Chooses, packs and runs. */
static cc_status finish(cc_step *step, const void *in, const float *weights, const float *bias, float *out)
{
    if (!in || !out)
        return CC_ERROR_ARGUMENT;
    cc_status status = cc_choose(step);
    if (status != CC_OK)
        return status;
    void *workspace = NULL;
    float *packed = NULL;
    if (step->workspace_bytes && !(workspace = aligned(step->workspace_bytes)))
        status = CC_ERROR_MEMORY;
    if (status == CC_OK && step->packed_floats) {
        packed = aligned(step->packed_floats * (int64_t)sizeof *packed);
        status = packed ? cc_pack(step, weights, bias, packed) : CC_ERROR_MEMORY;
        step->weights = packed;
    }
    if (status == CC_OK)
        status = cc_run(step, 1, (void *const[BUFFERS]){[IN] = (void *)in, [OUT] = out, [WORKSPACE] = workspace}, NULL);
    free(packed);
    free(workspace);
    return status;
}

cc_status cc_conv2d_f32(const float *x, int64_t n, int64_t h, int64_t w, int64_t c, const float *kernel, int64_t kh,
                        int64_t kw, int64_t f, const float *bias, int64_t stride, int64_t pad_top, int64_t pad_left,
                        int32_t activation, float *y, int64_t oh, int64_t ow)
{
    cc_step step;
    const cc_status status = begin(&step, CC_CONV);
    if (status != CC_OK)
        return status;
    if (!has_no_parameters(activation) || !kernel)
        return CC_ERROR_ARGUMENT;
    step.in = array(IN, CC_F32, 5, (const int64_t[]){n, 1, h, w, c});
    step.out = array(OUT, CC_F32, 5, (const int64_t[]){n, 1, oh, ow, f});
    step.window = (cc_window){{1, kh, kw}, {1, stride, stride}, {1, 1, 1}, {0, pad_top, pad_left}};
    step.activation.kind = activation;
    return finish(&step, x, kernel, bias, y);
}

cc_status cc_max_pool2d_f32(const float *x, int64_t n, int64_t h, int64_t w, int64_t c, int64_t size, int64_t stride,
                            float *y)
{
    cc_step step;
    const cc_status status = begin(&step, CC_MAX_POOL);
    if (status != CC_OK)
        return status;
    if (size < 1 || stride < 1)
        return CC_ERROR_ARGUMENT;
    if (h < size || w < size)
        return CC_ERROR_SHAPE;
    step.in = array(IN, CC_F32, 5, (const int64_t[]){n, 1, h, w, c});
    step.out = array(OUT, CC_F32, 5, (const int64_t[]){n, 1, (h - size) / stride + 1, (w - size) / stride + 1, c});
    step.window = (cc_window){{1, size, size}, {1, stride, stride}, {1, 1, 1}, {0, 0, 0}};
    return finish(&step, x, NULL, NULL, y);
}

cc_status cc_dense_f32(const float *x, int64_t rows, int64_t columns, const float *weights, int64_t units,
                       const float *bias, int32_t activation, float *y)
{
    cc_step step;
    const cc_status status = begin(&step, CC_DENSE);
    if (status != CC_OK)
        return status;
    if (!has_no_parameters(activation) || !weights)
        return CC_ERROR_ARGUMENT;
    step.in = array(IN, CC_F32, 2, (const int64_t[]){rows, columns});
    step.out = array(OUT, CC_F32, 2, (const int64_t[]){rows, units});
    step.activation.kind = activation;
    return finish(&step, x, weights, bias, y);
}

cc_status cc_softmax_f32(const float *x, int64_t rows, int64_t columns, float *y)
{
    cc_step step;
    const cc_status status = begin(&step, CC_SOFTMAX);
    if (status != CC_OK)
        return status;
    step.in = array(IN, CC_F32, 2, (const int64_t[]){rows, columns});
    step.out = array(OUT, CC_F32, 2, (const int64_t[]){rows, columns});
    return finish(&step, x, NULL, NULL, y);
}

cc_status cc_activation_f32(const float *x, int64_t count, int32_t kind, float a, float b, float c, float *y)
{
    cc_step step;
    const cc_status status = begin(&step, CC_ACTIVATION);
    if (status != CC_OK)
        return status;
    step.in = array(IN, CC_F32, 1, &count);
    step.out = array(OUT, CC_F32, 1, &count);
    if (x == y)
        step.out.buffer = IN; /* in place */
    step.activation = (cc_activation){kind, {a, b, c}};
    return finish(&step, x, NULL, NULL, y);
}

cc_status cc_hu_rescale_i16(const int16_t *raw, int64_t count, double slope, double intercept, float *hu)
{
    cc_step step;
    const cc_status status = begin(&step, CC_HU_RESCALE);
    if (status != CC_OK)
        return status;
    step.in = array(IN, CC_I16, 2, (const int64_t[]){1, count});
    step.out = array(OUT, CC_F32, 2, (const int64_t[]){1, count});
    step.hu.slope = &slope;
    step.hu.intercept = &intercept;
    return finish(&step, raw, NULL, NULL, hu);
}

/* ---- one number at a time, in double ------------------------------------------------------------------- */

/* e^-|x| does not overflow, and the division keeps the relative accuracy of small results. */
static double sigmoid(double x)
{
    const double e = exp(-fabs(x));
    return (x >= 0 ? 1 : e) / (1 + e);
}

static double clip_to_one(double x) { return x < 0 ? 0 : x > 1 ? 1 : x; }
static double softplus(double x) { return (x > 0 ? x : 0) + log1p(exp(-fabs(x))); }

static double relu_general(double x, double slope, double ceiling, double threshold)
{
    if (x > threshold) {
        const double kept = x > 0 ? x : 0;
        return kept < ceiling ? kept : ceiling;
    }
    return slope == 0 && x == x ? 0 : slope * (x - threshold);
}

/* x times a gate whose product at -inf would be NaN. */
static double gated(double x, double gate) { return x == -INFINITY ? -0.0 : x * gate; }

double cc_activation_f64(double x, const cc_activation *activation)
{
    static const double selu_scale = 1.0507009873554805, selu_alpha = 1.6732632423543772; /* Klambauer et al. 2017 */
    static const double root_half = 0.70710678118654752440, gelu_k = 1.5957691216057307, gelu_c = 0.044715,
                        sixth = 1.0 / 6;
    if (!activation)
        return NAN;
    const double a = activation->parameter[0], b = activation->parameter[1], c = activation->parameter[2];
    switch ((cc_activation_kind)activation->kind) {
    case CC_LINEAR: return x;
    case CC_RELU: return x <= 0 ? 0 : x;
    case CC_RELU_GENERAL: return relu_general(x, a, b, c);
    case CC_LEAKY_RELU: return x >= 0 ? x : a * x;
    case CC_LEAKY_DIVIDE: return x >= 0 ? x : x / a;
    case CC_ELU: return x > 0 ? x : a * expm1(x);
    case CC_CELU: return x > 0 ? x : a * expm1(x / a);
    case CC_SELU: return selu_scale * (x > 0 ? x : selu_alpha * expm1(x));
    case CC_GELU: return gated(x, 0.5 * erfc(-x * root_half));
    case CC_GELU_TANH: return gated(x, sigmoid(gelu_k * (x + gelu_c * x * x * x)));
    case CC_SILU: return gated(x, sigmoid(x));
    case CC_SOFTPLUS: return softplus(x);
    case CC_SOFTSIGN: return isinf(x) ? copysign(1, x) : x / (1 + fabs(x));
    case CC_SIGMOID: return sigmoid(x);
    case CC_HARD_SIGMOID: return clip_to_one(a * x + 0.5);
    case CC_HARD_SILU: return gated(x, clip_to_one(x * sixth + 0.5));
    case CC_TANH: return tanh(x);
    case CC_EXPONENTIAL: return exp(x);
    case CC_MISH: return gated(x, tanh(softplus(x)));
    case CC_ACTIVATION_KIND_COUNT: break;
    }
    return NAN;
}

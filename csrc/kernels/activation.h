/* Activations on contiguous floats, for activation.c and for the epilogues of other kernels. */
#ifndef CC_ACTIVATION_H
#define CC_ACTIVATION_H

#include "vec_math.h"

#include <float.h>

/* Floats ahead of those read, where the output is streamed: nothing else is in flight then. */
enum { PREFETCH_STREAMED = 256 };

typedef struct activation_parameters {
    vf a, b, c;
    vf least; /* what is smaller is raised to this; see least_argument */
} activation_parameters;

/* CC_RELU_GENERAL: of x - c, so that slope 0 makes -inf 0, not NaN. CC_CELU: of x, as exp(-40) - 1 = -1. */
static inline float least_argument(const cc_activation *a)
{
    const float slope = a->parameter[0];
    if (a->kind == CC_CELU)
        return slope < FLT_MAX / 40 ? -40 * slope : -FLT_MAX;
    return slope == 0.0f ? -FLT_MAX : -INFINITY;
}

/* One vector; kind is a constant wherever this is called. */
CC_INLINE vf activate_vf(int kind, vf x, const activation_parameters *p)
{
    const vf zero = vf_zero(), one = vf_set1(1.0f);
    switch (kind) {
    case CC_RELU:
        return vf_max(zero, x);
    case CC_RELU_GENERAL: {
        const vf below = vf_fma(p->a, vf_max(p->least, vf_sub(x, p->c)), zero);
        return vf_select(vf_lt(p->c, x), vf_min(x, p->b), below);
    }
    case CC_LEAKY_RELU:
        return vf_select(vf_le(zero, x), x, vf_mul(p->a, x));
    case CC_LEAKY_DIVIDE:
        return vf_select(vf_le(zero, x), x, vf_div(x, p->a));
    case CC_ELU:
        return vf_select(vf_lt(zero, x), x, vf_mul(p->a, vf_expm1_negative(vf_at_most(x, 0.0f))));
    case CC_CELU: {
        /* What the quotient q loses, x - q a, comes back through the derivative, exp(q). */
        const vf bounded = vf_at_most(vf_max(p->least, x), 0.0f);
        const vf q = vf_div(bounded, p->a), y = vf_expm1_negative(q);
        const vf2 back = vf2_product(q, p->a);
        const vf lost = vf_sub(vf_sub(bounded, back.hi), back.lo);
        return vf_select(vf_lt(zero, x), x, vf_with_sign(vf_fma(p->a, y, vf_mul(lost, vf_add(one, y))), x));
    }
    case CC_SELU: {
        /* Klambauer et al. 2017: scale = 1.0507009873554805, alpha = 1.6732632423543772; each constant in
         * two floats. */
        const vf y = vf_expm1_negative(vf_at_most(x, 0.0f));
        const vf below = vf_fma(vf_set1(1.75809932f), y, vf_mul(vf_set1(2.32967174e-08f), y));
        return vf_select(vf_lt(zero, x), vf_mul(vf_set1(1.05070102f), x), below);
    }
    case CC_GELU:
        return vf_gelu(x);
    case CC_GELU_TANH:
        return vf_gelu_tanh(x);
    case CC_SILU:
        return vf_silu(x);
    case CC_SOFTPLUS:
        return vf_softplus(x);
    case CC_SOFTSIGN: {
        const vf bounded = vf_clamp(x, -FLT_MAX, FLT_MAX); /* inf/inf */
        return vf_div(bounded, vf_add(one, vf_abs(bounded)));
    }
    case CC_SIGMOID:
        return vf_sigmoid(x);
    case CC_HARD_SIGMOID:
        return vf_clamp(vf_fma(p->a, x, vf_set1(0.5f)), 0.0f, 1.0f);
    case CC_HARD_SILU: {
        /* (x + 3)/6, where x + 3 is exact near -3; x is bounded there, for -inf * 0 */
        const vf share = vf_div(vf_clamp(vf_add(x, vf_set1(3.0f)), 0.0f, 6.0f), vf_set1(6.0f));
        return vf_mul(vf_at_least(x, -3.0f), share);
    }
    case CC_TANH:
        return vf_tanh(x);
    case CC_EXPONENTIAL:
        return vf_exp(x);
    case CC_MISH:
        return vf_mish(x);
    default: /* CC_LINEAR */
        return x;
    }
}

/* kind and stream are constants; a streamed `out` is aligned, or n < VF_LANES. */
CC_INLINE void activate_kind(int kind, float *out, const float *in, int64_t n, const activation_parameters *p,
                             int stream)
{
    int64_t i = 0;
    for (; i + VF_LANES <= n; i += VF_LANES) {
        if (stream)
            vf_prefetch(in + i + PREFETCH_STREAMED);
        vf_put(out + i, activate_vf(kind, vf_load(in + i), p), stream);
    }
    if (i < n)
        vf_store_n(out + i, activate_vf(kind, vf_load_n(in + i, (int)(n - i)), p), (int)(n - i));
}

CC_INLINE void activate_any(float *out, const float *in, int64_t n, const cc_activation *a, int stream)
{
    const activation_parameters p = {vf_set1(a->parameter[0]), vf_set1(a->parameter[1]), vf_set1(a->parameter[2]),
                                     vf_set1(least_argument(a))};
    switch (a->kind) { /* one loop per kind: the choice is made here, not per vector */
#define CC_CASE(kind) \
    case kind: \
        activate_kind(kind, out, in, n, &p, stream); \
        break;
        CC_CASE(CC_RELU)
        CC_CASE(CC_RELU_GENERAL)
        CC_CASE(CC_LEAKY_RELU)
        CC_CASE(CC_LEAKY_DIVIDE)
        CC_CASE(CC_ELU)
        CC_CASE(CC_CELU)
        CC_CASE(CC_SELU)
        CC_CASE(CC_GELU)
        CC_CASE(CC_GELU_TANH)
        CC_CASE(CC_SILU)
        CC_CASE(CC_SOFTPLUS)
        CC_CASE(CC_SOFTSIGN)
        CC_CASE(CC_SIGMOID)
        CC_CASE(CC_HARD_SIGMOID)
        CC_CASE(CC_HARD_SILU)
        CC_CASE(CC_TANH)
        CC_CASE(CC_EXPONENTIAL)
        CC_CASE(CC_MISH)
#undef CC_CASE
    default: /* CC_LINEAR */
        if (out != in)
            memmove(out, in, (size_t)n * sizeof *out);
    }
}

/* out[i] = f(in[i]) for n contiguous floats; out may be in. */
__attribute__((unused)) static void activate_to(float *out, const float *in, int64_t n, const cc_activation *a)
{
    activate_any(out, in, n, a, 0);
}

/* p[i] = f(p[i]) for n contiguous floats: what a fused epilogue calls. */
__attribute__((unused)) static void activate(float *p, int64_t n, const cc_activation *a)
{
    if (a->kind != CC_LINEAR)
        activate_to(p, p, n, a);
}

#endif

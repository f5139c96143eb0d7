/* y = f(in (op) in2). An axis along which an operand repeats has ld = 0. */
#include "activation.h"
#include "elementwise.h"

/* One vector; operation is a constant wherever this is called. */
CC_INLINE vf combine_vf(int operation, vf a, vf b)
{
    switch (operation) {
    case CC_ADD:
        return vf_add(a, b);
    case CC_SUBTRACT:
        return vf_sub(a, b);
    case CC_MULTIPLY:
        return vf_mul(a, b);
    case CC_MAXIMUM: /* vf_max alone forgets a NaN in its first operand */
        return vf_select(vf_isnan(a), a, vf_max(a, b));
    case CC_MINIMUM:
        return vf_select(vf_isnan(a), a, vf_min(a, b));
    default: /* CC_PRELU */
        return vf_fma(b, vf_min(vf_zero(), a), vf_max(vf_zero(), a));
    }
}

/* A streamed y is aligned, or n < VF_LANES. */
CC_INLINE void combine_operation(int operation, float *y, const float *a, const float *b, int64_t n, int stream)
{
    int64_t i = 0;
    for (; i + VF_LANES <= n; i += VF_LANES)
        vf_put(y + i, combine_vf(operation, vf_load(a + i), vf_load(b + i)), stream);
    if (i < n) {
        const int rest = (int)(n - i);
        vf_store_n(y + i, combine_vf(operation, vf_load_n(a + i, rest), vf_load_n(b + i, rest)), rest);
    }
}

CC_INLINE void combine_any(int operation, float *y, const float *a, const float *b, int64_t n, int stream)
{
    switch (operation) { /* one loop per operation */
    case CC_ADD:
        combine_operation(CC_ADD, y, a, b, n, stream);
        break;
    case CC_SUBTRACT:
        combine_operation(CC_SUBTRACT, y, a, b, n, stream);
        break;
    case CC_MULTIPLY:
        combine_operation(CC_MULTIPLY, y, a, b, n, stream);
        break;
    case CC_MAXIMUM:
        combine_operation(CC_MAXIMUM, y, a, b, n, stream);
        break;
    case CC_MINIMUM:
        combine_operation(CC_MINIMUM, y, a, b, n, stream);
        break;
    default:
        combine_operation(CC_PRELU, y, a, b, n, stream);
    }
}

static void combine(int operation, float *y, const float *a, const float *b, int64_t n)
{
    combine_any(operation, y, a, b, n, 0);
}

static void combine_past_caches(int operation, float *y, const float *a, const float *b, int64_t n)
{
    combine_any(operation, y, a, b, n, 1);
}

void CC_FN(binary_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    void *const *buffers = call->buffers;
    const float *in = view_f32(&step->in, buffers), *in2 = view_f32(&step->in2, buffers);
    float *out = view_f32(&step->out, buffers);
    const int32_t last = step->out.rank - 1;
    const int64_t in_ld = step->in.ld[last], in2_ld = step->in2.ld[last], out_ld = step->out.ld[last];
    const int stream = step->detail[ELEMENTWISE_STREAM] != 0;
    _Alignas(64) float block[ELEMENTWISE_BLOCK], block2[ELEMENTWISE_BLOCK];
    elementwise_walk walk = {.view = {&step->in, &step->in2, &step->out}, .views = 3};

    for (int64_t item = begin; item < end; item++) {
        const elementwise_part part = elementwise_item(step, item);
        walk_start(&walk, part.row, part.column);
        for (int64_t row = part.row; row < part.row_end; row++, walk_next(&walk)) {
            const float *a = in + walk.offset[0], *b = in2 + walk.offset[1];
            float *y = out + walk.offset[2];
            for (int64_t i = 0, n; i < part.length; i += n) {
                n = block_length(y + i, part.length - i, stream);
                const float *left = gather(a + i * in_ld, in_ld, n, block);
                const float *right = gather(b + i * in2_ld, in2_ld, n, block2);
                if (stream && step->activation.kind == CC_LINEAR) {
                    combine_past_caches(step->binary, y + i, left, right, n);
                    continue;
                }
                float *result = out_ld == 1 && !stream ? y + i : block;
                combine(step->binary, result, left, right, n);
                activate(result, n, &step->activation);
                if (stream)
                    stream_floats(y + i, block, n);
                else if (out_ld != 1)
                    scatter(y + i * out_ld, out_ld, n, result);
            }
        }
    }
    if (stream)
        vf_fence();
}

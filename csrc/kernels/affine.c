/* y[r,c] = f(x[r,c]*scale[c] + offset[c]): batch normalisation that no convolution could swallow. */
#include "activation.h"
#include "elementwise.h"

CC_INLINE void affine(float *y, const float *x, const float *scale, const float *offset, int64_t n)
{
    int64_t i = 0;
    for (; i + VF_LANES <= n; i += VF_LANES)
        vf_store(y + i, vf_fma(vf_load(x + i), vf_load(scale + i), vf_load(offset + i)));
    if (i < n) {
        /* scale and offset are padded to whole vectors */
        const vf last = vf_load_n(x + i, (int)(n - i));
        vf_store_n(y + i, vf_fma(last, vf_load(scale + i), vf_load(offset + i)), (int)(n - i));
    }
}

void CC_FN(affine_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    void *const *buffers = call->buffers;
    const float *in = view_f32(&step->in, buffers);
    float *out = view_f32(&step->out, buffers);
    const int64_t *in_ld = step->in.ld, *out_ld = step->out.ld;
    const float *scale = step->weights, *offset = scale + step->packed_floats / 2;
    float block[ELEMENTWISE_BLOCK];

    for (int64_t item = begin; item < end; item++) {
        const elementwise_part part = elementwise_item(step, item);
        for (int64_t row = part.row; row < part.row_end; row++)
            for (int64_t i = 0; i < part.length; i += ELEMENTWISE_BLOCK) {
                const int64_t n = min_i64(ELEMENTWISE_BLOCK, part.length - i), c = part.column + i;
                const float *x = gather(in + row * in_ld[0] + c * in_ld[1], in_ld[1], n, block);
                float *y = out + row * out_ld[0] + c * out_ld[1];
                float *result = out_ld[1] == 1 ? y : block;
                affine(result, x, scale + c, offset + c, n);
                activate(result, n, &step->activation);
                if (out_ld[1] != 1)
                    scatter(y, out_ld[1], n, result);
            }
    }
}

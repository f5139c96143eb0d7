/* y[r,c] = f(x[r,c]*scale[c] + offset[c]): batch normalisation that no convolution could swallow. Rows that
 * follow each other in memory have been joined to one. */
#include "activation.h"
#include "elementwise.h"

/* A streamed y is aligned, or n < VF_LANES; stream is a constant. */
CC_INLINE void affine(float *y, const float *x, const float *scale, const float *offset, int64_t n, int stream)
{
    int64_t i = 0;
    for (; i + VF_LANES <= n; i += VF_LANES) {
        if (stream)
            vf_prefetch(x + i + PREFETCH_STREAMED);
        vf_put(y + i, vf_fma(vf_load(x + i), vf_load(scale + i), vf_load(offset + i)), stream);
    }
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
    const int32_t last = step->out.rank - 1;
    const int64_t in_ld = step->in.ld[last], out_ld = step->out.ld[last];
    const int64_t channels = step->detail[AFFINE_CHANNELS];
    const float *scale = step->weights, *offset = scale + step->packed_floats / 2;
    const int stream = step->detail[ELEMENTWISE_STREAM] != 0;
    _Alignas(64) float block[ELEMENTWISE_BLOCK];
    elementwise_walk walk = {.view = {&step->in, &step->out}, .views = 2};

    for (int64_t item = begin; item < end; item++) {
        const elementwise_part part = elementwise_item(step, item);
        walk_start(&walk, part.row, part.column);
        for (int64_t row = part.row; row < part.row_end; row++, walk_next(&walk))
            for (int64_t i = 0, n; i < part.length; i += n) {
                const int64_t c = (part.column + i) % channels;
                float *y = out + walk.offset[1] + i * out_ld;
                n = block_length(y, part.length - i, stream);
                const float *x = gather(in + walk.offset[0] + i * in_ld, in_ld, n, block);
                if (stream && step->activation.kind == CC_LINEAR) {
                    affine(y, x, scale + c, offset + c, n, 1);
                    continue;
                }
                float *result = out_ld == 1 && !stream ? y : block;
                affine(result, x, scale + c, offset + c, n, 0);
                activate(result, n, &step->activation);
                if (stream)
                    stream_floats(y, block, n);
                else if (out_ld != 1)
                    scatter(y, out_ld, n, result);
            }
    }
    if (stream)
        vf_fence();
}

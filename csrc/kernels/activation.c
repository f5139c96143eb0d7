/* y = f(x). */
#include "activation.h"
#include "elementwise.h"

static void activate_past_caches(float *out, const float *in, int64_t n, const cc_activation *a)
{
    activate_any(out, in, n, a, 1);
}

void CC_FN(activation_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    void *const *buffers = call->buffers;
    const float *in = view_f32(&step->in, buffers);
    float *out = view_f32(&step->out, buffers);
    const int32_t last = step->out.rank - 1;
    const int64_t in_ld = step->in.ld[last], out_ld = step->out.ld[last];
    const int stream = step->detail[ELEMENTWISE_STREAM] != 0;
    float block[ELEMENTWISE_BLOCK];
    elementwise_walk walk = {.view = {&step->in, &step->out}, .views = 2};

    for (int64_t item = begin; item < end; item++) {
        const elementwise_part part = elementwise_item(step, item);
        walk_start(&walk, part.row, part.column);
        for (int64_t row = part.row; row < part.row_end; row++, walk_next(&walk))
            for (int64_t i = 0, n; i < part.length; i += n) {
                float *y = out + walk.offset[1] + i * out_ld;
                n = block_length(y, part.length - i, stream);
                const float *x = gather(in + walk.offset[0] + i * in_ld, in_ld, n, block);
                if (stream) {
                    activate_past_caches(y, x, n, &step->activation);
                } else if (out_ld == 1) {
                    activate_to(y, x, n, &step->activation);
                } else {
                    activate_to(block, x, n, &step->activation);
                    scatter(y, out_ld, n, block);
                }
            }
    }
    if (stream)
        vf_fence();
}

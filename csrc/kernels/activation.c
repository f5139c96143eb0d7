/* y = f(x). */
#include "activation.h"

#include "elementwise.h"

void CC_FN(activation_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    void *const *buffers = call->buffers;
    const float *in = view_f32(&step->in, buffers);
    float *out = view_f32(&step->out, buffers);
    const int32_t last = step->out.rank - 1;
    const int64_t in_ld = step->in.ld[last], out_ld = step->out.ld[last];
    float block[ELEMENTWISE_BLOCK];
    elementwise_walk walk = {.view = {&step->in, &step->out}, .views = 2};

    for (int64_t item = begin; item < end; item++) {
        const elementwise_part part = elementwise_item(step, item);
        walk_start(&walk, part.row, part.column);
        for (int64_t row = part.row; row < part.row_end; row++, walk_next(&walk)) {
            const float *x = in + walk.offset[0];
            float *y = out + walk.offset[1];
            if (in_ld == 1 && out_ld == 1) {
                activate_to(y, x, part.length, &step->activation);
                continue;
            }
            for (int64_t i = 0; i < part.length; i += ELEMENTWISE_BLOCK) {
                const int64_t n = min_i64(ELEMENTWISE_BLOCK, part.length - i);
                activate_to(block, gather(x + i * in_ld, in_ld, n, block), n, &step->activation);
                scatter(y + i * out_ld, out_ld, n, block);
            }
        }
    }
}

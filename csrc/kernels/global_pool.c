/* Global pooling: the largest, or the mean, value of each channel of each image. An item is one image's
 * block of GLOBAL_CHANNELS channels, so no sum is ever split.
 *
 * The mean adds up in a fixed order, cells into a row sum, row sums into a plane sum, plane sums into
 * the total, and divides once: its error is at most (w + h + d) * 2^-24 * mean(|x|), where one running
 * sum would give w*h*d in place of w + h + d. */
#include "items.h"
#include "window.h"

enum { BLOCK = 4 }; /* vectors of channels folded together, to hide the latency of an addition */

CC_INLINE void global_max(const cc_view *in, const float *x, int64_t ld_c, vf *result, int vectors, int n)
{
    vf top[BLOCK];
    vm nan[BLOCK];
    for (int v = 0; v < vectors; v++) {
        top[v] = vf_set1(-INFINITY);
        nan[v] = vf_isnan(top[v]); /* nowhere */
    }
    for (int64_t d = 0; d < in->shape[D]; d++)
        for (int64_t h = 0; h < in->shape[H]; h++)
            for (int64_t w = 0; w < in->shape[W]; w++) {
                const float *p = x + d * in->ld[D] + h * in->ld[H] + w * in->ld[W];
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++) {
                    const vf cell = load_channels(p + v * VF_LANES * ld_c, ld_c, n);
                    nan[v] = vm_or(nan[v], vf_isnan(cell)); /* vf_max forgets them */
                    top[v] = vf_max(top[v], cell);
                }
            }
    for (int v = 0; v < vectors; v++)
        result[v] = vf_select(nan[v], vf_set1(NAN), top[v]);
}

CC_INLINE void global_mean(const cc_view *in, const float *x, int64_t ld_c, vf *result, int vectors, int n)
{
    vf total[BLOCK], plane[BLOCK], row[BLOCK];
    for (int v = 0; v < vectors; v++)
        total[v] = vf_zero();
    for (int64_t d = 0; d < in->shape[D]; d++) {
        for (int v = 0; v < vectors; v++)
            plane[v] = vf_zero();
        for (int64_t h = 0; h < in->shape[H]; h++) {
            for (int v = 0; v < vectors; v++)
                row[v] = vf_zero();
            const float *line = x + d * in->ld[D] + h * in->ld[H];
            for (int64_t w = 0; w < in->shape[W]; w++)
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    row[v] = vf_add(row[v], load_channels(line + w * in->ld[W] + v * VF_LANES * ld_c, ld_c, n));
            for (int v = 0; v < vectors; v++)
                plane[v] = vf_add(plane[v], row[v]);
        }
        for (int v = 0; v < vectors; v++)
            total[v] = vf_add(total[v], plane[v]);
    }
    const vf cells = vf_set1((float)(in->shape[D] * in->shape[H] * in->shape[W]));
    for (int v = 0; v < vectors; v++)
        result[v] = vf_div(total[v], cells);
}

/* `mean`, the two channel steps and `vectors` are constants on the fast path. */
CC_INLINE void fold_channels(const cc_view *in, const float *x, int64_t in_ld_c, float *y, int64_t out_ld_c,
                             int vectors, int n, int mean)
{
    vf result[BLOCK];
    if (mean)
        global_mean(in, x, in_ld_c, result, vectors, n);
    else
        global_max(in, x, in_ld_c, result, vectors, n);
    for (int v = 0; v < vectors; v++)
        store_channels(y + v * VF_LANES * out_ld_c, out_ld_c, n, result[v]);
}

CC_INLINE void fold_block(const cc_view *in, const float *x, int64_t in_ld_c, float *y, int64_t out_ld_c,
                          int64_t channels, int mean)
{
    int64_t c = 0;
    for (; c + BLOCK * VF_LANES <= channels; c += BLOCK * VF_LANES)
        fold_channels(in, x + c * in_ld_c, in_ld_c, y + c * out_ld_c, out_ld_c, BLOCK, VF_LANES, mean);
    for (; c + VF_LANES <= channels; c += VF_LANES)
        fold_channels(in, x + c * in_ld_c, in_ld_c, y + c * out_ld_c, out_ld_c, 1, VF_LANES, mean);
    if (c < channels)
        fold_channels(in, x + c * in_ld_c, in_ld_c, y + c * out_ld_c, out_ld_c, 1, (int)(channels - c), mean);
}

CC_INLINE void global_pool(const cc_step *step, void *const *buffers, int64_t begin, int64_t end, int mean)
{
    const cc_view *in = &step->in, *out = &step->out;
    const int64_t blocks = global_channel_blocks(in->shape[C]);
    for (int64_t item = begin; item < end; item++) {
        const int64_t n = item / blocks, c = item % blocks * GLOBAL_CHANNELS;
        const int64_t channels = min_i64(GLOBAL_CHANNELS, in->shape[C] - c);
        const float *x = view_f32(in, buffers) + n * in->ld[0] + c * in->ld[C];
        float *y = view_f32(out, buffers) + n * out->ld[0] + c * out->ld[C];
        if (in->ld[C] == 1 && out->ld[C] == 1)
            fold_block(in, x, 1, y, 1, channels, mean);
        else
            fold_block(in, x, in->ld[C], y, out->ld[C], channels, mean);
    }
}

void CC_FN(global_max_pool_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    void *const *buffers = call->buffers;
    global_pool(step, buffers, begin, end, 0);
}

void CC_FN(global_average_pool_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    void *const *buffers = call->buffers;
    global_pool(step, buffers, begin, end, 1);
}

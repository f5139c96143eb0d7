/* Max and average pooling. An item is one output row.
 *
 * Windows are clipped to the input, so padding is never read. Every output folds the cells of its window
 * in row-major order (d, h, w), starting from -inf or 0: the same bits wherever its channel falls in a
 * vector. The average is that sum divided - not multiplied by a reciprocal - by the number of cells, so
 * its error is at most cells * 2^-24 * mean(|x|). */
#include "window.h"

enum { BLOCK = 4 }; /* vectors of channels folded together, to hide latency and share addresses */

typedef struct pool_cells {
    int64_t d, h, w;          /* cells of the window that lie inside the input */
    int64_t ld_d, ld_h, ld_w; /* of the input */
    float divisor;
    int stream; /* whole vectors of the output are aligned, and go past the caches */
} pool_cells;

CC_INLINE void store_pooled(const pool_cells *cells, float *y, int64_t ld_c, int n, vf x)
{
    if (cells->stream && n == VF_LANES)
        vf_stream(y, x);
    else
        store_channels(y, ld_c, n, x);
}

/* One output pixel, `vectors` (a constant) times n lanes of channels; x is the first cell inside. */
CC_INLINE void pool_max(const pool_cells *cells, const float *x, int64_t in_ld_c, float *y, int64_t out_ld_c,
                        int vectors, int n)
{
    vf top[BLOCK];
    vm nan[BLOCK];
    for (int v = 0; v < vectors; v++) {
        top[v] = vf_set1(-INFINITY);
        nan[v] = vf_isnan(top[v]); /* nowhere */
    }
    for (int64_t d = 0; d < cells->d; d++)
        for (int64_t h = 0; h < cells->h; h++) {
            const float *line = x + d * cells->ld_d + h * cells->ld_h;
            for (int64_t w = 0; w < cells->w; w++)
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++) {
                    const vf cell = load_channels(line + w * cells->ld_w + v * VF_LANES * in_ld_c, in_ld_c, n);
                    /* The maximum forgets a NaN when the next cell comes, so NaNs are noted apart. */
                    nan[v] = vm_or(nan[v], vf_isnan(cell));
                    top[v] = vf_max(top[v], cell);
                }
        }
    for (int v = 0; v < vectors; v++)
        store_pooled(cells, y + v * VF_LANES * out_ld_c, out_ld_c, n, vf_select(nan[v], vf_set1(NAN), top[v]));
}

CC_INLINE void pool_average(const pool_cells *cells, const float *x, int64_t in_ld_c, float *y, int64_t out_ld_c,
                            int vectors, int n)
{
    vf sum[BLOCK];
    for (int v = 0; v < vectors; v++)
        sum[v] = vf_zero();
    for (int64_t d = 0; d < cells->d; d++)
        for (int64_t h = 0; h < cells->h; h++) {
            const float *line = x + d * cells->ld_d + h * cells->ld_h;
            for (int64_t w = 0; w < cells->w; w++)
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    sum[v] = vf_add(
                        sum[v], load_channels(line + w * cells->ld_w + v * VF_LANES * in_ld_c, in_ld_c, n));
        }
    const vf divisor = vf_set1(cells->divisor);
    for (int v = 0; v < vectors; v++)
        store_pooled(cells, y + v * VF_LANES * out_ld_c, out_ld_c, n, vf_div(sum[v], divisor));
}

CC_INLINE void pool(const pool_cells *cells, const float *x, int64_t in_ld_c, float *y, int64_t out_ld_c, int vectors,
                    int n, int average)
{
    if (average)
        pool_average(cells, x, in_ld_c, y, out_ld_c, vectors, n);
    else
        pool_max(cells, x, in_ld_c, y, out_ld_c, vectors, n);
}

/* All channels of one output pixel; `average`, in_ld_c and out_ld_c are constants on the fast path. */
CC_INLINE void pool_pixel(const pool_cells *cells, const float *x, int64_t in_ld_c, float *y, int64_t out_ld_c,
                          int64_t channels, int average)
{
    int64_t c = 0;
    for (; c + BLOCK * VF_LANES <= channels; c += BLOCK * VF_LANES)
        pool(cells, x + c * in_ld_c, in_ld_c, y + c * out_ld_c, out_ld_c, BLOCK, VF_LANES, average);
    for (; c + VF_LANES <= channels; c += VF_LANES)
        pool(cells, x + c * in_ld_c, in_ld_c, y + c * out_ld_c, out_ld_c, 1, VF_LANES, average);
    if (c < channels)
        pool(cells, x + c * in_ld_c, in_ld_c, y + c * out_ld_c, out_ld_c, 1, (int)(channels - c), average);
}

CC_INLINE void pool_rows(const cc_step *step, void *const *buffers, int64_t begin, int64_t end, int average)
{
    const cc_view *in = &step->in, *out = &step->out;
    const int64_t *kernel = step->window.kernel, channels = out->shape[C];
    const int64_t window = kernel[0] * kernel[1] * kernel[2];
    const int stream = streams_whole_vectors(step, buffers);
    for (int64_t item = begin; item < end; item++) {
        const cc_row row = row_of_item(out, item);
        const cc_taps d = clip_taps(step, 0, row.d), h = clip_taps(step, 1, row.h);
        pool_cells cells = {.d = d.end - d.begin,
                            .h = h.end - h.begin,
                            .ld_d = in->ld[D],
                            .ld_h = in->ld[H],
                            .ld_w = in->ld[W],
                            .stream = stream};
        const float *x_row = view_f32(in, buffers) + row.n * in->ld[0] + (d.start + d.begin) * in->ld[D] +
                             (h.start + h.begin) * in->ld[H];
        float *y_row = view_f32(out, buffers) + row.n * out->ld[0] + row.d * out->ld[D] + row.h * out->ld[H];
        for (int64_t ow = 0; ow < out->shape[W]; ow++) {
            const cc_taps w = clip_taps(step, 2, ow);
            cells.w = w.end - w.begin;
            cells.divisor = (float)(step->include_padding ? window : cells.d * cells.h * cells.w);
            const float *x = x_row + (w.start + w.begin) * in->ld[W];
            float *y = y_row + ow * out->ld[W];
            if (in->ld[C] == 1 && out->ld[C] == 1)
                pool_pixel(&cells, x, 1, y, 1, channels, average);
            else
                pool_pixel(&cells, x, in->ld[C], y, out->ld[C], channels, average);
        }
    }
    if (stream)
        vf_fence();
}

void CC_FN(max_pool_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    void *const *buffers = call->buffers;
    pool_rows(step, buffers, begin, end, 0);
}

void CC_FN(average_pool_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    void *const *buffers = call->buffers;
    pool_rows(step, buffers, begin, end, 1);
}

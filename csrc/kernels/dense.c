/* Dense layers: y[r,f] = b[f] + sum over c of x[r,c] * w[c,f].
 *
 * With few rows this is nothing but a stream of weights, so each panel (32 output channels, packed as for a
 * convolution) is read once, in order, whole lines at a time, however many rows there are: its channels are
 * taken in blocks of PARTIAL_PRODUCTS, and a block, 64 KiB, stays in the L2 cache while all rows of the item
 * go over it. Sums are those of tile.h: bias, then channels in order, in partial sums of PARTIAL_PRODUCTS.
 *
 * DENSE_VECTORS x DENSE_ROWS registers hold accumulators: 2 x 14 of 32 on AVX-512, 4 x 3 of 16 on AVX2,
 * 8 x 1 of 16 on SSE2. An item is one panel and up to DENSE_MOST_ROWS rows. */
#include "../conv_geometry.h"
#include "activation.h"
#include "kernel.h"

#if VF_LANES == 16
enum { DENSE_VECTORS = 2, DENSE_ROWS = 14 };
#elif VF_LANES == 8
enum { DENSE_VECTORS = 4, DENSE_ROWS = 3 };
#else
enum { DENSE_VECTORS = 8, DENSE_ROWS = 1 };
#endif
enum { DENSE_WIDTH = DENSE_VECTORS * VF_LANES, DENSE_MOST_ROWS = 96 };

/* So far ahead of the weights being read; the hardware's own prefetcher stops at each 4 KiB page. */
enum { PREFETCH_FLOATS = 4096 / sizeof(float) };

/* nr rows, DENSE_WIDTH outputs, `channels` products each. Sums begin at `bias`, or, where that is NULL, the
 * products are added to the sums so far. nr and stream, which says that the weights come from memory, are constants. */
CC_INLINE void dense_tile(const int nr, const int stream, const float *x, int64_t ldx, const float *w,
                          int64_t channels, const float *bias, float *sums)
{
    vf acc[DENSE_ROWS][DENSE_VECTORS];
#pragma GCC unroll 16
    for (int t = 0; t < nr; t++)
#pragma GCC unroll 8
        for (int v = 0; v < DENSE_VECTORS; v++)
            acc[t][v] = bias ? vf_load(bias + v * VF_LANES) : vf_zero();
#pragma GCC unroll 2
    for (int64_t c = 0; c < channels; c++, w += CC_PANEL) {
        if (stream)
#pragma GCC unroll 2
            for (int line = 0; line < CC_PANEL; line += CC_BLOCK)
                vf_prefetch(w + PREFETCH_FLOATS + line);
        vf input[DENSE_ROWS];
#pragma GCC unroll 16
        for (int t = 0; t < nr; t++)
            input[t] = vf_set1(x[t * ldx + c]);
#pragma GCC unroll 8
        for (int v = 0; v < DENSE_VECTORS; v++) {
            const vf weights = vf_load(w + v * VF_LANES);
#pragma GCC unroll 16
            for (int t = 0; t < nr; t++)
                acc[t][v] = vf_fma(weights, input[t], acc[t][v]);
        }
    }
#pragma GCC unroll 16
    for (int t = 0; t < nr; t++)
#pragma GCC unroll 8
        for (int v = 0; v < DENSE_VECTORS; v++) {
            float *sum = sums + t * CC_PANEL + v * VF_LANES;
            vf_store(sum, bias ? acc[t][v] : vf_add(vf_load(sum), acc[t][v]));
        }
}

typedef void (*dense_fn)(const float *x, int64_t ldx, const float *w, int64_t channels, const float *bias,
                         float *sums);

#define DENSE_DEFINE(nr)                                                                                      \
    static __attribute__((noinline)) void dense_##nr(const float *x, int64_t ldx, const float *w,             \
                                                     int64_t channels, const float *bias, float *sums)        \
    {                                                                                                         \
        dense_tile(nr, 0, x, ldx, w, channels, bias, sums);                                                   \
    }                                                                                                         \
    static __attribute__((noinline)) void dense_##nr##_stream(const float *x, int64_t ldx, const float *w,    \
                                                              int64_t channels, const float *bias, float *sums) \
    {                                                                                                         \
        dense_tile(nr, 1, x, ldx, w, channels, bias, sums);                                                   \
    }
#define DENSE_PAIR(nr) {dense_##nr, dense_##nr##_stream}
DENSE_DEFINE(1)
#if VF_LANES >= 8
DENSE_DEFINE(2) DENSE_DEFINE(3)
#endif
#if VF_LANES == 16
DENSE_DEFINE(4) DENSE_DEFINE(5) DENSE_DEFINE(6) DENSE_DEFINE(7) DENSE_DEFINE(8) DENSE_DEFINE(9)
DENSE_DEFINE(10) DENSE_DEFINE(11) DENSE_DEFINE(12) DENSE_DEFINE(13) DENSE_DEFINE(14)
#endif

static const dense_fn dense_tiles[DENSE_ROWS + 1][2] = {
    {0, 0}, DENSE_PAIR(1),
#if VF_LANES >= 8
    DENSE_PAIR(2), DENSE_PAIR(3),
#endif
#if VF_LANES == 16
    DENSE_PAIR(4), DENSE_PAIR(5), DENSE_PAIR(6), DENSE_PAIR(7), DENSE_PAIR(8), DENSE_PAIR(9),
    DENSE_PAIR(10), DENSE_PAIR(11), DENSE_PAIR(12), DENSE_PAIR(13), DENSE_PAIR(14),
#endif
};

/* All rows of an item over one block of a panel's channels. The first to come streams the weights in. */
static void dense_block(const float *x, int64_t ldx, const float *w, int64_t channels, const float *bias,
                        int64_t rows, float *sums)
{
    const int64_t parts = (rows + DENSE_ROWS - 1) / DENSE_ROWS, part = rows / parts, longer = rows % parts;
    for (int64_t i = 0, row = 0; i < parts; i++) {
        const int64_t nr = part + (i < longer); /* an even split: 16 is 8 + 8, not 14 + 2 */
        for (int64_t o = 0; o < CC_PANEL; o += DENSE_WIDTH)
            dense_tiles[nr][i == 0 && o == 0](x + row * ldx, ldx, w + o, channels, bias ? bias + o : NULL,
                                              sums + row * CC_PANEL + o);
        row += nr;
    }
}

void CC_FN(dense_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    const cc_conv_geometry *g = conv_geometry(step);
    void *const *buffers = call->buffers;
    const int64_t ldx = g->x_ld[2], ldy = g->y_ld[2];
    _Alignas(64) float sums[DENSE_MOST_ROWS * CC_PANEL];
    for (int64_t item = begin; item < end; item++) {
        const int64_t panel = item / g->chunks, first = item % g->chunks * g->chunk;
        const int64_t rows = min_i64(g->out_w - first, g->chunk), oc0 = panel * CC_PANEL;
        const float *x = view_f32(&step->in, buffers) + first * ldx;
        const float *bias = step->weights + panel * cc_panel_floats(step), *w = bias + CC_PANEL;
        for (int64_t c = 0; c == 0 || c < g->ic; c += PARTIAL_PRODUCTS)
            dense_block(x + c, ldx, w + c * CC_PANEL, min_i64(PARTIAL_PRODUCTS, g->ic - c), c == 0 ? bias : NULL,
                        rows, sums);
        float *y = view_f32(&step->out, buffers) + first * ldy + oc0;
        const int64_t width = min_i64(CC_PANEL, g->oc - oc0);
        for (int64_t t = 0; t < rows; t++)
            activate_to(y + t * ldy, sums + t * CC_PANEL, width, &step->activation);
    }
}

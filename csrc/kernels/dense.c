/* Dense layers: y[r,f] = b[f] + sum over c of x[r,c] * w[c,f].
 *
 * With few rows this is nothing but a stream of weights, so each panel (32 output channels, packed as for a
 * convolution) is read once, in order, however many rows there are: its channels are taken in blocks of
 * PARTIAL_PRODUCTS, and a block, 64 KiB, stays in the L2 cache while all rows of the item go over it, a tile of
 * rows at a time. Meanwhile every tile fetches its share of the block after it, so that memory is never idle. Sums
 * are those of tile.h: bias, then channels in order, in partial sums of PARTIAL_PRODUCTS.
 *
 * DENSE_VECTORS x DENSE_ROWS registers hold accumulators: 2 x 14 of 32 on AVX-512, 4 x 3 of 16 on AVX2,
 * 8 x 1 of 16 on SSE2, 4 x 5 of 32 on NEON. An item is one panel and up to DENSE_MOST_ROWS rows. */
#include "../conv_geometry.h"
#include "activation.h"
#include "kernel.h"

#if VF_LANES == 16
#define DENSE_ROWS 14
enum { DENSE_VECTORS = 2 };
#elif VF_LANES == 8
#define DENSE_ROWS 3
enum { DENSE_VECTORS = 4 };
#elif VF_REGISTERS == 32
#define DENSE_ROWS 5
enum { DENSE_VECTORS = 4 };
#else
#define DENSE_ROWS 1
enum { DENSE_VECTORS = 8 };
#endif
enum { DENSE_WIDTH = DENSE_VECTORS * VF_LANES, DENSE_MOST_ROWS = 96 };

/* So far ahead of the weights being read, where a block is read once; the hardware's own prefetcher stops at each
 * 4 KiB page. */
enum { PREFETCH_BYTES = 4096, LINE = 64 };

/* Where a tile's sums begin and end. */
typedef struct dense_ends {
    const float *bias; /* NULL: there are sums of earlier channels, */
    float *sums;       /* here, CC_PANEL from row to row */
    float *y;          /* NULL: more channels will follow, and sums go back there */
    int64_t ldy;
    int width;         /* valid outputs */
    int relu;
} dense_ends;

/* nr rows, vectors * VF_LANES outputs, `channels` products each; nr and vectors are constants. Memory from `next` on
 * is fetched, `next_step` bytes for each channel: none, up to a cache line, or two lines. */
CC_INLINE void dense_tile(const int nr, const int vectors, const float *x, int64_t ldx, const float *w,
                          int64_t channels, const char *next, int64_t next_step, const dense_ends *ends)
{
    vf acc[DENSE_ROWS][DENSE_VECTORS];
#pragma GCC unroll 16
    for (int t = 0; t < nr; t++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            acc[t][v] = ends->bias ? vf_load(ends->bias + v * VF_LANES) : vf_zero();
    for (int64_t c = 0; c < channels; c++, w += CC_PANEL) {
        if (next_step > 0) {
            vf_prefetch_l2(next);
            if (next_step > LINE)
                vf_prefetch_l2(next + LINE);
            next += next_step;
        }
        if (nr <= vectors) { /* few rows: their inputs stay in registers, and weights pass */
            vf input[DENSE_ROWS];
#pragma GCC unroll 16
            for (int t = 0; t < nr; t++)
                input[t] = vf_set1(x[t * ldx + c]);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) {
                const vf weights = vf_load(w + v * VF_LANES);
#pragma GCC unroll 16
                for (int t = 0; t < nr; t++)
                    acc[t][v] = vf_fma(weights, input[t], acc[t][v]);
            }
        } else {
            vf weights[DENSE_VECTORS];
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++)
                weights[v] = vf_load(w + v * VF_LANES);
#pragma GCC unroll 16
            for (int t = 0; t < nr; t++) {
                const vf input = vf_set1(x[t * ldx + c]);
#pragma GCC unroll 8
                for (int v = 0; v < vectors; v++)
                    acc[t][v] = vf_fma(weights[v], input, acc[t][v]);
            }
        }
    }
    if (!ends->bias)
#pragma GCC unroll 16
        for (int t = 0; t < nr; t++)
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++)
                acc[t][v] = vf_add(vf_load(ends->sums + t * CC_PANEL + v * VF_LANES), acc[t][v]);
    if (!ends->y) {
#pragma GCC unroll 16
        for (int t = 0; t < nr; t++)
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++)
                vf_store(ends->sums + t * CC_PANEL + v * VF_LANES, acc[t][v]);
        return;
    }
    if (ends->relu)
#pragma GCC unroll 16
        for (int t = 0; t < nr; t++)
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++)
                acc[t][v] = vf_max(vf_zero(), acc[t][v]); /* zero first: NaN stays NaN */
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) {
        const int left = ends->width - v * VF_LANES;
        float *const y = ends->y + v * VF_LANES;
        if (left >= VF_LANES) { /* masked stores are slow on some */
#pragma GCC unroll 16
            for (int t = 0; t < nr; t++)
                vf_store(y + t * ends->ldy, acc[t][v]);
        } else if (left > 0) {
#pragma GCC unroll 16
            for (int t = 0; t < nr; t++)
                vf_store_n(y + t * ends->ldy, acc[t][v], left);
        }
    }
}

typedef void (*dense_fn)(const float *x, int64_t ldx, const float *w, int64_t channels, const char *next,
                         int64_t next_step, const dense_ends *ends);

#define DENSE_DEFINE(nr, name, vectors)                                                                     \
    static __attribute__((noinline)) void dense_##nr##_##name(const float *x, int64_t ldx, const float *w,  \
                                                              int64_t channels, const char *next,           \
                                                              int64_t next_step, const dense_ends *ends)    \
    {                                                                                                       \
        dense_tile(nr, vectors, x, ldx, w, channels, next, next_step, ends);                                \
    }
#define DENSE_BOTH(nr) DENSE_DEFINE(nr, full, DENSE_VECTORS) DENSE_DEFINE(nr, narrow, DENSE_VECTORS / 2)
#define DENSE_PAIR(nr) {dense_##nr##_full, dense_##nr##_narrow}
DENSE_BOTH(1)
#if DENSE_ROWS > 1
DENSE_BOTH(2) DENSE_BOTH(3)
#endif
#if DENSE_ROWS > 3
DENSE_BOTH(4) DENSE_BOTH(5)
#endif
#if DENSE_ROWS > 5
DENSE_BOTH(6) DENSE_BOTH(7) DENSE_BOTH(8) DENSE_BOTH(9)
DENSE_BOTH(10) DENSE_BOTH(11) DENSE_BOTH(12) DENSE_BOTH(13) DENSE_BOTH(14)
#endif

static const dense_fn dense_tiles[DENSE_ROWS + 1][2] = {
    {0}, DENSE_PAIR(1),
#if DENSE_ROWS > 1
    DENSE_PAIR(2), DENSE_PAIR(3),
#endif
#if DENSE_ROWS > 3
    DENSE_PAIR(4), DENSE_PAIR(5),
#endif
#if DENSE_ROWS > 5
    DENSE_PAIR(6), DENSE_PAIR(7), DENSE_PAIR(8), DENSE_PAIR(9),
    DENSE_PAIR(10), DENSE_PAIR(11), DENSE_PAIR(12), DENSE_PAIR(13), DENSE_PAIR(14),
#endif
};

/* Of so few channels a panel's weights, 128 KiB, stay in the L2 cache from item to item. */
enum { FEW_CHANNELS = 1024 };

/* All rows of an item over one block of a panel's channels. */
static void dense_block(const float *x, int64_t ldx, const float *w, int64_t channels, int64_t rows, int stream,
                        const dense_ends *item)
{
    const int64_t parts = (rows + DENSE_ROWS - 1) / DENSE_ROWS, part = rows / parts, longer = rows % parts;
    const int64_t row_bytes = CC_PANEL * sizeof(float), share = stream ? (row_bytes + parts - 1) / parts : 0;
    const char *const next = (const char *)w + (parts == 1 ? PREFETCH_BYTES : channels * row_bytes);
    for (int64_t i = 0, row = 0; i < parts; i++) {
        const int64_t nr = part + (i < longer); /* an even split: 16 is 8 + 8, not 14 + 2 */
        for (int o = 0; o < item->width; o += DENSE_WIDTH) {
            const dense_ends ends = {
                .bias = item->bias ? item->bias + o : NULL,
                .sums = item->sums + row * CC_PANEL + o,
                .y = item->y ? item->y + row * item->ldy + o : NULL,
                .ldy = item->ldy,
                .width = item->width - o,
                .relu = item->relu,
            };
            dense_tiles[nr][ends.width <= DENSE_WIDTH / 2](x + row * ldx, ldx, w + o, channels,
                                                           next + i * share * channels, share, &ends);
        }
        row += nr;
    }
}

void CC_FN(dense_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    const cc_conv_geometry *g = conv_geometry(step);
    void *const *buffers = call->buffers;
    const int64_t ldx = g->x_ld[2], ldy = g->y_ld[2];
    const int relu = step->activation.kind == CC_RELU;
    _Alignas(64) float sums[DENSE_MOST_ROWS * CC_PANEL];
    for (int64_t item = begin; item < end; item++) {
        const int64_t panel = item / g->chunks, first = item % g->chunks * g->chunk;
        const int64_t rows = min_i64(g->out_w - first, g->chunk), oc0 = panel * CC_PANEL;
        const int64_t width = min_i64(CC_PANEL, g->oc - oc0);
        const float *x = view_f32(&step->in, buffers) + first * ldx;
        const float *bias = step->weights + panel * cc_panel_floats(step), *w = bias + CC_PANEL;
        float *y = view_f32(&step->out, buffers) + first * ldy + oc0;
        for (int64_t c = 0; c < g->ic; c += PARTIAL_PRODUCTS) {
            const int last = c + PARTIAL_PRODUCTS >= g->ic;
            const dense_ends ends = {c == 0 ? bias : NULL, sums, last ? y : NULL, ldy, (int)width, relu};
            dense_block(x + c, ldx, w + c * CC_PANEL, min_i64(PARTIAL_PRODUCTS, g->ic - c), rows,
                        g->ic > FEW_CHANNELS, &ends);
        }
        if (relu)
            continue;
        if (ldy == width) /* rows side by side: one run */
            activate(y, rows * width, &step->activation);
        else
            for (int64_t t = 0; t < rows; t++)
                activate(y + t * ldy, width, &step->activation);
    }
}

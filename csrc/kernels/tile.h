/* The core primitive: a batch-reduce GEMM micro-kernel.
 *
 *     y[t][0..width) = bias + sum over taps k, channels c:  x[t*ldx + offset(k) + c] * w[k][c][0..width)
 *
 * for nr columns t (output pixels, or samples), width <= TILE_WIDTH output channels. Every output is one
 * sum in one order - bias, then taps in row-major order, channels within - whatever the tile it falls
 * in. Accumulators stay in registers, and are added to a second set in memory after every
 * PARTIAL_PRODUCTS products: rounding errors of a sum of k terms grow like sqrt(k), of k/512 partial
 * sums like sqrt(512) + sqrt(k/512). It costs one addition in 512 and makes VGG16 twice as exact.
 *
 * TILE_VECTORS x TILE_COLUMNS registers hold accumulators: 2 x 14 of 32 on AVX-512, 2 x 6 of 16 on
 * AVX2, 2 x 4 of 16 on SSE2 (which needs spare registers for products). Two vectors of weights are
 * loaded and nr inputs broadcast per 2*nr multiply-adds, so arithmetic, not loading, is the limit. */
#ifndef CC_TILE_H
#define CC_TILE_H

#include "../conv_geometry.h"
#include "activation.h"
#include "kernel.h"

#if VF_LANES == 16
#define TILE_COLUMNS 14
#elif VF_LANES == 8
#define TILE_COLUMNS 6
#else
#define TILE_COLUMNS 4
#endif
enum { TILE_VECTORS = 2, TILE_WIDTH = TILE_VECTORS * VF_LANES };

/* Bytes ahead of the weights being read. A batch-1 dense layer is nothing but this stream, and the
 * hardware's own prefetcher stops at each 4 KiB page. */
enum { PREFETCH_FLOATS = 4096 / sizeof(float) };

enum { PARTIAL_PRODUCTS = 512 };

typedef struct reduction {
    int64_t taps[CC_SPATIAL];   /* how many along d, h, w */
    int64_t x_step[CC_SPATIAL]; /* floats from one tap's input to the next */
    int64_t w_step[CC_SPATIAL]; /* and weights */
    int64_t channels;
    int64_t ld_block;           /* from one block of 16 input channels to the next */
} reduction;

typedef struct tile_store {
    float *y;
    int64_t ldy;
    int width;                  /* valid channels, <= TILE_WIDTH */
    const cc_activation *activation;
} tile_store;

/* nr and packed are compile-time constants after inlining: packed says that ldx is 16, so that column
 * addresses become constant offsets. */
CC_INLINE void tile_body(const int nr, const int packed, const float *x, const int64_t ldx_any, const float *w,
                         const reduction *r, const float *bias, const tile_store *out)
{
    const int64_t ldx = packed ? CC_BLOCK : ldx_any;
    vf acc0[TILE_COLUMNS], acc1[TILE_COLUMNS];
    const vf b0 = vf_load(bias), b1 = vf_load(bias + VF_LANES);
#pragma GCC unroll 16
    for (int t = 0; t < nr; t++) {
        acc0[t] = b0;
        acc1[t] = b1;
    }
#define TILE_STEP(c)                                           \
    do {                                                       \
        const vf w0 = vf_load(wc), w1 = vf_load(wc + VF_LANES); \
        if (nr <= 2)                                           \
            vf_prefetch(wc + PREFETCH_FLOATS);                 \
        if (nr <= 2 && VF_LANES == 16)                         \
            vf_prefetch(wc + PREFETCH_FLOATS + CC_BLOCK);      \
        _Pragma("GCC unroll 16") for (int t = 0; t < nr; t++)  \
        {                                                      \
            const vf xc = vf_set1(xb[t * ldx + (c)]);          \
            acc0[t] = vf_fma(w0, xc, acc0[t]);                 \
            acc1[t] = vf_fma(w1, xc, acc1[t]);                 \
        }                                                      \
        wc += CC_PANEL;                                        \
    } while (0)
    vf sum0[TILE_COLUMNS], sum1[TILE_COLUMNS];
    int products = 0, partial_sums = 0;
    for (int64_t kd = 0; kd < r->taps[0]; kd++)
        for (int64_t kh = 0; kh < r->taps[1]; kh++)
            for (int64_t kw = 0; kw < r->taps[2]; kw++) {
                const float *xb = x + kd * r->x_step[0] + kh * r->x_step[1] + kw * r->x_step[2];
                const float *wc = w + kd * r->w_step[0] + kh * r->w_step[1] + kw * r->w_step[2];
                for (int64_t left = r->channels; left > 0; left -= CC_BLOCK, xb += r->ld_block) {
                    if (products >= PARTIAL_PRODUCTS) {
#pragma GCC unroll 16
                        for (int t = 0; t < nr; t++) {
                            sum0[t] = partial_sums ? vf_add(sum0[t], acc0[t]) : acc0[t];
                            sum1[t] = partial_sums ? vf_add(sum1[t], acc1[t]) : acc1[t];
                            acc0[t] = acc1[t] = vf_zero();
                        }
                        products = 0;
                        partial_sums = 1;
                    }
                    if (left >= CC_BLOCK) {
#pragma GCC unroll 4
                        for (int c = 0; c < CC_BLOCK; c++)
                            TILE_STEP(c);
                    } else {
                        for (int c = 0; c < left; c++)
                            TILE_STEP(c);
                    }
                    products += CC_BLOCK;
                }
            }
#undef TILE_STEP
    if (partial_sums) {
#pragma GCC unroll 16
        for (int t = 0; t < nr; t++) {
            acc0[t] = vf_add(sum0[t], acc0[t]);
            acc1[t] = vf_add(sum1[t], acc1[t]);
        }
    }
    const int relu = out->activation->kind == CC_RELU;
    if (relu) {
#pragma GCC unroll 16
        for (int t = 0; t < nr; t++) { /* zero first: NaN stays NaN */
            acc0[t] = vf_max(vf_zero(), acc0[t]);
            acc1[t] = vf_max(vf_zero(), acc1[t]);
        }
    }
    float *y = out->y;
    if (out->width == TILE_WIDTH) {
#pragma GCC unroll 16
        for (int t = 0; t < nr; t++) {
            vf_store(y + t * out->ldy, acc0[t]);
            vf_store(y + t * out->ldy + VF_LANES, acc1[t]);
        }
    } else {
        const int n0 = out->width < VF_LANES ? out->width : VF_LANES, n1 = out->width - n0;
#pragma GCC unroll 16
        for (int t = 0; t < nr; t++) {
            vf_store_n(y + t * out->ldy, acc0[t], n0);
            vf_store_n(y + t * out->ldy + VF_LANES, acc1[t], n1);
        }
    }
    if (!relu && out->activation->kind != CC_LINEAR)
        for (int t = 0; t < nr; t++)
            activate(y + t * out->ldy, out->width, out->activation);
}

typedef void (*tile_fn)(const float *x, int64_t ldx, const float *w, const reduction *r, const float *bias,
                        const tile_store *out);

#define TILE_DEFINE(nr)                                                                                        \
    static __attribute__((noinline)) void tile_##nr(const float *x, int64_t ldx, const float *w,               \
                                                    const reduction *r, const float *b, const tile_store *out) \
    {                                                                                                          \
        tile_body(nr, 0, x, ldx, w, r, b, out);                                                                \
    }                                                                                                          \
    static __attribute__((noinline)) void tile_##nr##_packed(                                                  \
        const float *x, int64_t ldx, const float *w, const reduction *r, const float *b, const tile_store *out) \
    {                                                                                                          \
        tile_body(nr, 1, x, ldx, w, r, b, out);                                                                \
    }
TILE_DEFINE(1) TILE_DEFINE(2) TILE_DEFINE(3) TILE_DEFINE(4)
#if TILE_COLUMNS > 4
TILE_DEFINE(5) TILE_DEFINE(6)
#endif
#if TILE_COLUMNS > 6
TILE_DEFINE(7) TILE_DEFINE(8) TILE_DEFINE(9) TILE_DEFINE(10)
TILE_DEFINE(11) TILE_DEFINE(12) TILE_DEFINE(13) TILE_DEFINE(14)
#endif

#define TILE_PAIR(nr) {tile_##nr, tile_##nr##_packed}
static const tile_fn tiles[TILE_COLUMNS + 1][2] = {
    {0, 0}, TILE_PAIR(1), TILE_PAIR(2), TILE_PAIR(3), TILE_PAIR(4),
#if TILE_COLUMNS > 4
    TILE_PAIR(5), TILE_PAIR(6),
#endif
#if TILE_COLUMNS > 6
    TILE_PAIR(7), TILE_PAIR(8), TILE_PAIR(9), TILE_PAIR(10), TILE_PAIR(11), TILE_PAIR(12), TILE_PAIR(13),
    TILE_PAIR(14),
#endif
};

/* `columns` output pixels, ldx and ldy apart, times one panel of `width` <= 32 output channels. Columns
 * are split evenly (16 is 8 + 8, not 14 + 2), because a narrow tile leaves registers idle. */
static void panel_row(const float *x, int64_t ldx, const float *panel, int64_t w_offset, const reduction *r,
                      int64_t columns, float *y, int64_t ldy, int64_t width, const cc_activation *activation)
{
    const int64_t parts = (columns + TILE_COLUMNS - 1) / TILE_COLUMNS;
    const int64_t part = columns / parts, longer = columns % parts;
    for (int64_t s = 0; s * TILE_WIDTH < width; s++) {
        const float *bias = panel + s * TILE_WIDTH, *w = panel + CC_PANEL + w_offset + s * TILE_WIDTH;
        const int w_here = (int)min_i64(width - s * TILE_WIDTH, TILE_WIDTH);
        int64_t t = 0;
        for (int64_t i = 0; i < parts; i++) {
            const int64_t nr = part + (i < longer);
            const tile_store out = {y + t * ldy + s * TILE_WIDTH, ldy, w_here, activation};
            tiles[nr][ldx == CC_BLOCK](x + t * ldx, ldx, w, r, bias, &out);
            t += nr;
        }
    }
}

/* Copies rows [begin, end) of one image into the workspace: zero halo, channels blocked by 16. A row is
 * one (group, channel block, d, h). */
static void repack_rows(const cc_step *step, const float *image, float *to, int64_t begin, int64_t end)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int64_t blocks = (g->ic + CC_BLOCK - 1) / CC_BLOCK;
    const int64_t *in = step->in.shape + 1;
    const int64_t width = g->size[2], ld_c = step->in.ld[step->in.rank - 1];
    for (int64_t row = begin; row < end; row++) {
        const int64_t h = row % g->size[1] - g->low[1], d = row / g->size[1] % g->size[0] - g->low[0];
        const int64_t block = row / (g->size[0] * g->size[1]);
        float *y = to + row * width * CC_BLOCK;
        if (d < 0 || d >= in[0] || h < 0 || h >= in[1]) {
            memset(y, 0, (size_t)(width * CC_BLOCK) * sizeof *y);
            continue;
        }
        const int64_t c0 = block % blocks * CC_BLOCK, n = min_i64(g->ic - c0, CC_BLOCK);
        const int64_t first = min_i64(g->low[2], width), last = min_i64(first + in[2], width);
        const float *x = image + d * g->x_ld[0] + h * g->x_ld[1] + (block / blocks * g->ic + c0) * ld_c;
        memset(y, 0, (size_t)(first * CC_BLOCK) * sizeof *y);
        memset(y + last * CC_BLOCK, 0, (size_t)((width - last) * CC_BLOCK) * sizeof *y);
        y += first * CC_BLOCK;
        if (n == CC_BLOCK && ld_c == 1) {
            for (int64_t w = first; w < last; w++, x += g->x_ld[2], y += CC_BLOCK)
#pragma GCC unroll 16
                for (int i = 0; i < CC_BLOCK; i += VF_LANES)
                    vf_store(y + i, vf_load(x + i));
        } else {
            for (int64_t w = first; w < last; w++, x += g->x_ld[2], y += CC_BLOCK) {
                for (int64_t c = 0; c < n; c++)
                    y[c] = x[c * ld_c];
                for (int64_t c = n; c < CC_BLOCK; c++)
                    y[c] = 0.0f;
            }
        }
    }
}

/* The input of one group of one image as the kernel reads it. */
typedef struct conv_source {
    const float *x;
    int64_t ld[CC_SPATIAL];
    int64_t ld_block;
} conv_source;

CC_INLINE conv_source source_of(const cc_step *step, void *const *buffers, int64_t image, int64_t group)
{
    const cc_conv_geometry *g = conv_geometry(step);
    conv_source s;
    if (g->repack) {
        const int64_t plane = g->size[1] * g->size[2] * CC_BLOCK;
        s.ld[0] = plane;
        s.ld[1] = g->size[2] * CC_BLOCK;
        s.ld[2] = CC_BLOCK;
        s.ld_block = g->size[0] * plane;
        s.x = (const float *)((const char *)buffers[step->workspace_buffer] + step->workspace_offset) +
              group * ((g->ic + CC_BLOCK - 1) / CC_BLOCK) * s.ld_block;
    } else {
        for (int a = 0; a < CC_SPATIAL; a++)
            s.ld[a] = g->x_ld[a];
        s.ld_block = CC_BLOCK;
        s.x = view_f32(&step->in, buffers) + image * g->x_image + group * g->ic;
    }
    return s;
}

#endif

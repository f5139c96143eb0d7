/* The core primitive: a batch-reduce GEMM micro-kernel.
 *
 *     y[t][0..width) = bias + sum over taps k, channels c:  x[t*ldx + offset(k) + c] * w[k][c][0..width)
 *
 * for nr columns t (output pixels, or samples), width <= TILE_WIDTH output channels. Every output is one
 * sum in one order - bias, then taps in row-major order, channels within - whatever the tile it falls
 * in. Accumulators stay in registers, and are added to a second set in memory after every
 * PARTIAL_PRODUCTS products, counted by their place among the weights, so that leaving out products with
 * zeros changes nothing: rounding errors of a sum of k terms grow like sqrt(k), of k/512 partial
 * sums like sqrt(512) + sqrt(k/512). It costs one addition in 512 and makes VGG16 twice as exact.
 *
 * TILE_VECTORS x TILE_COLUMNS registers hold accumulators: 2 x 14 of 32 on AVX-512, 2 x 6 of 16 on
 * AVX2, 2 x 4 of 16 on SSE2 (which needs spare registers for products). Two vectors of weights are
 * loaded and nr inputs broadcast per 2*nr multiply-adds, so arithmetic, not loading, is the limit.
 * NEON has 2 x 8 of 32: a multiply-add takes its input from a lane, so a column's next VF_LANES channels
 * are one load and stay in a register of their own; 16 sums are enough for 4 multiply-adds a cycle that
 * take 4 cycles each. */
#ifndef CC_TILE_H
#define CC_TILE_H

#include "../conv_geometry.h"
#include "activation.h"
#include "kernel.h"

#if defined(vf_fma_lane)
#define TILE_COLUMNS 8
#elif VF_LANES == 16
#define TILE_COLUMNS 14
#elif VF_LANES == 8
#define TILE_COLUMNS 6
#else
#define TILE_COLUMNS 4
#endif
enum { TILE_VECTORS = 2, TILE_WIDTH = TILE_VECTORS * VF_LANES };

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
    int64_t second;             /* from the first vector's channels to the second's */
    int width;                  /* valid channels, <= TILE_WIDTH */
    const cc_activation *activation;
} tile_store;

#ifdef vf_fma_lane
/* VF_LANES channels: nr inputs of each, ldx apart, times two vectors of weights. */
CC_INLINE void multiply_lanes(const int nr, const float *x, const int64_t ldx, const float *w, vf *acc0, vf *acc1)
{
    vf input[TILE_COLUMNS];
#pragma GCC unroll 16
    for (int t = 0; t < nr; t++)
        input[t] = vf_load(x + t * ldx);
#define MULTIPLY_LANE(c)                                                                               \
    do {                                                                                               \
        const vf w0 = vf_load(w + (c)*CC_PANEL), w1 = vf_load(w + (c)*CC_PANEL + VF_LANES);            \
        _Pragma("GCC unroll 16") for (int t = 0; t < nr; t++)                                          \
        {                                                                                              \
            acc0[t] = vf_fma_lane(w0, input[t], c, acc0[t]);                                           \
            acc1[t] = vf_fma_lane(w1, input[t], c, acc1[t]);                                           \
        }                                                                                              \
    } while (0)
    MULTIPLY_LANE(0);
    MULTIPLY_LANE(1);
    MULTIPLY_LANE(2);
    MULTIPLY_LANE(3);
#undef MULTIPLY_LANE
}
#endif

/* nr and ld_constant are compile-time constants after inlining. ld_constant is ldx, so that column
 * addresses become constant offsets, or 0 for any. The first tap's weights are w_offset floats behind w. */
CC_INLINE void tile_body(const int nr, const int ld_constant, const float *x, const int64_t ldx_any, const float *w,
                         int64_t w_offset, const reduction *r, const float *bias, const tile_store *out)
{
    const int64_t ldx = ld_constant ? ld_constant : ldx_any;
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
        _Pragma("GCC unroll 16") for (int t = 0; t < nr; t++)  \
        {                                                      \
            const vf xc = vf_set1(xb[t * ldx + (c)]);          \
            acc0[t] = vf_fma(w0, xc, acc0[t]);                 \
            acc1[t] = vf_fma(w1, xc, acc1[t]);                 \
        }                                                      \
        wc += CC_PANEL;                                        \
    } while (0)
    vf sum0[TILE_COLUMNS], sum1[TILE_COLUMNS];
    int partial_sums = 0;
    const float *next_sum = w + PARTIAL_PRODUCTS * CC_PANEL;
    w += w_offset;
    for (int64_t kd = 0; kd < r->taps[0]; kd++)
        for (int64_t kh = 0; kh < r->taps[1]; kh++)
            for (int64_t kw = 0; kw < r->taps[2]; kw++) {
                const float *xb = x + kd * r->x_step[0] + kh * r->x_step[1] + kw * r->x_step[2];
                const float *wc = w + kd * r->w_step[0] + kh * r->w_step[1] + kw * r->w_step[2];
                for (int64_t left = r->channels; left > 0; left -= CC_BLOCK, xb += r->ld_block) {
                    if (wc >= next_sum) {
#pragma GCC unroll 16
                        for (int t = 0; t < nr; t++) {
                            sum0[t] = partial_sums ? vf_add(sum0[t], acc0[t]) : acc0[t];
                            sum1[t] = partial_sums ? vf_add(sum1[t], acc1[t]) : acc1[t];
                            acc0[t] = acc1[t] = vf_zero();
                        }
                        while (wc >= next_sum)
                            next_sum += PARTIAL_PRODUCTS * CC_PANEL;
                        partial_sums = 1;
                    }
                    if (left >= CC_BLOCK) {
#ifdef vf_fma_lane
                        for (int c = 0; c < CC_BLOCK; c += VF_LANES, wc += VF_LANES * CC_PANEL)
                            multiply_lanes(nr, xb + c, ldx, wc, acc0, acc1);
#else
#pragma GCC unroll 4
                        for (int c = 0; c < CC_BLOCK; c++)
                            TILE_STEP(c);
#endif
                    } else {
                        for (int c = 0; c < left; c++)
                            TILE_STEP(c);
                    }
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
    const int64_t second = out->second;
    const int n0 = out->width < VF_LANES ? out->width : VF_LANES, n1 = out->width - n0;
    if (out->width == TILE_WIDTH) {
#pragma GCC unroll 16
        for (int t = 0; t < nr; t++) {
            vf_store(y + t * out->ldy, acc0[t]);
            vf_store(y + t * out->ldy + second, acc1[t]);
        }
    } else {
#pragma GCC unroll 16
        for (int t = 0; t < nr; t++) {
            vf_store_n(y + t * out->ldy, acc0[t], n0);
            vf_store_n(y + t * out->ldy + second, acc1[t], n1);
        }
    }
    if (!relu && out->activation->kind != CC_LINEAR)
        for (int t = 0; t < nr; t++) {
            activate(y + t * out->ldy, n0, out->activation);
            if (n1 > 0)
                activate(y + t * out->ldy + second, n1, out->activation);
        }
}

typedef void (*tile_fn)(const float *x, int64_t ldx, const float *w, int64_t w_offset, const reduction *r,
                        const float *bias, const tile_store *out);

#define TILE_DEFINE(nr, name, ld)                                                                       \
    static __attribute__((noinline)) void tile_##nr##_##name(                                           \
        const float *x, int64_t ldx, const float *w, int64_t w_offset, const reduction *r, const float *b, \
        const tile_store *out)                                                                          \
    {                                                                                                   \
        tile_body(nr, ld, x, ldx, w, w_offset, r, b, out);                                              \
    }
/* Columns any distance apart; a channel block apart; colour pictures. */
#define TILE_VARIANTS(nr)             \
    TILE_DEFINE(nr, any, 0)           \
    TILE_DEFINE(nr, packed, CC_BLOCK) \
    TILE_DEFINE(nr, rgb, 3)
enum { TILE_ANY, TILE_PACKED, TILE_RGB, TILE_KINDS };
TILE_VARIANTS(1) TILE_VARIANTS(2) TILE_VARIANTS(3) TILE_VARIANTS(4)
#if TILE_COLUMNS > 4
TILE_VARIANTS(5) TILE_VARIANTS(6)
#endif
#if TILE_COLUMNS > 6
TILE_VARIANTS(7) TILE_VARIANTS(8)
#endif
#if TILE_COLUMNS > 8
TILE_VARIANTS(9) TILE_VARIANTS(10)
TILE_VARIANTS(11) TILE_VARIANTS(12) TILE_VARIANTS(13) TILE_VARIANTS(14)
#endif

#define TILE_ROW(nr) {tile_##nr##_any, tile_##nr##_packed, tile_##nr##_rgb}
static const tile_fn tiles[TILE_COLUMNS + 1][TILE_KINDS] = {
    {0}, TILE_ROW(1), TILE_ROW(2), TILE_ROW(3), TILE_ROW(4),
#if TILE_COLUMNS > 4
    TILE_ROW(5), TILE_ROW(6),
#endif
#if TILE_COLUMNS > 6
    TILE_ROW(7), TILE_ROW(8),
#endif
#if TILE_COLUMNS > 8
    TILE_ROW(9), TILE_ROW(10), TILE_ROW(11), TILE_ROW(12), TILE_ROW(13), TILE_ROW(14),
#endif
};

/* Where a panel's results go: columns ldy apart, from 16 channels to the next 16 y_block. */
typedef struct panel_store {
    float *y;
    int64_t ldy, y_block;
    int64_t width;              /* valid channels, <= CC_PANEL */
    const cc_activation *activation;
    int ask;                    /* for the lines of a tile before it is computed */
} panel_store;

/* Columns a multiple of 4 KiB apart (1024 channels) have one set of the L1 cache in common. It holds 8 lines
 * or more: one is left for weights. */
enum { SET_FLOATS = 4096 / sizeof(float), SET_COLUMNS = TILE_COLUMNS < 7 ? TILE_COLUMNS : 7 };

/* `columns` output pixels, ldx apart, times one panel of output channels. Columns are split evenly (16 is
 * 8 + 8, not 14 + 2), because a narrow tile leaves registers idle. */
static __attribute__((unused)) void panel_row(const float *x, int64_t ldx, const float *panel, int64_t w_offset,
                                              const reduction *r, int64_t columns, const panel_store *to)
{
    const int64_t widest = ldx % SET_FLOATS == 0 ? SET_COLUMNS : TILE_COLUMNS;
    const int64_t parts = (columns + widest - 1) / widest;
    const int64_t part = columns / parts, longer = columns % parts;
    const int kind = ldx == CC_BLOCK ? TILE_PACKED : ldx == 3 ? TILE_RGB : TILE_ANY;
    for (int64_t s = 0; s * TILE_WIDTH < to->width; s++) {
        const int64_t channel = s * TILE_WIDTH;
        const float *bias = panel + channel, *w = panel + CC_PANEL + channel;
        tile_store out = {.ldy = to->ldy,
                          .second = VF_LANES == CC_BLOCK ? to->y_block : VF_LANES,
                          .width = (int)min_i64(to->width - channel, TILE_WIDTH),
                          .activation = to->activation};
        float *y = to->y + channel / CC_BLOCK * to->y_block + channel % CC_BLOCK;
        int64_t t = 0;
        for (int64_t i = 0; i < parts; i++) {
            const int64_t nr = part + (i < longer);
            out.y = y + t * to->ldy;
            if (to->ask)
                for (int64_t i = 0; i < nr; i++) {
                    vf_prefetch_write(out.y + i * out.ldy);
                    vf_prefetch_write(out.y + i * out.ldy + out.second);
                }
            tiles[nr][kind](x + t * ldx, ldx, w, w_offset, r, bias, &out);
            t += nr;
        }
    }
}

/* Channels that are written of the panel that starts at channel oc0 of a group: whole blocks, if blocked. */
CC_INLINE int64_t panel_width(const cc_step *step, int64_t oc0)
{
    const int64_t left = min_i64(conv_geometry(step)->oc - oc0, CC_PANEL);
    return step->out.ld_block ? (left + CC_BLOCK - 1) / CC_BLOCK * CC_BLOCK : left;
}

CC_INLINE float *workspace(const cc_step *step, void *const *buffers)
{
    return (float *)((char *)buffers[step->workspace_buffer] + step->workspace_offset);
}

/* One row of few channels: a halo of zeros, then pixels as they are. */
static void repack_few(const cc_step *step, const float *x, float *y, int64_t first, int64_t last)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int64_t ld_c = step->in.ld[4];
    memset(y, 0, (size_t)(first * g->ic) * sizeof *y);
    memset(y + last * g->ic, 0, (size_t)((g->size[2] - last) * g->ic) * sizeof *y);
    y += first * g->ic;
    if (ld_c == 1 && g->x_ld[2] == g->ic) {
        memcpy(y, x, (size_t)((last - first) * g->ic) * sizeof *y);
        return;
    }
    for (int64_t w = first; w < last; w++, x += g->x_ld[2], y += g->ic)
        for (int64_t c = 0; c < g->ic; c++)
            y[c] = x[c * ld_c];
}

static void repack_block(const cc_step *step, const float *x, float *y, int64_t first, int64_t last, int64_t n)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int64_t ld_c = step->in.ld[4];
    memset(y, 0, (size_t)(first * CC_BLOCK) * sizeof *y);
    memset(y + last * CC_BLOCK, 0, (size_t)((g->size[2] - last) * CC_BLOCK) * sizeof *y);
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

/* Copies rows [begin, end) of one image into the workspace, with a halo of zeros. A row is one (group,
 * channel block, d, h). */
static void repack_rows(const cc_step *step, const float *image, float *to, int64_t begin, int64_t end)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int64_t blocks = g->few_channels ? 1 : (g->ic + CC_BLOCK - 1) / CC_BLOCK;
    const int64_t row_floats = g->size[2] * (g->few_channels ? g->ic : CC_BLOCK);
    const int64_t *in = step->in.shape + 1;
    for (int64_t row = begin; row < end; row++) {
        const int64_t h = row % g->size[1] - g->low[1], d = row / g->size[1] % g->size[0] - g->low[0];
        const int64_t block = row / (g->size[0] * g->size[1]), group = block / blocks, c0 = block % blocks * CC_BLOCK;
        float *y = to + row * row_floats;
        if (d < 0 || d >= in[0] || h < 0 || h >= in[1]) {
            memset(y, 0, (size_t)row_floats * sizeof *y);
            continue;
        }
        const int64_t first = min_i64(g->low[2], g->size[2]), last = min_i64(first + in[2], g->size[2]);
        const float *x = image + d * g->x_ld[0] + h * g->x_ld[1];
        x += step->in.ld_block ? (group * g->ic + c0) / CC_BLOCK * g->x_block : (group * g->ic + c0) * step->in.ld[4];
        if (g->few_channels)
            repack_few(step, x, y, first, last);
        else
            repack_block(step, x, y, first, last, min_i64(g->ic - c0, CC_BLOCK));
    }
}

/* The input of one group of one image as the kernel reads it: x is the cell where the first window starts. */
typedef struct conv_source {
    const float *x;
    int64_t ld[CC_SPATIAL];
    int64_t ld_block;
} conv_source;

/* `slot` counts the images that lie repacked in the workspace at one time. */
CC_INLINE conv_source source_of(const cc_step *step, void *const *buffers, int64_t image, int64_t group, int64_t slot)
{
    const cc_conv_geometry *g = conv_geometry(step);
    conv_source s;
    if (g->repack) {
        s.ld[2] = g->few_channels ? g->ic : CC_BLOCK;
        s.ld[1] = g->size[2] * s.ld[2];
        s.ld[0] = g->size[1] * s.ld[1];
        s.ld_block = g->size[0] * s.ld[0];
        s.x = workspace(step, buffers) + slot * g->repacked_floats +
              group * ((g->ic + CC_BLOCK - 1) / CC_BLOCK) * s.ld_block;
    } else {
        s.x = view_f32(&step->in, buffers) + image * g->x_image + group * g->ic / CC_BLOCK * g->x_block +
              group * g->ic % CC_BLOCK;
        for (int a = 0; a < CC_SPATIAL; a++) {
            s.ld[a] = g->x_ld[a];
            s.x -= g->low[a] * s.ld[a];
        }
        s.ld_block = g->x_block;
    }
    return s;
}

#endif

/* The matrix products of Winograd's algorithm, a run of points at a time:
 *
 *     M[point][t][0..TILE_WIDTH) = sum over taps d, channels c:  V[point][d][t][c] * U[point][d][c][0..TILE_WIDTH)
 *
 * for nr columns t, tiles of the map. The loop is that of tile.h, and so is the order of a sum; but a product
 * is short (64 channels in the largest layers of VGG16), so the points follow each other inside of the
 * function: entered for each of them, it would cost 4 % at 64 channels. */
#ifndef CC_WINOGRAD_PRODUCTS_H
#define CC_WINOGRAD_PRODUCTS_H

#include "tile.h"

/* Cache lines to bring into the L2 cache before they are needed, a few at a time: rows of each channel block,
 * walked without a division. */
typedef struct fetch_queue {
    const float *block, *row;       /* where it is */
    int64_t ld_row, ld_block;
    int64_t rows, lines;            /* of a channel block, of a row */
    int64_t rows_left, lines_left;  /* of this block, of this row */
    int64_t left;                   /* lines in all; 0: nothing to fetch */
    int64_t at_once;                /* lines after each product */
} fetch_queue;

/* What is fetched while a block of tiles is multiplied: the next block's input, and the lines that the outputs
 * of this one go to, which a core must own before it can write them. */
typedef struct fetch_ahead {
    fetch_queue input, output;
} fetch_ahead;

/* `write` is a constant. */
CC_INLINE void fetch_some(const int write, fetch_queue *q)
{
    int64_t count = min_i64(q->at_once, q->left);
    q->left -= count;
    while (count > 0) {
        const int64_t here = min_i64(count, q->lines_left);
        const float *x = q->row + (q->lines - q->lines_left) * CC_BLOCK;
        for (int64_t i = 0; i < here; i++) {
            if (write)
                vf_prefetch_write(x + i * CC_BLOCK);
            else
                vf_prefetch_l2((const char *)(x + i * CC_BLOCK));
        }
        count -= here;
        q->lines_left -= here;
        if (q->lines_left > 0)
            continue;
        q->lines_left = q->lines;
        q->row += q->ld_row;
        if (--q->rows_left == 0) {
            q->rows_left = q->rows;
            q->row = q->block += q->ld_block;
        }
    }
}

/* What a run of products is made of; ld_ is the distance in floats from one to the next. */
typedef struct point_run {
    int64_t points, ld_v, ld_u, ld_m;
    int64_t taps, ld_slice;         /* along d */
    int64_t channels, ld_block;
} point_run;

/* One channel: nr inputs times two vectors of weights. */
CC_INLINE void multiply_channel(const int nr, const int fetch, const float *x, const float *w, vf *acc0, vf *acc1,
                                const char *next, const int64_t step)
{
    const vf w0 = vf_load(w), w1 = vf_load(w + VF_LANES);
    if (fetch) {
        vf_prefetch_l2(next);
        vf_prefetch_l2(next + step / 2);
    }
#pragma GCC unroll 16
    for (int t = 0; t < nr; t++) {
        const vf xc = vf_set1(x[t * CC_BLOCK]);
        acc0[t] = vf_fma(w0, xc, acc0[t]);
        acc1[t] = vf_fma(w1, xc, acc1[t]);
    }
}

/* nr and fetch are compile-time constants after inlining. With `fetch`, every channel asks for `step` bytes at
 * `next` (at most two cache lines): the weights that come after these, of which each tile fetches its share; without it, `ahead` has its turn after each
 * product. */
CC_INLINE void products_body(const int nr, const int fetch, const float *v, const float *u, float *m,
                             const point_run *r, const char *next, const int64_t step, fetch_ahead *ahead)
{
    for (int64_t point = 0; point < r->points; point++, v += r->ld_v, u += r->ld_u, m += r->ld_m) {
        vf acc0[TILE_COLUMNS], acc1[TILE_COLUMNS];
#define EVERY_COLUMN _Pragma("GCC unroll 16") for (int t = 0; t < nr; t++)
        EVERY_COLUMN acc0[t] = acc1[t] = vf_zero();
        int products = 0, partial_sums = 0;
        const float *w = u;
        for (int64_t d = 0; d < r->taps; d++) {
            const float *x = v + d * r->ld_slice;
            for (int64_t left = r->channels; left > 0; left -= CC_BLOCK, x += r->ld_block) {
                if (products == PARTIAL_PRODUCTS) {
                    EVERY_COLUMN
                    {
                        float *const y = m + t * CC_PANEL;
                        vf_store(y, partial_sums ? vf_add(vf_load(y), acc0[t]) : acc0[t]);
                        vf_store(y + VF_LANES, partial_sums ? vf_add(vf_load(y + VF_LANES), acc1[t]) : acc1[t]);
                        acc0[t] = acc1[t] = vf_zero();
                    }
                    products = 0;
                    partial_sums = 1;
                }
                products += CC_BLOCK;
                if (left >= CC_BLOCK) {
#ifdef vf_fma_lane
                    for (int c = 0; c < CC_BLOCK; c += VF_LANES, w += VF_LANES * CC_PANEL) {
                        for (int i = 0; fetch && i < VF_LANES; i++, next += step) {
                            vf_prefetch_l2(next);
                            vf_prefetch_l2(next + step / 2);
                        }
                        multiply_lanes(nr, x + c, CC_BLOCK, w, acc0, acc1);
                    }
#else
                    for (int c = 0; c < CC_BLOCK; c++, w += CC_PANEL, next += step)
                        multiply_channel(nr, fetch, x + c, w, acc0, acc1, next, step);
#endif
                } else {
                    for (int c = 0; c < left; c++, w += CC_PANEL, next += step)
                        multiply_channel(nr, fetch, x + c, w, acc0, acc1, next, step);
                }
            }
        }
        if (partial_sums)
            EVERY_COLUMN
            {
                acc0[t] = vf_add(vf_load(m + t * CC_PANEL), acc0[t]);
                acc1[t] = vf_add(vf_load(m + t * CC_PANEL + VF_LANES), acc1[t]);
            }
        EVERY_COLUMN
        {
            vf_store(m + t * CC_PANEL, acc0[t]);
            vf_store(m + t * CC_PANEL + VF_LANES, acc1[t]);
        }
#undef EVERY_COLUMN
        if (!fetch) {
            fetch_some(0, &ahead->input);
            fetch_some(1, &ahead->output);
        }
    }
}

typedef void (*products_fn)(const float *v, const float *u, float *m, const point_run *r, const char *next,
                            int64_t step, fetch_ahead *ahead);

#define PRODUCTS_DEFINE(nr, name, fetch)                                                                        \
    static __attribute__((noinline)) void products_##nr##_##name(const float *v, const float *u, float *m,      \
                                                                 const point_run *r, const char *next,          \
                                                                 int64_t step, fetch_ahead *ahead)              \
    {                                                                                                           \
        products_body(nr, fetch, v, u, m, r, next, step, ahead);                                                \
    }
#define PRODUCTS(nr) PRODUCTS_DEFINE(nr, plain, 0) PRODUCTS_DEFINE(nr, fetching, 1)
PRODUCTS(1) PRODUCTS(2) PRODUCTS(3) PRODUCTS(4)
#if TILE_COLUMNS > 4
PRODUCTS(5) PRODUCTS(6)
#endif
#if TILE_COLUMNS > 6
PRODUCTS(7) PRODUCTS(8)
#endif
#if TILE_COLUMNS > 8
PRODUCTS(9) PRODUCTS(10) PRODUCTS(11) PRODUCTS(12) PRODUCTS(13) PRODUCTS(14)
#endif

#define PRODUCTS_ROW(nr) {products_##nr##_plain, products_##nr##_fetching}
static const products_fn products_of[TILE_COLUMNS + 1][2] = {
    {0}, PRODUCTS_ROW(1), PRODUCTS_ROW(2), PRODUCTS_ROW(3), PRODUCTS_ROW(4),
#if TILE_COLUMNS > 4
    PRODUCTS_ROW(5), PRODUCTS_ROW(6),
#endif
#if TILE_COLUMNS > 6
    PRODUCTS_ROW(7), PRODUCTS_ROW(8),
#endif
#if TILE_COLUMNS > 8
    PRODUCTS_ROW(9), PRODUCTS_ROW(10), PRODUCTS_ROW(11), PRODUCTS_ROW(12),
    PRODUCTS_ROW(13), PRODUCTS_ROW(14),
#endif
};

#endif

/* How CC_FILTER cuts its work up: what choose_filter.c writes into cc_step.detail and the kernels read. A row is
 * the w * c samples of one line of an image with its channels side by side; a tap along w is `step` samples from
 * the next. An item is a piece of `piece` columns of such rows, of a strip of `strip` neighbouring rows. */
#ifndef CC_FILTER_GEOMETRY_H
#define CC_FILTER_GEOMETRY_H

#include "convcore.h"

/* Columns are cut at multiples of this, a whole number of vectors on every instruction set. */
enum { FILTER_COLUMNS = 16 };
/* Rows of a strip: whole register tiles of every instruction set. */
enum { FILTER_STRIP = 24, FILTER_TALL_STRIP = 48 };

typedef struct cc_filter_geometry {
    int64_t step;               /* c */
    int64_t in_columns, columns; /* w * c, before and after */
    int64_t before, behind;     /* columns at either end of an output row whose windows leave the input */
    int64_t in_place;           /* rows are read where they lie, but for the ends */
    int64_t out_in_place;       /* results are stored where they belong, without conversion */
    int64_t strip, strips, piece, pieces;
    int64_t pitch;              /* samples of a row of the copy */
    /* Byte offsets in the scratch memory: weights, table of rows, copied rows, a row of the border's value, results
     * to be converted. */
    int64_t rows_at, copy_at, border_at, result_at;
    /* By Fourier transforms: the points of a tile, powers of two. strip x piece of its outputs are kept; scratch memory
     * is two planes of `pitch`, then a strip of 16 rows of each. */
    int64_t tile_height, tile_width;
} cc_filter_geometry;

/* One piece, cut into at most three segments: [begin, left) and [right, end) are read from a copy with its border,
 * [left, right) in place. */
typedef struct cc_filter_segments {
    int64_t begin, left, right, end;
} cc_filter_segments;

static inline int64_t filter_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

static inline cc_filter_segments filter_segments(const cc_filter_geometry *g, int64_t begin, int64_t end)
{
    const int64_t inside_end = g->columns - g->behind < end ? g->columns - g->behind : end;
    int64_t left = g->before > begin ? begin + filter_up(g->before - begin, FILTER_COLUMNS) : begin;
    int64_t right = inside_end > left ? left + (inside_end - left) / FILTER_COLUMNS * FILTER_COLUMNS : left;
    if (!g->in_place || right - left < 4 * FILTER_COLUMNS)
        left = right = end;
    return (cc_filter_segments){begin, left, right, end};
}

/* The widest segment that is copied. */
static inline int64_t filter_widest_copy(const cc_filter_geometry *g)
{
    const int64_t ends = filter_up(g->before, FILTER_COLUMNS) + g->behind + 6 * FILTER_COLUMNS;
    return g->in_place && ends < g->piece ? ends : g->piece;
}

#endif

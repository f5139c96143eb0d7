/* Walking strided views row by row and block by block; shared by the elementwise kernels.
 *
 * Rows with ld = 1 are read and written where they lie; others go through a block on the stack. */
#ifndef CC_ELEMENTWISE_H
#define CC_ELEMENTWISE_H

#include "../elementwise_geometry.h"
#include "kernel.h"

/* Rows [row, row_end), columns [column, column + length) of one item. */
typedef struct elementwise_part {
    int64_t row, row_end, column, length;
} elementwise_part;

CC_INLINE elementwise_part elementwise_item(const cc_step *step, int64_t item)
{
    const cc_view *v = &step->out;
    const int64_t *detail = step->detail;
    int64_t rows = 1;
    for (int32_t a = 0; a + 1 < v->rank; a++)
        rows *= v->shape[a];
    elementwise_part part;
    part.row = item / detail[ELEMENTWISE_PIECES] * detail[ELEMENTWISE_ROWS];
    part.row_end = min_i64(part.row + detail[ELEMENTWISE_ROWS], rows);
    part.column = item % detail[ELEMENTWISE_PIECES] * detail[ELEMENTWISE_PIECE];
    part.length = min_i64(detail[ELEMENTWISE_PIECE], v->shape[v->rank - 1] - part.column);
    return part;
}

/* The position of a row in all axes but the last, and the offset of that row in up to three views. */
typedef struct elementwise_walk {
    const cc_view *view[3];
    int views;
    int64_t index[CC_MAX_RANK];
    int64_t offset[3];
} elementwise_walk;

CC_INLINE void walk_start(elementwise_walk *w, int64_t row, int64_t column)
{
    const int32_t last = w->view[0]->rank - 1;
    for (int v = 0; v < w->views; v++)
        w->offset[v] = column * w->view[v]->ld[last];
    for (int32_t a = last - 1; a >= 0; a--) {
        w->index[a] = row % w->view[0]->shape[a];
        row /= w->view[0]->shape[a];
        for (int v = 0; v < w->views; v++)
            w->offset[v] += w->index[a] * w->view[v]->ld[a];
    }
}

CC_INLINE void walk_next(elementwise_walk *w)
{
    for (int32_t a = w->view[0]->rank - 2; a >= 0; a--) {
        const int64_t size = w->view[0]->shape[a];
        const int wraps = ++w->index[a] == size;
        for (int v = 0; v < w->views; v++)
            w->offset[v] += wraps ? (1 - size) * w->view[v]->ld[a] : w->view[v]->ld[a];
        if (!wraps)
            return;
        w->index[a] = 0;
    }
}

/* n elements as contiguous floats: where they lie, or gathered into `block`. */
CC_INLINE const float *gather(const float *p, int64_t ld, int64_t n, float *block)
{
    if (ld == 1)
        return p;
    for (int64_t i = 0; i < n; i++)
        block[i] = p[i * ld];
    return block;
}

CC_INLINE void scatter(float *p, int64_t ld, int64_t n, const float *block)
{
    for (int64_t i = 0; i < n; i++)
        p[i * ld] = block[i];
}

/* How many of the n elements that remain of a row make the next block. One that is streamed ends at the
 * first whole vector of the output, so that all after it are aligned, in the block and in the output. */
CC_INLINE int64_t block_length(const float *y, int64_t n, int stream)
{
    const int64_t to_aligned = (int64_t)(-(uintptr_t)y / sizeof *y % VF_LANES);
    return min_i64(n, stream && to_aligned ? to_aligned : ELEMENTWISE_BLOCK);
}

/* n floats from the L1 cache to where nobody will read them soon; p is aligned, or n < VF_LANES. */
CC_INLINE void stream_floats(float *p, const float *block, int64_t n)
{
    int64_t i = 0;
    for (; i + VF_LANES <= n; i += VF_LANES)
        vf_stream(p + i, vf_load(block + i));
    if (i < n)
        vf_store_n(p + i, vf_load_n(block + i, (int)(n - i)), (int)(n - i));
}

#endif

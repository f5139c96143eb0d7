/* Copies between any strides, and fills. An item is a tile of the two innermost loops; see items.h. */
#include "items.h"
#include "kernel.h"

/* The first elements of an item's tile, and its size. */
typedef struct copy_tile {
    int64_t in, out, size[2];
} copy_tile;

static copy_tile tile_of_item(const cc_copy_loops *l, int64_t item)
{
    copy_tile t = {.in = l->in_offset, .out = l->out_offset};
    for (int a = 0; a < l->rank; a++) {
        const int64_t count = a < 2 ? l->tiles[a] : l->size[a];
        const int64_t step = a < 2 ? l->tile[a] : 1;
        const int64_t i = item % count * step;
        item /= count;
        if (a < 2)
            t.size[a] = min_i64(step, l->size[a] - i);
        t.in += i * l->in_ld[a];
        t.out += i * l->out_ld[a];
    }
    return t;
}

static void fill_row(float *y, int64_t y_ld, int64_t n, float value, int stream)
{
    if (y_ld == 1) {
        const vf v = vf_set1(value);
        int64_t i = 0;
        if (stream) {
            i = min_i64((int64_t)(-(uintptr_t)y / sizeof *y % VF_LANES), n); /* up to the first whole vector */
            vf_store_n(y, v, (int)i);
            for (; i + VF_LANES <= n; i += VF_LANES)
                vf_stream(y + i, v);
        }
        for (; i + VF_LANES <= n; i += VF_LANES)
            vf_store(y + i, v);
        vf_store_n(y + i, v, (int)(n - i));
    } else {
        for (int64_t i = 0; i < n; i++)
            y[i * y_ld] = value;
    }
}

/* Short rows are the rule (the channels of one pixel), so no call to memcpy. */
static void copy_row(const float *x, float *y, int64_t n)
{
    int64_t i = 0;
    for (; i + 4 * VF_LANES <= n; i += 4 * VF_LANES) {
        vf_store(y + i, vf_load(x + i));
        vf_store(y + i + VF_LANES, vf_load(x + i + VF_LANES));
        vf_store(y + i + 2 * VF_LANES, vf_load(x + i + 2 * VF_LANES));
        vf_store(y + i + 3 * VF_LANES, vf_load(x + i + 3 * VF_LANES));
    }
    for (; i + VF_LANES <= n; i += VF_LANES)
        vf_store(y + i, vf_load(x + i));
    if (i < n)
        vf_store_n(y + i, vf_load_n(x + i, (int)(n - i)), (int)(n - i));
}

/* The empty statement keeps compilers from making gathers and scatters of this, which are slower. */
static void copy_strided_row(const float *x, int64_t x_ld, float *y, int64_t y_ld, int64_t n)
{
#pragma GCC unroll 4
    for (int64_t i = 0; i < n; i++) {
        y[i * y_ld] = x[i * x_ld];
        __asm__("");
    }
}

/* Which axis of a tile the inner loop walks: the output's, unless that takes longer jumps through the
 * input than the input's axis takes through the output. Long jumps are what caches bear least. */
static int inner_axis(const cc_copy_loops *l)
{
    const int64_t jump = copy_distance(l->in_ld[0]);
    return l->in_ld[1] && copy_distance(l->in_ld[1]) < jump && l->out_ld[1] < jump;
}

void CC_FN(copy_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    void *const *buffers = call->buffers;
    const cc_copy_loops l = copy_loops(&step->in, &step->out);
    const int inner = inner_axis(&l), outer = 1 - inner;
    const int64_t x_ld = l.in_ld[inner], y_ld = l.out_ld[inner];
    for (int64_t item = begin; item < end; item++) {
        const copy_tile t = tile_of_item(&l, item);
        const float *tile_x = view_f32(&step->in, buffers) + t.in;
        float *tile_y = view_f32(&step->out, buffers) + t.out;
        for (int64_t i = 0; i < t.size[outer]; i++) {
            const float *x = tile_x + i * l.in_ld[outer];
            float *y = tile_y + i * l.out_ld[outer];
            if (x_ld == 0)
                fill_row(y, y_ld, t.size[inner], *x, 0);
            else if (x_ld == 1 && y_ld == 1)
                copy_row(x, y, t.size[inner]);
            else
                copy_strided_row(x, x_ld, y, y_ld, t.size[inner]);
        }
    }
}

void CC_FN(fill_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    void *const *buffers = call->buffers;
    const cc_copy_loops l = copy_loops(NULL, &step->out);
    const int stream = step->detail[WINDOW_STREAM] != 0;
    for (int64_t item = begin; item < end; item++) {
        const copy_tile t = tile_of_item(&l, item);
        for (int64_t i = 0; i < t.size[1]; i++)
            fill_row(view_f32(&step->out, buffers) + t.out + i * l.out_ld[1], l.out_ld[0], t.size[0], step->value,
                     stream);
    }
    if (stream)
        vf_fence();
}

/* Correlation of plain arrays with one kernel and a border: y[o] = sum over taps t of x[o + t - pad_low] * w[t].
 *
 * Vectors lie along a row. A register tile is FILTER_ROWS x FILTER_VECTORS of them: the inputs of one row are loaded
 * once for each tap along w, and multiplied into every output row whose window holds that input row, by a weight
 * that is broadcast. So 24 multiply-adds need 4 unaligned loads and 6 broadcasts, and arithmetic is the limit. At the
 * ends of the tile fewer output rows take part: which ones is known when the code is compiled, for a kernel of 2, 3,
 * ... rows or of at least FILTER_ROWS. A kernel of one row has no input row to share, and a tile of one row, whose
 * vectors are loaded anew for each tap.
 *
 * Every output is one sum in the order of the taps (d, h, w), whatever the tile it falls into.
 *
 * An item's rows are found through a table of addresses, which is also what the border costs along d and h: a row
 * outside is another row, or one that holds the border's value. Along w the border is copied; see filter_geometry.h. */
#include "../filter_geometry.h"
#include "filter_source.h"
#include "kernel.h"

/* One item: its own part of the step, whose addresses are in bytes so that any type will do. */
typedef struct filter_item {
    int64_t row, rows;          /* output rows of the strip */
    int64_t depth;              /* output slice */
    int64_t begin, end;         /* output columns of the piece */
    const char *x;              /* the image */
    char *y;                    /* the output slice */
} filter_item;

static const char *filter_bytes(const cc_view *v, void *const *buffers, int64_t size)
{
    return (const char *)buffers[v->buffer] + v->offset * size;
}

static filter_item filter_item_of(const cc_step *step, const cc_call *call, int64_t item)
{
    const cc_filter_geometry *g = (const cc_filter_geometry *)step->detail;
    const cc_view *in = &step->in, *out = &step->out;
    const int64_t in_size = cc_type_size(in->type), out_size = cc_type_size(out->type);
    const int64_t piece = item % g->pieces, strip = item / g->pieces % g->strips;
    const int64_t slice = item / g->pieces / g->strips, depth = slice % out->shape[1], image = slice / out->shape[1];
    const int64_t row = strip * g->strip, begin = piece * g->piece;
    return (filter_item){
        .row = row,
        .rows = min_i64(g->strip, out->shape[2] - row),
        .depth = depth,
        .begin = begin,
        .end = min_i64(begin + g->piece, g->columns),
        .x = filter_bytes(in, call->buffers, in_size) + image * in->ld[0] * in_size,
        .y = (char *)call->buffers[out->buffer] + (out->offset + image * out->ld[0] + depth * out->ld[1]) * out_size,
    };
}

#if VF_LANES == 16
#define FILTER_ROWS 6
#define FILTER_VECTORS 4
#elif VF_LANES == 8
#define FILTER_ROWS 4
#define FILTER_VECTORS 3
#else
#define FILTER_ROWS 4
#define FILTER_VECTORS 2
#endif
#define FILTER_LINE_VECTORS 8 /* of a tile of one row: enough chains to hide a multiply-add's latency */

#define FV_REAL float
#define FV_NAME(name) name##_f32
#define FV_LANES VF_LANES
#define FV vf
#define FV_ZERO vf_zero
#define FV_SET1 vf_set1
#define FV_LOAD vf_load
#define FV_STORE vf_store
#define FV_STORE_N vf_store_n
#define FV_FMA vf_fma
#define FV_FLOAT 1
#include "filter_samples.h"
#include "filter_body.h"

/* Doubles are rare enough to be left to the compiler: vectors of its own, a product and a sum, the same bits on every
 * instruction set. */
#if VF_LANES == 1
#define VD_LANES 1
typedef double vd;
CC_INLINE vd vd_set1(double x) { return x; }
#else
#define VD_LANES (VF_LANES / 2)
typedef double vd __attribute__((vector_size(8 * VD_LANES)));
CC_INLINE vd vd_set1(double x) { return x - (vd){0}; }
#endif
CC_INLINE vd vd_load(const double *p)
{
    vd v;
    memcpy(&v, p, sizeof v);
    return v;
}
CC_INLINE void vd_store(double *p, vd v) { memcpy(p, &v, sizeof v); }
CC_INLINE void vd_store_n(double *p, vd v, int n)
{
    double lanes[VD_LANES];
    memcpy(lanes, &v, sizeof v);
    for (int i = 0; i < n; i++)
        p[i] = lanes[i];
}
CC_INLINE vd vd_zero(void) { return vd_set1(0.0); }
CC_INLINE vd vd_fma(vd a, vd b, vd c) { return a * b + c; }

#define FV_REAL double
#define FV_NAME(name) name##_f64
#define FV_LANES VD_LANES
#define FV vd
#define FV_ZERO vd_zero
#define FV_SET1 vd_set1
#define FV_LOAD vd_load
#define FV_STORE vd_store
#define FV_STORE_N vd_store_n
#define FV_FMA vd_fma
#define FV_FLOAT 0
#include "filter_samples.h"
#include "filter_body.h"

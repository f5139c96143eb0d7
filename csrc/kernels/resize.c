/* Linear and nearest interpolation. An item is one output row.
 *
 * The source position of output o is o*scale + offset in double precision, clamped to [0, cells - 1].
 * Nearest takes the cell at floor(position), the position first rounded to float32: with a scale that is a
 * float32 itself, that is how TensorFlow computes it, and some hundredths of all size pairs differ
 * otherwise. Linear takes lower = floor(position), upper = lower + 1 and
 * weight = (float)(position - lower), and computes a + (b - a)*weight (rounded once after the
 * subtraction where there is FMA) along w, then h, then d. An axis with
 * weight 0 is left out: a position on the grid gives the cell itself, whatever its neighbours are. */
#include "window.h"

enum { STRETCH = 512 }; /* output columns whose positions are tabulated at a time */

typedef struct position {
    int64_t lower, upper;
    float weight;
} position;

static position source_position(const cc_step *step, int axis, int64_t o)
{
    const int64_t last = step->in.shape[D + axis] - 1;
    double at = (double)o * step->resize_scale[axis] + step->resize_offset[axis];
    if (!step->linear)
        at = (double)(float)at;
    at = at > 0.0 ? at : 0.0;
    at = at < (double)last ? at : (double)last;
    const int64_t lower = (int64_t)at;
    const float weight = step->linear ? (float)(at - (double)lower) : 0.0f;
    return (position){.lower = lower, .upper = weight > 0.0f ? lower + 1 : lower, .weight = weight};
}

/* Positions of a stretch of columns, apart so that a loop over columns can be vectorised. */
typedef struct columns {
    int64_t begin, count;
    int32_t lower[STRETCH], upper[STRETCH];
    float weight[STRETCH];
} columns;

static void tabulate(const cc_step *step, int64_t begin, columns *table)
{
    table->begin = begin;
    table->count = min_i64(STRETCH, step->out.shape[W] - begin);
    for (int64_t i = 0; i < table->count; i++) {
        const position p = source_position(step, 2, begin + i);
        table->lower[i] = (int32_t)p.lower;
        table->upper[i] = (int32_t)p.upper;
        table->weight[i] = p.weight;
    }
}

/* The four input rows around an output row; equal ones where a weight is 0. */
typedef struct input_rows {
    const float *row[2][2]; /* [d][h] */
    float weight_d, weight_h;
} input_rows;

CC_INLINE float lerp(float a, float b, float weight)
{
#if VF_FUSED
    return __builtin_fmaf(b - a, weight, a);
#else
    return a + (b - a) * weight;
#endif
}

/* Along h and d the caller leaves a weight of 0 out; along w it differs from column to column. */
CC_INLINE float lerp_w(float a, float b, float weight) { return weight > 0.0f ? lerp(a, b, weight) : a; }

CC_INLINE vf lerp_vf(vf a, vf b, vf weight) { return vf_fma(vf_sub(b, a), weight, a); }

/* Along w and h in one plane; `two_rows` is a constant. */
CC_INLINE float plane_value(const float *const row[2], int two_rows, int64_t lower, int64_t upper, float weight,
                            float weight_h)
{
    const float above = lerp_w(row[0][lower], row[0][upper], weight);
    return two_rows ? lerp(above, lerp_w(row[1][lower], row[1][upper], weight), weight_h) : above;
}

/* One channel of a stretch of columns; x_ld and y_ld are the constant 1 on the fast path. */
CC_INLINE void resize_columns(const input_rows *x, int64_t x_ld, float *restrict y, int64_t y_ld, const columns *table,
                              int two_planes, int two_rows)
{
    const float *const first[2] = {x->row[0][0], x->row[0][1]}, *const second[2] = {x->row[1][0], x->row[1][1]};
    const float weight_d = x->weight_d, weight_h = x->weight_h;
    for (int64_t i = 0; i < table->count; i++) {
        const int64_t lower = table->lower[i] * x_ld, upper = table->upper[i] * x_ld;
        const float weight = table->weight[i];
        float value = plane_value(first, two_rows, lower, upper, weight, weight_h);
        if (two_planes)
            value = lerp(value, plane_value(second, two_rows, lower, upper, weight, weight_h), weight_d);
        y[i * y_ld] = value;
    }
}

CC_INLINE void resize_channel(const input_rows *x, int64_t x_ld, float *y, int64_t y_ld, const columns *table)
{
    const int two_planes = x->weight_d > 0.0f, two_rows = x->weight_h > 0.0f;
    if (two_planes && two_rows)
        resize_columns(x, x_ld, y, y_ld, table, 1, 1);
    else if (two_planes)
        resize_columns(x, x_ld, y, y_ld, table, 1, 0);
    else if (two_rows)
        resize_columns(x, x_ld, y, y_ld, table, 0, 1);
    else
        resize_columns(x, x_ld, y, y_ld, table, 0, 0);
}

/* All channels of one pixel, channels being neighbours. */
static void resize_pixel(const input_rows *x, int64_t lower, int64_t upper, float weight_w, float *y, int64_t channels)
{
    const vf w = vf_set1(weight_w), h = vf_set1(x->weight_h), d = vf_set1(x->weight_d);
    const int planes = x->weight_d > 0.0f ? 2 : 1, rows = x->weight_h > 0.0f ? 2 : 1;
    for (int64_t c = 0; c < channels; c += VF_LANES) {
        const int n = (int)min_i64(VF_LANES, channels - c);
        vf plane[2];
        for (int i = 0; i < planes; i++) {
            vf row[2];
            for (int j = 0; j < rows; j++) {
                const float *p = x->row[i][j] + c;
                row[j] = load_channels(p + lower, 1, n);
                if (weight_w > 0.0f)
                    row[j] = lerp_vf(row[j], load_channels(p + upper, 1, n), w);
            }
            plane[i] = rows == 2 ? lerp_vf(row[0], row[1], h) : row[0];
        }
        store_channels(y + c, 1, n, planes == 2 ? lerp_vf(plane[0], plane[1], d) : plane[0]);
    }
}

static void resize_row(const cc_step *step, void *const *buffers, const columns *table, int64_t item)
{
    const cc_view *in = &step->in, *out = &step->out;
    const int64_t channels = out->shape[C], x_ld = in->ld[W], y_ld = out->ld[W];
    const cc_row at = row_of_item(out, item);
    const position d = source_position(step, 0, at.d), h = source_position(step, 1, at.h);
    const float *image = view_f32(in, buffers) + at.n * in->ld[0];
    float *y = view_f32(out, buffers) + at.n * out->ld[0] + at.d * out->ld[D] + at.h * out->ld[H] + table->begin * y_ld;
    input_rows x = {.weight_d = d.weight, .weight_h = h.weight};
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            x.row[i][j] = image + (i ? d.upper : d.lower) * in->ld[D] + (j ? h.upper : h.lower) * in->ld[H];
    if (channels >= 4 && in->ld[C] == 1 && out->ld[C] == 1) {
        for (int64_t i = 0; i < table->count; i++)
            resize_pixel(&x, table->lower[i] * x_ld, table->upper[i] * x_ld, table->weight[i], y + i * y_ld, channels);
        return;
    }
    for (int64_t c = 0; c < channels; c++) {
        const input_rows plane = {.row = {{x.row[0][0] + c * in->ld[C], x.row[0][1] + c * in->ld[C]},
                                          {x.row[1][0] + c * in->ld[C], x.row[1][1] + c * in->ld[C]}},
                                  .weight_d = d.weight,
                                  .weight_h = h.weight};
        if (x_ld == 1 && y_ld == 1)
            resize_channel(&plane, 1, y + c * out->ld[C], 1, table);
        else
            resize_channel(&plane, x_ld, y + c * out->ld[C], y_ld, table);
    }
}

void CC_FN(resize_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    void *const *buffers = call->buffers;
    columns table;
    for (int64_t ow = 0; ow < step->out.shape[W]; ow += STRETCH) {
        tabulate(step, ow, &table);
        for (int64_t item = begin; item < end; item++)
            resize_row(step, buffers, &table, item);
    }
}

/* Convolution and depthwise convolution in double, for whoever wants the exact way and has the time: pixel by
 * pixel, a block of output channels at once. The loops over a block are what the compiler turns into vectors.
 *
 * Every output is one sum in one order: bias, then taps in row-major order, channels within. Products and sums
 * are rounded one by one (nothing is contracted), so every instruction set has the same bits. The error is at
 * most (k + 1) 2^-53 sum |x w| of k products. */
#include "window.h"

enum { BLOCK = 16 }; /* output channels whose sums stay in registers */

CC_INLINE const double *input_f64(const cc_view *v, void *const *buffers)
{
    return (const double *)buffers[v->buffer] + v->offset;
}

/* What is the same for all pixels; `taps` are those of the pixel at hand that lie inside the input. */
typedef struct window_f64 {
    const cc_step *step;
    const double *bias, *weights;
    int64_t oc, ic;     /* of the whole output; of one group of the input, 1 if depthwise */
    int64_t multiplier; /* output channels of an input channel, if depthwise */
    cc_taps taps[CC_SPATIAL];
} window_f64;

/* Adds the products of one tap: x is the cell, w its weights of the block. n is BLOCK, or less at the end. */
CC_INLINE void add_tap(const window_f64 *f, const double *x, int64_t ld, const double *w, int64_t o0, int n,
                       double sum[BLOCK], int depthwise)
{
    if (depthwise) {
        for (int o = 0; o < n; o++)
            sum[o] += x[(o0 + o) / f->multiplier * ld] * w[o];
        return;
    }
    for (int64_t c = 0; c < f->ic; c++, w += f->oc) {
        const double cell = x[c * ld];
        for (int o = 0; o < n; o++)
            sum[o] += cell * w[o];
    }
}

CC_INLINE void sum_block(const window_f64 *f, const double *x, int64_t o0, int n, double sum[BLOCK], int depthwise)
{
    const cc_step *step = f->step;
    const int64_t *ld = step->in.ld, *k = step->window.kernel, *dilation = step->window.dilation;
    for (int o = 0; o < n; o++)
        sum[o] = f->bias[o0 + o];
    for (int64_t td = f->taps[0].begin; td < f->taps[0].end; td++)
        for (int64_t th = f->taps[1].begin; th < f->taps[1].end; th++)
            for (int64_t tw = f->taps[2].begin; tw < f->taps[2].end; tw++) {
                const int64_t tap = (td * k[1] + th) * k[2] + tw, last = k[0] * k[1] * k[2] - 1;
                const double *cell = x + (f->taps[0].start + td * dilation[0]) * ld[D] +
                                     (f->taps[1].start + th * dilation[1]) * ld[H] +
                                     (f->taps[2].start + tw * dilation[2]) * ld[W];
                const double *w = f->weights + (step->flip ? last - tap : tap) * f->ic * f->oc + o0;
                add_tap(f, cell, ld[C], w, o0, n, sum, depthwise);
            }
}

CC_INLINE void rows_f64(const cc_step *step, void *const *buffers, int64_t begin, int64_t end, int depthwise)
{
    const cc_view *in = &step->in, *out = &step->out;
    const int64_t oc = out->shape[C], groups = depthwise ? 1 : step->groups, per_group = oc / groups;
    const int relu = step->activation.kind == CC_RELU;
    window_f64 f = {.step = step, .bias = input_f64(&step->in2, buffers), .oc = oc};
    f.weights = f.bias + oc;
    f.ic = depthwise ? 1 : in->shape[C] / groups;
    f.multiplier = depthwise ? oc / in->shape[C] : 1;
    for (int64_t item = begin; item < end; item++) {
        const cc_row row = row_of_item(out, item);
        const double *image = input_f64(in, buffers) + row.n * in->ld[0];
        double *line = (double *)buffers[out->buffer] + out->offset + row.n * out->ld[0] + row.d * out->ld[D] +
                       row.h * out->ld[H];
        f.taps[0] = clip_taps(step, 0, row.d);
        f.taps[1] = clip_taps(step, 1, row.h);
        for (int64_t w = 0; w < out->shape[W]; w++) {
            f.taps[2] = clip_taps(step, 2, w);
            for (int64_t g = 0; g < groups; g++)
                for (int64_t o = 0; o < per_group; o += BLOCK) {
                    double sum[BLOCK];
                    const int64_t o0 = g * per_group + o;
                    const int n = (int)min_i64(BLOCK, per_group - o);
                    const double *x = image + g * f.ic * (depthwise ? 0 : in->ld[C]);
                    if (n == BLOCK)
                        sum_block(&f, x, o0, BLOCK, sum, depthwise);
                    else
                        sum_block(&f, x, o0, n, sum, depthwise);
                    for (int i = 0; i < n; i++) {
                        const int negative = relu && sum[i] <= 0; /* NaN stays */
                        line[w * out->ld[W] + (o0 + i) * out->ld[C]] = negative ? 0 : sum[i];
                    }
                }
        }
    }
}

void CC_FN(conv_f64)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    rows_f64(step, call->buffers, begin, end, 0);
}

void CC_FN(depthwise_f64)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    rows_f64(step, call->buffers, begin, end, 1);
}

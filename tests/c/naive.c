#include "naive.h"

#include <math.h>
#include <string.h>

static const double UNIT = 0x1p-24; /* of rounding to float32 */

/* The error of k roundings in any order, written 2 k u sum|terms| to be rid of second-order terms. */
static double bound(int64_t terms, double magnitude) { return 2.0 * (double)terms * UNIT * magnitude; }

static float value_at(const cc_view *v, void *const *buffers, const int64_t *index)
{
    return ((const float *)buffers[v->buffer])[position(v, index)];
}

static void unravel(const cc_view *v, int64_t i, int64_t *index)
{
    for (int32_t a = v->rank - 1; a >= 0; a--) {
        index[a] = i % v->shape[a];
        i /= v->shape[a];
    }
}

/* ReLU brings no two values further apart, so the bounds hold behind it. */
static double activated(const cc_step *s, double y) { return s->activation.kind == CC_RELU && y < 0 ? 0 : y; }

typedef struct sum {
    double value, magnitude;
    int64_t terms;
} sum;

static void add(sum *s, double term)
{
    s->value += term;
    s->magnitude += fabs(term);
    s->terms++;
}

/* Where tap t of output o reads along one axis; 0 if that is nowhere. */
static int source(const cc_step *s, int axis, int64_t o, int64_t t, int64_t *i)
{
    const cc_window *w = &s->window;
    if (s->operation == CC_CONV_TRANSPOSE) {
        const int64_t scaled = o + w->pad_low[axis] - t * w->dilation[axis];
        *i = scaled / w->stride[axis];
        return scaled % w->stride[axis] == 0 && scaled >= 0 && *i < s->in.shape[axis + 1];
    }
    *i = o * w->stride[axis] + t * w->dilation[axis] - w->pad_low[axis];
    return *i >= 0 && *i < s->in.shape[axis + 1];
}

static double weight_at(const cc_step *s, const float *weights, int64_t tap, int64_t c, int64_t f)
{
    const int64_t ic = s->in.shape[4], oc = s->out.shape[4];
    if (s->operation == CC_CONV)
        return weights[(tap * (ic / s->groups) + c) * oc + f];
    if (s->operation == CC_CONV_TRANSPOSE)
        return weights[(tap * oc + f) * ic + c];
    return weights[tap * oc + f]; /* depthwise: (tap, ic, m), and f = c*m + j */
}

/* One output of a convolution, before the activation. */
static sum convolve(const cc_step *s, void *const *buffers, const float *weights, const float *bias, const int64_t *o)
{
    const int64_t *k = s->window.kernel, taps = k[0] * k[1] * k[2];
    const int64_t ic = s->in.shape[4], oc = s->out.shape[4], f = o[4];
    int64_t x[5] = {o[0]}, first = 0, channels = ic;
    if (s->operation == CC_CONV) {
        channels = ic / s->groups;
        first = f / (oc / s->groups) * channels;
    } else if (s->operation == CC_DEPTHWISE_CONV) {
        channels = 1;
        first = f / (oc / ic);
    }
    sum y = {0};
    add(&y, bias ? bias[f] : 0.0);
    for (int64_t t = 0; t < taps; t++) {
        if (!source(s, 0, o[1], t / (k[1] * k[2]), &x[1]) || !source(s, 1, o[2], t / k[2] % k[1], &x[2]) ||
            !source(s, 2, o[3], t % k[2], &x[3]))
            continue;
        for (int64_t c = 0; c < channels; c++) {
            x[4] = first + c;
            add(&y, (double)value_at(&s->in, buffers, x) * weight_at(s, weights, s->flip ? taps - 1 - t : t, c, f));
        }
    }
    return y;
}

/* How much Winograd's F(m x m, 3x3) enlarges rounding errors: the largest root of a sum over its points of
 * (A B G)^2, B and G by their rows' lengths, for two axes. An error of relative size e in each product of
 * one channel, with inputs and weights below 1, makes one of e times this in the output. */
static double winograd_growth(int64_t m)
{
    static const double points[3][3] = {{1}, {0.75, 1.5}, {0.5, 1, 2}};
    double at[7] = {0}, largest = 0;
    for (int64_t i = 0; i < m; i++)
        at[i + 1] = (i % 2 ? -1 : 1) * points[m / 2 - 1][i / 2];
    for (int64_t row = 0; row < m; row++) {
        double total = 0;
        for (int64_t p = 0; p < m + 2; p++) {
            /* B's row is the polynomial with all other points for roots, infinity's with all of them. */
            double polynomial[9] = {1}, product = 1, length = 0;
            for (int64_t q = 0; q < m + 1; q++) {
                if (q == p)
                    continue;
                for (int64_t i = m + 1; i >= 0; i--)
                    polynomial[i] = (i ? polynomial[i - 1] : 0) - at[q] * polynomial[i];
                product *= p <= m ? at[p] - at[q] : 1;
            }
            for (int64_t i = 0; i < m + 2; i++)
                length += polynomial[i] * polynomial[i];
            const double power = p <= m ? pow(at[p], (double)row) : row == m - 1;
            const double x = p <= m ? at[p] : 0;
            total += power * power * length * (1 + x * x + x * x * x * x) / (product * product);
        }
        largest = total > largest ? total : largest;
    }
    return largest;
}

/* Of a probable error and not of the worst, which is thousands of times what ever happens (Higham and Mary
 * 2019: roundings are independent and add up like roots of sums of squares; beyond 8 of these is never). */
static double winograd_bound(const drawn *d, double growth, double value)
{
    const int64_t terms = d->step.window.kernel[0] * d->step.in.shape[4];
    const double roundings = (double)(terms + 4 * (d->tile + 2) + 1);
    return 8 * UNIT * sqrt(roundings) * sqrt((double)terms) * growth + bound(2, fabs(value) + 1);
}

static void naive_conv(const drawn *d, void *const *buffers, const float *weights, const float *bias, double *expected,
                       double *allowed)
{
    const cc_step *s = &d->step;
    const int64_t side = s->operation == CC_CONV && s->pool == 2 ? 2 : 1;
    const double growth = d->tile ? winograd_growth(d->tile) : 0;
    for (int64_t n = 0; n < elements(&s->out); n++) {
        int64_t o[5];
        unravel(&s->out, n, o);
        expected[n] = -INFINITY;
        allowed[n] = 0;
        for (int64_t i = 0; i < side * side; i++) { /* the largest is off by no more than the worst of them */
            const int64_t at[5] = {o[0], o[1], side * o[2] + i / side, side * o[3] + i % side, o[4]};
            const sum y = convolve(s, buffers, weights, bias, at);
            expected[n] = fmax(expected[n], activated(s, y.value));
            allowed[n] = fmax(allowed[n], d->tile ? winograd_bound(d, growth, y.value) : bound(y.terms, y.magnitude));
        }
    }
}

static void naive_dense(const drawn *d, void *const *buffers, const float *weights, const float *bias, double *expected,
                        double *allowed)
{
    const cc_step *s = &d->step;
    const int64_t oc = s->out.shape[1];
    for (int64_t n = 0; n < elements(&s->out); n++) {
        sum y = {0};
        add(&y, bias ? bias[n % oc] : 0.0);
        for (int64_t c = 0; c < s->in.shape[1]; c++)
            add(&y, (double)value_at(&s->in, buffers, (int64_t[]){n / oc, c}) * weights[c * oc + n % oc]);
        expected[n] = activated(s, y.value);
        allowed[n] = bound(y.terms, y.magnitude);
    }
}

/* A global pool is a pool whose window is the whole input. */
static void naive_pool(const drawn *d, void *const *buffers, double *expected, double *allowed)
{
    cc_step whole = d->step;
    const int global = whole.operation == CC_GLOBAL_MAX_POOL || whole.operation == CC_GLOBAL_AVERAGE_POOL;
    for (int a = 0; global && a < CC_SPATIAL; a++) {
        whole.window.kernel[a] = whole.in.shape[a + 1];
        whole.window.stride[a] = whole.window.dilation[a] = 1;
    }
    const cc_step *s = &whole;
    const int is_max = s->operation == CC_MAX_POOL || s->operation == CC_GLOBAL_MAX_POOL;
    const int64_t *k = s->window.kernel, taps = k[0] * k[1] * k[2];
    for (int64_t n = 0; n < elements(&s->out); n++) {
        int64_t o[5], x[5];
        unravel(&s->out, n, o);
        x[0] = o[0];
        x[4] = o[4];
        sum y = {0};
        double top = -INFINITY;
        for (int64_t t = 0; t < taps; t++)
            if (source(s, 0, o[1], t / (k[1] * k[2]), &x[1]) && source(s, 1, o[2], t / k[2] % k[1], &x[2]) &&
                source(s, 2, o[3], t % k[2], &x[3])) {
                const double cell = value_at(&s->in, buffers, x);
                add(&y, cell);
                top = cell > top ? cell : top;
            }
        const double cells = (double)(s->include_padding ? taps : y.terms);
        expected[n] = is_max ? top : y.value / cells;
        allowed[n] = is_max ? 0 : bound(y.terms, y.magnitude / cells);
    }
}

static void naive_binary(const drawn *d, void *const *buffers, double *expected, double *allowed)
{
    const cc_step *s = &d->step;
    for (int64_t n = 0; n < elements(&s->out); n++) {
        const double a = ((const float *)buffers[IN])[position_of(&s->in, n)];
        const double b = ((const float *)buffers[IN2])[position_of(&s->in2, n)];
        const double results[] = {a + b, a - b, a * b, a > b ? a : b, a < b ? a : b, a > 0 ? a : a * b};
        expected[n] = activated(s, results[s->binary]);
        allowed[n] = UNIT * fabs(results[s->binary]);
    }
}

static void naive_affine(const drawn *d, void *const *buffers, const float *scale, const float *offset,
                         double *expected, double *allowed)
{
    const cc_step *s = &d->step;
    const int64_t channels = s->out.shape[1];
    for (int64_t n = 0; n < elements(&s->out); n++) {
        sum y = {0};
        add(&y, (double)((const float *)buffers[IN])[position_of(&s->in, n)] * scale[n % channels]);
        add(&y, offset ? offset[n % channels] : 0.0);
        expected[n] = activated(s, y.value);
        allowed[n] = bound(y.terms, y.magnitude);
    }
}

static double stored(const void *buffer, int32_t type, int64_t at)
{
    switch (type) {
    case CC_I8:
        return ((const int8_t *)buffer)[at];
    case CC_U8:
        return ((const uint8_t *)buffer)[at];
    case CC_I16:
        return ((const int16_t *)buffer)[at];
    case CC_U16:
        return ((const uint16_t *)buffer)[at];
    default:
        return ((const int32_t *)buffer)[at];
    }
}

/* Correctly rounded, but for 2^-20 of the last place. */
static void naive_hu(const drawn *d, void *const *buffers, double *expected, double *allowed)
{
    const cc_step *s = &d->step;
    for (int64_t n = 0; n < elements(&s->out); n++) {
        const int64_t z = n / s->out.shape[1];
        const double raw = stored(buffers[IN], s->in.type, position_of(&s->in, n));
        double y = fma(raw, s->hu.slope[z], s->hu.intercept[z]);
        if (s->hu.has_padding && raw == s->hu.padding_value)
            y = s->hu.padding_is_hu ? s->hu.padding_to : s->hu.intercept[z];
        if (s->out.type == CC_I16) {
            y = rint(y < INT16_MIN ? INT16_MIN : y > INT16_MAX ? INT16_MAX : y);
            allowed[n] = 0;
        } else {
            allowed[n] = UNIT * fabs(y) * (1 + 0x1p-20);
        }
        expected[n] = y;
    }
}

static void naive_probe(const drawn *d, void *const *buffers, double *expected, double *allowed)
{
    const cc_step *s = &d->step;
    const float *x = buffers[IN];
    const int64_t columns = s->out.shape[1], length = s->in.shape[1];
    for (int64_t n = 0; n < elements(&s->out); n++) {
        const int64_t row = n / columns;
        double sum = 0, magnitudes = 0;
        for (int64_t c = 0; c < length; c++) {
            const double value = x[position_of(&s->in, row * length + c)];
            sum += value;
            magnitudes += fabs(value);
        }
        expected[n] = s->probe == CC_PROBE_FMA     ? 1
                      : s->probe == CC_PROBE_READ  ? sum
                      : s->probe == CC_PROBE_WRITE ? s->value
                                                   : x[position_of(&s->in, n)];
        allowed[n] = s->probe == CC_PROBE_READ ? (double)length * UNIT * magnitudes : 0;
    }
}

double sample_of(const void *samples, int32_t type, int64_t position)
{
    switch (type) {
    case CC_I8:
        return ((const int8_t *)samples)[position];
    case CC_U8:
        return ((const uint8_t *)samples)[position];
    case CC_I16:
        return ((const int16_t *)samples)[position];
    case CC_U16:
        return ((const uint16_t *)samples)[position];
    case CC_I32:
        return ((const int32_t *)samples)[position];
    case CC_F64:
        return ((const double *)samples)[position];
    default:
        return ((const float *)samples)[position];
    }
}

/* Walks from i to the edges and over them, one step at a time, until it is inside; -1 where nothing is. */
static int64_t beyond(int64_t i, int64_t n, int32_t edge)
{
    while (i < 0 || i >= n) {
        if (edge == CC_EDGE_CONSTANT)
            return -1;
        if (edge == CC_EDGE_NEAREST)
            i += i < 0 ? 1 : -1;
        else if (edge == CC_EDGE_WRAP)
            i += i < 0 ? n : -n;
        else if (n == 1)
            i = 0;
        else
            i = (edge == CC_EDGE_REFLECT ? -1 : 0) - i + (i < 0 ? 0 : 2 * n - (edge == CC_EDGE_REFLECT ? 0 : 2));
    }
    return i;
}

static double saturated(double y, int32_t type)
{
    static const double low[] = {[CC_I8] = INT8_MIN, [CC_I16] = INT16_MIN, [CC_I32] = INT32_MIN, [CC_U16] = 0};
    static const double high[] = {[CC_I8] = INT8_MAX, [CC_U8] = UINT8_MAX, [CC_I16] = INT16_MAX, [CC_U16] = UINT16_MAX,
                                  [CC_I32] = INT32_MAX};
    y = nearbyint(y);
    return y < low[type] ? low[type] : y > high[type] ? high[type] : y;
}

static void naive_filter(const drawn *d, void *const *buffers, double *expected, double *allowed)
{
    const cc_step *s = &d->step;
    const int64_t *k = s->window.kernel, taps = k[0] * k[1] * k[2];
    const double unit = s->in2.type == CC_F64 ? 0x1p-53 : UNIT;
    double largest = fabs(s->edge_value), weights = 0;
    for (int64_t i = 0; i < elements(&s->in); i++)
        largest = fmax(largest, fabs(sample_of(buffers[IN], s->in.type, position_of(&s->in, i))));
    for (int64_t i = 0; i < taps; i++)
        weights += pow(sample_of(buffers[IN2], s->in2.type, position_of(&s->in2, i)), 2);
    /* Of all samples that any window sees, at least 32 x 32 transformed together, at most two tiles of 256 x 256. */
    const double points = fmax(2048, (double)(2 * (s->out.shape[2] + k[1]) * (s->out.shape[3] + k[2])));
    const double transformed = 4 * unit * log2(131072) * largest * sqrt(points * weights);
    for (int64_t i = 0; i < elements(&s->out); i++) {
        int64_t o[5], x[5];
        sum y = {0};
        unravel(&s->out, i, o);
        x[0] = o[0];
        x[4] = o[4];
        for (int64_t t = 0; t < taps; t++) {
            const int64_t at[3] = {t / (k[1] * k[2]), t / k[2] % k[1], t % k[2]};
            int outside = 0;
            for (int a = 0; a < CC_SPATIAL; a++) {
                x[a + 1] = beyond(o[a + 1] + at[a] - s->window.pad_low[a], s->in.shape[a + 1], s->edge);
                outside = outside || x[a + 1] < 0;
            }
            const double value = outside ? s->edge_value : sample_of(buffers[IN], s->in.type, position(&s->in, x));
            const int64_t tap = s->flip ? taps - 1 - t : t;
            add(&y, value * sample_of(buffers[IN2], s->in2.type, position_of(&s->in2, tap)));
        }
        expected[i] = y.value;
        allowed[i] = 2.0 * (double)y.terms * unit * y.magnitude;
        if (s->accuracy != CC_DIRECT && s->in2.type == CC_F32)
            allowed[i] = fmax(allowed[i], transformed);
        if (s->out.type == CC_F32)
            allowed[i] += UNIT * fabs(y.value); /* doubles are rounded once more */
        else if (s->out.type != CC_F64) {
            const double low = saturated(y.value - allowed[i], s->out.type), high = saturated(y.value + allowed[i], s->out.type);
            expected[i] = (low + high) / 2;
            allowed[i] = (high - low) / 2;
        }
    }
}

int naive(const drawn *d, void *const *buffers, const float *weights, const float *bias, double *expected,
          double *allowed)
{
    const cc_step *s = &d->step;
    if (s->activation.kind != CC_LINEAR && s->activation.kind != CC_RELU)
        return 0;
    switch (s->operation) {
    case CC_CONV:
    case CC_DEPTHWISE_CONV:
    case CC_CONV_TRANSPOSE:
        naive_conv(d, buffers, weights, bias, expected, allowed);
        return 1;
    case CC_DENSE:
        naive_dense(d, buffers, weights, bias, expected, allowed);
        return 1;
    case CC_MAX_POOL:
    case CC_AVERAGE_POOL:
    case CC_GLOBAL_MAX_POOL:
    case CC_GLOBAL_AVERAGE_POOL:
        naive_pool(d, buffers, expected, allowed);
        return 1;
    case CC_AFFINE:
        naive_affine(d, buffers, weights, bias, expected, allowed);
        return 1;
    case CC_BINARY:
        naive_binary(d, buffers, expected, allowed);
        return 1;
    case CC_HU_RESCALE:
        naive_hu(d, buffers, expected, allowed);
        return 1;
    case CC_FILTER:
        naive_filter(d, buffers, expected, allowed);
        return 1;
    case CC_PROBE:
        naive_probe(d, buffers, expected, allowed);
        return 1;
    case CC_COPY:
    case CC_FILL:
        for (int64_t n = 0; n < elements(&s->out); n++) {
            expected[n] = s->operation == CC_FILL ? s->value : ((const float *)buffers[IN])[position_of(&s->in, n)];
            allowed[n] = 0;
        }
        return 1;
    default:
        return 0;
    }
}

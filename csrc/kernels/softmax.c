/* y[r,:] = exp(x[r,:] - max) / sum. An item is a block of rows.
 *
 * Rows of few elements lie side by side, a lane for each, and every step is taken for all of them at once; their
 * sums are in the order of the elements. What follows is about longer rows.
 *
 * Three passes over a row: the maximum; the exponentials and their sum; the product with 1/sum. The sum is
 * taken in one order per row: four vectors of partial sums per block of 1024, and the blocks' sums one after
 * the other, so its error grows with n/1024 + 1024/(4 lanes) roundings, not with n. A NaN, or +inf, or nothing
 * but -inf makes the whole row NaN. */
#include "elementwise.h"
#include "vec_math.h"

enum {
    SUMS = 4,
    NARROW = 24 /* elements of a row, at most, where moving each to its lane and back is less than waiting */
};

CC_INLINE float block_max(const float *x, int64_t n)
{
    const vf lowest = vf_set1(-INFINITY);
    vf top[SUMS] = {lowest, lowest, lowest, lowest};
    int64_t i = 0;
    for (; i + SUMS * VF_LANES <= n; i += SUMS * VF_LANES)
#pragma GCC unroll 4
        for (int k = 0; k < SUMS; k++)
            top[k] = vf_max(vf_load(x + i + k * VF_LANES), top[k]); /* passes over NaN, which the sum brings back */
    for (; i < n; i += VF_LANES)
        top[0] = vf_max(vf_load_n_or(x + i, (int)min_i64(VF_LANES, n - i), lowest), top[0]);
    return vf_max_lanes(vf_max(vf_max(top[0], top[1]), vf_max(top[2], top[3])));
}

/* y = exp(x - top); returns the sum. `next`, if not NULL, will be read soon, and is fetched meanwhile. */
CC_INLINE float block_exp(float *y, const float *x, int64_t n, vf top, const float *next)
{
    vf sum[SUMS] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
    int64_t i = 0;
    for (; i + SUMS * VF_LANES <= n; i += SUMS * VF_LANES)
#pragma GCC unroll 4
        for (int k = 0; k < SUMS; k++) {
            if (next)
                vf_prefetch(next + i + k * VF_LANES);
            const vf e = vf_exp(vf_sub(vf_load(x + i + k * VF_LANES), top));
            vf_store(y + i + k * VF_LANES, e);
            sum[k] = vf_add(sum[k], e);
        }
#pragma GCC unroll 4
    for (int k = 0; k < SUMS; k++, i += VF_LANES) {
        if (i >= n)
            break;
        /* Lanes beyond the end are exp(-inf) = 0, or NaN in a row that is nothing but -inf. */
        const int rest = (int)min_i64(VF_LANES, n - i);
        const vf e = vf_exp(vf_sub(vf_load_n_or(x + i, rest, vf_set1(-INFINITY)), top));
        vf_store_n(y + i, e, rest);
        sum[k] = vf_add(sum[k], e);
    }
    return vf_add_lanes(vf_add(vf_add(sum[0], sum[1]), vf_add(sum[2], sum[3])));
}

/* y = x * factor; a streamed y is aligned, or n < VF_LANES. */
CC_INLINE void block_scale(float *y, const float *x, int64_t n, vf factor, int stream)
{
    int64_t i = 0;
    for (; i + VF_LANES <= n; i += VF_LANES)
        vf_put(y + i, vf_mul(vf_load(x + i), factor), stream);
    if (i < n)
        vf_store_n(y + i, vf_mul(vf_load_n(x + i, (int)(n - i)), factor), (int)(n - i));
}

/* Up to VF_LANES rows of up to NARROW elements; x_ld and y_ld are from row to row and from element to element. */
static void softmax_narrow(float *y, const int64_t *y_ld, const float *x, const int64_t *x_ld, int64_t rows, int64_t n)
{
    _Alignas(64) float block[NARROW][VF_LANES];
    if (rows < VF_LANES)
        memset(block, 0, sizeof block);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < n; i++)
            block[i][r] = x[r * x_ld[0] + i * x_ld[1]];
    vf top = vf_set1(-INFINITY), sum = vf_zero();
    for (int64_t i = 0; i < n; i++)
        top = vf_max(vf_load(block[i]), top);
    for (int64_t i = 0; i < n; i++) {
        const vf e = vf_exp(vf_sub(vf_load(block[i]), top));
        vf_store(block[i], e);
        sum = vf_add(sum, e);
    }
    const vf factor = vf_div(vf_set1(1.0f), sum);
    for (int64_t i = 0; i < n; i++)
        vf_store(block[i], vf_mul(vf_load(block[i]), factor));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < n; i++)
            y[r * y_ld[0] + i * y_ld[1]] = block[i][r];
}

/* A row of one block, whose exponentials stay in the L1 cache. */
static void softmax_short(float *y, int64_t y_ld, const float *x, int64_t x_ld, int64_t n, int stream,
                          const float *next)
{
    _Alignas(64) float block[ELEMENTWISE_BLOCK];
    x = gather(x, x_ld, n, block);
    const vf top = vf_set1(block_max(x, n));
    const vf factor = vf_set1(1.0f / block_exp(block, x, n, top, next));
    if (stream) {
        for (int64_t i = 0, length; i < n; i += length) {
            length = block_length(y + i, n - i, 1);
            block_scale(y + i, block + i, length, factor, 1);
        }
    } else if (y_ld == 1) {
        block_scale(y, block, n, factor, 0);
    } else {
        block_scale(block, block, n, factor, 0);
        scatter(y, y_ld, n, block);
    }
}

static void softmax_long(float *y, int64_t y_ld, const float *x, int64_t x_ld, int64_t n)
{
    float block[ELEMENTWISE_BLOCK];
    float top = -INFINITY, sum = 0.0f;
    for (int64_t i = 0; i < n; i += ELEMENTWISE_BLOCK) {
        const int64_t length = min_i64(ELEMENTWISE_BLOCK, n - i);
        const float m = block_max(gather(x + i * x_ld, x_ld, length, block), length);
        top = m > top ? m : top;
    }
    for (int64_t i = 0; i < n; i += ELEMENTWISE_BLOCK) {
        const int64_t length = min_i64(ELEMENTWISE_BLOCK, n - i);
        float *result = y_ld == 1 ? y + i : block;
        sum += block_exp(result, gather(x + i * x_ld, x_ld, length, block), length, vf_set1(top), NULL);
        if (y_ld != 1)
            scatter(y + i * y_ld, y_ld, length, result);
    }
    const vf factor = vf_set1(1.0f / sum);
    for (int64_t i = 0; i < n; i += ELEMENTWISE_BLOCK) {
        const int64_t length = min_i64(ELEMENTWISE_BLOCK, n - i);
        float *result = y_ld == 1 ? y + i : block;
        block_scale(result, gather(y + i * y_ld, y_ld, length, block), length, factor, 0);
        if (y_ld != 1)
            scatter(y + i * y_ld, y_ld, length, result);
    }
}

void CC_FN(softmax_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    void *const *buffers = call->buffers;
    const cc_view *in = &step->in, *out = &step->out;
    const float *x = view_f32(in, buffers);
    float *y = view_f32(out, buffers);
    const int64_t rows = step->detail[ELEMENTWISE_ROWS], n = out->shape[1];
    const int64_t first = begin * rows, last = min_i64(end * rows, out->shape[0]);
    if (n <= NARROW) {
        for (int64_t row = first; row < last; row += VF_LANES)
            softmax_narrow(y + row * out->ld[0], out->ld, x + row * in->ld[0], in->ld, min_i64(VF_LANES, last - row), n);
        return;
    }
    const int stream = step->detail[ELEMENTWISE_STREAM] && n <= ELEMENTWISE_BLOCK;
    for (int64_t row = first; row < last; row++) {
        const float *from = x + row * in->ld[0];
        if (n <= ELEMENTWISE_BLOCK)
            softmax_short(y + row * out->ld[0], out->ld[1], from, in->ld[1], n, stream,
                          stream && in->ld[1] == 1 ? from + in->ld[0] : NULL);
        else
            softmax_long(y + row * out->ld[0], out->ld[1], from, in->ld[1], n);
    }
    if (stream)
        vf_fence();
}

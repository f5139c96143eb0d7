/* y[r,:] = exp(x[r,:] - max) / sum. An item is a block of rows.
 *
 * Three passes over a row: the maximum; the exponentials and their sum; the division. The sum is taken in
 * one order per row: four vectors of partial sums per block of 1024, and the blocks' sums one after the
 * other, so its error grows with n/1024 + 1024/(4 lanes) roundings, not with n. A NaN, or +inf, or nothing
 * but -inf makes the whole row NaN, as in Keras. */
#include "elementwise.h"
#include "vec_math.h"

enum { SUMS = 4 };

/* The first n lanes of p, and fill in the others. */
CC_INLINE vf load_n_or(const float *p, int n, float fill)
{
    float lanes[VF_LANES];
    for (int i = 0; i < VF_LANES; i++)
        lanes[i] = i < n ? p[i] : fill;
    return vf_load(lanes);
}

static float block_max(const float *x, int64_t n)
{
    vf top = vf_set1(-INFINITY);
    int64_t i = 0;
    for (; i + VF_LANES <= n; i += VF_LANES)
        top = vf_max(vf_load(x + i), top); /* passes over NaN, which the sum brings back */
    if (i < n)
        top = vf_max(load_n_or(x + i, (int)(n - i), -INFINITY), top);
    float lanes[VF_LANES];
    vf_store(lanes, top);
    float result = lanes[0];
    for (int k = 1; k < VF_LANES; k++)
        result = lanes[k] > result ? lanes[k] : result;
    return result;
}

/* y = exp(x - top); returns the sum */
static float block_exp(float *y, const float *x, int64_t n, vf top)
{
    vf sum[SUMS] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
    int64_t i = 0;
    for (; i + SUMS * VF_LANES <= n; i += SUMS * VF_LANES)
#pragma GCC unroll 4
        for (int k = 0; k < SUMS; k++) {
            const vf e = vf_exp(vf_sub(vf_load(x + i + k * VF_LANES), top));
            vf_store(y + i + k * VF_LANES, e);
            sum[k] = vf_add(sum[k], e);
        }
    for (int k = 0; i < n; i += VF_LANES, k++) {
        const int rest = (int)min_i64(VF_LANES, n - i);
        vf_store_n(y + i, vf_exp(vf_sub(vf_load_n(x + i, rest), top)), rest);
        sum[k] = vf_add(sum[k], vf_load_n(y + i, rest)); /* the lanes beyond count as 0 */
    }
    float lanes[VF_LANES];
    vf_store(lanes, vf_add(vf_add(sum[0], sum[1]), vf_add(sum[2], sum[3])));
    for (int width = VF_LANES / 2; width > 0; width /= 2)
        for (int k = 0; k < width; k++)
            lanes[k] += lanes[k + width];
    return lanes[0];
}

static void block_divide(float *y, int64_t n, vf divisor)
{
    int64_t i = 0;
    for (; i + VF_LANES <= n; i += VF_LANES)
        vf_store(y + i, vf_div(vf_load(y + i), divisor));
    if (i < n)
        vf_store_n(y + i, vf_div(vf_load_n(y + i, (int)(n - i)), divisor), (int)(n - i));
}

static void softmax_row(float *y, int64_t y_ld, const float *x, int64_t x_ld, int64_t n)
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
        sum += block_exp(result, gather(x + i * x_ld, x_ld, length, block), length, vf_set1(top));
        if (y_ld != 1)
            scatter(y + i * y_ld, y_ld, length, result);
    }
    for (int64_t i = 0; i < n; i += ELEMENTWISE_BLOCK) {
        const int64_t length = min_i64(ELEMENTWISE_BLOCK, n - i);
        float *result = y_ld == 1 ? y + i : block;
        gather(y + i * y_ld, y_ld, length, block);
        block_divide(result, length, vf_set1(sum));
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
    const int64_t rows = step->detail[ELEMENTWISE_ROWS];
    for (int64_t row = begin * rows; row < min_i64(end * rows, out->shape[0]); row++)
        softmax_row(y + row * out->ld[0], out->ld[1], x + row * in->ld[0], in->ld[1], out->shape[1]);
}

/* Activations that draw a random number per element.
 *
 * The generator is Philox4x32-10 (Salmon et al. 2011), which has no state: number i of stream `seed` is
 * word i % 4 of the block whose counter is i / 4, so any thread, and the GPU, can draw any number. Its
 * upper 23 bits r give u = (r + 1/2) 2^-23, exact in float32 and never 0 or 1. */
#include "elementwise.h"
#include "vec_math.h"

enum { PHILOX_ROUNDS = 10 };

static void philox(uint64_t block, uint64_t seed, uint32_t word[4])
{
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    uint32_t c0 = (uint32_t)block, c1 = (uint32_t)(block >> 32), c2 = 0, c3 = 0;
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ key0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ key1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        key0 += 0x9E3779B9u; /* Weyl sequences: golden ratio and sqrt(3) - 1 */
        key1 += 0xBB67AE85u;
    }
    word[0] = c0;
    word[1] = c1;
    word[2] = c2;
    word[3] = c3;
}

/* Numbers [first, first + n) of the stream, uniform in (0, 1) */
static void uniform(float *u, int64_t first, int64_t n, uint64_t seed)
{
    for (int64_t i = 0; i < n;) {
        const uint64_t index = (uint64_t)(first + i);
        uint32_t word[4];
        philox(index / 4, seed, word);
        for (uint64_t lane = index % 4; lane < 4 && i < n; lane++, i++)
            u[i] = ((float)(word[lane] >> 9) + 0.5f) * 0x1p-23f;
    }
}

static double polynomial7(const double c[8], double x)
{
    double y = c[7];
    for (int k = 6; k >= 0; k--)
        y = y * x + c[k];
    return y;
}

/* The normal deviate below which a share u lies: Wichura 1988, algorithm AS 241 (PPND16), in double. Its
 * third region, u < exp(-25), is left out: u is at least 2^-24. */
static float normal_quantile(float u)
{
    static const double central_over[8] = {
        3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
        4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3};
    static const double central_under[8] = {
        1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
        2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3};
    static const double tail_over[8] = {
        1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
        1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4};
    static const double tail_under[8] = {
        1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
        1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9};
    const double q = (double)u - 0.5;
    if (fabs(q) <= 0.425) {
        const double r = 0.180625 - q * q;
        return (float)(q * polynomial7(central_over, r) / polynomial7(central_under, r));
    }
    const double r = sqrt(-log(q < 0 ? (double)u : 1.0 - (double)u)) - 1.6;
    const double z = polynomial7(tail_over, r) / polynomial7(tail_under, r);
    return (float)(q < 0 ? -z : z);
}

/* x >= 0 ? x : x/r, r = low + (high - low) u; the product and the sum stay apart, so that every
 * instruction set divides by the same number. */
CC_INLINE vf rrelu_vf(vf x, vf u, vf low, vf width)
{
    const vf r = vf_add(low, vf_mul(width, u));
    return vf_select(vf_le(vf_zero(), x), x, vf_div(x, r));
}

CC_INLINE vf noisy_relu_vf(vf x, vf z) { return vf_at_least(vf_fma(vf_sqrt(vf_sigmoid(x)), z, x), 0.0f); }

static void sample(const cc_step *step, float *y, const float *x, int64_t first, int64_t n)
{
    float random[ELEMENTWISE_BLOCK];
    uniform(random, first, n, step->seed);
    const int noisy = step->sample == CC_NOISY_RELU;
    if (noisy)
        for (int64_t i = 0; i < n; i++)
            random[i] = normal_quantile(random[i]);
    const float *range = step->activation.parameter;
    const vf low = vf_set1(range[0]), width = vf_set1(range[1] - range[0]);
    for (int64_t i = 0; i < n; i += VF_LANES) {
        const int lanes = (int)min_i64(VF_LANES, n - i);
        const vf value = vf_load_n(x + i, lanes), drawn = vf_load_n(random + i, lanes);
        vf_store_n(y + i, noisy ? noisy_relu_vf(value, drawn) : rrelu_vf(value, drawn, low, width), lanes);
    }
}

void CC_FN(sample_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    void *const *buffers = call->buffers;
    const float *in = view_f32(&step->in, buffers);
    float *out = view_f32(&step->out, buffers);
    const int32_t last = step->out.rank - 1;
    const int64_t in_ld = step->in.ld[last], out_ld = step->out.ld[last], columns = step->out.shape[last];
    float block[ELEMENTWISE_BLOCK];
    elementwise_walk walk = {.view = {&step->in, &step->out}, .views = 2};

    for (int64_t item = begin; item < end; item++) {
        const elementwise_part part = elementwise_item(step, item);
        walk_start(&walk, part.row, part.column);
        for (int64_t row = part.row; row < part.row_end; row++, walk_next(&walk))
            for (int64_t i = 0; i < part.length; i += ELEMENTWISE_BLOCK) {
                const int64_t n = min_i64(ELEMENTWISE_BLOCK, part.length - i);
                const float *x = gather(in + walk.offset[0] + i * in_ld, in_ld, n, block);
                float *y = out + walk.offset[1] + i * out_ld;
                float *result = out_ld == 1 ? y : block; /* drawing takes longer than storing: no streaming */
                /* Collapsing axes kept their order: this is the row-major index of the caller's shape. */
                sample(step, result, x, row * columns + part.column + i, n);
                if (out_ld != 1)
                    scatter(y, out_ld, n, result);
            }
    }
}

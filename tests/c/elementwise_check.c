/* Checks the elementwise kernels of every instruction set of this machine against double precision.
 *
 *     elementwise_check              every check, activations on every 4099th float; seconds
 *     elementwise_check ulp 1 NAME   NAME (or all) on every float there is: minutes per function
 *     elementwise_check time         GB/s on one thread
 *
 * Link with libconvcore's objects. Prints what it measured; exit code 1 if anything is wrong. */
#include "table.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int failures;

#define CHECK(condition, ...) \
    do { \
        if (!(condition)) { \
            failures++; \
            printf("FAILED %s:%d: ", __func__, __LINE__); \
            printf(__VA_ARGS__); \
            printf("\n"); \
        } \
    } while (0)

static uint64_t state = 88172645463325252ull;
static uint64_t next_random(void) /* xorshift64 */
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}
static int64_t below(int64_t n) { return (int64_t)(next_random() % (uint64_t)n); }
static float uniform_between(float low, float high)
{
    return low + (high - low) * (float)(next_random() >> 40) * 0x1p-24f;
}

static float from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static uint32_t to_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Distance in units of the last place of a float of that size. */
static double ulps(float y, double expected)
{
    if (isnan(y) || isnan(expected))
        return isnan(y) && isnan(expected) ? 0 : INFINITY;
    if (isinf(y) && fabs(expected) > 0x1.ffffffp127)
        return (y > 0) == (expected > 0) ? 0 : INFINITY;
    if (y == expected)
        return 0;
    const float nearest = fabsf((float)expected);
    const int rounded_up = fabs(expected) < nearest; /* perhaps to a power of two, where the unit doubles */
    const uint32_t field = to_bits(rounded_up ? nextafterf(nearest, 0) : nearest) >> 23;
    const uint64_t inverse = (uint64_t)(1023 - ((int)(field > 0 ? field : 1) - 150)) << 52; /* of 2^(field - 150) */
    double per_unit;
    memcpy(&per_unit, &inverse, sizeof per_unit);
    return fabs((double)y - expected) * per_unit;
}

/* ---- running a step ---- */

static cc_view contiguous(int buffer, int type, int rank, const int64_t *shape)
{
    cc_view v = {.buffer = buffer, .type = type, .rank = rank};
    int64_t ld = 1;
    for (int a = rank - 1; a >= 0; a--) {
        v.shape[a] = shape[a];
        v.ld[a] = ld;
        ld *= shape[a];
    }
    return v;
}

static cc_view line(int buffer, int64_t n) { return contiguous(buffer, CC_F32, 1, &n); }

static void choose(cc_step *step)
{
    const cc_status status = cc_choose(step);
    CHECK(status == CC_OK, "cc_choose: %s", cc_status_text(status));
    if (status != CC_OK)
        exit(1);
}

static void run_all(const cc_step *step, void *const *buffers)
{
    const cc_call call = {.buffers = buffers};
    step->kernel(step, &call, 0, step->items[0]);
}

/* In pieces, last first. */
static void run_split(const cc_step *step, void *const *buffers)
{
    const cc_call call = {.buffers = buffers};
    for (int64_t end = step->items[0]; end > 0;) {
        const int64_t n = 1 + below(end < 4 ? end : 4);
        step->kernel(step, &call, end - n, end);
        end -= n;
    }
}

/* ---- activations ---- */

typedef struct function {
    const char *name;
    int kind;
    float parameter[3];
    double (*expected)(double x, const float *p);
    double goal; /* ulp */
} function;

static double ref_relu(double x, const float *p) { return (void)p, x > 0 ? x : 0; }
static double ref_relu_general(double x, const float *p)
{
    if (x > p[2])
        return x < p[1] ? x : p[1];
    return p[0] == 0 ? 0 : p[0] * (x - p[2]);
}
static double ref_leaky(double x, const float *p) { return x >= 0 ? x : p[0] * x; }
static double ref_divide(double x, const float *p) { return x >= 0 ? x : x / p[0]; }
static double ref_elu(double x, const float *p) { return x > 0 ? x : p[0] * expm1(x); }
static double ref_celu(double x, const float *p) { return x > 0 ? x : p[0] * expm1(x / p[0]); }
static double ref_selu(double x, const float *p)
{
    (void)p;
    const double scale = 1.0507009873554804934, alpha = 1.6732632423543772848;
    return scale * (x > 0 ? x : alpha * expm1(x));
}
static double ref_gelu(double x, const float *p) { return (void)p, x < -20 ? 0 : x * 0.5 * erfc(-x * M_SQRT1_2); }
static double ref_sigmoid(double x, const float *p)
{
    (void)p;
    return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
}
static double ref_gelu_tanh(double x, const float *p)
{
    return x < -20 ? 0 : x * ref_sigmoid(2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x), p);
}
static double ref_silu(double x, const float *p) { return x < -200 ? 0 : x * ref_sigmoid(x, p); }
static double ref_softplus(double x, const float *p) { return (void)p, (x > 0 ? x : 0) + log1p(exp(-fabs(x))); }
static double ref_softsign(double x, const float *p) { return (void)p, isinf(x) ? copysign(1, x) : x / (1 + fabs(x)); }
static double clip01(double x) { return x < 0 ? 0 : x > 1 ? 1 : x; }
static double ref_hard_silu(double x, const float *p) { return (void)p, x <= -3 ? 0 : x * clip01((x + 3) / 6); }
static double ref_tanh(double x, const float *p) { return (void)p, tanh(x); }
static double ref_exp(double x, const float *p) { return (void)p, exp(x); }
static double ref_mish(double x, const float *p) { return (void)p, x < -200 ? 0 : x * tanh(log1p(exp(x))); }

static const function functions[] = {
    {"relu", CC_RELU, {0}, ref_relu, 0},
    {"relu6", CC_RELU_GENERAL, {0, 6, 0}, ref_relu_general, 0},
    {"relu(0.25,inf,1)", CC_RELU_GENERAL, {0.25f, INFINITY, 1}, ref_relu_general, 1},
    {"leaky_relu", CC_LEAKY_RELU, {0.3f}, ref_leaky, 0.5},
    {"leaky_divide", CC_LEAKY_DIVIDE, {5.5f}, ref_divide, 0.5},
    {"elu", CC_ELU, {1}, ref_elu, 2},
    {"elu(1.7)", CC_ELU, {1.7f}, ref_elu, 2},
    {"celu(1.7)", CC_CELU, {1.7f}, ref_celu, 2},
    {"selu", CC_SELU, {0}, ref_selu, 2},
    {"gelu", CC_GELU, {0}, ref_gelu, 2},
    {"gelu_tanh", CC_GELU_TANH, {0}, ref_gelu_tanh, 2},
    {"silu", CC_SILU, {0}, ref_silu, 2},
    {"softplus", CC_SOFTPLUS, {0}, ref_softplus, 2},
    {"softsign", CC_SOFTSIGN, {0}, ref_softsign, 2},
    {"sigmoid", CC_SIGMOID, {0}, ref_sigmoid, 2},
    {"hard_silu", CC_HARD_SILU, {0}, ref_hard_silu, 2},
    {"tanh", CC_TANH, {0}, ref_tanh, 2},
    {"exp", CC_EXPONENTIAL, {0}, ref_exp, 2},
    {"mish", CC_MISH, {0}, ref_mish, 2},
};
enum { FUNCTIONS = sizeof functions / sizeof *functions, CHUNK = 1 << 16 };

static void check_ulps(cc_isa isa, const function *f, uint64_t stride)
{
    static float in[CHUNK], out[CHUNK];
    cc_step step = {.operation = CC_ACTIVATION, .isa = isa, .in = line(0, CHUNK), .out = line(1, CHUNK),
                    .activation = {f->kind, {f->parameter[0], f->parameter[1], f->parameter[2]}}};
    choose(&step);
    void *const buffers[] = {in, out};
    double worst = 0, worst_normal = 0;
    float worst_x = 0, worst_y = 0;
    for (uint64_t next = 0; next < 1ull << 32;) {
        int n = 0;
        for (; n < CHUNK && next < 1ull << 32; next += stride)
            in[n++] = from_bits((uint32_t)next);
        run_all(&step, buffers);
        for (int i = 0; i < n; i++) {
            if (isnan(in[i])) {
                CHECK(isnan(out[i]), "%s %s(NaN) = %g", cc_isa_name(isa), f->name, out[i]);
                continue;
            }
            const double expected = f->expected(in[i], f->parameter), error = ulps(out[i], expected);
            if (error > worst) {
                worst = error;
                worst_x = in[i];
                worst_y = out[i];
            }
            if (fabs(expected) >= FLT_MIN && error > worst_normal)
                worst_normal = error;
        }
    }
    printf("%-7s %-18s max %.3f ulp at x = %-16.9g y = %-16.9g (normal results: %.3f)\n", cc_isa_name(isa),
           f->name, worst, worst_x, worst_y, worst_normal);
    CHECK(worst <= f->goal, "%s %s", cc_isa_name(isa), f->name);
}

static float one_value(cc_isa isa, int kind, float a, float b, float c, float x)
{
    float y = 0;
    cc_step step = {.operation = CC_ACTIVATION, .isa = isa, .in = line(0, 1), .out = line(1, 1),
                    .activation = {kind, {a, b, c}}};
    choose(&step);
    void *const buffers[] = {&x, &y};
    run_all(&step, buffers);
    return y;
}

static void check_limits(cc_isa isa)
{
    static const struct {
        int kind;
        float x, y;
    } limits[] = {
        {CC_SILU, -INFINITY, 0}, {CC_SILU, INFINITY, INFINITY},
        {CC_SOFTSIGN, INFINITY, 1}, {CC_SOFTSIGN, -INFINITY, -1},
        {CC_MISH, -INFINITY, 0}, {CC_MISH, INFINITY, INFINITY}, {CC_GELU, -INFINITY, 0}, {CC_GELU, INFINITY, INFINITY},
        {CC_GELU_TANH, -INFINITY, 0}, {CC_GELU_TANH, INFINITY, INFINITY}, {CC_SOFTPLUS, INFINITY, INFINITY},
        {CC_SOFTPLUS, -INFINITY, 0}, {CC_SIGMOID, -INFINITY, 0}, {CC_SIGMOID, INFINITY, 1}, {CC_TANH, -INFINITY, -1},
        {CC_TANH, INFINITY, 1}, {CC_EXPONENTIAL, -INFINITY, 0}, {CC_EXPONENTIAL, INFINITY, INFINITY},
        {CC_HARD_SILU, -INFINITY, 0}, {CC_HARD_SILU, INFINITY, INFINITY}, {CC_RELU, -INFINITY, 0},
        {CC_ELU, -INFINITY, -1}, {CC_SELU, -INFINITY, -1.7580993408473766f},
    };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        const float y = one_value(isa, limits[i].kind, 1, 0, 0, limits[i].x);
        CHECK(y == limits[i].y, "%s kind %d at %g: %g", cc_isa_name(isa), limits[i].kind, limits[i].x, y);
    }
    CHECK(one_value(isa, CC_RELU_GENERAL, 0, 6, 0, -INFINITY) == 0, "relu6(-inf)");
    CHECK(one_value(isa, CC_RELU_GENERAL, 0, 6, 0, INFINITY) == 6, "relu6(inf)");
    CHECK(one_value(isa, CC_RELU_GENERAL, 0, INFINITY, 2, 2) == 0, "the threshold is strict");
    CHECK(one_value(isa, CC_HARD_SIGMOID, 0.2f, 0, 0, 1) == 0.7f, "hard_sigmoid(1)");
    for (int kind = 0; kind < CC_ACTIVATION_KIND_COUNT; kind++)
        CHECK(isnan(one_value(isa, kind, 0.5f, 6, 0, NAN)), "%s kind %d of NaN", cc_isa_name(isa), kind);
    const int odd[] = {CC_TANH, CC_ELU, CC_SELU, CC_CELU, CC_SILU, CC_GELU, CC_GELU_TANH, CC_MISH,
                       CC_SOFTSIGN, CC_LEAKY_RELU};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        CHECK(to_bits(one_value(isa, odd[i], 1, 0, 0, -0.0f)) == 0x80000000u, "%s kind %d of -0",
              cc_isa_name(isa), odd[i]);
}

/* ---- strided views: the same bits as contiguous ones, however the items are shared out ---- */

enum { MOST = 60000 };

/* A view of the given shape with shuffled, possibly negative and padded, memory order. */
static cc_view strange(int buffer, int type, int rank, const int64_t *shape, int64_t *elements)
{
    cc_view v = contiguous(buffer, type, rank, shape);
    int order[CC_MAX_RANK];
    for (int a = 0; a < rank; a++)
        order[a] = a;
    if (below(2))
        for (int a = rank - 1; a > 0; a--) {
            const int other = (int)below(a + 1), keep = order[a];
            order[a] = order[other];
            order[other] = keep;
        }
    int64_t ld = below(3) ? 1 : 2, lowest = 0, highest = 0;
    for (int k = rank - 1; k >= 0; k--) {
        const int a = order[k];
        v.ld[a] = below(4) ? ld : -ld;
        ld = ld * shape[a] + (below(2) ? 0 : below(3));
        (v.ld[a] < 0 ? &lowest : &highest)[0] += (shape[a] - 1) * v.ld[a];
    }
    v.offset = -lowest;
    *elements = highest - lowest + 1;
    return v;
}

static int64_t at(const cc_view *v, int64_t index)
{
    int64_t position = v->offset;
    for (int a = v->rank - 1; a >= 0; a--) {
        position += index % v->shape[a] * v->ld[a];
        index /= v->shape[a];
    }
    return position;
}

static float *floats(int64_t n) { return malloc((size_t)n * sizeof(float)); }

static void check_views(cc_isa isa, int operation, int draws)
{
    for (int draw = 0; draw < draws; draw++) {
        int64_t shape[CC_MAX_RANK], n = 1;
        const int two = operation == CC_AFFINE || operation == CC_SOFTMAX;
        const int rank = two ? 2 : 1 + (int)below(5);
        for (int a = 0; a < rank; a++) {
            const int64_t room = MOST / n;
            const int64_t wide = below(3) ? 9 : rank < 3 ? 30000 : 100;
            shape[a] = 1 + below(room < wide ? room : wide);
            n *= shape[a];
        }
        float *values = floats(n), *values2 = floats(n), *plain = floats(n);
        for (int64_t i = 0; i < n; i++) {
            values[i] = uniform_between(-9, 9);
            values2[i] = uniform_between(-1, 1);
        }
        const int kind = operation == CC_SAMPLE ? CC_LINEAR : (int)below(CC_ACTIVATION_KIND_COUNT);
        cc_step step = {.operation = operation, .isa = isa, .binary = (int)below(6), .sample = (int)below(2),
                        .seed = next_random(), .activation = {kind, {3.0f, 8.0f, 0.25f}}};
        cc_step odd = step;
        int64_t in_n, in2_n, out_n;
        step.in = contiguous(0, CC_F32, rank, shape), step.in2 = contiguous(1, CC_F32, rank, shape);
        step.out = contiguous(2, CC_F32, rank, shape);
        odd.in = strange(0, CC_F32, rank, shape, &in_n), odd.in2 = strange(1, CC_F32, rank, shape, &in2_n);
        const int in_place = below(3) == 0;
        odd.out = strange(2, CC_F32, rank, shape, &out_n);
        if (in_place) {
            odd.out = odd.in;
            odd.out.buffer = 2;
            out_n = in_n;
        }
        if (below(2)) { /* broadcast */
            const int a = (int)below(rank);
            step.in2.ld[a] = odd.in2.ld[a] = 0;
        }
        const cc_view in = odd.in, in2 = odd.in2, out = odd.out; /* choosing rewrites the step's */
        const cc_view plain2 = step.in2;
        float *x = floats(in_n), *x2 = floats(in2_n), *y = in_place ? x : floats(out_n);
        for (int64_t i = 0; i < n; i++) {
            x[at(&in, i)] = values[i];
            x2[at(&in2, i)] = values2[at(&plain2, i)];
        }
        choose(&step);
        choose(&odd);
        float *packed = NULL;
        if (operation == CC_AFFINE) {
            packed = floats(step.packed_floats);
            CHECK(cc_pack(&step, values2, n >= 2 * shape[1] ? values2 + shape[1] : NULL, packed) == CC_OK, "pack");
            step.weights = odd.weights = packed;
        }
        run_all(&step, (void *[]){values, values2, plain});
        run_split(&odd, (void *[]){x, x2, y});
        int64_t wrong = 0;
        for (int64_t i = 0; i < n; i++)
            wrong += to_bits(plain[i]) != to_bits(y[at(&out, i)]);
        CHECK(wrong == 0, "%s operation %d kind %d draw %d: %lld of %lld differ", cc_isa_name(isa), operation, kind,
              draw, (long long)wrong, (long long)n);
        free(values), free(values2), free(plain), free(x), free(x2), free(packed);
        if (!in_place)
            free(y);
    }
}

/* ---- values ---- */

static void check_softmax(cc_isa isa)
{
    const int64_t sizes[] = {1,  2,  3,  4,  5,  7,    8,    15,   16,   17,   31,
                             33, 63, 64, 65, 97, 1000, 1023, 1024, 1025, 5000, 70001};
    double worst = 0;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const int64_t n = sizes[s], shape[2] = {3, n};
        float *x = floats(3 * n), *y = floats(3 * n);
        for (int64_t i = 0; i < 3 * n; i++)
            x[i] = uniform_between(-20, 20);
        x[n] = NAN;
        cc_step step = {.operation = CC_SOFTMAX, .isa = isa, .in = contiguous(0, CC_F32, 2, shape),
                        .out = contiguous(1, CC_F32, 2, shape)};
        choose(&step);
        run_all(&step, (void *[]){x, y});
        for (int r = 0; r < 3; r += 2) {
            double top = -INFINITY, sum = 0;
            for (int64_t i = 0; i < n; i++)
                top = fmax(top, x[r * n + i]);
            for (int64_t i = 0; i < n; i++)
                sum += exp(x[r * n + i] - top);
            for (int64_t i = 0; i < n; i++) {
                const double expected = exp(x[r * n + i] - top) / sum;
                const double relative = fabs(y[r * n + i] - expected) / expected;
                worst = fmax(worst, relative * 0x1p24);
            }
        }
        for (int64_t i = 0; i < n; i++)
            CHECK(isnan(y[n + i]), "NaN row, n = %lld", (long long)n);
        x[n] = INFINITY;
        run_all(&step, (void *[]){x, y});
        for (int64_t i = 0; i < n; i++)
            CHECK(isnan(y[n + i]), "+inf row, n = %lld", (long long)n);
        x[n] = -INFINITY;
        run_all(&step, (void *[]){x, y});
        CHECK(n == 1 ? isnan(y[n]) : y[n] == 0, "-inf, n = %lld: %g", (long long)n, y[n]);
        if (n == 1)
            CHECK(y[0] == 1, "n = 1: %g", y[0]);
        free(x), free(y);
    }
    /* In units of 2^-24: x - max, of up to 40, is rounded, and exp makes that relative; exp itself, 2; a sum of
     * at most 1024/4 + 70 roundings; its reciprocal and the product, 2. */
    printf("%-7s softmax            max relative error %.2f * 2^-24\n", cc_isa_name(isa), worst);
    CHECK(worst <= 40 + 2 + 1024 / 4 + 70 + 2, "softmax");
}

static void check_binary_affine(cc_isa isa)
{
    enum { N = 37 };
    float a[N], b[N], y[N];
    for (int i = 0; i < N; i++) {
        a[i] = uniform_between(-2, 2);
        b[i] = uniform_between(-2, 2);
    }
    a[3] = NAN, b[5] = NAN;
    for (int operation = CC_ADD; operation <= CC_PRELU; operation++) {
        cc_step step = {.operation = CC_BINARY, .isa = isa, .binary = operation, .in = line(0, N),
                        .in2 = line(1, N), .out = line(2, N)};
        choose(&step);
        run_all(&step, (void *[]){a, b, y});
        for (int i = 0; i < N; i++) {
            const float expected[] = {a[i] + b[i], a[i] - b[i], a[i] * b[i], a[i] > b[i] ? a[i] : b[i],
                                      a[i] < b[i] ? a[i] : b[i], a[i] > 0 ? a[i] : b[i] * a[i]};
            if (isnan(a[i]) || isnan(b[i]))
                CHECK(isnan(y[i]), "NaN, binary %d", operation);
            else
                CHECK(y[i] == expected[operation], "binary %d: %g", operation, y[i]);
        }
    }
    int64_t shape[2] = {1, N};
    cc_step step = {.operation = CC_AFFINE, .isa = isa, .in = contiguous(0, CC_F32, 2, shape),
                    .out = contiguous(1, CC_F32, 2, shape)};
    choose(&step);
    float *packed = floats(step.packed_floats);
    a[3] = b[5] = 1;
    cc_pack(&step, b, a, packed);
    step.weights = packed;
    run_all(&step, (void *[]){a, y});
    for (int i = 0; i < N; i++)
        CHECK(fabs(y[i] - ((double)a[i] * b[i] + a[i])) <= 0x1p-23 * (fabs(a[i] * b[i]) + fabs(a[i])), "affine");
    free(packed);
}

/* Philox4x32-10's published vectors: counter and key 0; and as a stream, statistics. */
static void check_sample(cc_isa isa)
{
    enum { N = 200000 };
    const uint32_t words[4] = {0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u};
    float *x = floats(N), *y = floats(N);
    for (int i = 0; i < N; i++)
        x[i] = -1;
    cc_step step = {.operation = CC_SAMPLE, .isa = isa, .sample = CC_RRELU, .in = line(0, N), .out = line(1, N),
                    .activation = {.parameter = {3, 8}}};
    choose(&step);
    run_all(&step, (void *[]){x, y});
    double mean = 0;
    for (int i = 0; i < N; i++) {
        mean += y[i] / N;
        CHECK(y[i] >= -1 / 3.0f && y[i] <= -1 / 8.0f, "rrelu %g", y[i]);
    }
    for (int i = 0; i < 4; i++) {
        const float u = ((float)(words[i] >> 9) + 0.5f) * 0x1p-23f, r = 3 + 5 * u;
        CHECK(y[i] == -1 / r, "philox word %d", i);
    }
    CHECK(fabs(mean + 0.196166) < 5 * 0.06 / sqrt(N), "E[1/r] = %g", mean);

    for (int i = 0; i < N; i++)
        x[i] = 2;
    step.sample = CC_NOISY_RELU;
    step.seed = 12345678901234567ull;
    choose(&step);
    run_all(&step, (void *[]){x, y});
    double square = 0;
    mean = 0;
    for (int i = 0; i < N; i++) {
        mean += y[i] / N;
        square += (double)y[i] * y[i] / N;
    }
    /* max(0, 2 + s z), s^2 = sigmoid(2): E = 2 Phi(2/s) + s phi(2/s) */
    const double s = sqrt(1 / (1 + exp(-2.0))), t = 2 / s;
    const double phi = exp(-t * t / 2) / sqrt(2 * M_PI), Phi = 0.5 * erfc(-t * M_SQRT1_2);
    const double expected = 2 * Phi + s * phi, second = (4 + s * s) * Phi + 2 * s * phi;
    CHECK(fabs(mean - expected) < 5 / sqrt(N), "noisy relu mean %g, not %g", mean, expected);
    CHECK(fabs(square - second) < 5 * 5 / sqrt(N), "noisy relu second moment %g, not %g", square, second);
    free(x), free(y);
}

static double saturate(double v) { return v < -32768 ? -32768 : v > 32767 ? 32767 : v; }

static int64_t type_bytes(int type)
{
    return type == CC_I8 || type == CC_U8 ? 1 : type == CC_I16 || type == CC_U16 ? 2 : 4;
}

static int64_t stored(const void *p, int type, int64_t i)
{
    switch (type) {
    case CC_I8: return ((const int8_t *)p)[i];
    case CC_U8: return ((const uint8_t *)p)[i];
    case CC_I16: return ((const int16_t *)p)[i];
    case CC_U16: return ((const uint16_t *)p)[i];
    default: return ((const int32_t *)p)[i];
    }
}

static void check_hu(cc_isa isa)
{
    enum { ROWS = 8, N = 2100 };
    const double slope[ROWS] = {1, 0.5, 2, 0.1, 1.2345678901, -1, 3.0517578125e-05, 1000.25};
    const double intercept[ROWS] = {-1024, 0, -1000.5, -1024, 7.1, 0.5, -1, -1e6};
    double worst = 0;
    for (int type = CC_I8; type <= CC_I32; type++)
        for (int out_type = CC_F32; out_type <= CC_I16; out_type += CC_I16 - CC_F32)
            for (int mode = 0; mode < 6; mode++) {
                const int64_t shape[2] = {ROWS, 1 + below(N)}, n = shape[1];
                int64_t in_n, out_n;
                cc_step step = {.operation = CC_HU_RESCALE, .isa = isa, .in = contiguous(0, type, 2, shape),
                                .out = contiguous(1, out_type, 2, shape),
                                .hu = {mode % 3 > 0, type == CC_U8 || type == CC_U16 ? 200 : -100, mode % 3 > 1,
                                       -1000.5f, slope, intercept}};
                in_n = out_n = ROWS * n;
                if (mode > 2) {
                    step.in = strange(0, type, 2, shape, &in_n);
                    step.out = strange(1, out_type, 2, shape, &out_n);
                }
                char *x = malloc((size_t)(in_n * type_bytes(type)));
                void *y = malloc((size_t)(out_n * type_bytes(out_type)));
                for (int64_t i = 0; i < in_n * type_bytes(type); i++)
                    x[i] = (char)next_random();
                for (int64_t i = 0; i < in_n; i++)
                    if (below(5) == 0) { /* padding; and where 0.1 x cancels -1024 */
                        const int32_t v = below(2) ? step.hu.padding_value : 10240;
                        memcpy(x + i * type_bytes(type), &v, (size_t)type_bytes(type)); /* little-endian */
                    }
                choose(&step);
                run_split(&step, (void *[]){x, y});
                for (int64_t i = 0; i < ROWS * n; i++) {
                    const int64_t raw = stored(x, type, at(&step.in, i));
                    const int z = (int)(i / n);
                    /* 32 times 53 bits do not fit into a long double; fma rounds once. */
                    double expected = fma((double)raw, slope[z], intercept[z]);
                    if (step.hu.has_padding && raw == step.hu.padding_value)
                        expected = step.hu.padding_is_hu ? step.hu.padding_to : intercept[z];
                    if (out_type == CC_F32) {
                        const double error = ulps(((float *)y)[at(&step.out, i)], expected);
                        worst = fmax(worst, error);
                    } else {
                        const int16_t got = ((int16_t *)y)[at(&step.out, i)];
                        CHECK(got == (int16_t)rint(saturate(expected)), "%s type %d raw %lld slope %g: %d",
                              cc_isa_name(isa), type, (long long)raw, slope[z], got);
                    }
                }
                free(x), free(y);
            }
    printf("%-7s hu_rescale         max %.9f ulp\n", cc_isa_name(isa), worst);
    CHECK(worst <= 0.5 + 0x1p-20, "hu_rescale");
}

static void check_refusals(void)
{
    cc_step step = {.operation = CC_ACTIVATION, .isa = CC_ISA_SCALAR, .in = line(0, 4), .out = line(0, 5)};
    CHECK(cc_choose(&step) == CC_ERROR_SHAPE, "shape");
    step.out = line(0, 4);
    step.in.type = CC_I16;
    CHECK(cc_choose(&step) == CC_ERROR_TYPE, "type");
    step.operation = CC_HU_RESCALE;
    CHECK(cc_choose(&step) == CC_ERROR_SHAPE, "rank");
    step.operation = CC_SOFTMAX;
    step.in.type = CC_F32;
    CHECK(cc_choose(&step) == CC_ERROR_SHAPE, "rank");
    step.operation = CC_BINARY;
    step.in2 = line(0, 4);
    step.binary = 17;
    CHECK(cc_choose(&step) == CC_ERROR_ARGUMENT, "binary");
}

/* ---- timing ---- */

/* CPU time of this thread: what other programs take on a shared machine is not counted. */
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double gigabytes_per_second(cc_step *step, void *const *buffers)
{
    choose(step);
    double best = INFINITY;
    run_all(step, buffers);
    for (int k = 0; k < 9; k++) {
        const double start = now();
        int runs = 0;
        do {
            run_all(step, buffers);
            runs++;
        } while (now() - start < 0.01);
        best = fmin(best, (now() - start) / runs);
    }
    return step->bytes / best * 1e-9;
}

static void time_all(cc_isa isa)
{
    const int64_t sizes[2] = {1 << 16, 1 << 25}; /* 512 KiB, in the L2 cache; 256 MiB, out of all */
    float *x = floats(sizes[1]), *y = floats(sizes[1]);
    for (int64_t i = 0; i < sizes[1]; i++)
        x[i] = uniform_between(-8, 8), y[i] = 0;
    void *const buffers[] = {x, y};
    for (int f = -3; f < FUNCTIONS; f++) {
        double speed[2];
        for (int s = 0; s < 2; s++) {
            const int64_t n = sizes[s], shape[2] = {n / 1024, 1024};
            const double slope[1] = {f == -2 ? 1 : 0.1}, intercept[1] = {-1024};
            cc_step step = {.isa = isa, .in = line(0, n), .out = line(1, n)};
            if (f == -3) {
                step.operation = CC_SOFTMAX;
                step.in = contiguous(0, CC_F32, 2, shape), step.out = contiguous(1, CC_F32, 2, shape);
            } else if (f < 0) {
                const int64_t slice[2] = {1, n};
                step.operation = CC_HU_RESCALE;
                step.in = contiguous(0, CC_I16, 2, slice), step.out = contiguous(1, CC_F32, 2, slice);
                step.hu = (cc_hu){1, -2000, 1, -1000, slope, intercept};
            } else {
                step.operation = CC_ACTIVATION;
                step.activation.kind = functions[f].kind;
                memcpy(step.activation.parameter, functions[f].parameter, sizeof step.activation.parameter);
            }
            speed[s] = gigabytes_per_second(&step, buffers);
        }
        static const char *const others[] = {"softmax(1024)", "hu int16, slope 1", "hu int16, 0.1"};
        printf("%-7s %-18s %7.1f GB/s in L2 %7.1f GB/s in memory\n", cc_isa_name(isa),
               f < 0 ? others[f + 3] : functions[f].name, speed[0], speed[1]);
    }
    free(x), free(y);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "check";
    const uint64_t stride = argc > 2 ? strtoull(argv[2], NULL, 10) : 4099;
    const char *only = argc > 3 ? argv[3] : "all", *only_isa = argc > 4 ? argv[4] : "all";
    if (strcmp(mode, "check") == 0)
        check_refusals();
    for (int i = 0; i < CC_ISA_COUNT; i++) {
        const cc_isa isa = (cc_isa)i;
        if (!cc_isa_supported(isa) || (strcmp(only_isa, "all") != 0 && strcmp(only_isa, cc_isa_name(isa)) != 0))
            continue;
        if (strcmp(mode, "time") == 0) {
            time_all(isa);
            continue;
        }
        for (int f = 0; f < FUNCTIONS; f++)
            if (strcmp(only, "all") == 0 || strcmp(only, functions[f].name) == 0)
                check_ulps(isa, &functions[f], stride);
        if (strcmp(mode, "ulp") == 0)
            continue;
        check_limits(isa);
        const int operations[] = {CC_ACTIVATION, CC_SAMPLE, CC_BINARY, CC_AFFINE, CC_SOFTMAX};
        for (size_t k = 0; k < sizeof operations / sizeof *operations; k++)
            check_views(isa, operations[k], 150);
        check_softmax(isa);
        check_binary_affine(isa);
        check_sample(isa);
        check_hu(isa);
    }
    printf("%d failures\n", failures);
    return failures != 0;
}

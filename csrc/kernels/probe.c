/* What the machine can do at most, for rooflines: multiply-adds in registers, lines read, lines written.
 * Every loop is the plainest one that leaves nothing but the unit in question to wait for, and has a
 * result that can be checked. An item is a row. */
#include "items.h"
#include "kernel.h"

/* PROBE_CHAINS independent chains hide the latency of a multiply-add (4 cycles at two a cycle, or twice
 * that where it is two instructions) and fit, with both operands, 16 registers. Some cores with vectors of 4 lanes
 * begin four a cycle: with 32 registers, twice as many chains are half as long. They start apart, so that no
 * compiler can make one of them, and all end at the fixed point 1. */
enum { SETS = VF_LANES == 4 ? VF_REGISTERS / 16 : 1, CHAINS = SETS * PROBE_CHAINS };

static float multiply_add(float x, float value)
{
    const vf a = vf_set1(value), b = vf_set1(1.0f - value);
    vf v[CHAINS], sum = vf_zero();
    for (int j = 0; j < CHAINS; j++)
        v[j] = vf_set1(x + (float)j);
    for (int64_t i = 0; i < PROBE_ELEMENTS / SETS / VF_LANES; i++) {
#pragma GCC unroll 28
        for (int j = 0; j < CHAINS; j++)
            v[j] = vf_fma(v[j], a, b);
    }
    for (int j = 0; j < CHAINS; j++)
        sum = vf_add(sum, v[j]);
    float lanes[VF_LANES];
    vf_store(lanes, sum);
    return lanes[0] / CHAINS;
}

/* Lines are asked for this far ahead of the loads, in floats: 256 bytes. Without that, one core of a Zen 4
 * server reads a quarter less. */
enum { AHEAD = 64, LINE_FLOATS = 16, SUMS = 4 };

static float sum_of(const float *x, int64_t n)
{
    vf s[SUMS];
    for (int j = 0; j < SUMS; j++)
        s[j] = vf_zero();
    int64_t i = 0;
    for (; i + SUMS * VF_LANES <= n; i += SUMS * VF_LANES) {
        for (int j = 0; j < SUMS * VF_LANES; j += LINE_FLOATS)
            vf_prefetch(x + i + j + AHEAD);
#pragma GCC unroll 4
        for (int j = 0; j < SUMS; j++)
            s[j] = vf_add(s[j], vf_load(x + i + j * VF_LANES));
    }
    for (; i < n; i += VF_LANES)
        s[0] = vf_add(s[0], vf_load_n(x + i, (int)min_i64(VF_LANES, n - i)));
    float lanes[VF_LANES], sum = 0;
    vf_store(lanes, vf_add(vf_add(s[0], s[1]), vf_add(s[2], s[3])));
    for (int j = 0; j < VF_LANES; j++)
        sum += lanes[j];
    return sum;
}

/* Elements before the first one at a vector's boundary. */
static int64_t unaligned(const float *y, int64_t n)
{
    const uintptr_t size = VF_LANES * sizeof(float);
    return min_i64(n, (int64_t)((size - (uintptr_t)y % size) % size / sizeof(float)));
}

static void write_row(float *y, int64_t n, float value)
{
    const vf v = vf_set1(value);
    int64_t i = unaligned(y, n);
    vf_store_n(y, v, (int)i);
    for (; i + VF_LANES <= n; i += VF_LANES)
        vf_stream(y + i, v);
    vf_store_n(y + i, v, (int)(n - i));
}

static void copy_row(const float *x, float *y, int64_t n)
{
    int64_t i = unaligned(y, n);
    vf_store_n(y, vf_load_n(x, (int)i), (int)i);
    for (; i + VF_LANES <= n; i += VF_LANES)
        vf_stream(y + i, vf_load(x + i));
    vf_store_n(y + i, vf_load_n(x + i, (int)(n - i)), (int)(n - i));
}

static void fill_row(float *y, int64_t n, float value)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = value;
}

void CC_FN(probe_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    void *const *buffers = call->buffers;
    const int64_t columns = step->out.shape[1];
    for (int64_t row = begin; row < end; row++) {
        float *y = view_f32(&step->out, buffers) + row * step->out.ld[0];
        if (step->probe == CC_PROBE_WRITE) {
            write_row(y, columns, step->value);
            continue;
        }
        const float *x = view_f32(&step->in, buffers) + row * step->in.ld[0];
        if (step->probe == CC_PROBE_COPY)
            copy_row(x, y, columns);
        else
            fill_row(y, columns,
                     step->probe == CC_PROBE_FMA ? multiply_add(*x, step->value) : sum_of(x, step->in.shape[1]));
    }
    vf_fence();
}

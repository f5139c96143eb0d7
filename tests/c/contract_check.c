/* What convcore.h promises about steps that make no sense: an error, never a crash and never a number
 * that has wrapped round. */
#include "check.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cc_step conv_step(void)
{
    cc_step s = {.operation = CC_CONV, .groups = 1};
    s.in = contiguous(IN, CC_F32, 5, (const int64_t[]){2, 1, 8, 8, 4});
    s.out = contiguous(OUT, CC_F32, 5, (const int64_t[]){2, 1, 6, 6, 8});
    for (int a = 0; a < CC_SPATIAL; a++) {
        s.window.kernel[a] = a ? 3 : 1;
        s.window.stride[a] = s.window.dilation[a] = 1;
    }
    return s;
}

/* A step of any operation that cc_choose takes. */
static cc_step sound_step(int operation)
{
    static const double one = 1;
    cc_step s = conv_step();
    const int64_t flat[2] = {4, 8};
    s.operation = operation;
    switch (operation) {
    case CC_CONV:
    case CC_CONV_TRANSPOSE:
        return s;
    case CC_DEPTHWISE_CONV:
        return s;
    case CC_MAX_POOL:
    case CC_AVERAGE_POOL:
    case CC_RESIZE:
        s.out = contiguous(OUT, CC_F32, 5, (const int64_t[]){2, 1, 6, 6, 4});
        s.resize_scale[0] = s.resize_scale[1] = s.resize_scale[2] = 1;
        return s;
    case CC_FILTER:
        s.out = contiguous(OUT, CC_F32, 5, (const int64_t[]){2, 1, 6, 6, 4});
        s.in2 = contiguous(IN2, CC_F32, 3, s.window.kernel);
        return s;
    case CC_GLOBAL_MAX_POOL:
    case CC_GLOBAL_AVERAGE_POOL:
        s.out = contiguous(OUT, CC_F32, 5, (const int64_t[]){2, 1, 1, 1, 4});
        return s;
    case CC_BORDER:
        s.out.halo_low[1] = s.out.halo_high[2] = 1;
        return s;
    default:
        s.in = contiguous(IN, CC_F32, 2, flat);
        s.in2 = contiguous(IN2, CC_F32, 2, flat);
        s.out = contiguous(OUT, CC_F32, 2, flat);
    }
    if (operation == CC_HU_RESCALE) {
        s.in.type = CC_I16;
        s.in.shape[0] = s.out.shape[0] = 1;
        s.hu.slope = s.hu.intercept = &one;
    }
    return s;
}

static int has_weights(int operation)
{
    return operation == CC_CONV || operation == CC_DEPTHWISE_CONV || operation == CC_CONV_TRANSPOSE ||
           operation == CC_DENSE || operation == CC_AFFINE;
}

static void refused(cc_step s, cc_status expected, const char *what)
{
    const cc_status status = cc_choose(&s);
    CHECK(status == expected, "operation %d with %s: %s", s.operation, what, cc_status_text(status));
}

static void check_views(int operation)
{
    cc_step s = sound_step(operation);
    CHECK(cc_choose(&s) == CC_OK, "operation %d: the sound step is refused", operation);
    cc_view *const views[] = {&s.out, &s.in, &s.in2};
    const int inputs = operation == CC_FILL || operation == CC_BORDER ? 0 : operation == CC_BINARY || operation == CC_FILTER ? 2 : 1;
    for (int v = 0; v <= inputs; v++) {
        s = sound_step(operation);
        views[v]->rank = 0;
        refused(s, CC_ERROR_ARGUMENT, "rank 0");
        views[v]->rank = CC_MAX_RANK + 1;
        refused(s, CC_ERROR_ARGUMENT, "rank 9");
        s = sound_step(operation);
        views[v]->buffer = -1;
        refused(s, CC_ERROR_ARGUMENT, "buffer -1");
        s = sound_step(operation);
        views[v]->type = 77;
        refused(s, CC_ERROR_TYPE, "type 77");
        for (int32_t a = 0; a < views[v]->rank; a++) {
            s = sound_step(operation);
            views[v]->shape[a] = 0;
            refused(s, CC_ERROR_SHAPE, "a size of 0");
            views[v]->shape[a] = -3;
            refused(s, CC_ERROR_SHAPE, "a negative size");
            views[v]->shape[a] = INT64_MAX;
            refused(s, CC_ERROR_SHAPE, "a size of 2^63 - 1");
            s = sound_step(operation);
            views[v]->ld[a] = INT64_MAX;
            refused(s, CC_ERROR_ARGUMENT, "a memory step of 2^63 - 1");
            views[v]->ld[a] = INT64_MIN;
            refused(s, CC_ERROR_ARGUMENT, "a memory step of -2^63");
        }
        s = sound_step(operation);
        views[v]->offset = INT64_MAX;
        refused(s, CC_ERROR_ARGUMENT, "an offset of 2^63 - 1");
    }
    s = sound_step(operation);
    s.out.ld[s.out.rank - 2] = 0;
    if (s.out.shape[s.out.rank - 2] > 1)
        refused(s, CC_ERROR_ARGUMENT, "an output that repeats");
    if (inputs > 0) {
        s = sound_step(operation);
        s.out.rank--;
        refused(s, CC_ERROR_SHAPE, "different ranks");
        s = sound_step(operation);
        s.out.shape[0]++;
        refused(s, CC_ERROR_SHAPE, "different batches");
    }
}

static void check_windows(int operation)
{
    for (int a = 0; a < CC_SPATIAL; a++) {
        cc_step s = sound_step(operation);
        int64_t *const fields[] = {&s.window.kernel[a], &s.window.stride[a], &s.window.dilation[a],
                                   &s.window.pad_low[a]};
        for (int f = 0; f < 4; f++) {
            const int64_t sound = *fields[f], nonsense[] = {-1, INT64_MIN, INT64_MAX};
            for (int i = 0; i < 3; i++) {
                *fields[f] = nonsense[i];
                refused(s, CC_ERROR_ARGUMENT, "a nonsensical window");
            }
            if (f < 3) {
                *fields[f] = 0;
                refused(s, CC_ERROR_ARGUMENT, "a window of 0");
            }
            *fields[f] = sound;
        }
    }
}

/* Sizes that are each allowed and together are not. */
static void check_products(void)
{
    const int64_t side = 1 << 20;
    for (int operation = CC_CONV; operation <= CC_CONV_TRANSPOSE; operation++) {
        cc_step s = sound_step(operation);
        for (int a = 0; a < CC_SPATIAL; a++)
            s.window.kernel[a] = side;
        refused(s, CC_ERROR_ARGUMENT, "2^60 taps");
        s.window.kernel[0] = 1 << 4;
        s.in.shape[4] = s.out.shape[4] = 1 << 19;
        s.in.ld[3] = s.out.ld[3] = 1 << 19;
        refused(s, CC_ERROR_ARGUMENT, "2^60 weights a channel");
    }
    /* Channels that are no neighbours are copied first. */
    for (int operation = CC_CONV; operation <= CC_CONV_TRANSPOSE; operation += 2) {
        cc_step s = sound_step(operation);
        s.in.ld[4] = operation == CC_CONV ? 2 : 1;
        for (int a = 0; a < CC_SPATIAL; a++) {
            s.window.kernel[a] = 2;
            s.window.dilation[a] = side;
        }
        refused(s, CC_ERROR_ARGUMENT, "a workspace of 2^67 bytes");
    }
    cc_step s = sound_step(CC_CONV);
    s.in.ld[4] = 2;
    for (int a = 0; a < CC_SPATIAL; a++) {
        s.out.shape[a + 1] = 1 << 12;
        s.window.stride[a] = side;
    }
    s.out.shape[4] = 1;
    s.out = contiguous(OUT, CC_F32, 5, s.out.shape);
    refused(s, CC_ERROR_ARGUMENT, "a workspace of 2^100 bytes");
    s = sound_step(CC_DENSE);
    s.in = contiguous(IN, CC_F32, 2, (const int64_t[]){1, (int64_t)1 << 40});
    s.out = contiguous(OUT, CC_F32, 2, (const int64_t[]){1, (int64_t)1 << 40});
    refused(s, CC_ERROR_ARGUMENT, "2^80 weights");
}

static void check_fields(void)
{
    cc_step s = conv_step();
    const int64_t groups[] = {-1, 0, 3, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        s.groups = groups[i];
        refused(s, CC_ERROR_ARGUMENT, "groups that do not divide");
    }
    s = conv_step();
    s.activation.kind = CC_ACTIVATION_KIND_COUNT;
    refused(s, CC_ERROR_ARGUMENT, "an unknown activation");
    s = sound_step(CC_MAX_POOL);
    s.activation.kind = -7;
    refused(s, CC_OK, "a field that it does not name");
    s = conv_step();
    s.out.ld[4] = 2;
    refused(s, CC_ERROR_ARGUMENT, "channels that are not neighbours");
    s = sound_step(CC_DEPTHWISE_CONV);
    s.out.shape[4] = 7;
    refused(s, CC_ERROR_SHAPE, "outputs that are no multiple of the inputs");
    s = sound_step(CC_MAX_POOL);
    s.window.pad_low[1] = 3;
    refused(s, CC_ERROR_SHAPE, "windows wholly in the padding");
    s = sound_step(CC_GLOBAL_MAX_POOL);
    s.out.shape[2] = 2;
    refused(s, CC_ERROR_SHAPE, "more than one output");
    s = sound_step(CC_RESIZE);
    s.resize_scale[1] = NAN;
    refused(s, CC_ERROR_ARGUMENT, "a scale that is not a number");
    s = sound_step(CC_HU_RESCALE);
    s.hu.slope = NULL;
    refused(s, CC_ERROR_ARGUMENT, "no slope");
    s = sound_step(CC_FILTER);
    s.edge = CC_EDGE_WRAP + 1;
    refused(s, CC_ERROR_ARGUMENT, "an unknown edge");
    s = sound_step(CC_FILTER);
    s.window.stride[1] = 2;
    refused(s, CC_ERROR_ARGUMENT, "a stride");
    s = sound_step(CC_FILTER);
    s.window.kernel[2] = 4;
    refused(s, CC_ERROR_SHAPE, "a kernel of another shape");
    s = sound_step(CC_FILTER);
    s.in.type = CC_F64;
    refused(s, CC_ERROR_TYPE, "doubles summed in float32");
    s = sound_step(CC_FILTER);
    for (int a = 0; a < CC_SPATIAL; a++) {
        s.window.kernel[a] = s.in2.shape[a] = 1 << 13;
        s.in2.ld[a] = 0;
    }
    refused(s, CC_ERROR_ARGUMENT, "2^39 taps and a copy of 2^40 samples");
    s = sound_step(CC_SAMPLE);
    s.sample = 9;
    refused(s, CC_ERROR_ARGUMENT, "an unknown sample");
    s = sound_step(CC_PROBE);
    s.probe = CC_PROBE_COPY + 1;
    refused(s, CC_ERROR_ARGUMENT, "an unknown probe");
    s = sound_step(CC_PROBE);
    s.in.ld[1] = 2;
    refused(s, CC_ERROR_ARGUMENT, "columns that are no neighbours");
    s = sound_step(CC_PROBE);
    s.probe = CC_PROBE_COPY;
    s.in.shape[1]++;
    refused(s, CC_ERROR_SHAPE, "a copy of other columns");
    s = sound_step(CC_BINARY);
    s.binary = -1;
    refused(s, CC_ERROR_ARGUMENT, "an unknown binary");
    s = conv_step();
    s.operation = CC_OPERATION_COUNT;
    refused(s, CC_ERROR_ARGUMENT, "an unknown operation");
    s.operation = -1;
    refused(s, CC_ERROR_ARGUMENT, "an unknown operation");
    CHECK(cc_choose(NULL) == CC_ERROR_ARGUMENT, "no step");
}

/* A 3x3 convolution that Winograd's algorithm takes, of whole blocks on both sides. */
static cc_step blocked_step(void)
{
    cc_step s = conv_step();
    cc_view *const views[] = {&s.in, &s.out};
    s.accuracy = CC_STANDARD;
    for (int v = 0; v < 2; v++) {
        const int64_t side = v ? 16 : 18;
        *views[v] = contiguous(v ? OUT : IN, CC_F32, 5, (const int64_t[]){2, 1, side, side, 32});
        views[v]->ld_block = side * side * CC_BLOCK;
        for (int a = 3, ld = CC_BLOCK; a > 0; a--, ld *= (int)side)
            views[v]->ld[a] = ld;
    }
    return s;
}

static int takes_blocks(int operation)
{
    return operation == CC_CONV || operation == CC_CONV_TRANSPOSE || operation == CC_BORDER;
}

static void check_blocks(void)
{
    cc_step s;
    for (int operation = 0; operation < CC_OPERATION_COUNT; operation++) {
        cc_view *const views[] = {&s.out, &s.in, &s.in2};
        const int inputs = operation == CC_FILL || operation == CC_BORDER ? 0 : operation == CC_BINARY || operation == CC_FILTER ? 2 : 1;
        for (int v = 0; v <= inputs; v++) {
            s = sound_step(operation);
            views[v]->ld_block = -1;
            refused(s, CC_ERROR_ARGUMENT, "a negative distance of blocks");
            views[v]->ld_block = INT64_MAX;
            refused(s, CC_ERROR_ARGUMENT, "a distance of blocks of 2^63 - 1");
            views[v]->ld_block = 1 << 16;
            refused(s, takes_blocks(operation) ? CC_OK : CC_ERROR_ARGUMENT, "blocked channels");
            if (views[v]->rank != 5)
                continue;
            for (int a = 0; a < CC_SPATIAL; a++)
                for (int high = 0; high < 2; high++) {
                    s = sound_step(operation);
                    int32_t *const halo = high ? &views[v]->halo_high[a] : &views[v]->halo_low[a];
                    *halo = -1;
                    refused(s, CC_ERROR_ARGUMENT, "a negative halo");
                    *halo = INT32_MIN;
                    refused(s, CC_ERROR_ARGUMENT, "a halo of -2^31");
                    *halo = INT32_MAX;
                    views[v]->shape[4] = (int64_t)1 << 12;
                    refused(s, CC_ERROR_SHAPE, "a halo of 2^31 - 1 cells, with 2^12 channels");
                }
        }
    }
    s = blocked_step();
    refused(s, CC_OK, "blocks on both sides");
    s.in.ld_block = s.out.ld_block = (int64_t)1 << 41;
    refused(s, CC_ERROR_ARGUMENT, "two blocks 2^41 apart");
    s = blocked_step();
    s.in.ld[4] = 2;
    refused(s, CC_ERROR_ARGUMENT, "channels of a block that are not neighbours");
    s = blocked_step();
    s.groups = 2;
    refused(s, CC_OK, "groups of whole blocks");
    s.groups = 4;
    refused(s, CC_ERROR_ARGUMENT, "groups that do not begin a block");
    s.in.ld_block = 0;
    refused(s, CC_ERROR_ARGUMENT, "groups of the output that do not begin a block");
    s = sound_step(CC_BORDER);
    s.out.ld[4] = 2;
    refused(s, CC_ERROR_ARGUMENT, "channels of a border that are not neighbours");
}

static void check_pool(void)
{
    const int32_t pools[] = {INT32_MIN, -1, 3, 4, INT32_MAX};
    cc_step s = blocked_step();
    s.out.shape[2] = s.out.shape[3] = 8;
    s.pool = 2;
    refused(s, CC_OK, "pooling behind Winograd's algorithm");
    for (size_t i = 0; i < sizeof pools / sizeof *pools; i++) {
        s.pool = pools[i];
        refused(s, CC_ERROR_ARGUMENT, "this pooling");
    }
    s.pool = 2;
    for (int32_t kind = 0; kind < CC_ACTIVATION_KIND_COUNT; kind++) {
        s.activation.kind = kind;
        refused(s, kind == CC_LINEAR || kind == CC_RELU ? CC_OK : CC_ERROR_ARGUMENT, "pooling behind this activation");
    }
    s.activation.kind = CC_LINEAR;
    s.accuracy = CC_DIRECT;
    refused(s, CC_ERROR_ARGUMENT, "pooling behind a direct convolution");
    s.pool = 1;
    const int32_t accuracies[] = {INT32_MIN, -1, CC_FAST + 1, INT32_MAX};
    for (size_t i = 0; i < sizeof accuracies / sizeof *accuracies; i++) {
        s.accuracy = accuracies[i];
        refused(s, CC_ERROR_ARGUMENT, "an unknown accuracy");
    }
}

static void check_isas(void)
{
    const int32_t isas[] = {-1, CC_ISA_SCALAR, CC_ISA_SSE2, CC_ISA_AVX2, CC_ISA_AVX512, CC_ISA_NEON, CC_ISA_COUNT,
                            INT32_MAX};
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        cc_step s = conv_step();
        s.isa = isas[i];
        refused(s, cc_isa_supported((cc_isa)isas[i]) ? CC_OK : CC_ERROR_ISA, "this instruction set");
    }
    CHECK(cc_isa_supported(CC_ISA_SCALAR), "portable C runs everywhere");
#if defined(__x86_64__)
    CHECK(cc_isa_supported(CC_ISA_SSE2) && !cc_isa_supported(CC_ISA_NEON), "x86-64 has SSE2 and not NEON");
#elif defined(__aarch64__)
    CHECK(cc_isa_supported(CC_ISA_NEON) && !cc_isa_supported(CC_ISA_SSE2), "AArch64 has NEON and not SSE2");
    CHECK(!cc_isa_supported(CC_ISA_AVX2) && !cc_isa_supported(CC_ISA_AVX512), "AArch64 has no AVX");
#endif
    for (int i = 0; i < CC_ISA_COUNT; i++) {
        cc_isa isa = CC_ISA_COUNT;
        CHECK(cc_isa_by_name(cc_isa_name((cc_isa)i), &isa) == CC_OK && isa == (cc_isa)i, "name of %d", i);
    }
    cc_isa isa = CC_ISA_SCALAR;
    CHECK(cc_isa_by_name("mmx", &isa) == CC_ERROR_ARGUMENT, "mmx");
    CHECK(strlen(cc_cpu_name()) > 0 && strcmp(cc_cpu_name(), cc_cpu_name()) == 0, "the CPU's name");
}

static void check_calls(void)
{
    float data[4096] = {0};
    void *const buffers[BUFFERS] = {data, data, data, data};
    cc_step s = conv_step();
    CHECK(cc_run(&s, 1, buffers, NULL) == CC_ERROR_ARGUMENT, "a step that was not chosen");
    CHECK(cc_pack(&s, data, NULL, data) == CC_ERROR_ARGUMENT, "packing a step that was not chosen");
    CHECK(cc_run(NULL, 0, NULL, NULL) == CC_OK, "nothing to do");
    CHECK(cc_run(NULL, 1, buffers, NULL) == CC_ERROR_ARGUMENT, "no steps");
    CHECK(cc_run(&s, -1, buffers, NULL) == CC_ERROR_ARGUMENT, "-1 steps");
    for (int operation = 0; operation < CC_OPERATION_COUNT; operation++) {
        s = sound_step(operation);
        cc_choose(&s);
        CHECK(cc_run(&s, 1, NULL, NULL) == CC_ERROR_ARGUMENT, "operation %d without buffers", operation);
        CHECK((s.packed_floats > 0) == has_weights(operation), "operation %d: packed_floats", operation);
        if (has_weights(operation)) {
            CHECK(cc_run(&s, 1, buffers, NULL) == CC_ERROR_ARGUMENT, "operation %d without weights", operation);
            CHECK(cc_pack(&s, NULL, NULL, data) == CC_ERROR_ARGUMENT, "operation %d: packing nothing", operation);
            CHECK(cc_pack(&s, data, NULL, NULL) == CC_ERROR_ARGUMENT, "operation %d: packing to nowhere", operation);
        } else {
            CHECK(cc_pack(&s, data, NULL, data) == CC_ERROR_ARGUMENT, "operation %d has no weights", operation);
        }
    }
    const int unknown = CC_ERROR_FILE + 1;
    for (int i = 0; i <= unknown; i++)
        for (int j = 0; j < i; j++)
            CHECK(strcmp(cc_status_text((cc_status)i), cc_status_text((cc_status)j)) != 0, "text of %d and %d", i, j);
    CHECK(strcmp(cc_status_text((cc_status)-1), cc_status_text((cc_status)unknown)) == 0, "unknown statuses");
    const int before = cc_get_num_threads();
    CHECK(cc_set_num_threads(0) == CC_ERROR_ARGUMENT && cc_set_num_threads(-1) == CC_ERROR_ARGUMENT &&
              cc_set_num_threads(1 << 20) == CC_ERROR_ARGUMENT && cc_get_num_threads() == before,
          "a nonsensical number of threads");
}

/* From a file the packed weights are those from memory; what cannot be read is a status, not a crash. */
static void check_pack_file(void)
{
    enum { OFFSET = 13, MOST = 1 << 16 };
    static float weights[MOST];
    for (int i = 0; i < MOST; i++)
        weights[i] = (float)(i % 251) - 125;
    FILE *file = tmpfile();
    CHECK(file != NULL, "no temporary file");
    if (!file)
        return;
    fseek(file, OFFSET, SEEK_SET);
    fwrite(weights, sizeof *weights, MOST, file);
    fflush(file);
    for (int operation = 0; operation < CC_OPERATION_COUNT; operation++) {
        cc_step s = sound_step(operation);
        cc_choose(&s);
        if (s.packed_floats > MOST)
            continue;
        float *a = calloc(MOST, sizeof *a), *b = calloc(MOST, sizeof *b);
        int finite = -1;
        const cc_status status = cc_pack_file(&s, fileno(file), OFFSET, NULL, b, &finite);
        if (operation == CC_CONV || operation == CC_DENSE) {
            CHECK(status == CC_OK && finite == 1, "operation %d: packing from a file", operation);
            cc_pack(&s, weights, NULL, a);
            CHECK(memcmp(a, b, MOST * sizeof *a) == 0, "operation %d: packed otherwise from a file", operation);
            const int64_t end = OFFSET + MOST * (int64_t)sizeof(float);
            CHECK(cc_pack_file(&s, fileno(file), end - 2, NULL, b, &finite) == CC_ERROR_FILE, "beyond the end");
            CHECK(cc_pack_file(&s, 1 << 20, 0, NULL, b, &finite) == CC_ERROR_FILE, "no open file");
            CHECK(cc_pack_file(&s, -1, 0, NULL, b, &finite) == CC_ERROR_ARGUMENT, "no descriptor");
            CHECK(cc_pack_file(&s, fileno(file), -1, NULL, b, &finite) == CC_ERROR_ARGUMENT, "before the file");
            CHECK(cc_pack_file(&s, fileno(file), 0, NULL, NULL, &finite) == CC_ERROR_ARGUMENT, "to nowhere");
            CHECK(cc_pack_file(&s, fileno(file), 0, NULL, b, NULL) == CC_ERROR_ARGUMENT, "no answer wanted");
        } else {
            CHECK(status == CC_ERROR_ARGUMENT, "operation %d packs from a file", operation);
        }
        free(a);
        free(b);
    }
    fclose(file);
}

/* One output in double, in the order that the kernel promises: the same bits. */
static double double_at(const cc_step *s, const double *x, const double *w, const int64_t *o)
{
    const int64_t *k = s->window.kernel, ic = s->in.shape[4], oc = s->out.shape[4], f = o[4];
    const int depthwise = s->operation == CC_DEPTHWISE_CONV;
    const int64_t groups = depthwise ? ic : s->groups, terms = ic / groups, first = f / (oc / groups) * terms;
    double sum = w[f];
    for (int64_t tap = 0; tap < k[0] * k[1] * k[2]; tap++) {
        const int64_t t[3] = {tap / (k[1] * k[2]), tap / k[2] % k[1], tap % k[2]};
        int64_t at[5] = {o[0], 0, 0, 0, 0}, inside = 1;
        for (int a = 0; a < CC_SPATIAL; a++) {
            at[a + 1] = o[a + 1] * s->window.stride[a] + t[a] * s->window.dilation[a] - s->window.pad_low[a];
            inside = inside && at[a + 1] >= 0 && at[a + 1] < s->in.shape[a + 1];
        }
        const int64_t row = s->flip ? k[0] * k[1] * k[2] - 1 - tap : tap;
        for (int64_t c = 0; inside && c < terms; c++) {
            at[4] = first + c;
            const double product = x[position(&s->in, at)] * w[oc + (row * terms + c) * oc + f];
            sum += product;
        }
    }
    return s->activation.kind == CC_RELU && sum <= 0 ? 0 : sum;
}

static memory random_doubles(int64_t n)
{
    memory m = memory_new(n * (int64_t)sizeof(double), 1);
    for (int64_t i = 0; i < n; i++)
        ((double *)m.at)[i] = random_float() + 1e-9 * random_float();
    return m;
}

/* Convolutions in double, of any shape, on every instruction set, between pages that nobody may touch. */
static void check_double(void)
{
    for (int round = 0; round < 60; round++) {
        const int depthwise = round % 3 == 2;
        cc_step s = {.operation = depthwise ? CC_DEPTHWISE_CONV : CC_CONV, .groups = 1 + below(3), .flip = round & 1};
        const int64_t ic = (1 + below(5)) * (depthwise ? 1 : s.groups), oc = (1 + below(21)) * (depthwise ? ic : s.groups);
        int64_t in[5] = {1 + below(2), 0, 0, 0, ic}, out[5] = {in[0], 0, 0, 0, oc}, taps = 1;
        for (int a = 0; a < CC_SPATIAL; a++) {
            in[a + 1] = 1 + below(6), out[a + 1] = 1 + below(5);
            s.window.kernel[a] = 1 + below(3), s.window.stride[a] = 1 + below(3);
            s.window.dilation[a] = 1 + below(3), s.window.pad_low[a] = below(4);
            taps *= s.window.kernel[a];
        }
        s.activation.kind = below(2) ? CC_RELU : CC_LINEAR;
        const int64_t row = oc * (1 + taps * (depthwise ? 1 : ic / s.groups));
        s.in = contiguous(IN, CC_F64, 5, in);
        s.out = contiguous(OUT, CC_F64, 5, out);
        s.in2 = contiguous(IN2, CC_F64, 1, &row);
        memory x = random_doubles(elements(&s.in)), w = random_doubles(row), y = random_doubles(elements(&s.out));
        void *const buffers[BUFFERS] = {[IN] = x.at, [IN2] = w.at, [OUT] = y.at};
        for (int isa = 0; isa < CC_ISA_COUNT; isa++) {
            cc_step chosen = s;
            chosen.isa = isa;
            if (!cc_isa_supported((cc_isa)isa))
                continue;
            CHECK(cc_choose(&chosen) == CC_OK && cc_run(&chosen, 1, buffers, NULL) == CC_OK, "double, round %d", round);
            CHECK(cc_pack(&chosen, x.at, NULL, y.at) == CC_ERROR_ARGUMENT, "weights in double are not packed");
            int wrong = 0;
            for (int64_t i = 0; i < elements(&s.out); i++) {
                int64_t o[5], rest = i;
                for (int a = 4; a >= 0; rest /= out[a--])
                    o[a] = rest % out[a];
                const double expected = double_at(&s, x.at, w.at, o);
                wrong += memcmp(&expected, (double *)y.at + i, sizeof expected) != 0;
            }
            CHECK(wrong == 0, "%s in double, round %d, %s: %d outputs differ", chosen.algorithm, round,
                  cc_isa_name((cc_isa)isa), wrong);
        }
        memory_free(&x);
        memory_free(&w);
        memory_free(&y);
    }
    for (int operation = 0; operation < CC_OPERATION_COUNT; operation++) {
        cc_step s = sound_step(operation);
        s.out.type = CC_F64;
        const int knows = operation == CC_CONV || operation == CC_DEPTHWISE_CONV; /* and misses in2 */
        refused(s, knows ? CC_ERROR_ARGUMENT : CC_ERROR_TYPE, "an output in double alone");
    }
}

int main(void)
{
    for (int operation = 0; operation < CC_OPERATION_COUNT; operation++)
        check_views(operation);
    const int windowed[] = {CC_CONV, CC_DEPTHWISE_CONV, CC_CONV_TRANSPOSE, CC_MAX_POOL, CC_AVERAGE_POOL};
    for (size_t i = 0; i < sizeof windowed / sizeof *windowed; i++)
        check_windows(windowed[i]);
    check_products();
    check_fields();
    check_blocks();
    check_pool();
    check_isas();
    check_calls();
    check_pack_file();
    random_seed(5);
    check_double();
    printf("contract_check: %d failures\n", check_failures);
    return check_failures != 0;
}

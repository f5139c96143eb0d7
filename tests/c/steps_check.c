/* Draws random steps of every operation and runs each on every instruction set of this machine.
 *
 *     steps_check [COUNT [SEED [OPERATION]]]      COUNT steps of each operation, 20 if not given
 *
 * Every buffer is exactly as long as the step says; of blocked inputs the halo holds zeros, and what lies
 * behind the last channel is anything. A step must choose the algorithm meant, give the values of a naive loop
 * within float32's bound, the same bits with one thread and with three, which also store past the caches where
 * the kernel can, and alone as in its batch; it must leave the gaps of the output and all of the inputs as they
 * were. Exit code 1 if anything is wrong. */
#include "elementwise_geometry.h"
#include "kernels/items.h"
#include "naive.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GAP = 0xA5, THREADS = 3 };

/* One draw: its numbers, which all instruction sets share. */
typedef struct material {
    const drawn *d;
    const char *name; /* how to draw it again */
    memory in, in2, weights, bias;
    double *expected, *allowed; /* NULL: bits only */
    int guarded;
} material;

static void randomise(memory *m, int32_t type)
{
    if (type == CC_F64) {
        for (size_t i = 0; i < m->bytes / sizeof(double); i++)
            ((double *)m->at)[i] = random_float();
        return;
    }
    if (type != CC_F32) {
        for (size_t i = 0; i < m->bytes; i++)
            ((unsigned char *)m->at)[i] = (unsigned char)(below(4) ? below(256) : 0); /* small integers, too */
        return;
    }
    for (size_t i = 0; i < m->bytes / sizeof(float); i++)
        ((float *)m->at)[i] = random_float();
}

static memory copy_of(const memory *m, int guarded)
{
    memory copy = memory_new((int64_t)m->bytes, guarded);
    if (m->bytes)
        memcpy(copy.at, m->at, m->bytes);
    return copy;
}

static int same_bytes(const memory *a, const memory *b) { return a->bytes == 0 || !memcmp(a->at, b->at, a->bytes); }

/* What cc_choose does for outputs that outgrow the caches. */
static void stream_output(cc_step *step)
{
    if (step->out.ld[step->out.rank - 1] != 1)
        return;
    switch (step->operation) {
    case CC_MAX_POOL:
    case CC_AVERAGE_POOL:
    case CC_FILL:
        step->detail[WINDOW_STREAM] = 1;
        break;
    case CC_AFFINE:
    case CC_ACTIVATION:
    case CC_SOFTMAX:
    case CC_BINARY:
    case CC_HU_RESCALE:
        step->detail[ELEMENTWISE_STREAM] = 1;
        break;
    }
}

/* Runs a chosen step, with a workspace full of NaN, into an output full of GAP. */
static memory run(const material *m, const cc_step *chosen, int threads)
{
    cc_step step = *chosen;
    const int64_t before = below(2) * 64; /* a workspace need not begin its buffer */
    memory out = memory_new(m->d->span[OUT] * type_size(step.out.type), m->guarded);
    memory workspace = memory_new(step.workspace_bytes ? before + step.workspace_bytes : 0, m->guarded);
    memory_fill(&out, GAP);
    memory_fill(&workspace, 0xFF);
    step.workspace_buffer = WORKSPACE;
    step.workspace_offset = before;
    if (threads > 1) {
        step.flops = step.bytes = 1e12; /* drawn steps are too small to be shared out otherwise */
        stream_output(&step);
    }
    void *const buffers[BUFFERS] = {m->in.at, m->in2.at, out.at, workspace.at};
    const cc_run_options options = {.threads = threads};
    const cc_status status = cc_run(&step, 1, buffers, &options);
    CHECK(status == CC_OK, "%s: cc_run: %s", m->name, cc_status_text(status));
    memory_free(&workspace);
    return out;
}

static void clear(void *floats, int64_t position) { ((float *)floats)[position] = 0; }

static const char *algorithm_of(const drawn *d)
{
    static const char *const winograd[] = {"direct", "Winograd 2x2", "Winograd 4x4", "Winograd 6x6"};
    return winograd[d->tile / 2];
}

/* Chooses, packs (into step->weights, which packed owns) and says whether that worked. */
static int prepare(const material *m, cc_step *step, memory *packed)
{
    const cc_status status = cc_choose(step);
    CHECK(status == CC_OK, "%s: cc_choose: %s", m->name, cc_status_text(status));
    if (status != CC_OK)
        return 0;
    CHECK(step->operation != CC_CONV || !strcmp(step->algorithm, algorithm_of(m->d)), "%s: %s, not %s", m->name,
          step->algorithm, algorithm_of(m->d));
    CHECK(step->workspace_bytes % 64 == 0, "%s: workspace_bytes %lld", m->name, (long long)step->workspace_bytes);
    *packed = memory_new(step->packed_floats * (int64_t)sizeof(float), m->guarded);
    if (m->weights.bytes) {
        const cc_status packing = cc_pack(step, m->weights.at, m->bias.at, packed->at);
        CHECK(packing == CC_OK, "%s: cc_pack: %s", m->name, cc_status_text(packing));
    }
    step->weights = packed->at;
    return 1;
}

static void check_values(const material *m, const memory *out)
{
    const cc_view *v = &m->d->step.out;
    for (int64_t i = 0; i < elements(v); i++) {
        const int64_t at = position_of(v, i);
        const double got = sample_of(out->at, v->type, at);
        if (!(fabs(got - m->expected[i]) <= m->allowed[i])) {
            CHECK(0, "%s: element %lld is %.9g, not %.9g, and may be %.3g from it", m->name, (long long)i, got,
                  m->expected[i], m->allowed[i]);
            return;
        }
    }
}

static void mark(void *written, int64_t position) { memset((char *)written + position * 4, 1, 4); }

/* What no element of the view lies on has kept its filling; nor in a blocked view what lies behind the last
 * channel; nor behind CC_BORDER, whose zeros these are, the halo. */
static void check_gaps(const material *m, const memory *out)
{
    const cc_view *v = &m->d->step.out;
    const int border = m->d->step.operation == CC_BORDER;
    const int64_t size = type_size(v->type);
    char *written = calloc(out->bytes, 1);
    if (border || v->ld_block)
        each_float(v, !border, mark, written);
    for (int64_t i = 0; i < elements(v) && !border; i++)
        memset(written + position_of(v, i) * size, 1, (size_t)size);
    for (size_t i = 0; i < out->bytes && border; i++)
        if (written[i] && ((const unsigned char *)out->at)[i] != 0) {
            CHECK(0, "%s: byte %zu of the halo is not zero", m->name, i);
            break;
        }
    for (size_t i = 0; i < out->bytes; i++)
        if (!written[i] && ((const unsigned char *)out->at)[i] != GAP) {
            CHECK(0, "%s: byte %zu lies between the elements and was written", m->name, i);
            break;
        }
    free(written);
}

/* One row of the batch, run alone, gives the bits that it has in the batch. */
static void check_batch(const material *m, cc_isa isa, const memory *together)
{
    cc_step step = m->d->step;
    const int per_row = step.operation <= CC_GLOBAL_AVERAGE_POOL || step.operation == CC_SOFTMAX ||
                        step.operation == CC_AFFINE || step.operation == CC_RESIZE || step.operation == CC_PROBE ||
                        step.operation == CC_FILTER;
    if (!per_row || step.out.shape[0] < 2)
        return;
    const int64_t row = below(step.out.shape[0]);
    step.isa = (int32_t)isa;
    step.in.offset += row * step.in.ld[0];
    step.out.offset += row * step.out.ld[0];
    step.in.shape[0] = step.out.shape[0] = 1;
    const cc_view view = step.out;
    memory packed = {0};
    if (prepare(m, &step, &packed)) {
        memory alone = run(m, &step, 1);
        for (int64_t i = 0; i < elements(&view); i++) {
            const int64_t size = type_size(view.type), at = position_of(&view, i) * size;
            if (memcmp((char *)alone.at + at, (char *)together->at + at, (size_t)size) != 0) {
                CHECK(0, "%s: alone, element %lld of row %lld has other bits", m->name, (long long)i, (long long)row);
                break;
            }
        }
        memory_free(&alone);
    }
    memory_free(&packed);
}

static void check_isa(const material *m, cc_isa isa)
{
    cc_step step = m->d->step;
    memory packed = {0};
    step.isa = (int32_t)isa;
    if (!prepare(m, &step, &packed))
        return;
    memory alone = run(m, &step, 1), shared = run(m, &step, THREADS);
    CHECK(same_bytes(&alone, &shared), "%s: other bits with %d threads", m->name, THREADS);
    check_gaps(m, &alone);
    if (m->expected)
        check_values(m, &alone);
    check_batch(m, isa, &alone);
    memory_free(&alone);
    memory_free(&shared);
    memory_free(&packed);
}

static void check_draw(int64_t seed, int operation, int64_t number)
{
    drawn d;
    char name[120];
    random_seed((uint64_t)(seed * 1000003 + number * CC_OPERATION_COUNT + operation));
    draw_step(operation, &d);
    material m = {.d = &d, .name = name, .guarded = below(4) == 0};
    m.in = memory_new(d.span[IN] * type_size(d.step.in.type), m.guarded);
    m.in2 = memory_new(d.span[IN2] * type_size(d.step.in2.type), m.guarded);
    m.weights = memory_new(d.weights * (int64_t)sizeof(float), m.guarded);
    m.bias = memory_new(d.bias * (int64_t)sizeof(float), m.guarded && d.bias);
    randomise(&m.in, d.step.in.type);
    if (d.step.in.ld_block)
        each_float(&d.step.in, 0, clear, m.in.at);
    randomise(&m.in2, d.step.in2.type);
    randomise(&m.weights, CC_F32);
    randomise(&m.bias, CC_F32);
    memory in = copy_of(&m.in, 0), in2 = copy_of(&m.in2, 0);
    const size_t doubles = (size_t)elements(&d.step.out) * sizeof(double);
    double *expected = malloc(doubles), *allowed = malloc(doubles);
    void *const buffers[BUFFERS] = {m.in.at, m.in2.at};
    if (naive(&d, buffers, m.weights.at, m.bias.at, expected, allowed)) {
        m.expected = expected;
        m.allowed = allowed;
    }
    for (int isa = 0; isa < CC_ISA_COUNT; isa++)
        if (cc_isa_supported((cc_isa)isa)) {
            snprintf(name, sizeof name, "operation %d, draw %lld of seed %lld, %s", operation, (long long)number,
                     (long long)seed, cc_isa_name((cc_isa)isa));
            check_isa(&m, (cc_isa)isa);
        }
    CHECK(same_bytes(&in, &m.in) && same_bytes(&in2, &m.in2), "%s: an input was written", name);
    free(expected);
    free(allowed);
    memory *const all[] = {&m.in, &m.in2, &m.weights, &m.bias, &in, &in2};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        memory_free(all[i]);
}

int main(int argc, char **argv)
{
    const int64_t count = argc > 1 ? atoll(argv[1]) : 20, seed = argc > 2 ? atoll(argv[2]) : 1;
    const int only = argc > 3 ? atoi(argv[3]) : -1;
    for (int operation = 0; operation < CC_OPERATION_COUNT; operation++)
        for (int64_t number = 0; number < count && (only < 0 || only == operation); number++)
            check_draw(seed, operation, number);
    printf("steps_check: %lld steps of each operation, seed %lld: %d failures\n", (long long)count, (long long)seed,
           check_failures);
    return check_failures != 0;
}

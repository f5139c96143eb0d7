/* Replays the kernel cases that tests/replay_file.py wrote into a file: runs each on a named instruction set and holds
 * every number against what float64 says it should be and how far it may be off. With several numbers of threads, all
 * of them must give the bits of the first.
 *
 *     replay FILE ISA [THREADS ...]
 *     replay --spoil FILE ISA THREADS ...     a bit is turned before bits are compared: must fail
 *
 * The file is lines of words, some of which announce binary data behind them (little-endian, as on every machine that
 * has NEON or SSE2):
 *
 *     convcore-cases 1
 *     case NAME                          and then, of this case,
 *     buffer BYTES GIVEN                 and, if GIVEN is 1, its contents; otherwise it begins as bytes of 255 (NaN)
 *     step OPERATION                     to which the following lines belong
 *     view in|in2|out BUFFER OFFSET TYPE RANK SHAPE... LD... LD_BLOCK HALO_LOW... HALO_HIGH...
 *     set FIELD VALUE...                 a field of cc_step
 *     weights|bias COUNT                 and floats, as cc_pack takes them
 *     slope|intercept COUNT              and doubles
 *     result BUFFER TYPE COUNT           and COUNT positions in the buffer (int64), values and bounds (double); ends a case
 */
#include "check.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BUFFERS = 32, MOST_STEPS = 16, MOST_THREADS = 16, MOST_LINE = 4096 };

typedef struct recorded_step {
    cc_step step;
    memory weights, bias, packed, slope, intercept;
} recorded_step;

typedef struct recorded_case {
    char name[256];
    int buffers, steps;
    int64_t bytes[MOST_BUFFERS];
    memory given[MOST_BUFFERS]; /* contents at first; empty: none */
    recorded_step step[MOST_STEPS];
    int32_t result, type;
    int64_t count;
    memory positions, values, bounds;
} recorded_case;

static FILE *file;
static int64_t line_number;

static _Noreturn void refuse(const char *what, const char *found)
{
    fprintf(stderr, "replay: line %lld: %s: %s\n", (long long)line_number, what, found);
    exit(2);
}

/* ---- words of a line --------------------------------------------------------------------------------- */

static char line[MOST_LINE], *rest;

static int next_line(void)
{
    if (!fgets(line, sizeof line, file))
        return 0;
    line_number++;
    const size_t length = strcspn(line, "\n");
    if (line[length] != '\n')
        refuse("a line too long, or cut off", line);
    line[length] = 0;
    rest = line;
    return 1;
}

static const char *word(void)
{
    char *at = rest;
    if (!*at)
        refuse("a word is missing", line);
    rest += strcspn(rest, " ");
    if (*rest)
        *rest++ = 0;
    return at;
}

static int64_t whole(void)
{
    const char *text = word();
    char *end;
    const long long value = strtoll(text, &end, 10);
    if (*end)
        refuse("no integer", text);
    return value;
}

static int64_t whole_to(int64_t most)
{
    const int64_t value = whole();
    if (value < 0 || value > most)
        refuse("a number out of range", line);
    return value;
}

static double real(void)
{
    const char *text = word();
    char *end;
    const double value = strtod(text, &end);
    if (*end)
        refuse("no number", text);
    return value;
}

/* Guarded: a kernel that reads or writes behind it stops the program. */
static memory data(int64_t bytes)
{
    memory m = memory_new(bytes, 1);
    if (fread(m.at, 1, (size_t)bytes, file) != (size_t)bytes)
        refuse("data are missing behind", line);
    return m;
}

/* ---- reading a case ---------------------------------------------------------------------------------- */

typedef enum kind { INT32, INT64, UINT64, FLOAT, DOUBLE } kind;

static const struct {
    const char *name;
    size_t offset;
    kind kind;
    int count;
} fields[] = {
    {"kernel", offsetof(cc_step, window.kernel), INT64, CC_SPATIAL},
    {"stride", offsetof(cc_step, window.stride), INT64, CC_SPATIAL},
    {"dilation", offsetof(cc_step, window.dilation), INT64, CC_SPATIAL},
    {"pad_low", offsetof(cc_step, window.pad_low), INT64, CC_SPATIAL},
    {"groups", offsetof(cc_step, groups), INT64, 1},
    {"flip", offsetof(cc_step, flip), INT32, 1},
    {"include_padding", offsetof(cc_step, include_padding), INT32, 1},
    {"binary", offsetof(cc_step, binary), INT32, 1},
    {"sample", offsetof(cc_step, sample), INT32, 1},
    {"probe", offsetof(cc_step, probe), INT32, 1},
    {"linear", offsetof(cc_step, linear), INT32, 1},
    {"accuracy", offsetof(cc_step, accuracy), INT32, 1},
    {"pool", offsetof(cc_step, pool), INT32, 1},
    {"value", offsetof(cc_step, value), FLOAT, 1},
    {"edge", offsetof(cc_step, edge), INT32, 1},
    {"edge_value", offsetof(cc_step, edge_value), DOUBLE, 1},
    {"seed", offsetof(cc_step, seed), UINT64, 1},
    {"resize_scale", offsetof(cc_step, resize_scale), DOUBLE, CC_SPATIAL},
    {"resize_offset", offsetof(cc_step, resize_offset), DOUBLE, CC_SPATIAL},
    {"activation", offsetof(cc_step, activation.kind), INT32, 1},
    {"activation_parameter", offsetof(cc_step, activation.parameter), FLOAT, 3},
    {"has_padding", offsetof(cc_step, hu.has_padding), INT32, 1},
    {"padding_value", offsetof(cc_step, hu.padding_value), INT32, 1},
    {"padding_is_hu", offsetof(cc_step, hu.padding_is_hu), INT32, 1},
    {"padding_to", offsetof(cc_step, hu.padding_to), FLOAT, 1},
};

static void read_field(cc_step *step)
{
    const char *name = word();
    size_t i = 0;
    while (i < sizeof fields / sizeof *fields && strcmp(fields[i].name, name) != 0)
        i++;
    if (i == sizeof fields / sizeof *fields)
        refuse("a field that cases cannot set (add it to `fields`)", name);
    char *const at = (char *)step + fields[i].offset;
    for (int k = 0; k < fields[i].count; k++)
        switch (fields[i].kind) {
        case INT32: ((int32_t *)at)[k] = (int32_t)whole(); break;
        case INT64: ((int64_t *)at)[k] = whole(); break;
        case UINT64: ((uint64_t *)at)[k] = strtoull(word(), NULL, 10); break;
        case FLOAT: ((float *)at)[k] = (float)real(); break;
        case DOUBLE: ((double *)at)[k] = real(); break;
        }
}

static void read_view(cc_step *step)
{
    const char *side = word();
    cc_view *v = strcmp(side, "in") == 0 ? &step->in : strcmp(side, "in2") == 0 ? &step->in2 : &step->out;
    v->buffer = (int32_t)whole_to(MOST_BUFFERS - 1);
    v->offset = whole();
    v->type = (int32_t)whole();
    v->rank = (int32_t)whole_to(CC_MAX_RANK);
    for (int a = 0; a < v->rank; a++)
        v->shape[a] = whole();
    for (int a = 0; a < v->rank; a++)
        v->ld[a] = whole();
    v->ld_block = whole();
    for (int a = 0; a < CC_SPATIAL; a++)
        v->halo_low[a] = (int32_t)whole();
    for (int a = 0; a < CC_SPATIAL; a++)
        v->halo_high[a] = (int32_t)whole();
}

/* Whether there was another case. */
static int read_case(recorded_case *c)
{
    memset(c, 0, sizeof *c);
    if (!next_line())
        return 0;
    if (strncmp(line, "case ", 5) != 0)
        refuse("expected a case", line);
    snprintf(c->name, sizeof c->name, "%s", line + 5);
    recorded_step *s = NULL;
    for (;;) {
        if (!next_line())
            refuse("the file ends within case", c->name);
        const char *what = word();
        if (strcmp(what, "buffer") == 0) {
            if (c->buffers == MOST_BUFFERS)
                refuse("too many buffers", c->name);
            const int i = c->buffers++;
            c->bytes[i] = whole();
            if (whole())
                c->given[i] = data(c->bytes[i]);
        } else if (strcmp(what, "step") == 0) {
            if (c->steps == MOST_STEPS)
                refuse("too many steps", c->name);
            s = &c->step[c->steps++];
            s->step.operation = (int32_t)whole();
        } else if (!s) {
            refuse("expected a step", line);
        } else if (strcmp(what, "view") == 0) {
            read_view(&s->step);
        } else if (strcmp(what, "set") == 0) {
            read_field(&s->step);
        } else if (strcmp(what, "weights") == 0) {
            s->weights = data(whole() * (int64_t)sizeof(float));
        } else if (strcmp(what, "bias") == 0) {
            s->bias = data(whole() * (int64_t)sizeof(float));
        } else if (strcmp(what, "slope") == 0) {
            s->slope = data(whole() * (int64_t)sizeof(double));
        } else if (strcmp(what, "intercept") == 0) {
            s->intercept = data(whole() * (int64_t)sizeof(double));
        } else if (strcmp(what, "result") == 0) {
            c->result = (int32_t)whole_to(c->buffers - 1);
            c->type = (int32_t)whole();
            c->count = whole();
            c->positions = data(c->count * (int64_t)sizeof(int64_t));
            c->values = data(c->count * (int64_t)sizeof(double));
            c->bounds = data(c->count * (int64_t)sizeof(double));
            return 1;
        } else {
            refuse("an unknown word", what);
        }
    }
}

static void free_case(recorded_case *c)
{
    for (int i = 0; i < c->buffers; i++)
        memory_free(&c->given[i]);
    for (int i = 0; i < c->steps; i++) {
        recorded_step *s = &c->step[i];
        memory *const all[] = {&s->weights, &s->bias, &s->packed, &s->slope, &s->intercept};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            memory_free(all[k]);
    }
    memory_free(&c->positions);
    memory_free(&c->values);
    memory_free(&c->bounds);
}

/* ---- running it -------------------------------------------------------------------------------------- */

/* Chooses and packs every step; whether that worked. A step's working space is a buffer of its own. */
static int prepare(recorded_case *c, cc_isa isa)
{
    for (int i = 0; i < c->steps; i++) {
        recorded_step *s = &c->step[i];
        s->step.isa = (int32_t)isa;
        s->step.hu.slope = s->slope.at;
        s->step.hu.intercept = s->intercept.at;
        s->step.workspace_buffer = c->buffers + i;
        cc_status status = cc_choose(&s->step);
        if (status == CC_OK && s->step.packed_floats > 0) {
            s->packed = memory_new(s->step.packed_floats * (int64_t)sizeof(float), 1);
            status = cc_pack(&s->step, s->weights.at, s->bias.at, s->packed.at);
            s->step.weights = s->packed.at;
        }
        CHECK(status == CC_OK, "%s: step %d: %s", c->name, i, cc_status_text(status));
        if (status != CC_OK)
            return 0;
    }
    return 1;
}

/* The buffer of the result after a run on so many threads. */
static memory run(const recorded_case *c, int threads)
{
    memory buffers[MOST_BUFFERS + MOST_STEPS] = {{0}};
    void *at[MOST_BUFFERS + MOST_STEPS];
    cc_step steps[MOST_STEPS];
    for (int i = 0; i < c->buffers + c->steps; i++) {
        const int is_space = i >= c->buffers;
        buffers[i] = memory_new(is_space ? c->step[i - c->buffers].step.workspace_bytes : c->bytes[i], 1);
        memory_fill(&buffers[i], 0xff);
        if (!is_space && c->given[i].at)
            memcpy(buffers[i].at, c->given[i].at, buffers[i].bytes);
        at[i] = buffers[i].at;
    }
    for (int i = 0; i < c->steps; i++)
        steps[i] = c->step[i].step;
    const cc_run_options options = {.threads = threads};
    const cc_status status = cc_run(steps, c->steps, at, &options);
    CHECK(status == CC_OK, "%s: %s", c->name, cc_status_text(status));
    for (int i = 0; i < c->buffers + c->steps; i++)
        if (i != c->result)
            memory_free(&buffers[i]);
    return buffers[c->result];
}

static double element(const memory *m, int32_t type, int64_t position)
{
    if (position < 0 || (uint64_t)position >= m->bytes / (size_t)type_size(type))
        refuse("a position outside its buffer", "result");
    switch (type) {
    case CC_F32: return ((const float *)m->at)[position];
    case CC_I8: return ((const int8_t *)m->at)[position];
    case CC_U8: return ((const uint8_t *)m->at)[position];
    case CC_I16: return ((const int16_t *)m->at)[position];
    case CC_U16: return ((const uint16_t *)m->at)[position];
    case CC_I32: return ((const int32_t *)m->at)[position];
    case CC_F64: return ((const double *)m->at)[position];
    default: refuse("an element type without values", "result");
    }
}

static void check_values(const recorded_case *c, const memory *result)
{
    const int64_t *position = c->positions.at;
    const double *value = c->values.at, *bound = c->bounds.at;
    int64_t wrong = 0, first = 0;
    for (int64_t i = 0; i < c->count; i++) {
        const double got = element(result, c->type, position[i]);
        const int within = got == value[i] || (isnan(got) && isnan(value[i])) || fabs(got - value[i]) <= bound[i];
        if (!within && wrong++ == 0)
            first = i;
    }
    if (wrong > 0)
        CHECK(0, "%s: %lld of %lld values; the first, %lld: got %.9g, expected %.17g, bound %.3g", c->name,
              (long long)wrong, (long long)c->count, (long long)first, element(result, c->type, position[first]),
              value[first], bound[first]);
}

static void check_case(recorded_case *c, cc_isa isa, const int *threads, int numbers, int spoil)
{
    if (!prepare(c, isa))
        return;
    memory expected = run(c, threads[0]);
    check_values(c, &expected);
    for (int i = 1; i < numbers; i++) {
        memory got = run(c, threads[i]);
        if (spoil)
            ((char *)got.at)[0] ^= 1;
        CHECK(memcmp(expected.at, got.at, got.bytes) == 0, "%s: %d threads give other bits than %d", c->name,
              threads[i], threads[0]);
        memory_free(&got);
    }
    memory_free(&expected);
}

int main(int argc, char **argv)
{
    const int spoil = argc > 1 && strcmp(argv[1], "--spoil") == 0;
    argv += spoil, argc -= spoil;
    cc_isa isa;
    if (argc < 3 || argc - 3 > MOST_THREADS) {
        fprintf(stderr, "usage: replay [--spoil] FILE ISA [THREADS ...]\n");
        return 2;
    }
    if (cc_isa_by_name(argv[2], &isa) != CC_OK || !cc_isa_supported(isa)) {
        fprintf(stderr, "replay: this CPU has no instruction set %s\n", argv[2]);
        return 2;
    }
    int threads[MOST_THREADS] = {1}, numbers = argc > 3 ? argc - 3 : 1;
    for (int i = 3; i < argc; i++)
        threads[i - 3] = atoi(argv[i]);
    file = fopen(argv[1], "rb");
    if (!file) {
        perror(argv[1]);
        return 2;
    }
    if (!next_line() || strcmp(line, "convcore-cases 1") != 0)
        refuse("no file of cases", argv[1]);
    static recorded_case c;
    int64_t cases = 0, values = 0;
    for (; read_case(&c); cases++) {
        values += c.count;
        check_case(&c, isa, threads, numbers, spoil);
        free_case(&c);
    }
    fclose(file);
    printf("replay: %s: %lld cases, %lld values: %d failures\n", argv[2], (long long)cases, (long long)values,
           check_failures);
    return check_failures != 0 || cases == 0;
}

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "check.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int check_failures;

static uint64_t state;

void random_seed(uint64_t seed)
{
    /* Neighbouring seeds must begin differently in every bit (Steele, Lea and Flood 2014): without this all
     * draws of an operation took the same turn first. */
    state = seed * 0x9E3779B97F4A7C15u;
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9u;
    state = (state ^ (state >> 27)) * 0x94D049BB133111EBu;
    state ^= state >> 31;
}

int64_t below(int64_t n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((state >> 33) % (uint64_t)n);
}

float random_float(void) { return (float)(below(1 << 24) - (1 << 23)) * 0x1p-23f; }

memory memory_new(int64_t bytes, int guarded)
{
    memory m = {.bytes = (size_t)bytes};
    if (guarded) {
        const size_t page = (size_t)sysconf(_SC_PAGESIZE), used = (m.bytes + page - 1) / page * page;
        m.mapped = used + page;
        m.pages = mmap(NULL, m.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (m.pages == MAP_FAILED || mprotect((char *)m.pages + used, page, PROT_NONE) != 0) {
            perror("mmap");
            exit(2);
        }
        m.at = (char *)m.pages + used - m.bytes;
    } else if (m.bytes > 0) {
        m.at = m.bytes % 64 == 0 ? aligned_alloc(64, m.bytes) : malloc(m.bytes);
        if (!m.at) {
            perror("malloc");
            exit(2);
        }
    }
    return m;
}

void memory_free(memory *m)
{
    if (m->pages)
        munmap(m->pages, m->mapped);
    else
        free(m->at);
    *m = (memory){0};
}

void memory_fill(memory *m, int byte)
{
    if (m->bytes > 0)
        memset(m->at, byte, m->bytes);
}

int64_t type_size(int32_t type)
{
    switch (type) {
    case CC_I8:
    case CC_U8:
        return 1;
    case CC_I16:
    case CC_U16:
        return 2;
    case CC_F64:
        return 8;
    default:
        return 4;
    }
}

cc_view contiguous(int32_t buffer, int32_t type, int32_t rank, const int64_t *shape)
{
    cc_view v = {.buffer = buffer, .type = type, .rank = rank};
    int64_t ld = 1;
    for (int32_t a = rank - 1; a >= 0; a--) {
        v.shape[a] = shape[a];
        v.ld[a] = ld;
        ld *= shape[a];
    }
    return v;
}

int64_t elements(const cc_view *v)
{
    int64_t n = 1;
    for (int32_t a = 0; a < v->rank; a++)
        n *= v->shape[a];
    return n;
}

static int64_t along(const cc_view *v, int32_t axis, int64_t i)
{
    if (v->ld_block && axis == 4)
        return i / CC_BLOCK * v->ld_block + i % CC_BLOCK * v->ld[4];
    return i * v->ld[axis];
}

int64_t position(const cc_view *v, const int64_t *index)
{
    int64_t at = v->offset;
    for (int32_t a = 0; a < v->rank; a++)
        at += along(v, a, index[a]);
    return at;
}

int64_t position_of(const cc_view *v, int64_t i)
{
    int64_t at = v->offset;
    for (int32_t a = v->rank - 1; a >= 0; a--) {
        at += along(v, a, i % v->shape[a]);
        i /= v->shape[a];
    }
    return at;
}

void each_float(const cc_view *v, int cells, void (*visit)(void *argument, int64_t position), void *argument)
{
    const int64_t channels = v->ld_block ? (v->shape[4] + CC_BLOCK - 1) / CC_BLOCK * CC_BLOCK : v->shape[4];
    int64_t end[CC_SPATIAL], i[5];
    for (int a = 0; a < CC_SPATIAL; a++)
        end[a] = v->shape[a + 1] + v->halo_high[a];
    for (i[0] = 0; i[0] < v->shape[0]; i[0]++)
        for (i[1] = -v->halo_low[0]; i[1] < end[0]; i[1]++)
            for (i[2] = -v->halo_low[1]; i[2] < end[1]; i[2]++)
                for (i[3] = -v->halo_low[2]; i[3] < end[2]; i[3]++) {
                    int inside = 1;
                    for (int a = 1; a <= CC_SPATIAL; a++)
                        inside = inside && i[a] >= 0 && i[a] < v->shape[a];
                    for (i[4] = 0; i[4] < channels && inside == cells; i[4]++)
                        visit(argument, position(v, i));
                }
}

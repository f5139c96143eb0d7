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
    state = seed;
    for (int i = 0; i < 8; i++)
        below(2); /* small seeds differ in their low bits only */
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

int64_t position(const cc_view *v, const int64_t *index)
{
    int64_t at = v->offset;
    for (int32_t a = 0; a < v->rank; a++)
        at += index[a] * v->ld[a];
    return at;
}

int64_t position_of(const cc_view *v, int64_t i)
{
    int64_t at = v->offset;
    for (int32_t a = v->rank - 1; a >= 0; a--) {
        at += i % v->shape[a] * v->ld[a];
        i /= v->shape[a];
    }
    return at;
}

/* What the C tests share: counting failures, reproducible random numbers, memory without slack, views. */
#ifndef CHECK_H
#define CHECK_H

#include "convcore.h"

#include <stdio.h>

extern int check_failures;

/* Reports and goes on; main returns check_failures != 0. */
#define CHECK(condition, ...)                           \
    do {                                                \
        if (!(condition)) {                             \
            check_failures++;                           \
            printf("FAILED %s:%d: ", __FILE__, __LINE__); \
            printf(__VA_ARGS__);                        \
            printf("\n");                               \
        }                                               \
    } while (0)

/* A linear congruential generator: the same numbers on every machine. */
void random_seed(uint64_t seed);
int64_t below(int64_t n); /* 0 ... n - 1 */
float random_float(void); /* [-1, 1), a multiple of 2^-23 */

/* `bytes` bytes and not one more. Ordinary memory is what AddressSanitizer watches; guarded memory ends at
 * a page that faults, which also catches the masked loads and stores that no sanitizer instruments. */
typedef struct memory {
    void *at;
    void *pages; /* NULL for ordinary memory */
    size_t bytes, mapped;
} memory;

memory memory_new(int64_t bytes, int guarded); /* aligned to 64 bytes if `bytes` is a multiple of 64 */
void memory_free(memory *m);
void memory_fill(memory *m, int byte);

int64_t type_size(int32_t type);

/* C-ordered, offset 0. */
cc_view contiguous(int32_t buffer, int32_t type, int32_t rank, const int64_t *shape);
int64_t elements(const cc_view *v);
int64_t position(const cc_view *v, const int64_t *index); /* in elements, from the buffer's base */
int64_t position_of(const cc_view *v, int64_t i);         /* of the i-th element in row-major order */

/* Calls `visit` with the position of every float of a spatial view's halo, and of its cells: `cells` chooses.
 * A blocked view has whole blocks, floats behind the last channel among them. */
void each_float(const cc_view *v, int cells, void (*visit)(void *argument, int64_t position), void *argument);

/* Buffers' addresses, as cc_run takes them. */
enum { IN, IN2, OUT, WORKSPACE, BUFFERS };

#endif

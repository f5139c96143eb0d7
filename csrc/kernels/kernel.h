/* What every kernel file includes: its own name for this instruction set, the vector operations, and
 * the addresses behind a view. Files of this folder are compiled once per instruction set, so all that
 * they define but the kernels themselves must be static. */
#ifndef CC_KERNEL_H
#define CC_KERNEL_H

#include "../table.h"
#include "../vec/vec.h"

#define CC_PASTE2(a, b) a##_##b
#define CC_PASTE(a, b) CC_PASTE2(a, b)
#define CC_FN(name) CC_PASTE(name, CC_ISA) /* CC_ISA comes from the build: conv_direct_f32_avx2, ... */

#define CC_KERNEL(name) \
    void CC_FN(name)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end);
#include "../kernels.def"
#undef CC_KERNEL

/* First element of a float view. */
CC_INLINE float *view_f32(const cc_view *v, void *const *buffers) { return (float *)buffers[v->buffer] + v->offset; }

CC_INLINE int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
CC_INLINE int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

#endif

/* The kernel table: every kernel of kernels.def for every instruction set. Private to libconvcore. */
#ifndef CC_TABLE_H
#define CC_TABLE_H

#include "convcore.h"

typedef struct cc_call {
    void *const *buffers;
    void *scratch;  /* this thread's own step->scratch_bytes, 64-byte aligned; nothing is kept in it */
    int64_t phase;
} cc_call;

/* Works on items [begin, end) of one phase. Kernels know pointers and sizes: no threads, no layers. */
typedef void (*cc_kernel_fn)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end);

typedef struct cc_kernels {
#define CC_KERNEL(name) cc_kernel_fn name;
#include "kernels.def"
#undef CC_KERNEL
    int columns; /* widest register tile of conv_direct_f32, in output pixels */
} cc_kernels;

const cc_kernels *cc_table(cc_isa isa);

#endif

/* One const table per instruction set; no slot can be left empty, the linker sees to that. */
#include "table.h"

#define CC_DECLARE(name, isa) \
    void name##_##isa(const cc_step *step, const cc_call *call, int64_t begin, int64_t end);

#define CC_KERNEL(name) CC_DECLARE(name, scalar)
#include "kernels.def"
#undef CC_KERNEL
static const cc_kernels table_scalar = {
#define CC_KERNEL(name) .name = name##_scalar,
#include "kernels.def"
#undef CC_KERNEL
    .columns = 4,
};

#if defined(__x86_64__)
#define CC_KERNEL(name) CC_DECLARE(name, sse2) CC_DECLARE(name, avx2) CC_DECLARE(name, avx512)
#include "kernels.def"
#undef CC_KERNEL
static const cc_kernels table_sse2 = {
#define CC_KERNEL(name) .name = name##_sse2,
#include "kernels.def"
#undef CC_KERNEL
    .columns = 4,
};
static const cc_kernels table_avx2 = {
#define CC_KERNEL(name) .name = name##_avx2,
#include "kernels.def"
#undef CC_KERNEL
    .columns = 6,
};
static const cc_kernels table_avx512 = {
#define CC_KERNEL(name) .name = name##_avx512,
#include "kernels.def"
#undef CC_KERNEL
    .columns = 14,
};
#elif defined(__aarch64__)
#define CC_KERNEL(name) CC_DECLARE(name, neon)
#include "kernels.def"
#undef CC_KERNEL
static const cc_kernels table_neon = {
#define CC_KERNEL(name) .name = name##_neon,
#include "kernels.def"
#undef CC_KERNEL
    .columns = 8,
};
#endif

const cc_kernels *cc_table(cc_isa isa)
{
    switch (isa) {
#if defined(__x86_64__)
    case CC_ISA_SSE2:
        return &table_sse2;
    case CC_ISA_AVX2:
        return &table_avx2;
    case CC_ISA_AVX512:
        return &table_avx512;
#elif defined(__aarch64__)
    case CC_ISA_NEON:
        return &table_neon;
#endif
    default:
        return &table_scalar;
    }
}

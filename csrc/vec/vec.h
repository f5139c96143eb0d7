/* The few vector operations that every kernel is written in. Each instruction set implements the same
 * names as static inline functions: vf (floats), vi (32-bit integers of the same number), vm (a mask).
 * VF_LANES floats are a vector, and VF_REGISTERS vectors fit a core's registers.
 *
 *   vf_load vf_store          unaligned, full width
 *   vf_load_n vf_store_n      the first n lanes, 0 <= n <= VF_LANES; the others load as 0
 *   vf_fma(a, b, c)           a*b + c; rounded once where VF_FUSED is 1, twice where it is 0
 *   vf_fnma(a, b, c)          c - a*b
 *   vf_fma_lane(a, b, i, c)   a*b[i] + c, i a constant; a macro that only those sets define which have it
 *   vf_max(a, b) vf_min(a, b) b where either is NaN
 *   vf_unordered(a, b)        where either is NaN
 *   vf_round                  to the nearest integer, half to even
 *   vf_select(m, a, b)        a where m, else b
 *   vi_from_vf                rounds to nearest even; some integer where none fits; vf_from_vi exact up to 2^24
 *   vi_bits vf_bits           reinterpretation
 *   vf_load_n_or              the first n lanes, and `fill` in the others
 *   vf_permute(a, index)      lane index[i] of a in lane i
 *   vf_add_lanes vf_max_lanes all lanes to one number, halves folded onto each other
 *   vf_prefetch_write         into the caches, owned: a line that will be written
 *   vf_stream vf_fence        a store past the caches, to an aligned address; the fence that must follow
 */
#ifndef CC_VEC_H
#define CC_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define CC_INLINE static inline __attribute__((always_inline))

#if defined(CC_VEC_AVX512)
#include "avx512.h"
#elif defined(CC_VEC_AVX2)
#include "avx2.h"
#elif defined(CC_VEC_SSE2)
#include "sse2.h"
#elif defined(CC_VEC_NEON)
#include "neon.h"
#else
#include "scalar.h"
#endif

/* stream is a constant wherever this is called. */
CC_INLINE void vf_put(float *p, vf x, int stream)
{
    if (stream)
        vf_stream(p, x);
    else
        vf_store(p, x);
}

#endif

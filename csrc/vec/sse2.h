/* SSE2, what every x86-64 has: 4 lanes, no FMA (a product and a sum, rounded twice). */
#include <emmintrin.h>

#define VF_LANES 4
#define VF_FUSED 0
#define VF_REGISTERS 16
typedef __m128 vf;
typedef __m128i vi;
typedef __m128 vm;

CC_INLINE vf vf_zero(void) { return _mm_setzero_ps(); }
CC_INLINE vf vf_set1(float x) { return _mm_set1_ps(x); }
CC_INLINE vf vf_load(const float *p) { return _mm_loadu_ps(p); }
CC_INLINE vf vf_load_n(const float *p, int n)
{
    float lanes[4] = {0, 0, 0, 0};
    for (int i = 0; i < n; i++)
        lanes[i] = p[i];
    return _mm_loadu_ps(lanes);
}
CC_INLINE void vf_store(float *p, vf x) { _mm_storeu_ps(p, x); }
CC_INLINE void vf_store_n(float *p, vf x, int n)
{
    float lanes[4];
    _mm_storeu_ps(lanes, x);
    for (int i = 0; i < n; i++)
        p[i] = lanes[i];
}
CC_INLINE vf vf_add(vf a, vf b) { return _mm_add_ps(a, b); }
CC_INLINE vf vf_sub(vf a, vf b) { return _mm_sub_ps(a, b); }
CC_INLINE vf vf_mul(vf a, vf b) { return _mm_mul_ps(a, b); }
CC_INLINE vf vf_div(vf a, vf b) { return _mm_div_ps(a, b); }
CC_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
CC_INLINE vf vf_fnma(vf a, vf b, vf c) { return _mm_sub_ps(c, _mm_mul_ps(a, b)); }
CC_INLINE vf vf_max(vf a, vf b) { return _mm_max_ps(a, b); }
CC_INLINE vf vf_min(vf a, vf b) { return _mm_min_ps(a, b); }
CC_INLINE vf vf_sqrt(vf a) { return _mm_sqrt_ps(a); }
CC_INLINE vf vf_abs(vf a) { return _mm_andnot_ps(_mm_set1_ps(-0.0f), a); }

CC_INLINE vm vf_lt(vf a, vf b) { return _mm_cmplt_ps(a, b); }
CC_INLINE vm vf_le(vf a, vf b) { return _mm_cmple_ps(a, b); }
CC_INLINE vm vf_eq(vf a, vf b) { return _mm_cmpeq_ps(a, b); }
CC_INLINE vm vf_isnan(vf a) { return _mm_cmpunord_ps(a, a); }
CC_INLINE vm vf_unordered(vf a, vf b) { return _mm_cmpunord_ps(a, b); }
CC_INLINE vm vm_or(vm a, vm b) { return _mm_or_ps(a, b); }
CC_INLINE vm vm_and(vm a, vm b) { return _mm_and_ps(a, b); }
CC_INLINE int vm_any(vm a) { return _mm_movemask_ps(a) != 0; }
CC_INLINE vf vf_select(vm m, vf a, vf b) { return _mm_or_ps(_mm_and_ps(m, a), _mm_andnot_ps(m, b)); }

CC_INLINE vi vi_set1(int32_t x) { return _mm_set1_epi32(x); }
CC_INLINE vi vi_load(const int32_t *p) { return _mm_loadu_si128((const __m128i *)p); }
CC_INLINE vi vi_add(vi a, vi b) { return _mm_add_epi32(a, b); }
CC_INLINE vi vi_sub(vi a, vi b) { return _mm_sub_epi32(a, b); }
CC_INLINE vi vi_and(vi a, vi b) { return _mm_and_si128(a, b); }
CC_INLINE vi vi_or(vi a, vi b) { return _mm_or_si128(a, b); }
CC_INLINE vi vi_xor(vi a, vi b) { return _mm_xor_si128(a, b); }
CC_INLINE vm vi_eq(vi a, vi b) { return _mm_castsi128_ps(_mm_cmpeq_epi32(a, b)); }
#define vi_shl(a, n) _mm_slli_epi32(a, n)
#define vi_shr(a, n) _mm_srli_epi32(a, n) /* zeros come in */
#define vi_sra(a, n) _mm_srai_epi32(a, n) /* the sign comes in */
CC_INLINE vi vi_from_vf(vf a) { return _mm_cvtps_epi32(a); }
CC_INLINE vf vf_from_vi(vi a) { return _mm_cvtepi32_ps(a); }
CC_INLINE vi vi_bits(vf a) { return _mm_castps_si128(a); }
CC_INLINE vf vf_bits(vi a) { return _mm_castsi128_ps(a); }

/* Floats of 2^23 and more are integers already; below, a trip through int32 rounds to nearest even. The
 * sign is put back so that -0.3 becomes -0. */
CC_INLINE vf vf_round(vf a)
{
    const vf sign = _mm_and_ps(a, _mm_set1_ps(-0.0f));
    const vf rounded = _mm_or_ps(_mm_cvtepi32_ps(_mm_cvtps_epi32(a)), sign);
    return vf_select(_mm_cmplt_ps(vf_abs(a), _mm_set1_ps(8388608.0f)), rounded, a);
}

CC_INLINE void vf_prefetch(const float *p) { _mm_prefetch((const char *)p, _MM_HINT_T0); }
CC_INLINE void vf_prefetch_write(const float *p) { __builtin_prefetch(p, 1, 3); }
CC_INLINE void vf_prefetch_l2(const char *p) { _mm_prefetch((const char *)p, _MM_HINT_T1); }
/* Widening loads of VF_LANES stored values. */
CC_INLINE vi vi_load_i8(const int8_t *p) { return _mm_setr_epi32(p[0], p[1], p[2], p[3]); }
CC_INLINE vi vi_load_u8(const uint8_t *p) { return _mm_setr_epi32(p[0], p[1], p[2], p[3]); }
CC_INLINE vi vi_load_i16(const int16_t *p)
{
    const vi x = _mm_loadl_epi64((const __m128i *)p);
    return _mm_srai_epi32(_mm_unpacklo_epi16(x, x), 16);
}
CC_INLINE vi vi_load_u16(const uint16_t *p)
{
    return _mm_unpacklo_epi16(_mm_loadl_epi64((const __m128i *)p), _mm_setzero_si128());
}

/* Past the caches; p is aligned to the vector. vf_fence makes it visible to others before what follows. */
CC_INLINE void vf_stream(float *p, vf x) { _mm_stream_ps(p, x); }
CC_INLINE void vf_fence(void) { _mm_sfence(); }

CC_INLINE vf vf_load_n_or(const float *p, int n, vf fill)
{
    float lanes[4];
    _mm_storeu_ps(lanes, fill);
    for (int i = 0; i < n; i++)
        lanes[i] = p[i];
    return _mm_loadu_ps(lanes);
}
/* Halves folded onto each other until one lane is left. */
CC_INLINE float vf_add_lanes(vf a)
{
    const vf d = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(d, _mm_shuffle_ps(d, d, 1)));
}
CC_INLINE float vf_max_lanes(vf a)
{
    const vf d = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(d, _mm_shuffle_ps(d, d, 1)));
}
/* Lane i of the result is lane index[i] of a. */
CC_INLINE vf vf_permute(vf a, vi index)
{
    float lanes[4];
    int32_t from[4];
    _mm_storeu_ps(lanes, a);
    _mm_storeu_si128((__m128i *)from, index);
    return _mm_setr_ps(lanes[from[0]], lanes[from[1]], lanes[from[2]], lanes[from[3]]);
}

/* AVX2 with FMA: 8 lanes; a mask is a vector of all-ones or all-zero lanes. */
#include <immintrin.h>

#define VF_LANES 8
#define VF_FUSED 1
#define VF_REGISTERS 16
typedef __m256 vf;
typedef __m256i vi;
typedef __m256 vm;

CC_INLINE __m256i vm_first(int n)
{
    static const int32_t ones_then_zeros[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(ones_then_zeros + 8 - n));
}

CC_INLINE vf vf_zero(void) { return _mm256_setzero_ps(); }
CC_INLINE vf vf_set1(float x) { return _mm256_set1_ps(x); }
CC_INLINE vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
CC_INLINE vf vf_load_n(const float *p, int n) { return _mm256_maskload_ps(p, vm_first(n)); }
CC_INLINE void vf_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
CC_INLINE void vf_store_n(float *p, vf x, int n) { _mm256_maskstore_ps(p, vm_first(n), x); }
CC_INLINE vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
CC_INLINE vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
CC_INLINE vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
CC_INLINE vf vf_div(vf a, vf b) { return _mm256_div_ps(a, b); }
CC_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
CC_INLINE vf vf_fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
CC_INLINE vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
CC_INLINE vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
CC_INLINE vf vf_sqrt(vf a) { return _mm256_sqrt_ps(a); }
CC_INLINE vf vf_abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
CC_INLINE vf vf_round(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

CC_INLINE vm vf_lt(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
CC_INLINE vm vf_le(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
CC_INLINE vm vf_eq(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
CC_INLINE vm vf_isnan(vf a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
CC_INLINE vm vf_unordered(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_UNORD_Q); }
CC_INLINE vm vm_or(vm a, vm b) { return _mm256_or_ps(a, b); }
CC_INLINE vm vm_and(vm a, vm b) { return _mm256_and_ps(a, b); }
CC_INLINE int vm_any(vm a) { return _mm256_movemask_ps(a) != 0; }
CC_INLINE vf vf_select(vm m, vf a, vf b) { return _mm256_blendv_ps(b, a, m); }

CC_INLINE vi vi_set1(int32_t x) { return _mm256_set1_epi32(x); }
CC_INLINE vi vi_load(const int32_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
CC_INLINE vi vi_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
CC_INLINE vi vi_sub(vi a, vi b) { return _mm256_sub_epi32(a, b); }
CC_INLINE vi vi_and(vi a, vi b) { return _mm256_and_si256(a, b); }
CC_INLINE vi vi_or(vi a, vi b) { return _mm256_or_si256(a, b); }
CC_INLINE vi vi_xor(vi a, vi b) { return _mm256_xor_si256(a, b); }
CC_INLINE vm vi_eq(vi a, vi b) { return _mm256_castsi256_ps(_mm256_cmpeq_epi32(a, b)); }
#define vi_shl(a, n) _mm256_slli_epi32(a, n)
#define vi_shr(a, n) _mm256_srli_epi32(a, n) /* zeros come in */
#define vi_sra(a, n) _mm256_srai_epi32(a, n) /* the sign comes in */
CC_INLINE vi vi_from_vf(vf a) { return _mm256_cvtps_epi32(a); }
CC_INLINE vf vf_from_vi(vi a) { return _mm256_cvtepi32_ps(a); }
CC_INLINE vi vi_bits(vf a) { return _mm256_castps_si256(a); }
CC_INLINE vf vf_bits(vi a) { return _mm256_castsi256_ps(a); }

CC_INLINE void vf_prefetch(const float *p) { _mm_prefetch((const char *)p, _MM_HINT_T0); }
CC_INLINE void vf_prefetch_write(const float *p) { __builtin_prefetch(p, 1, 3); }
CC_INLINE void vf_prefetch_l2(const char *p) { _mm_prefetch((const char *)p, _MM_HINT_T1); }
/* Widening loads of VF_LANES stored values. */
CC_INLINE vi vi_load_i8(const int8_t *p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)); }
CC_INLINE vi vi_load_u8(const uint8_t *p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)); }
CC_INLINE vi vi_load_i16(const int16_t *p) { return _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)p)); }
CC_INLINE vi vi_load_u16(const uint16_t *p) { return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)); }

/* Past the caches; p is aligned to the vector. vf_fence makes it visible to others before what follows. */
CC_INLINE void vf_stream(float *p, vf x) { _mm256_stream_ps(p, x); }
CC_INLINE void vf_fence(void) { _mm_sfence(); }

CC_INLINE vf vf_load_n_or(const float *p, int n, vf fill)
{
    const __m256i first = vm_first(n);
    return _mm256_blendv_ps(fill, _mm256_maskload_ps(p, first), _mm256_castsi256_ps(first));
}
/* Halves folded onto each other until one lane is left. */
CC_INLINE float vf_add_lanes(vf a)
{
    const __m128 c = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(d, _mm_shuffle_ps(d, d, 1)));
}
CC_INLINE float vf_max_lanes(vf a)
{
    const __m128 c = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 d = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(d, _mm_shuffle_ps(d, d, 1)));
}
/* Lane i of the result is lane index[i] of a. */
CC_INLINE vf vf_permute(vf a, vi index) { return _mm256_permutevar8x32_ps(a, index); }

/* AVX-512 (F, BW, DQ, VL): 16 lanes, true masks. */
#include <immintrin.h>

#define VF_LANES 16
#define VF_FUSED 1
#define VF_REGISTERS 32
typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;

CC_INLINE __mmask16 vm_first(int n) { return (__mmask16)((1u << n) - 1u); }

CC_INLINE vf vf_zero(void) { return _mm512_setzero_ps(); }
CC_INLINE vf vf_set1(float x) { return _mm512_set1_ps(x); }
CC_INLINE vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
CC_INLINE vf vf_load_n(const float *p, int n) { return _mm512_maskz_loadu_ps(vm_first(n), p); }
CC_INLINE void vf_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
CC_INLINE void vf_store_n(float *p, vf x, int n) { _mm512_mask_storeu_ps(p, vm_first(n), x); }
CC_INLINE vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
CC_INLINE vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
CC_INLINE vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
CC_INLINE vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
CC_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
CC_INLINE vf vf_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
CC_INLINE vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
CC_INLINE vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
CC_INLINE vf vf_sqrt(vf a) { return _mm512_sqrt_ps(a); }
CC_INLINE vf vf_abs(vf a) { return _mm512_abs_ps(a); }
CC_INLINE vf vf_round(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT); }

CC_INLINE vm vf_lt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
CC_INLINE vm vf_le(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
CC_INLINE vm vf_eq(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
CC_INLINE vm vf_isnan(vf a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
CC_INLINE vm vf_unordered(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q); }
CC_INLINE vm vm_or(vm a, vm b) { return (vm)(a | b); }
CC_INLINE vm vm_and(vm a, vm b) { return (vm)(a & b); }
CC_INLINE int vm_any(vm a) { return a != 0; }
CC_INLINE vf vf_select(vm m, vf a, vf b) { return _mm512_mask_blend_ps(m, b, a); }

CC_INLINE vi vi_set1(int32_t x) { return _mm512_set1_epi32(x); }
CC_INLINE vi vi_load(const int32_t *p) { return _mm512_loadu_si512(p); }
CC_INLINE vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
CC_INLINE vi vi_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
CC_INLINE vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
CC_INLINE vi vi_or(vi a, vi b) { return _mm512_or_si512(a, b); }
CC_INLINE vi vi_xor(vi a, vi b) { return _mm512_xor_si512(a, b); }
CC_INLINE vm vi_eq(vi a, vi b) { return _mm512_cmpeq_epi32_mask(a, b); }
#define vi_shl(a, n) _mm512_slli_epi32(a, n)
#define vi_shr(a, n) _mm512_srli_epi32(a, n) /* zeros come in */
#define vi_sra(a, n) _mm512_srai_epi32(a, n) /* the sign comes in */
CC_INLINE vi vi_from_vf(vf a) { return _mm512_cvtps_epi32(a); }
CC_INLINE vf vf_from_vi(vi a) { return _mm512_cvtepi32_ps(a); }
CC_INLINE vi vi_bits(vf a) { return _mm512_castps_si512(a); }
CC_INLINE vf vf_bits(vi a) { return _mm512_castsi512_ps(a); }

CC_INLINE void vf_prefetch(const float *p) { _mm_prefetch((const char *)p, _MM_HINT_T0); }
CC_INLINE void vf_prefetch_write(const float *p) { __builtin_prefetch(p, 1, 3); }
CC_INLINE void vf_prefetch_l2(const char *p) { _mm_prefetch((const char *)p, _MM_HINT_T1); }
/* Widening loads of VF_LANES stored values. */
CC_INLINE vi vi_load_i8(const int8_t *p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)); }
CC_INLINE vi vi_load_u8(const uint8_t *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)); }
CC_INLINE vi vi_load_i16(const int16_t *p) { return _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)p)); }
CC_INLINE vi vi_load_u16(const uint16_t *p) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)); }

/* Past the caches; p is aligned to the vector. vf_fence makes it visible to others before what follows. */
CC_INLINE void vf_stream(float *p, vf x) { _mm512_stream_ps(p, x); }
CC_INLINE void vf_fence(void) { _mm_sfence(); }

CC_INLINE vf vf_load_n_or(const float *p, int n, vf fill) { return _mm512_mask_loadu_ps(fill, vm_first(n), p); }
/* Halves folded onto each other until one lane is left. */
CC_INLINE float vf_add_lanes(vf a)
{
    const __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(d, _mm_shuffle_ps(d, d, 1)));
}
CC_INLINE float vf_max_lanes(vf a)
{
    const __m256 b = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    const __m128 d = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(d, _mm_shuffle_ps(d, d, 1)));
}
/* Lane i of the result is lane index[i] of a. */
CC_INLINE vf vf_permute(vf a, vi index) { return _mm512_permutexvar_ps(index, a); }

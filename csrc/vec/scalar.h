/* Portable C: one lane. The first row of the kernel table, and the plainest reading of every kernel.
 * Multiplication and addition stay apart (no fmaf: without hardware it is a slow library call). */

#define VF_LANES 1
#define VF_FUSED 0
#define VF_REGISTERS 16
typedef float vf;
typedef int32_t vi;
typedef int vm;

CC_INLINE vf vf_zero(void) { return 0.0f; }
CC_INLINE vf vf_set1(float x) { return x; }
CC_INLINE vf vf_load(const float *p) { return *p; }
CC_INLINE vf vf_load_n(const float *p, int n) { return n > 0 ? *p : 0.0f; }
CC_INLINE void vf_store(float *p, vf x) { *p = x; }
CC_INLINE void vf_store_n(float *p, vf x, int n)
{
    if (n > 0)
        *p = x;
}
CC_INLINE vf vf_add(vf a, vf b) { return a + b; }
CC_INLINE vf vf_sub(vf a, vf b) { return a - b; }
CC_INLINE vf vf_mul(vf a, vf b) { return a * b; }
CC_INLINE vf vf_div(vf a, vf b) { return a / b; }
CC_INLINE vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
CC_INLINE vf vf_fnma(vf a, vf b, vf c) { return c - a * b; }
CC_INLINE vf vf_max(vf a, vf b) { return a > b ? a : b; }
CC_INLINE vf vf_min(vf a, vf b) { return a < b ? a : b; }
CC_INLINE vf vf_sqrt(vf a) { return sqrtf(a); }
CC_INLINE vf vf_abs(vf a) { return fabsf(a); }
CC_INLINE vf vf_round(vf a) { return rintf(a); }

CC_INLINE vm vf_lt(vf a, vf b) { return a < b; }
CC_INLINE vm vf_le(vf a, vf b) { return a <= b; }
CC_INLINE vm vf_eq(vf a, vf b) { return a == b; }
CC_INLINE vm vf_isnan(vf a) { return a != a; }
CC_INLINE vm vf_unordered(vf a, vf b) { return a != a || b != b; }
CC_INLINE vm vm_or(vm a, vm b) { return a | b; }
CC_INLINE vm vm_and(vm a, vm b) { return a & b; }
CC_INLINE int vm_any(vm a) { return a; }
CC_INLINE vf vf_select(vm m, vf a, vf b) { return m ? a : b; }

/* Unsigned inside: signed overflow and shifts of negative numbers are not defined in C. */
CC_INLINE vi vi_set1(int32_t x) { return x; }
CC_INLINE vi vi_load(const int32_t *p) { return *p; }
CC_INLINE vi vi_add(vi a, vi b) { return (vi)((uint32_t)a + (uint32_t)b); }
CC_INLINE vi vi_sub(vi a, vi b) { return (vi)((uint32_t)a - (uint32_t)b); }
CC_INLINE vi vi_and(vi a, vi b) { return a & b; }
CC_INLINE vi vi_or(vi a, vi b) { return a | b; }
CC_INLINE vi vi_xor(vi a, vi b) { return a ^ b; }
CC_INLINE vm vi_eq(vi a, vi b) { return a == b; }
CC_INLINE vi vi_shl(vi a, int n) { return (vi)((uint32_t)a << n); }
CC_INLINE vi vi_shr(vi a, int n) { return (vi)((uint32_t)a >> n); } /* zeros come in */
CC_INLINE vi vi_sra(vi a, int n) { return a < 0 ? ~(~a >> n) : a >> n; } /* the sign comes in */
/* As the vector conversions do: what does not fit, and NaN, become INT32_MIN. */
CC_INLINE vi vi_from_vf(vf a) { return a >= -2147483648.0f && a < 2147483648.0f ? (vi)lrintf(a) : INT32_MIN; }
CC_INLINE vf vf_from_vi(vi a) { return (float)a; }
CC_INLINE vi vi_bits(vf a)
{
    vi b;
    memcpy(&b, &a, sizeof b);
    return b;
}
CC_INLINE vf vf_bits(vi a)
{
    vf b;
    memcpy(&b, &a, sizeof b);
    return b;
}

CC_INLINE void vf_prefetch(const float *p) { (void)p; }
CC_INLINE void vf_prefetch_write(const float *p) { (void)p; }
CC_INLINE void vf_prefetch_l2(const char *p) { (void)p; }
/* Widening loads of VF_LANES stored values. */
CC_INLINE vi vi_load_i8(const int8_t *p) { return *p; }
CC_INLINE vi vi_load_u8(const uint8_t *p) { return *p; }
CC_INLINE vi vi_load_i16(const int16_t *p) { return *p; }
CC_INLINE vi vi_load_u16(const uint16_t *p) { return *p; }

/* Past the caches, where there is such a way. */
CC_INLINE void vf_stream(float *p, vf x) { *p = x; }
CC_INLINE void vf_fence(void) {}

CC_INLINE vf vf_load_n_or(const float *p, int n, vf fill) { return n > 0 ? *p : fill; }
CC_INLINE float vf_add_lanes(vf a) { return a; }
CC_INLINE float vf_max_lanes(vf a) { return a; }
CC_INLINE vf vf_permute(vf a, vi index) { return (void)index, a; }

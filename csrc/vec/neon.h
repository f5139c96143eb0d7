/* NEON of AArch64: 4 lanes, FMA, 32 registers. Denormals are kept, as they are not on 32-bit ARM. */
#include <arm_neon.h>

#define VF_LANES 4
#define VF_FUSED 1
#define VF_REGISTERS 32
typedef float32x4_t vf;
typedef int32x4_t vi;
typedef uint32x4_t vm;

CC_INLINE vf vf_zero(void) { return vdupq_n_f32(0.0f); }
CC_INLINE vf vf_set1(float x) { return vdupq_n_f32(x); }
CC_INLINE vf vf_load(const float *p) { return vld1q_f32(p); }
CC_INLINE void vf_store(float *p, vf x) { vst1q_f32(p, x); }
CC_INLINE vf vf_load_n_or(const float *p, int n, vf fill)
{
    if (n >= 4)
        return vld1q_f32(p);
    if (n > 2)
        fill = vld1q_lane_f32(p + 2, fill, 2);
    if (n > 1)
        fill = vld1q_lane_f32(p + 1, fill, 1);
    return n > 0 ? vld1q_lane_f32(p, fill, 0) : fill;
}
CC_INLINE vf vf_load_n(const float *p, int n) { return vf_load_n_or(p, n, vf_zero()); }
CC_INLINE void vf_store_n(float *p, vf x, int n)
{
    if (n >= 4) {
        vst1q_f32(p, x);
        return;
    }
    if (n > 2)
        vst1q_lane_f32(p + 2, x, 2);
    if (n > 1)
        vst1q_lane_f32(p + 1, x, 1);
    if (n > 0)
        vst1q_lane_f32(p, x, 0);
}
CC_INLINE vf vf_add(vf a, vf b) { return vaddq_f32(a, b); }
CC_INLINE vf vf_sub(vf a, vf b) { return vsubq_f32(a, b); }
CC_INLINE vf vf_mul(vf a, vf b) { return vmulq_f32(a, b); }
CC_INLINE vf vf_div(vf a, vf b) { return vdivq_f32(a, b); }
CC_INLINE vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
CC_INLINE vf vf_fnma(vf a, vf b, vf c) { return vfmsq_f32(c, a, b); }
/* a*b[lane] + c: the instruction reads its factor from a lane, so one load serves VF_LANES multiply-adds. */
#define vf_fma_lane(a, b, lane, c) vfmaq_laneq_f32(c, a, b, lane)
/* Not fmax, which gives NaN where either operand is one, nor fmaxnm, which gives the other operand: b is asked for
 * in both cases. */
CC_INLINE vf vf_max(vf a, vf b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
CC_INLINE vf vf_min(vf a, vf b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
CC_INLINE vf vf_sqrt(vf a) { return vsqrtq_f32(a); }
CC_INLINE vf vf_abs(vf a) { return vabsq_f32(a); }
CC_INLINE vf vf_round(vf a) { return vrndnq_f32(a); }

CC_INLINE vm vf_lt(vf a, vf b) { return vcltq_f32(a, b); }
CC_INLINE vm vf_le(vf a, vf b) { return vcleq_f32(a, b); }
CC_INLINE vm vf_eq(vf a, vf b) { return vceqq_f32(a, b); }
CC_INLINE vm vf_isnan(vf a) { return vmvnq_u32(vceqq_f32(a, a)); }
CC_INLINE vm vf_unordered(vf a, vf b) { return vmvnq_u32(vandq_u32(vceqq_f32(a, a), vceqq_f32(b, b))); }
CC_INLINE vm vm_or(vm a, vm b) { return vorrq_u32(a, b); }
CC_INLINE vm vm_and(vm a, vm b) { return vandq_u32(a, b); }
CC_INLINE int vm_any(vm a) { return vmaxvq_u32(a) != 0; }
CC_INLINE vf vf_select(vm m, vf a, vf b) { return vbslq_f32(m, a, b); }

CC_INLINE vi vi_set1(int32_t x) { return vdupq_n_s32(x); }
CC_INLINE vi vi_load(const int32_t *p) { return vld1q_s32(p); }
CC_INLINE vi vi_add(vi a, vi b) { return vaddq_s32(a, b); }
CC_INLINE vi vi_sub(vi a, vi b) { return vsubq_s32(a, b); }
CC_INLINE vi vi_and(vi a, vi b) { return vandq_s32(a, b); }
CC_INLINE vi vi_or(vi a, vi b) { return vorrq_s32(a, b); }
CC_INLINE vi vi_xor(vi a, vi b) { return veorq_s32(a, b); }
CC_INLINE vm vi_eq(vi a, vi b) { return vceqq_s32(a, b); }
#define vi_shl(a, n) vshlq_n_s32(a, n)
#define vi_shr(a, n) vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a), n)) /* zeros come in */
#define vi_sra(a, n) vshrq_n_s32(a, n)                                               /* the sign comes in */
CC_INLINE vi vi_from_vf(vf a) { return vcvtnq_s32_f32(a); }
CC_INLINE vf vf_from_vi(vi a) { return vcvtq_f32_s32(a); }
CC_INLINE vi vi_bits(vf a) { return vreinterpretq_s32_f32(a); }
CC_INLINE vf vf_bits(vi a) { return vreinterpretq_f32_s32(a); }

CC_INLINE void vf_prefetch(const float *p) { __builtin_prefetch(p, 0, 3); }
CC_INLINE void vf_prefetch_write(const float *p) { __builtin_prefetch(p, 1, 3); }
CC_INLINE void vf_prefetch_l2(const char *p) { __builtin_prefetch(p, 0, 2); }
/* Widening loads of VF_LANES stored values. */
CC_INLINE vi vi_load_i8(const int8_t *p)
{
    uint32_t four;
    memcpy(&four, p, sizeof four);
    return vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(four))));
}
CC_INLINE vi vi_load_u8(const uint8_t *p)
{
    uint32_t four;
    memcpy(&four, p, sizeof four);
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four)))));
}
CC_INLINE vi vi_load_i16(const int16_t *p) { return vmovl_s16(vld1_s16(p)); }
CC_INLINE vi vi_load_u16(const uint16_t *p) { return vreinterpretq_s32_u32(vmovl_u16(vld1_u16(p))); }

/* An ordinary store: cores that write whole lines, one after the other, leave the caches out by themselves, and the
 * instruction that asks for it (stnp) is but a hint. It is ordered like any other, so nothing has to follow. */
CC_INLINE void vf_stream(float *p, vf x) { vst1q_f32(p, x); }
CC_INLINE void vf_fence(void) {}

/* Halves folded onto each other until one lane is left. */
CC_INLINE float vf_add_lanes(vf a)
{
    const vf d = vaddq_f32(a, vextq_f32(a, a, 2));
    return vgetq_lane_f32(d, 0) + vgetq_lane_f32(d, 1);
}
CC_INLINE float vf_max_lanes(vf a)
{
    const vf d = vf_max(a, vextq_f32(a, a, 2));
    return vgetq_lane_f32(vf_max(d, vextq_f32(d, d, 1)), 0);
}
/* Lane i of the result is lane index[i] of a. */
CC_INLINE vf vf_permute(vf a, vi index)
{
    /* By bytes: those of lane k are 4k to 4k + 3. */
    const uint32x4_t bytes = vmlaq_n_u32(vdupq_n_u32(0x03020100u), vreinterpretq_u32_s32(index), 0x04040404u);
    return vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(a), vreinterpretq_u8_u32(bytes)));
}

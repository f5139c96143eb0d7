/* exp and its relatives on vectors of floats.
 *
 * One core: exp(x) = 2^n * exp(r), |r| <= ln2/2, with exp(r) = 1 + r + r^2 q(r). What multiplies exp by
 * something large (SiLU, GELU, Mish at -90) multiplies before 2^n is applied, so that the result is
 * rounded once although exp(x) alone would be a denormal of few bits. Polynomials are minimax fits of our
 * own, their error below 2^-27 of the result; comments give it. Everything is branch-free, every lane
 * computes the same whatever its neighbours are, denormals are kept and NaN goes through. */
#ifndef CC_VEC_MATH_H
#define CC_VEC_MATH_H

#include "kernel.h"

/* An unevaluated sum, |lo| <= ulp(hi)/2 or little more. */
typedef struct vf2 {
    vf hi, lo;
} vf2;

/* (mantissa.hi + mantissa.lo) * 2^exponent; the exponent is an integer kept as a float. */
typedef struct vf_scaled {
    vf2 mantissa;
    vf exponent;
} vf_scaled;

CC_INLINE vf vf_sign(vf x) { return vf_bits(vi_and(vi_bits(x), vi_set1(INT32_MIN))); }
CC_INLINE vf vf_negate(vf x) { return vf_bits(vi_xor(vi_bits(x), vi_set1(INT32_MIN))); }
/* magnitude >= 0 */
CC_INLINE vf vf_with_sign(vf magnitude, vf sign_of) { return vf_bits(vi_or(vi_bits(magnitude), vi_bits(vf_sign(sign_of)))); }

/* NaN stays NaN: vf_max and vf_min return their second operand then. */
CC_INLINE vf vf_at_least(vf x, float low) { return vf_max(vf_set1(low), x); }
CC_INLINE vf vf_at_most(vf x, float high) { return vf_min(vf_set1(high), x); }
CC_INLINE vf vf_clamp(vf x, float low, float high) { return vf_at_most(vf_at_least(x, low), high); }

/* a + b exactly; |a| >= |b| or a = 0 */
CC_INLINE vf2 vf2_sum_ordered(vf a, vf b)
{
    const vf hi = vf_add(a, b);
    return (vf2){hi, vf_add(vf_sub(a, hi), b)};
}

/* a * b exactly, but for underflow */
CC_INLINE vf2 vf2_product(vf a, vf b)
{
    const vf hi = vf_mul(a, b);
#if VF_FUSED
    return (vf2){hi, vf_fma(a, b, vf_negate(hi))};
#else
    /* 12 bits times 12 bits fit into 24 (Dekker 1971). */
    const vi upper = vi_set1((int32_t)0xfffff000u);
    const vf a_hi = vf_bits(vi_and(vi_bits(a), upper)), a_lo = vf_sub(a, a_hi);
    const vf b_hi = vf_bits(vi_and(vi_bits(b), upper)), b_lo = vf_sub(b, b_hi);
    vf lo = vf_sub(vf_mul(a_hi, b_hi), hi);
    lo = vf_add(lo, vf_mul(a_hi, b_lo));
    lo = vf_add(lo, vf_mul(a_lo, b_hi));
    return (vf2){hi, vf_add(lo, vf_mul(a_lo, b_lo))};
#endif
}

CC_INLINE vf2 vf2_multiply(vf2 a, vf2 b)
{
    const vf2 p = vf2_product(a.hi, b.hi);
    return (vf2){p.hi, vf_fma(a.hi, b.lo, vf_fma(a.lo, b.hi, p.lo))};
}

/* m * 2^n, rounded once, for integers -252 <= n <= 254 */
CC_INLINE vf vf_ldexp(vf m, vf n)
{
#if defined(CC_VEC_AVX512)
    return _mm512_scalef_ps(m, n);
#else
    /* Two factors, for 2^n itself may lie outside the floats. The first product is exact. */
    const vi whole = vi_from_vf(n), half = vi_sra(whole, 1);
    const vf first = vf_bits(vi_shl(vi_add(half, vi_set1(127)), 23));
    const vf second = vf_bits(vi_shl(vi_add(vi_sub(whole, half), vi_set1(127)), 23));
    return vf_mul(vf_mul(m, first), second);
#endif
}

/* exp(r) - 1 and n, where x + x_lo = n ln2 + r, |x| <= 170. The error is 2^-28.2 of exp(r). */
CC_INLINE vf exp_reduce(vf x, vf x_lo, vf *n)
{
    const vf to_integer = vf_set1(0x1.8p23f); /* adding this leaves no fraction bits */
    *n = vf_sub(vf_fma(x, vf_set1(0x1.715476p0f), to_integer), to_integer);
    /* ln2 in two parts, the first of 10 bits: n times that is exact, with FMA and without. */
    vf r = vf_fnma(*n, vf_set1(0.693359375f), x);
    r = vf_fnma(*n, vf_set1(-0.000212194442f), r);
    r = vf_add(r, x_lo);
    vf q = vf_set1(0.00138202496f);
    q = vf_fma(q, r, vf_set1(0.0083688749f));
    q = vf_fma(q, r, vf_set1(0.0416682772f));
    q = vf_fma(q, r, vf_set1(0.166665196f));
    q = vf_fma(q, r, vf_set1(0.49999994f));
    return vf_fma(vf_mul(r, r), q, r);
}

/* exp(x + x_lo), |x| <= 170 */
CC_INLINE vf_scaled exp_scaled(vf x, vf x_lo)
{
    vf_scaled y;
    const vf t = exp_reduce(x, x_lo, &y.exponent);
    y.mantissa = vf2_sum_ordered(vf_set1(1.0f), t);
    return y;
}

CC_INLINE vf vf_exp(vf x)
{
    vf n;
    const vf t = exp_reduce(vf_clamp(x, -104.0f, 89.0f), vf_zero(), &n); /* 0 and inf beyond */
    return vf_ldexp(vf_add(vf_set1(1.0f), t), n);
}

/* exp(x) - 1 for x <= 0, without cancellation: 2^n (exp(r) - 1) + (2^n - 1) */
CC_INLINE vf vf_expm1_negative(vf x)
{
    vf n;
    const vf t = exp_reduce(vf_at_least(x, -30.0f), vf_zero(), &n);
    const vf power = vf_bits(vi_shl(vi_add(vi_from_vf(n), vi_set1(127)), 23));
    const vf y = vf_fma(power, t, vf_sub(power, vf_set1(1.0f)));
    return vf_with_sign(y, x); /* -0 */
}

/* log(1 + e) for 0 <= e <= 1: 2 atanh(s), s = e/(2 + e), written e - s (e - 2 s^2 R(s^2)) so that e, the
 * large term, is not rounded. R within 2^-33 of the result. */
CC_INLINE vf vf_log1p_unit(vf e)
{
    const vf s = vf_div(e, vf_add(vf_set1(2.0f), e));
    const vf z = vf_mul(s, s);
    vf r = vf_set1(0.121231802f);
    r = vf_fma(r, z, vf_set1(0.107218586f));
    r = vf_fma(r, z, vf_set1(0.143076092f));
    r = vf_fma(r, z, vf_set1(0.199994743f));
    r = vf_fma(r, z, vf_set1(0.333333373f));
    return vf_fnma(s, vf_fnma(vf_add(z, z), r, e), e);
}

CC_INLINE vf vf_sigmoid(vf x)
{
    const vf one = vf_set1(1.0f);
    const vf e = vf_exp(vf_negate(vf_abs(x)));
    const vf numerator = vf_select(vf_lt(x, vf_zero()), e, one);
    return vf_div(numerator, vf_add(one, e));
}

/* x * sigmoid(z + z_lo), where x -> -inf goes with z -> -inf: the product is 0 there */
CC_INLINE vf vf_gate(vf x, vf z, vf z_lo)
{
    const vf one = vf_set1(1.0f);
    const vm negative = vf_lt(z, vf_zero());
    const vf sign = vf_sign(z);
    const vf_scaled e = exp_scaled(vf_negate(vf_abs(z)), vf_negate(vf_bits(vi_xor(vi_bits(z_lo), vi_bits(sign)))));
    const vf divisor = vf_add(one, vf_ldexp(e.mantissa.hi, e.exponent));
    const vf numerator = vf_mul(x, vf_select(negative, e.mantissa.hi, one));
    return vf_ldexp(vf_div(numerator, divisor), vf_select(negative, e.exponent, vf_zero()));
}

CC_INLINE vf vf_silu(vf x)
{
    return vf_gate(vf_at_least(x, -120.0f), vf_clamp(x, -120.0f, 120.0f), vf_zero());
}

/* Below 0.6 an odd polynomial, within 2^-32.9; above, where 1 - 2/(exp(2x) + 1) has lost nothing. */
CC_INLINE vf vf_tanh(vf x)
{
    const vf one = vf_set1(1.0f);
    const vf a = vf_abs(x);
    const vf z = vf_mul(a, a);
    vf p = vf_set1(0.00219548889f);
    p = vf_fma(p, z, vf_set1(-0.0082305437f));
    p = vf_fma(p, z, vf_set1(0.02172051f));
    p = vf_fma(p, z, vf_set1(-0.0539500713f));
    p = vf_fma(p, z, vf_set1(0.133332297f));
    p = vf_fma(p, z, vf_set1(-0.333333313f));
    const vf small = vf_fma(vf_mul(a, z), p, a);
    const vf twice = vf_at_most(vf_add(a, a), 20.0f); /* tanh(10) rounds to 1 */
    const vf large = vf_sub(one, vf_div(vf_set1(2.0f), vf_add(one, vf_exp(twice))));
    return vf_with_sign(vf_select(vf_lt(a, vf_set1(0.6f)), small, large), x);
}

CC_INLINE vf vf_softplus(vf x)
{
    const vf e = vf_exp(vf_negate(vf_abs(x)));
    return vf_add(vf_at_least(x, 0.0f), vf_log1p_unit(e));
}

/* x tanh(log(1 + exp x)) = x w/(w + 2), w = exp(x) (exp(x) + 2). With e = exp(-|x|), w/(w + 2) is
 * e (e + 2)/(e (e + 2) + 2) on the left and (1 + 2e)/(1 + 2e + 2e^2) on the right. */
CC_INLINE vf vf_mish(vf x)
{
    const vf one = vf_set1(1.0f), two = vf_set1(2.0f);
    const vm negative = vf_lt(x, vf_zero());
    const vf_scaled scaled = exp_scaled(vf_negate(vf_at_most(vf_abs(x), 120.0f)), vf_zero());
    const vf e = vf_ldexp(scaled.mantissa.hi, scaled.exponent);
    const vf left = vf_add(e, two), right = vf_fma(two, e, one);
    const vf divisor = vf_select(negative, vf_fma(e, left, two), vf_fma(vf_add(e, e), e, right));
    const vf numerator = vf_select(negative, vf_mul(scaled.mantissa.hi, left), right);
    const vf y = vf_div(vf_mul(vf_at_least(x, -120.0f), numerator), divisor);
    return vf_ldexp(y, vf_select(negative, scaled.exponent, vf_zero()));
}

/* x Phi(x), Phi the normal distribution. Phi(-t) = exp(-t^2/2) P(s)/(t + 1), s = (t - 4)/(t + 4), the form
 * of Shepherd and Laframboise (1981); P within 2^-29. On the left everything relative counts, so squares,
 * products and the quotient carry their rounding errors along; on the right 1 - Phi(-t) hides them. */
CC_INLINE vf vf_gelu(vf x)
{
    const vf one = vf_set1(1.0f), four = vf_set1(4.0f);
    const vm negative = vf_lt(x, vf_zero());
    const vf t = vf_at_most(vf_abs(x), 15.0f); /* 15 Phi(-15) is less than any float */

    const vf s = vf_div(vf_sub(t, four), vf_add(t, four));
    vf p = vf_set1(-7.22642581e-05f);
    p = vf_fma(p, s, vf_set1(-6.19279162e-05f));
    p = vf_fma(p, s, vf_set1(0.000692563364f));
    p = vf_fma(p, s, vf_set1(-0.000302871398f));
    p = vf_fma(p, s, vf_set1(-0.00500407349f));
    p = vf_fma(p, s, vf_set1(0.0179399513f));
    p = vf_fma(p, s, vf_set1(-0.0321973264f));
    p = vf_fma(p, s, vf_set1(0.0286000222f));
    p = vf_fma(p, s, vf_set1(0.0139995972f));
    p = vf_fma(p, s, vf_set1(-0.0967034698f));
    vf2 factor = vf2_sum_ordered(vf_set1(0.4720532f), vf_mul(p, s));
    factor.lo = vf_add(factor.lo, vf_set1(7.11137549e-09f));

    const vf2 square = vf2_product(t, t);
    const vf minus_half = vf_set1(-0.5f);
    const vf_scaled e = exp_scaled(vf_mul(minus_half, square.hi), vf_mul(minus_half, square.lo));
    const vf2 numerator = vf2_multiply(e.mantissa, factor);
    const vf2 divisor = vf2_sum_ordered(vf_max(t, one), vf_min(one, t));
    const vf reciprocal = vf_div(one, divisor.hi);

    const vf bounded = vf_at_least(x, -15.0f);
    const vf2 product = vf2_multiply((vf2){bounded, vf_zero()}, numerator);
    const vf quotient = vf_mul(product.hi, reciprocal);
    const vf2 back = vf2_multiply((vf2){quotient, vf_zero()}, divisor);
    const vf remainder = vf_add(vf_sub(product.hi, back.hi), vf_sub(product.lo, back.lo));
    const vf left = vf_ldexp(vf_fma(remainder, reciprocal, quotient), e.exponent);

    const vf tail = vf_ldexp(vf_mul(numerator.hi, reciprocal), e.exponent);
    const vf right = vf_mul(x, vf_sub(one, tail));
    return vf_select(negative, left, right);
}

/* x/2 (1 + tanh u) = x sigmoid(2u), 2u = x (a + b x^2) with a = 2 sqrt(2/pi), b = 0.044715 a: carried in
 * two floats, because exp turns its absolute error into a relative one. */
CC_INLINE vf vf_gelu_tanh(vf x)
{
    const vf bounded = vf_clamp(x, -12.0f, 12.0f);
    const vf2 square = vf2_product(bounded, bounded);
    const vf2 cubic = vf2_multiply((vf2){vf_set1(0.0713548139f), vf_set1(2.39883247e-09f)}, square);
    const vf a = vf_set1(1.59576917f), a_lo = vf_set1(-4.53406805e-08f);
    vf2 slope = vf2_sum_ordered(vf_max(a, cubic.hi), vf_min(a, cubic.hi));
    slope.lo = vf_add(slope.lo, vf_add(a_lo, cubic.lo));
    const vf2 z = vf2_multiply(slope, (vf2){bounded, vf_zero()});
    return vf_gate(vf_at_least(x, -12.0f), z.hi, z.lo);
}

#endif

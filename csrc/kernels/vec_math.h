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
/* x with the sign bit of sign_of added: for a magnitude, and for a product whose zero lost its sign */
CC_INLINE vf vf_with_sign(vf x, vf sign_of) { return vf_bits(vi_or(vi_bits(x), vi_bits(vf_sign(sign_of)))); }

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

/* a + b exactly (Knuth 1969) */
CC_INLINE vf2 vf2_sum(vf a, vf b)
{
    const vf hi = vf_add(a, b), part = vf_sub(hi, a);
    return (vf2){hi, vf_add(vf_sub(a, vf_sub(hi, part)), vf_sub(b, part))};
}

CC_INLINE vf2 vf2_multiply(vf2 a, vf2 b)
{
    const vf2 p = vf2_product(a.hi, b.hi);
    return (vf2){p.hi, vf_fma(a.hi, b.lo, vf_fma(a.lo, b.hi, p.lo))};
}

CC_INLINE vf2 vf2_divide(vf2 a, vf2 b)
{
    const vf reciprocal = vf_div(vf_set1(1.0f), b.hi), q = vf_mul(a.hi, reciprocal);
#if VF_FUSED
    const vf remainder = vf_fnma(q, b.hi, a.hi);
#else
    const vf2 back = vf2_product(q, b.hi);
    const vf remainder = vf_sub(vf_sub(a.hi, back.hi), back.lo);
#endif
    return (vf2){q, vf_mul(vf_add(remainder, vf_fnma(q, b.lo, a.lo)), reciprocal)};
}

CC_INLINE vf2 vf2_select(vm m, vf2 a, vf2 b) { return (vf2){vf_select(m, a.hi, b.hi), vf_select(m, a.lo, b.lo)}; }

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

/* 2^n for integers -126 <= n <= 127 */
CC_INLINE vf vf_power_of_two(vf n) { return vf_bits(vi_shl(vi_add(vi_from_vf(n), vi_set1(127)), 23)); }

/* x = n ln2 + r, |x| <= 170: returns r, |r| <= ln2/2, exact but for one rounding, and n. */
CC_INLINE vf exp_reduce(vf x, vf *n)
{
    const vf to_integer = vf_set1(0x1.8p23f); /* adding this leaves no fraction bits */
    *n = vf_sub(vf_fma(x, vf_set1(0x1.715476p0f), to_integer), to_integer);
    /* ln2 in two parts, the first of 10 bits: n times that is exact, with FMA and without. */
    return vf_fnma(*n, vf_set1(-0.000212194442f), vf_fnma(*n, vf_set1(0.693359375f), x));
}

/* exp(r) - 1. The error is 2^-28.2 of exp(r). */
CC_INLINE vf exp_rest(vf r)
{
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
    const vf t = exp_rest(vf_add(exp_reduce(x, &y.exponent), x_lo));
    y.mantissa = vf2_sum_ordered(vf_set1(1.0f), t);
    return y;
}

CC_INLINE vf vf_exp(vf x)
{
    vf n;
    const vf t = exp_rest(exp_reduce(vf_clamp(x, -104.0f, 89.0f), &n)); /* 0 and inf beyond */
    return vf_ldexp(vf_add(vf_set1(1.0f), t), n);
}

/* exp(x) - 1 for x <= 0, without cancellation: 2^n (exp(r) - 1) + (2^n - 1) */
CC_INLINE vf vf_expm1_negative(vf x)
{
    vf n;
    const vf t = exp_rest(exp_reduce(vf_at_least(x, -30.0f), &n));
    const vf power = vf_power_of_two(n);
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

/* sigmoid(z + z_lo) = 1/(1 + e) on the right and e/(1 + e) on the left, e = exp(-|z|); |z| <= 160 */
CC_INLINE vf_scaled sigmoid_scaled(vf z, vf z_lo)
{
    const vf2 one = {vf_set1(1.0f), vf_zero()};
    const vm negative = vf_lt(z, vf_zero());
    const vf minus_lo = vf_negate(vf_bits(vi_xor(vi_bits(z_lo), vi_bits(vf_sign(z)))));
    const vf_scaled e = exp_scaled(vf_negate(vf_abs(z)), minus_lo);
    const vf2 divisor = vf2_sum_ordered(one.hi, vf_ldexp(e.mantissa.hi, e.exponent));
    vf_scaled y;
    y.mantissa = vf2_divide(vf2_select(negative, e.mantissa, one), divisor);
    y.exponent = vf_select(negative, e.exponent, vf_zero());
    return y;
}

/* y sigmoid(x) = 2^k y/(2^k + m), where exp(-x) = m 2^-k, m = 1 + t: one division for both signs, and no power
 * overflows. What rounding takes from 1 + 2^k is put back. y is 1 or x: where k > 0, y/2^k is no denormal. */
CC_INLINE vf times_sigmoid(vf y, vf x)
{
    const vf one = vf_set1(1.0f);
    vf n;
    const vf t = exp_rest(exp_reduce(vf_negate(vf_clamp(x, -120.0f, 88.0f)), &n));
    const vf k = vf_negate(n), power = vf_ldexp(one, k);
    const vf sum = vf_add(one, power), lost = vf_sub(power, vf_sub(sum, one));
    return vf_ldexp(vf_div(y, vf_add(sum, vf_add(t, lost))), k);
}

CC_INLINE vf vf_sigmoid(vf x) { return times_sigmoid(vf_set1(1.0f), x); }

/* -0 for -inf */
CC_INLINE vf vf_silu(vf x) { return times_sigmoid(vf_at_least(x, -120.0f), x); }

/* x * y, x not -inf, y >= 0. Where x is large, y is 1 and nothing else: inf * 0 must not arise. */
CC_INLINE vf vf_times_scaled(vf x, vf_scaled y)
{
    const vf product = vf_fma(x, y.mantissa.hi, vf_mul(vf_at_most(x, 120.0f), y.mantissa.lo));
    return vf_with_sign(vf_ldexp(product, y.exponent), x); /* -0 */
}

/* u/(1 + u), 2u = exp(2|x|) - 1 = 2^n t + (2^n - 1), where nothing cancels. Of a large u the quotient forgets the
 * error; of a small one it is written u - u (u/(1 + u)), so that u, the large term, is not rounded again. */
CC_INLINE vf vf_tanh(vf x)
{
    const vf half = vf_set1(0.5f), one = vf_set1(1.0f);
    vf n;
    const vf t = exp_rest(exp_reduce(vf_at_most(vf_abs(vf_add(x, x)), 20.0f), &n)); /* tanh(10) rounds to 1 */
    const vf power = vf_power_of_two(vf_sub(n, one));
    const vf u = vf_fma(power, t, vf_sub(power, half));
    const vf quotient = vf_div(u, vf_add(one, u));
    return vf_with_sign(vf_select(vf_lt(u, half), vf_fnma(u, quotient, u), quotient), x);
}

CC_INLINE vf vf_softplus(vf x)
{
    const vf e = vf_exp(vf_negate(vf_abs(x)));
    return vf_add(vf_at_least(x, 0.0f), vf_log1p_unit(e));
}

/* x tanh(log(1 + exp x)) = x w/(w + 2), w = exp(x) (exp(x) + 2). With e = exp(-|x|), w/(w + 2) is
 * e (2 + e)/(2 + e (2 + e)) on the left and (1 + 2e)/((1 + 2e) + e 2e) on the right. */
CC_INLINE vf vf_mish(vf x)
{
    const vf zero = vf_zero(), one = vf_set1(1.0f), two = vf_set1(2.0f);
    const vm negative = vf_lt(x, zero);
    const vf_scaled scaled = exp_scaled(vf_negate(vf_at_most(vf_abs(x), 120.0f)), zero);
    const vf e = vf_ldexp(scaled.mantissa.hi, scaled.exponent);
    const vf twice = vf_add(e, e);
    const vf2 sum = vf2_sum(vf_select(negative, two, one), vf_select(negative, e, twice));
    const vf factor = vf_select(negative, sum.hi, twice), base = vf_select(negative, two, sum.hi);
    vf2 divisor;
    divisor.hi = vf_fma(e, factor, base);
    divisor.lo = vf_add(vf_fma(e, factor, vf_sub(base, divisor.hi)), vf_select(negative, vf_mul(e, sum.lo), sum.lo));
    vf_scaled y;
    y.mantissa = vf2_divide(vf2_multiply(vf2_select(negative, scaled.mantissa, (vf2){one, zero}), sum), divisor);
    y.exponent = vf_select(negative, scaled.exponent, zero);
    return vf_times_scaled(vf_at_least(x, -120.0f), y);
}

/* x Phi(x), Phi the normal distribution. Phi(-t) = exp(-t^2/2) P(s)/(t + 1), s = (t - 4)/(t + 4), the form
 * of Shepherd and Laframboise (1981); P within 2^-29. Squares, products and the quotient carry their
 * rounding errors along: on the left every one of them would show. */
CC_INLINE vf vf_gelu(vf x)
{
    const vf zero = vf_zero(), one = vf_set1(1.0f), four = vf_set1(4.0f);
    const vm negative = vf_lt(x, zero);
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
    const vf2 tail = vf2_divide(vf2_multiply(e.mantissa, factor), vf2_sum(t, one));

    vf2 rest = vf2_sum_ordered(one, vf_negate(vf_ldexp(tail.hi, e.exponent)));
    rest.lo = vf_sub(rest.lo, vf_ldexp(tail.lo, e.exponent));
    vf_scaled y;
    y.mantissa = vf2_select(negative, tail, rest);
    y.exponent = vf_select(negative, e.exponent, zero);
    return vf_times_scaled(vf_at_least(x, -15.0f), y);
}

/* x/2 (1 + tanh u) = x sigmoid(2u), 2u = x (a + b x^2) with a = 2 sqrt(2/pi), b = 0.044715 a: carried in
 * two floats, because exp turns its absolute error into a relative one. */
CC_INLINE vf vf_gelu_tanh(vf x)
{
    const vf bounded = vf_clamp(x, -12.0f, 12.0f);
    const vf2 square = vf2_product(bounded, bounded);
    const vf2 cubic = vf2_multiply((vf2){vf_set1(0.0713548139f), vf_set1(2.39883247e-09f)}, square);
    vf2 slope = vf2_sum(vf_set1(1.59576917f), cubic.hi);
    slope.lo = vf_add(slope.lo, vf_add(vf_set1(-4.53406805e-08f), cubic.lo));
    const vf2 z = vf2_multiply(slope, (vf2){bounded, vf_zero()});
    return vf_times_scaled(vf_at_least(x, -12.0f), sigmoid_scaled(z.hi, z.lo));
}

#endif

/* The transforms of Winograd's F(m x m, 3x3), m = 2, 4 or 6: m^2 outputs of a 3x3 convolution for (m + 2)^2
 * multiplications instead of 9 m^2 (Lavin and Gray 2016).
 *
 *     y = A^T [ (G w G^T) . (B^T x B) ] A
 *
 * Interpolation points, beside infinity; docs/kernels.md has the errors that they give:
 *     m = 2: 0, +-1
 *     m = 4: 0, +-3/4, +-3/2     (the usual 0, +-1, +-2 give twice the error)
 *     m = 6: 0, +-1/2, +-1, +-2
 * Every constant of A and B is a dyadic fraction, hence exact in float32. G is applied in double when
 * weights are packed (pack_conv.c has the same points).
 *
 * A point p and its mirror image -p share their work: an even part e and an odd part o give e + p*o and
 * e - p*o. So a transform goes by pairs of points, and what is alive at one time - the results of a pair
 * for m + 2 columns - fits the registers of AVX-512. Everything works on vectors of channels; m is a
 * constant wherever these are called. */
#ifndef CC_WINOGRAD_H
#define CC_WINOGRAD_H

#include "kernel.h"

enum { MOST_TILE = 6, MOST_TILE_IN = MOST_TILE + 2 };

/* The positive point of pair k. */
CC_INLINE float winograd_point(const int m, const int k)
{
    static const float points[3][3] = {{1.0f}, {0.75f, 1.5f}, {0.5f, 1.0f, 2.0f}};
    return points[m / 2 - 1][k];
}

/* Row of B^T for a point is the polynomial x times product over the others of (x - q), and without the
 * x for point 0. Of x^2 - q^2 over other pairs, these are the coefficients of 1 and of x^2. */
CC_INLINE float other_product(const int m, const int k)
{
    float product = 1.0f;
    for (int i = 0; i < m / 2; i++)
        product *= i == k ? 1.0f : winograd_point(m, i) * winograd_point(m, i);
    return product;
}

CC_INLINE float other_sum(const int m, const int k)
{
    float sum = 0.0f;
    for (int i = 0; i < m / 2; i++)
        sum += i == k ? 0.0f : winograd_point(m, i) * winograd_point(m, i);
    return sum;
}

/* Even or odd part of pair k: x[2], x[4], ... or x[1], x[3], ... through the polynomial of the others. */
CC_INLINE vf input_part(const int m, const int k, const vf *x)
{
    if (m == 2)
        return x[0];
    if (m == 4)
        return vf_fnma(vf_set1(other_product(m, k)), x[0], x[2]);
    return vf_fma(vf_set1(other_product(m, k)), x[0], vf_fnma(vf_set1(other_sum(m, k)), x[2], x[4]));
}

/* Rows of points 0 (from x[0]) and infinity (from x[1]): the polynomial of all pairs. */
CC_INLINE vf input_end(const int m, const vf *x)
{
    const float p0 = winograd_point(m, 0) * winograd_point(m, 0);
    if (m == 2)
        return vf_fnma(vf_set1(p0), x[0], x[2]);
    const float p1 = winograd_point(m, 1) * winograd_point(m, 1);
    if (m == 4)
        return vf_fma(vf_set1(p0 * p1), x[0], vf_fnma(vf_set1(p0 + p1), x[2], x[4]));
    const float p2 = winograd_point(m, 2) * winograd_point(m, 2);
    return vf_fnma(vf_set1(p0 * p1 * p2), x[0],
                   vf_fma(vf_set1(p0 * p1 + p0 * p2 + p1 * p2), x[2], vf_fnma(vf_set1(p0 + p1 + p2), x[4], x[6])));
}

/* One row of V: B^T along w, then stores; point order 0, p, -p, q, -q, ..., infinity. */
CC_INLINE void store_input_row(const int m, const vf *x, float *v, int64_t ld_point)
{
    vf_store(v, input_end(m, x));
#pragma GCC unroll 3
    for (int k = 0; k < m / 2; k++) {
        const vf p = vf_set1(winograd_point(m, k)), even = input_part(m, k, x + 2), odd = input_part(m, k, x + 1);
        vf_store(v + (2 * k + 1) * ld_point, vf_fma(p, odd, even));
        vf_store(v + (2 * k + 2) * ld_point, vf_fnma(p, odd, even));
    }
    vf_store(v + (m + 1) * ld_point, input_end(m, x + 1));
}

/* V[point] = B^T x B for VF_LANES channels of one tile. x points at the tile's corner, 16 floats a pixel. */
CC_INLINE void input_transform(const int m, const float *x, int64_t ld_row, float *v, int64_t ld_point)
{
    vf row[MOST_TILE_IN], mirror[MOST_TILE_IN], column[MOST_TILE_IN];
#define COLUMN(j, first, last)                                    \
    _Pragma("GCC unroll 8") for (int i = first; i <= last; i++) \
        column[i] = vf_load(x + i * ld_row + j * CC_BLOCK)
#pragma GCC unroll 8
    for (int j = 0; j < m + 2; j++) {
        COLUMN(j, 0, m);
        row[j] = input_end(m, column);
    }
    store_input_row(m, row, v, ld_point);
#pragma GCC unroll 3
    for (int k = 0; k < m / 2; k++) {
        const vf p = vf_set1(winograd_point(m, k));
#pragma GCC unroll 8
        for (int j = 0; j < m + 2; j++) {
            COLUMN(j, 1, m);
            const vf even = input_part(m, k, column + 2), odd = input_part(m, k, column + 1);
            row[j] = vf_fma(p, odd, even);
            mirror[j] = vf_fnma(p, odd, even);
        }
        store_input_row(m, row, v + (2 * k + 1) * (m + 2) * ld_point, ld_point);
        store_input_row(m, mirror, v + (2 * k + 2) * (m + 2) * ld_point, ld_point);
    }
#pragma GCC unroll 8
    for (int j = 0; j < m + 2; j++) {
        COLUMN(j, 1, m + 1);
        row[j] = input_end(m, column + 1);
    }
    store_input_row(m, row, v + (m + 1) * (m + 2) * ld_point, ld_point);
#undef COLUMN
}

/* y = A^T m: row i is the sum over points p of p^i m_p; infinity counts in the last row alone. */
CC_INLINE void output_transform_1d(const int m, const vf *x, vf *y)
{
    vf even[MOST_TILE / 2], odd[MOST_TILE / 2];
#pragma GCC unroll 3
    for (int k = 0; k < m / 2; k++) {
        even[k] = vf_add(x[2 * k + 1], x[2 * k + 2]);
        odd[k] = vf_sub(x[2 * k + 1], x[2 * k + 2]);
    }
    float power[MOST_TILE / 2] = {1.0f, 1.0f, 1.0f};
#pragma GCC unroll 6
    for (int i = 0; i < m; i++) {
        const vf *part = i % 2 ? odd : even;
        vf sum = i == 0 ? x[0] : i == m - 1 ? x[m + 1] : vf_zero();
#pragma GCC unroll 3
        for (int k = 0; k < m / 2; k++) {
            if (i == 0)
                sum = vf_add(sum, part[k]);
            else if (k == 0 && i < m - 1)
                sum = power[k] == 1.0f ? part[k] : vf_mul(vf_set1(power[k]), part[k]);
            else
                sum = power[k] == 1.0f ? vf_add(sum, part[k]) : vf_fma(vf_set1(power[k]), part[k], sum);
        }
        y[i] = sum;
#pragma GCC unroll 3
        for (int k = 0; k < m / 2; k++)
            power[k] *= winograd_point(m, k);
    }
}

/* y = A^T M A for VF_LANES channels of one tile. */
CC_INLINE void output_transform(const int m, const float *x, int64_t ld_point, vf y[MOST_TILE][MOST_TILE])
{
    vf columns[MOST_TILE_IN][MOST_TILE];
#pragma GCC unroll 8
    for (int j = 0; j < m + 2; j++) {
        vf column[MOST_TILE_IN];
#pragma GCC unroll 8
        for (int i = 0; i < m + 2; i++)
            column[i] = vf_load(x + (i * (m + 2) + j) * ld_point);
        output_transform_1d(m, column, columns[j]);
    }
#pragma GCC unroll 6
    for (int i = 0; i < m; i++) {
        vf row[MOST_TILE_IN];
#pragma GCC unroll 8
        for (int j = 0; j < m + 2; j++)
            row[j] = columns[j][i];
        output_transform_1d(m, row, y[i]);
    }
}

#endif

/* The transforms of Winograd's F(4x4, 3x3): 16 outputs of a 3x3 convolution for 36 multiplications
 * instead of 144 (Lavin and Gray 2016).
 *
 *     y = A^T [ (G w G^T) . (B^T x B) ] A
 *
 * Interpolation points 0, +-3/4, +-3/2 and infinity: every constant of A and B is a dyadic fraction,
 * hence exact in float32, and the error is about 1.7 times that of the direct sum (with the usual 0, +-1,
 * +-2 it is 3.6 times). G is applied in double when weights are packed.
 *
 * With a = 3/4 and b = 3/2, rows of B^T pair up as even +- odd parts, so a transform of six values is 12
 * operations; the same holds for A^T. Everything works on vectors of channels. */
#ifndef CC_WINOGRAD_H
#define CC_WINOGRAD_H

#include "kernel.h"

enum { TILE_IN = 6, TILE_OUT = 4, TRANSFORMED = TILE_IN * TILE_IN };

#define WINO_A 0.75f
#define WINO_B 1.5f
#define WINO_A2 (WINO_A * WINO_A)
#define WINO_B2 (WINO_B * WINO_B)

/* y = B^T x, in place order: points 0, a, -a, b, -b, infinity. */
CC_INLINE void input_transform_1d(const vf x[TILE_IN], vf y[TILE_IN])
{
    const vf a = vf_set1(WINO_A), b = vf_set1(WINO_B), a2 = vf_set1(WINO_A2), b2 = vf_set1(WINO_B2);
    const vf product = vf_set1(WINO_A2 * WINO_B2), sum = vf_set1(WINO_A2 + WINO_B2);
    const vf even_a = vf_fnma(b2, x[2], x[4]), odd_a = vf_fnma(b2, x[1], x[3]);
    const vf even_b = vf_fnma(a2, x[2], x[4]), odd_b = vf_fnma(a2, x[1], x[3]);
    y[0] = vf_fma(product, x[0], vf_fnma(sum, x[2], x[4]));
    y[1] = vf_fma(a, odd_a, even_a);
    y[2] = vf_fnma(a, odd_a, even_a);
    y[3] = vf_fma(b, odd_b, even_b);
    y[4] = vf_fnma(b, odd_b, even_b);
    y[5] = vf_fma(product, x[1], vf_fnma(sum, x[3], x[5]));
}

/* y = A^T m: row i is sum over points p of p^i m_p; infinity counts in the last row alone. */
CC_INLINE void output_transform_1d(const vf m[TILE_IN], vf y[TILE_OUT])
{
    const vf sum_a = vf_add(m[1], m[2]), difference_a = vf_sub(m[1], m[2]);
    const vf sum_b = vf_add(m[3], m[4]), difference_b = vf_sub(m[3], m[4]);
    y[0] = vf_add(vf_add(m[0], sum_a), sum_b);
    y[1] = vf_fma(vf_set1(WINO_B), difference_b, vf_mul(vf_set1(WINO_A), difference_a));
    y[2] = vf_fma(vf_set1(WINO_B2), sum_b, vf_mul(vf_set1(WINO_A2), sum_a));
    y[3] = vf_fma(vf_set1(WINO_B * WINO_B2), difference_b, vf_fma(vf_set1(WINO_A * WINO_A2), difference_a, m[5]));
}

/* V[point] = B^T x B for VF_LANES channels of one tile. x points at the tile's corner, 16 floats a pixel. */
CC_INLINE void input_transform(const float *x, int64_t ld_row, float *v, int64_t ld_point)
{
    vf columns[TILE_IN][TILE_IN]; /* [column][row of B^T x] */
#pragma GCC unroll 6
    for (int j = 0; j < TILE_IN; j++) {
        vf column[TILE_IN];
#pragma GCC unroll 6
        for (int i = 0; i < TILE_IN; i++)
            column[i] = vf_load(x + i * ld_row + j * 16);
        input_transform_1d(column, columns[j]);
    }
#pragma GCC unroll 6
    for (int i = 0; i < TILE_IN; i++) {
        vf row[TILE_IN], y[TILE_IN];
#pragma GCC unroll 6
        for (int j = 0; j < TILE_IN; j++)
            row[j] = columns[j][i];
        input_transform_1d(row, y);
#pragma GCC unroll 6
        for (int j = 0; j < TILE_IN; j++)
            vf_store(v + (i * TILE_IN + j) * ld_point, y[j]);
    }
}

/* y = A^T M A + bias for VF_LANES channels of one tile. */
CC_INLINE void output_transform(const float *m, int64_t ld_point, vf bias, vf y[TILE_OUT][TILE_OUT])
{
    vf columns[TILE_IN][TILE_OUT];
#pragma GCC unroll 6
    for (int j = 0; j < TILE_IN; j++) {
        vf column[TILE_IN];
#pragma GCC unroll 6
        for (int i = 0; i < TILE_IN; i++)
            column[i] = vf_load(m + (i * TILE_IN + j) * ld_point);
        output_transform_1d(column, columns[j]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < TILE_OUT; i++) {
        vf row[TILE_IN];
#pragma GCC unroll 6
        for (int j = 0; j < TILE_IN; j++)
            row[j] = columns[j][i];
        output_transform_1d(row, y[i]);
#pragma GCC unroll 4
        for (int j = 0; j < TILE_OUT; j++)
            y[i][j] = vf_add(y[i][j], bias);
    }
}

#endif

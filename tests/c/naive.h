/* What a step must compute, as plain loops in double precision, and how far float32 may be from it. */
#ifndef NAIVE_H
#define NAIVE_H

#include "draw.h"

/* One sample of any type. */
double sample_of(const void *samples, int32_t type, int64_t position);

/* expected[i], allowed[i]: the i-th output in row-major order. Returns 0 for steps that have no
 * reference here (transcendental functions and random numbers: elementwise_check.c and the Python tests
 * speak for them). */
int naive(const drawn *d, void *const *buffers, const float *weights, const float *bias, double *expected,
          double *allowed);

#endif

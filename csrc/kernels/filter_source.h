/* Where a filter finds what lies beyond the edge. */
#ifndef CC_FILTER_SOURCE_H
#define CC_FILTER_SOURCE_H

#include "../type_size.h"
#include "kernel.h"

/* Where sample i of n, which may be outside, is found; -1 where that is nowhere. */
static int64_t filter_source(int64_t i, int64_t n, int32_t edge)
{
    if (i >= 0 && i < n)
        return i;
    const int64_t period = edge == CC_EDGE_WRAP ? n : edge == CC_EDGE_REFLECT ? 2 * n : 2 * n - 2;
    int64_t m;
    switch (edge) {
    case CC_EDGE_NEAREST:
        return i < 0 ? 0 : n - 1;
    case CC_EDGE_WRAP:
    case CC_EDGE_REFLECT:
    case CC_EDGE_MIRROR:
        if (period == 0)
            return 0;
        m = i % period;
        m = m < 0 ? m + period : m;
        return m < n ? m : edge == CC_EDGE_REFLECT ? 2 * n - 1 - m : 2 * n - 2 - m;
    default:
        return -1;
    }
}

#endif

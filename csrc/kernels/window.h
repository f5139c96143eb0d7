/* What the window kernels share: output rows, windows clipped to the input, and channels that need not
 * be neighbours in memory. Included by files of this folder only. */
#ifndef CC_WINDOW_H
#define CC_WINDOW_H

#include "items.h"
#include "kernel.h"

enum { D = 1, H = 2, W = 3, C = 4 }; /* axes of a rank-5 view */

/* Item `row` of a kernel whose items are output rows. */
typedef struct cc_row {
    int64_t n, d, h;
} cc_row;

CC_INLINE cc_row row_of_item(const cc_view *out, int64_t row)
{
    const int64_t plane = row / out->shape[H];
    return (cc_row){.n = plane / out->shape[D], .d = plane % out->shape[D], .h = row % out->shape[H]};
}

/* Taps [begin, end) of a window lie inside an axis of `cells` cells; tap t reads cell start + t*dilation. */
typedef struct cc_taps {
    int64_t start, begin, end;
} cc_taps;

CC_INLINE cc_taps clip_taps(const cc_step *step, int axis, int64_t o)
{
    const cc_window *window = &step->window;
    const int64_t cells = step->in.shape[D + axis], dilation = window->dilation[axis];
    cc_taps taps = {.start = o * window->stride[axis] - window->pad_low[axis], .end = window->kernel[axis]};
    if (taps.start < 0)
        taps.begin = dilation == 1 ? -taps.start : (-taps.start + dilation - 1) / dilation;
    const int64_t left = max_i64(cells - taps.start, 0);
    if (left < taps.end * dilation)
        taps.end = min_i64(taps.end, dilation == 1 ? left : (left + dilation - 1) / dilation);
    taps.begin = min_i64(taps.begin, taps.end); /* a window wholly in the padding has no taps */
    return taps;
}

/* n <= VF_LANES channels, ld apart. Where ld is the constant 1 only the vector instruction remains. */
CC_INLINE vf load_channels(const float *p, int64_t ld, int n)
{
    if (ld == 1)
        return n == VF_LANES ? vf_load(p) : vf_load_n(p, n);
    float lanes[VF_LANES] = {0};
    for (int i = 0; i < n; i++)
        lanes[i] = p[i * ld];
    return vf_load(lanes);
}

CC_INLINE void store_channels(float *p, int64_t ld, int n, vf x)
{
    if (ld == 1 && n == VF_LANES) {
        vf_store(p, x);
    } else if (ld == 1) {
        vf_store_n(p, x, n);
    } else {
        float lanes[VF_LANES];
        vf_store(lanes, x);
        for (int i = 0; i < n; i++)
            p[i * ld] = lanes[i];
    }
}

/* Whether the output goes past the caches: choose_window.c says that it should, and every pixel of it begins
 * on a whole vector. */
CC_INLINE int streams_whole_vectors(const cc_step *step, void *const *buffers)
{
    const cc_view *out = &step->out;
    uint64_t together = (uintptr_t)view_f32(out, buffers) / sizeof(float);
    for (int a = 0; a < C; a++)
        together |= (uint64_t)out->ld[a];
    return step->detail[WINDOW_STREAM] && together % VF_LANES == 0;
}

#endif

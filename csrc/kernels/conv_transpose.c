/* Transposed convolution, gathered: no output is written twice, so nothing depends on the order of
 * threads. Along one axis, full output position f = o + pad_low receives x[i] * w[k] for all
 * i*stride + k*dilation = f. Outputs o, o + stride, o + 2*stride, ... use the same taps k and
 * neighbouring inputs i: such a set of columns is an ordinary tile. */
#include "tile.h"

/* The taps that reach output position f: k = first + j*step, j < count; tap j reads input i - j*back. */
typedef struct phase_taps {
    int64_t first, step, count, i, back;
} phase_taps;

static phase_taps taps_of(int64_t f, int64_t kernel, int64_t stride, int64_t dilation)
{
    phase_taps t = {0};
    int64_t k = 0;
    while (k < kernel && k < stride && (f - k * dilation) % stride != 0)
        k++;
    if (k >= kernel || (f - k * dilation) % stride != 0)
        return t;
    int64_t step = 1; /* stride / gcd(stride, dilation) */
    while (step * dilation % stride != 0)
        step++;
    t.first = k;
    t.step = step;
    t.count = (kernel - k + step - 1) / step;
    t.i = (f - k * dilation) / stride;
    t.back = step * dilation / stride;
    return t;
}

static void transpose_items(const cc_step *step, void *const *buffers, int64_t round, int64_t begin, int64_t end)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const cc_window *win = &step->window;
    const int64_t residues = min_i64(win->stride[2], g->out_w);
    const int64_t units = g->out_d * g->out_h * residues * g->chunks, panel_floats = cc_panel_floats(step);
    const int64_t tap_floats[CC_SPATIAL] = {win->kernel[1] * win->kernel[2] * g->ic * CC_PANEL,
                                            win->kernel[2] * g->ic * CC_PANEL, g->ic * CC_PANEL};
    for (int64_t item = begin; item < end; item++) {
        const int64_t image = g->repack ? round : item / (g->panels * units);
        const conv_source s = source_of(step, buffers, image, 0, 0);
        float *const y0 = view_f32(&step->out, buffers) + image * g->y_image;
        const int64_t unit = item % units, panel = item / units % g->panels, chunk = unit % g->chunks;
        const int64_t residue = unit / g->chunks % residues, row = unit / g->chunks / residues;
        const int64_t o[CC_SPATIAL] = {row / g->out_h, row % g->out_h, residue};
        const int64_t j0 = chunk * g->chunk;
        const int64_t columns = min_i64((g->out_w - residue + win->stride[2] - 1) / win->stride[2] - j0, g->chunk);
        if (columns <= 0)
            continue;
        reduction r = {.channels = g->ic, .ld_block = s.ld_block};
        const float *x = s.x + j0 * s.ld[2];
        int64_t w_offset = 0;
        for (int a = 0; a < CC_SPATIAL; a++) {
            const phase_taps t = taps_of(o[a] + win->pad_low[a], win->kernel[a], win->stride[a], win->dilation[a]);
            r.taps[a] = t.count;
            r.x_step[a] = -t.back * s.ld[a];
            r.w_step[a] = t.step * tap_floats[a];
            w_offset += t.first * tap_floats[a];
            x += t.count ? (t.i + g->low[a]) * s.ld[a] : 0;
        }
        const panel_store to = {
            .y = y0 + o[0] * g->y_ld[0] + o[1] * g->y_ld[1] + (residue + j0 * win->stride[2]) * g->y_ld[2] +
                 panel * (CC_PANEL / CC_BLOCK) * g->y_block,
            .ldy = win->stride[2] * g->y_ld[2],
            .y_block = g->y_block,
            .width = panel_width(step, panel * CC_PANEL),
            .activation = &step->activation,
        };
        panel_row(x, s.ld[2], step->weights + panel * panel_floats, w_offset, &r, columns, &to);
    }
}

void CC_FN(conv_transpose_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int64_t image = call->phase / step->period;
    if (g->repack && call->phase % step->period == 0)
        repack_rows(step, view_f32(&step->in, call->buffers) + image * g->x_image, workspace(step, call->buffers), begin,
                    end);
    else
        transpose_items(step, call->buffers, image, begin, end);
}

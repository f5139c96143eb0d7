/* Direct convolution of any rank, stride, dilation and number of groups. An item is one (group, panel of 32 output channels, output row, chunk of the row), panels
 * outermost, so that neighbouring items share a panel of weights in the L2 cache. */
#include "tile.h"

static void convolve_items(const cc_step *step, void *const *buffers, int64_t image, int64_t begin, int64_t end)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const cc_window *win = &step->window;
    const int64_t rows = g->out_d * g->out_h, units = rows * g->chunks;
    const int64_t panel_floats = cc_panel_floats(step);
    float *const y0 = view_f32(&step->out, buffers) + image * g->y_image;
    int64_t group = -1;
    conv_source s = {0};
    reduction r = {
        .taps = {win->kernel[0], win->kernel[1], win->kernel[2]},
        .w_step = {win->kernel[1] * win->kernel[2] * g->ic * CC_PANEL, win->kernel[2] * g->ic * CC_PANEL,
                   g->ic * CC_PANEL},
        .channels = g->ic,
    };
    for (int64_t item = begin; item < end; item++) {
        const int64_t unit = item % units, panel = item / units;
        const int64_t chunk = unit % g->chunks, h = unit / g->chunks % g->out_h, d = unit / g->chunks / g->out_h;
        if (panel / g->panels != group) {
            group = panel / g->panels;
            s = source_of(step, buffers, image, group);
            for (int a = 0; a < CC_SPATIAL; a++)
                r.x_step[a] = win->dilation[a] * s.ld[a];
            r.ld_block = s.ld_block;
        }
        const int64_t oc0 = panel % g->panels * CC_PANEL;
        const int64_t w0 = chunk * g->chunk, columns = min_i64(g->out_w - w0, g->chunk);
        panel_row(s.x + d * win->stride[0] * s.ld[0] + h * win->stride[1] * s.ld[1] + w0 * win->stride[2] * s.ld[2],
                  win->stride[2] * s.ld[2], step->weights + panel * panel_floats, 0, &r, columns,
                  y0 + d * g->y_ld[0] + h * g->y_ld[1] + w0 * g->y_ld[2] + group * g->oc + oc0, g->y_ld[2],
                  min_i64(g->oc - oc0, CC_PANEL), &step->activation);
    }
}

void CC_FN(conv_direct_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    const cc_conv_geometry *g = conv_geometry(step);
    void *const *buffers = call->buffers;
    const int64_t image = call->phase / step->period;
    if (g->repack && call->phase % 2 == 0)
        repack_rows(step, view_f32(&step->in, buffers) + image * g->x_image,
                    (float *)((char *)buffers[step->workspace_buffer] + step->workspace_offset), begin, end);
    else
        convolve_items(step, buffers, image, begin, end);
}

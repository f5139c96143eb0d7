/* Direct convolution of any rank, stride, dilation and number of groups. An item is one (image, group, panel
 * of 32 output channels, output row, chunk of the row), in this order, so that neighbouring items share a
 * panel of weights in the L2 cache. */
#include "tile.h"

static void convolve_items(const cc_step *step, void *const *buffers, int64_t round, int64_t begin, int64_t end)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const cc_window *win = &step->window;
    const int64_t rows = g->out_d * g->out_h, units = rows * g->chunks, per_image = g->groups * g->panels * units;
    const int64_t panel_floats = cc_panel_floats(step), run = win->kernel[2] * g->ic;
    float *const y0 = view_f32(&step->out, buffers);
    int64_t image = -1, group = -1;
    conv_source s = {0};
    reduction r = {
        .taps = {win->kernel[0], win->kernel[1], g->few_channels ? 1 : win->kernel[2]},
        .w_step = {win->kernel[1] * run * CC_PANEL, run * CC_PANEL, g->ic * CC_PANEL},
        .channels = g->few_channels ? run : g->ic,
    };
    for (int64_t item = begin; item < end; item++) {
        const int64_t item_image = g->repack ? round : item / per_image;
        const int64_t unit = item % units, panel = item % per_image / units;
        const int64_t chunk = unit % g->chunks, h = unit / g->chunks % g->out_h, d = unit / g->chunks / g->out_h;
        if (panel / g->panels != group || item_image != image) {
            group = panel / g->panels;
            image = item_image;
            s = source_of(step, buffers, image, group, 0);
            for (int a = 0; a < CC_SPATIAL; a++)
                r.x_step[a] = win->dilation[a] * s.ld[a];
            r.ld_block = g->few_channels ? CC_BLOCK : s.ld_block;
        }
        const int64_t oc0 = panel % g->panels * CC_PANEL, first = group * g->oc + oc0;
        const int64_t w0 = chunk * g->chunk, columns = min_i64(g->out_w - w0, g->chunk);
        const panel_store to = {
            .y = y0 + image * g->y_image + d * g->y_ld[0] + h * g->y_ld[1] + w0 * g->y_ld[2] +
                 first / CC_BLOCK * g->y_block + first % CC_BLOCK,
            .ldy = g->y_ld[2],
            .y_block = g->y_block,
            .width = panel_width(step, oc0),
            .activation = &step->activation,
        };
        panel_row(s.x + d * win->stride[0] * s.ld[0] + h * win->stride[1] * s.ld[1] + w0 * win->stride[2] * s.ld[2],
                  win->stride[2] * s.ld[2], step->weights + panel * panel_floats, 0, &r, columns, &to, NULL);
    }
}

void CC_FN(conv_direct_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int64_t image = call->phase / step->period;
    if (g->repack && call->phase % step->period == 0)
        repack_rows(step, view_f32(&step->in, call->buffers) + image * g->x_image, workspace(step, call->buffers), begin,
                    end);
    else
        convolve_items(step, call->buffers, image, begin, end);
}

/* Direct convolution of any rank, stride, dilation and number of groups. An item is one (image, group, panel
 * of 32 output channels, slice, piece of a line of a rectangle), in this order, so that neighbouring items
 * share a panel of weights in the L2 cache. */
#include "../conv_rectangles.h"
#include "tile.h"

/* Below this many products of an output, stores come so thick that the lines which they write have to be
 * asked for beforehand. */
enum { FEW_PRODUCTS = 64 };

static void convolve_items(const cc_step *step, void *const *buffers, int64_t round, int64_t begin, int64_t end)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const cc_window *win = &step->window;
    cc_rectangle rectangles[CC_MOST_SPANS * CC_MOST_SPANS];
    const int64_t slice = cc_rectangles(step, rectangles), units = g->out_d * slice;
    const int64_t per_image = g->groups * g->panels * units;
    const int64_t panel_floats = cc_panel_floats(step), run = win->kernel[2] * g->ic;
    float *const y0 = view_f32(&step->out, buffers);
    int64_t image = -1, group = -1, spanned = -1;
    cc_span span_d = {0};
    conv_source s = {0};
    reduction r = {.w_step = {win->kernel[1] * run * CC_PANEL, run * CC_PANEL, g->ic * CC_PANEL}};
    /* The place of an item: counted on from the first, for divisions are what takes time where lines are short. */
    int64_t item_image = g->repack ? round : begin / per_image, panel = begin % per_image / units;
    int64_t d = begin % units / slice, place = begin % slice;
    for (int64_t item = begin; item < end; item++, place++) {
        if (place == slice) {
            place = 0;
            if (++d == g->out_d) {
                d = 0;
                if (++panel == g->groups * g->panels) {
                    panel = 0;
                    item_image++;
                }
            }
        }
        if (panel / g->panels != group || item_image != image) {
            group = panel / g->panels;
            image = item_image;
            s = source_of(step, buffers, image, group, 0);
            for (int a = 0; a < CC_SPATIAL; a++)
                r.x_step[a] = win->dilation[a] * s.ld[a];
            r.ld_block = g->few_channels ? CC_BLOCK : s.ld_block;
        }
        if (d != spanned)
            span_d = cc_span_from(step, 0, spanned = d);
        const cc_rectangle *at = rectangles;
        int64_t piece = place;
        for (; piece >= at->items; at++)
            piece -= at->items;
        const int64_t line = at->pieces == 1 ? piece : piece / at->pieces;
        const int64_t first = (piece - line * at->pieces) * at->piece;
        const cc_span span[CC_SPATIAL] = {span_d, at->h, at->w};
        const int64_t o[CC_SPATIAL] = {d, at->h.begin + (at->along == 1 ? first : line),
                                       at->w.begin + (at->along == 1 ? line : first)};
        const int64_t oc0 = panel % g->panels * CC_PANEL, channel = group * g->oc + oc0;
        const float *x = s.x;
        float *y = y0 + image * g->y_image + channel / CC_BLOCK * g->y_block + channel % CC_BLOCK;
        int64_t w_offset = 0;
        for (int a = 0; a < CC_SPATIAL; a++) {
            r.taps[a] = span[a].taps;
            x += o[a] * win->stride[a] * s.ld[a] + span[a].tap * r.x_step[a];
            y += o[a] * g->y_ld[a];
            w_offset += span[a].tap * r.w_step[a];
        }
        r.channels = g->ic;
        if (g->few_channels) {
            r.channels *= r.taps[2];
            r.taps[2] = 1;
        }
        const panel_store to = {
            .y = y,
            .ldy = g->y_ld[at->along],
            .y_block = g->y_block,
            .width = panel_width(step, oc0),
            .activation = &step->activation,
            .ask = r.taps[0] * r.taps[1] * r.taps[2] * r.channels <= FEW_PRODUCTS,
        };
        panel_row(x, win->stride[at->along] * s.ld[at->along], step->weights + panel * panel_floats, w_offset, &r,
                  min_i64(at->line - first, at->piece), &to);
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

/* Convolution, transposed convolution and dense layers: which algorithm, and its geometry. */
#include "choose.h"
#include "conv_geometry.h"

#include <string.h>

static int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -ceil_div(-a, b); }

/* Rows longer than this are cut, so that a long row (a 1x1 convolution, a batch of dense samples) can
 * be shared by threads and its inputs stay in the L1 cache. A multiple of every tile's width. */
enum { MOST_COLUMNS = 84 };

static void set_rows(cc_conv_geometry *g, int64_t longest)
{
    g->chunks = ceil_div(longest, MOST_COLUMNS);
    g->chunk = ceil_div(longest, g->chunks);
}

/* Sizes that overflow an int64_t only together are counted in double, and refused there. */
static int fits(const cc_step *step, const cc_conv_geometry *g)
{
    const int64_t *k = step->window.kernel, *size = g->size;
    const double most = (double)CC_MOST_FLOATS, taps = (double)k[0] * (double)k[1] * (double)k[2];
    const double packed = (double)(g->groups * g->panels) * CC_PANEL * (1 + taps * (double)g->ic);
    const double blocks = (double)(g->groups * ceil_div(g->ic, CC_BLOCK));
    const double workspace = blocks * CC_BLOCK * (double)size[0] * (double)size[1] * (double)size[2];
    return packed <= most && (!g->repack || workspace <= most);
}

static void set_phases(cc_step *step, const cc_conv_geometry *g, int64_t units)
{
    const int64_t gemm = g->groups * g->panels * units;
    if (g->repack) {
        const int64_t blocks = g->groups * ceil_div(g->ic, CC_BLOCK);
        step->period = 2;
        step->items[0] = blocks * g->size[0] * g->size[1];
        step->items[1] = gemm;
        step->workspace_bytes = step->items[0] * g->size[2] * CC_BLOCK * (int64_t)sizeof(float);
    } else {
        step->period = 1;
        step->items[0] = gemm;
    }
    step->phases = g->images * step->period;
}

static cc_status choose_dense(cc_step *step, cc_conv_geometry *g)
{
    const cc_view *in = &step->in, *out = &step->out;
    if (in->rank != 2 || out->rank != 2 || in->shape[0] != out->shape[0])
        return CC_ERROR_SHAPE;
    if (in->ld[1] != 1 || out->ld[1] != 1)
        return CC_ERROR_ARGUMENT;
    for (int a = 0; a < CC_SPATIAL; a++)
        step->window.kernel[a] = step->window.stride[a] = step->window.dilation[a] = 1;
    g->images = g->groups = 1;
    g->ic = in->shape[1];
    g->oc = out->shape[1];
    g->out_d = g->out_h = 1;
    g->out_w = in->shape[0];
    g->x_ld[2] = in->ld[0];
    g->y_ld[2] = out->ld[0];
    step->algorithm = "dense";
    return CC_OK;
}

/* A 1x1 convolution with stride 1 is a dense layer on pixels: when rows follow each other in memory on
 * both sides, one long row serves small maps better than many short ones. */
static void join_rows(const cc_step *step, cc_conv_geometry *g)
{
    for (int a = 0; a < CC_SPATIAL; a++)
        if (step->window.kernel[a] != 1 || step->window.stride[a] != 1 || step->in.shape[a + 1] != step->out.shape[a + 1])
            return;
    const cc_view *in = &step->in, *out = &step->out;
    for (int a = 2; a >= 0; a--) /* axis a of the view lies outside axis a + 1 */
        if (in->ld[a] != in->shape[a + 1] * in->ld[a + 1] || out->ld[a] != out->shape[a + 1] * out->ld[a + 1])
            return;
    g->out_w *= g->out_h * g->out_d * g->images;
    g->out_h = g->out_d = g->images = 1;
}

static cc_status choose_conv(cc_step *step, cc_conv_geometry *g)
{
    const cc_window *w = &step->window;
    const cc_view *in = &step->in, *out = &step->out;
    int inside = in->ld[4] == 1;
    for (int a = 0; a < CC_SPATIAL; a++) {
        const int64_t reach = (out->shape[a + 1] - 1) * w->stride[a] + (w->kernel[a] - 1) * w->dilation[a] + 1;
        g->low[a] = w->pad_low[a];
        g->size[a] = reach;
        inside = inside && w->pad_low[a] == 0 && reach <= in->shape[a + 1];
    }
    g->repack = !inside;
    if (!g->repack)
        join_rows(step, g);
    step->algorithm = "direct";
    return CC_OK;
}

static cc_status choose_transpose(cc_step *step, cc_conv_geometry *g)
{
    const cc_window *w = &step->window;
    for (int a = 0; a < CC_SPATIAL; a++) {
        const int64_t out = step->out.shape[a + 1], in = step->in.shape[a + 1];
        const int64_t lowest = floor_div(w->pad_low[a] - (w->kernel[a] - 1) * w->dilation[a], w->stride[a]);
        const int64_t highest = (out - 1 + w->pad_low[a]) / w->stride[a];
        g->low[a] = max_i64(0, -lowest);
        g->size[a] = g->low[a] + max_i64(in, highest + 1);
    }
    g->repack = 1; /* the halo stands in for inputs that do not exist */
    step->algorithm = "transposed";
    return CC_OK;
}

/* Winograd pays when the 36 products of a tile are fewer than the 144 that they stand for, borders and
 * transforms included: enough channels on both sides, and tiles that are mostly inside the map. */
static int suits_winograd(const cc_step *step, const cc_conv_geometry *g)
{
    const cc_window *w = &step->window;
    const int64_t tiles = ceil_div(g->out_h, 4) * ceil_div(g->out_w, 4);
    return step->accuracy >= CC_STANDARD && step->operation == CC_CONV && g->groups == 1 && w->kernel[0] == 1 &&
           w->kernel[1] == 3 && w->kernel[2] == 3 && w->stride[0] == 1 && w->stride[1] == 1 && w->stride[2] == 1 &&
           w->dilation[1] == 1 && w->dilation[2] == 1 && w->pad_low[0] == 0 && g->ic >= CC_BLOCK &&
           g->oc >= CC_BLOCK && tiles >= 8 && 10 * 16 * tiles <= 18 * g->out_h * g->out_w;
}

/* Up to this many tiles, threads share panels of weights instead of tiles. */
enum { FEW_TILES = 64 };

static void choose_winograd(cc_step *step, cc_conv_geometry *g, const cc_kernels *kernels)
{
    const int64_t blocks = ceil_div(g->ic, CC_BLOCK), most_v_floats = 128 * 1024; /* half of a 1 MiB L2 cache */
    g->tiles_h = ceil_div(g->out_h, 4);
    g->tiles_w = ceil_div(g->out_w, 4);
    const int64_t tiles = g->out_d * g->tiles_h * g->tiles_w;
    g->repack = 1;
    g->size[0] = g->out_d;
    g->size[1] = 4 * g->tiles_h + 2;
    g->size[2] = 4 * g->tiles_w + 2;
    step->items[0] = blocks * g->size[0] * g->size[1];
    g->repacked_floats = step->items[0] * g->size[2] * CC_BLOCK;
    step->workspace_bytes = g->repacked_floats * (int64_t)sizeof(float);
    if (tiles <= FEW_TILES) {
        g->tile_block = tiles;
        step->period = 3;
        step->items[1] = blocks * tiles;
        step->items[2] = g->panels;
    } else {
        const int64_t two_columns = 28; /* two of the widest register tiles */
        g->tile_block = 36 * g->ic * two_columns <= most_v_floats ? two_columns : two_columns / 2;
        step->period = 2;
        step->items[1] = ceil_div(tiles, g->tile_block);
    }
    g->ld_v = (blocks * g->tile_block) * CC_BLOCK + (blocks * g->tile_block % 2 ? 0 : CC_BLOCK);
    g->ld_m = g->tile_block * CC_PANEL + CC_BLOCK;
    const int64_t v = 36 * g->ld_v * (int64_t)sizeof(float), m = 36 * g->ld_m * (int64_t)sizeof(float);
    step->scratch_bytes = step->period == 2 ? v + m : m;
    step->workspace_bytes += step->period == 2 ? 0 : v;
    step->phases = g->images * step->period;
    step->packed_floats = g->panels * cc_winograd_panel_floats(g->ic);
    step->kernel = kernels->conv_winograd_f32;
    step->algorithm = "Winograd 4x4";
}

cc_status cc_choose_conv(cc_step *step, const cc_kernels *kernels)
{
    cc_conv_geometry g = {0};
    cc_status status;
    const int64_t *k = step->window.kernel;
    if (step->in.type != CC_F32 || step->out.type != CC_F32)
        return CC_ERROR_TYPE;
    if (step->operation == CC_DENSE) {
        status = choose_dense(step, &g);
    } else {
        const cc_view *in = &step->in, *out = &step->out;
        const int64_t groups = step->operation == CC_CONV ? step->groups : 1;
        if (in->rank != 5 || out->rank != 5 || in->shape[0] != out->shape[0])
            return CC_ERROR_SHAPE;
        if (groups < 1 || in->shape[4] % groups || out->shape[4] % groups || out->ld[4] != 1)
            return CC_ERROR_ARGUMENT;
        g.images = in->shape[0];
        g.groups = groups;
        g.ic = in->shape[4] / groups;
        g.oc = out->shape[4] / groups;
        g.out_d = out->shape[1];
        g.out_h = out->shape[2];
        g.out_w = out->shape[3];
        g.x_image = in->ld[0];
        g.y_image = out->ld[0];
        memcpy(g.x_ld, in->ld + 1, sizeof g.x_ld);
        memcpy(g.y_ld, out->ld + 1, sizeof g.y_ld);
        status = step->operation == CC_CONV ? choose_conv(step, &g) : choose_transpose(step, &g);
    }
    if (status != CC_OK)
        return status;
    g.panels = ceil_div(g.oc, CC_PANEL);
    if (!fits(step, &g))
        return CC_ERROR_ARGUMENT;
    const cc_view *positions = step->operation == CC_CONV_TRANSPOSE ? &step->in : &step->out;
    const double weights = (double)(k[0] * k[1] * k[2]) * (double)g.ic * (double)(g.oc * g.groups);
    step->flops = 2.0 * weights * (double)(cc_elements(positions) / positions->shape[positions->rank - 1]);
    step->bytes = 4.0 * ((double)cc_elements(&step->in) + (double)cc_elements(&step->out) + weights);
    if (suits_winograd(step, &g)) {
        choose_winograd(step, &g, kernels);
        memcpy(step->detail, &g, sizeof g);
        return CC_OK;
    }
    int64_t units;
    if (step->operation == CC_CONV_TRANSPOSE) {
        const int64_t residues = step->window.stride[2] < g.out_w ? step->window.stride[2] : g.out_w;
        set_rows(&g, ceil_div(g.out_w, step->window.stride[2]));
        units = g.out_d * g.out_h * residues * g.chunks;
    } else {
        set_rows(&g, g.out_w);
        units = g.out_d * g.out_h * g.chunks;
    }
    set_phases(step, &g, units);
    memcpy(step->detail, &g, sizeof g);
    step->kernel = step->operation == CC_DENSE            ? kernels->dense_f32
                   : step->operation == CC_CONV_TRANSPOSE ? kernels->conv_transpose_f32
                                                          : kernels->conv_direct_f32;
    step->packed_floats = g.groups * g.panels * cc_panel_floats(step);
    return CC_OK;
}

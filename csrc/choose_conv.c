/* Convolution, transposed convolution and dense layers: which algorithm, and its geometry. */
#include "choose.h"
#include "conv_rectangles.h"

#include <string.h>

static int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -ceil_div(-a, b); }

/* Of a dense layer or a transposed convolution. */
static void set_rows(cc_conv_geometry *g, int64_t longest)
{
    g->chunks = ceil_div(longest, CC_MOST_COLUMNS);
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

/* Rows of a repacked image, and its floats. */
static int64_t set_repacked(cc_conv_geometry *g)
{
    const int64_t blocks = g->few_channels ? 1 : g->groups * ceil_div(g->ic, CC_BLOCK);
    const int64_t rows = g->repack ? blocks * g->size[0] * g->size[1] : 0;
    g->repacked_floats = ceil_div(rows * g->size[2] * (g->few_channels ? g->ic : CC_BLOCK), CC_BLOCK) * CC_BLOCK;
    return rows;
}

static void set_phases(cc_step *step, cc_conv_geometry *g, int64_t units)
{
    const int64_t gemm = g->groups * g->panels * units, rows = set_repacked(g);
    g->together = 1;
    if (g->repack) {
        step->period = 2;
        step->items[0] = rows;
        step->items[1] = gemm;
        step->phases = g->images * step->period;
        step->workspace_bytes = g->repacked_floats * (int64_t)sizeof(float);
    } else {
        step->period = step->phases = 1;
        step->items[0] = g->images * gemm;
    }
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
    g->x_block = g->y_block = CC_BLOCK;
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
    const int images = !in->ld_block && !out->ld_block; /* of blocked ones, other channels lie in between */
    for (int a = 2; a >= !images; a--) /* axis a of the view lies outside axis a + 1 */
        if (in->ld[a] != in->shape[a + 1] * in->ld[a + 1] || out->ld[a] != out->shape[a + 1] * out->ld[a + 1])
            return;
    g->out_w *= g->out_h * g->out_d;
    g->out_h = g->out_d = 1;
    if (images) {
        g->out_w *= g->images;
        g->images = 1;
    }
}

/* Pictures have 1 to 4 channels: far fewer than a block. If taps that are neighbours along w read channels
 * that are neighbours in memory, a row of taps is one run of the reduction. */
enum { FEW_CHANNELS = CC_BLOCK / 2 };

/* Decides whether the kernel can read the caller's own input: low[] and size[] say what it reaches. Blocked
 * cells lie side by side in their row. A plain input serves if nothing outside it is read, and the kernel
 * can step from pixel to pixel by any distance. */
static void place_input(cc_step *step, cc_conv_geometry *g, int takes_plain)
{
    const cc_view *in = &step->in;
    int inside = in->ld_block ? in->ld[3] == CC_BLOCK : takes_plain && in->ld[4] == 1;
    for (int a = 0; a < CC_SPATIAL; a++) {
        const int64_t high = max_i64(0, g->size[a] - g->low[a] - in->shape[a + 1]);
        if (in->ld_block) {
            step->need_low[a] = (int32_t)g->low[a];
            step->need_high[a] = (int32_t)high;
            inside = inside && in->halo_low[a] >= g->low[a] && in->halo_high[a] >= high;
        } else {
            inside = inside && g->low[a] == 0 && high == 0;
        }
    }
    g->repack = !inside;
}

/* Decides whether taps outside the input are left out. It is less arithmetic than multiplying the zeros of a
 * halo, and needs neither that halo nor a copy that has one. Rows of few channels are runs of products of
 * which the first may be left out: partial sums would begin elsewhere, so there must be one alone. */
static void clip_windows(cc_step *step, cc_conv_geometry *g)
{
    const cc_view *in = &step->in;
    const int64_t *k = step->window.kernel;
    int readable = in->ld_block ? in->ld[3] == CC_BLOCK : in->ld[4] == 1, outside = 0;
    if (g->few_channels)
        readable = readable && (g->x_ld[2] == g->ic || k[2] == 1) && k[0] * k[1] * k[2] * g->ic <= PARTIAL_PRODUCTS;
    for (int a = 0; a < CC_SPATIAL; a++)
        outside = outside || g->low[a] > 0 || g->size[a] - g->low[a] > in->shape[a + 1];
    if (!readable || !outside)
        return;
    cc_span spans[CC_MOST_SPANS];
    g->clip = 1;
    memcpy(step->detail, g, sizeof *g);
    if (cc_spans(step, 1, spans) > CC_MOST_SPANS || cc_spans(step, 2, spans) > CC_MOST_SPANS) {
        g->clip = 0;
        return;
    }
    g->repack = 0;
    memset(step->need_low, 0, sizeof step->need_low);
    memset(step->need_high, 0, sizeof step->need_high);
}

static cc_status choose_conv(cc_step *step, cc_conv_geometry *g)
{
    const cc_window *w = &step->window;
    for (int a = 0; a < CC_SPATIAL; a++) {
        g->low[a] = w->pad_low[a];
        g->size[a] = (step->out.shape[a + 1] - 1) * w->stride[a] + (w->kernel[a] - 1) * w->dilation[a] + 1;
    }
    place_input(step, g, 1);
    g->few_channels = g->groups == 1 && g->ic <= FEW_CHANNELS && w->dilation[2] == 1 && !step->in.ld_block &&
                      (g->repack || w->kernel[2] == 1 || g->x_ld[2] == g->ic);
    clip_windows(step, g);
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
    place_input(step, g, 0);
    step->algorithm = "transposed";
    return CC_OK;
}

/* Whether F(m x m, 3x3) computes at least 1 of `waste` outputs for the map, in at least `fewest` tiles. */
static int suits_tile(const cc_conv_geometry *g, int64_t m, int64_t fewest, double waste)
{
    const double tiles = (double)ceil_div(g->out_h, m) * (double)ceil_div(g->out_w, m);
    return tiles >= (double)fewest && (double)(m * m) * tiles <= waste * (double)g->out_h * (double)g->out_w;
}

/* The tile of Winograd's algorithm, or 0 for the direct sum. It pays when the products of a tile are fewer
 * than those that they stand for, borders and transforms included: enough channels on both sides, tiles
 * that are mostly inside the map, and enough of them to use each weight that was read. */
static int64_t winograd_tile(const cc_step *step, const cc_conv_geometry *g)
{
    const cc_window *w = &step->window;
    const double most_fast = 17 << 20; /* bytes of weights: 64 points for every 9 must stay in the L3 cache */
    for (int a = 0; a < CC_SPATIAL; a++)
        if (w->stride[a] != 1 || w->dilation[a] != 1)
            return 0;
    if (step->accuracy < CC_STANDARD || step->operation != CC_CONV || g->groups != 1 || w->kernel[1] != 3 ||
        w->kernel[2] != 3 || w->kernel[0] > 3 || g->ic < CC_BLOCK || g->oc < CC_BLOCK)
        return 0;
    if (step->accuracy >= CC_FAST && suits_tile(g, 6, 8, 1.3) &&
        4.0 * 64.0 * (double)w->kernel[0] * (double)g->ic * (double)g->oc <= most_fast)
        return 6;
    return suits_tile(g, 4, 8, 1.8) ? 4 : suits_tile(g, 2, 12, 1.8) ? 2 : 0;
}

/* Up to FEW_TILES tiles, and if all of its weights are more than fit a level-2 cache twice, a layer is a
 * stream of weights: threads share that instead of tiles. */
enum { FEW_TILES = 64, MOST_TILE_BLOCK = 112, MANY_WEIGHTS = 2 << 18 };

static void choose_winograd(cc_step *step, cc_conv_geometry *g, const cc_kernels *kernels)
{
    const int64_t m = g->tile, depth = step->window.kernel[0], blocks = ceil_div(g->ic, CC_BLOCK);
    const int64_t points = cc_winograd_points(m);
    const int64_t most_together = 2 << 20; /* floats of V that share the L3 cache with weights and other programs */
    g->tiles_h = ceil_div(g->out_h, m);
    g->tiles_w = ceil_div(g->out_w, m);
    const int64_t tiles = g->tiles_h * g->tiles_w;
    g->few_channels = 0;
    g->size[0] = g->out_d + depth - 1;
    g->size[1] = m * g->tiles_h + 2;
    g->size[2] = m * g->tiles_w + 2;
    place_input(step, g, 0);
    const int64_t rows = set_repacked(g);
    g->share_panels = g->out_d == 1 && depth == 1 && tiles <= FEW_TILES && points * g->ic * g->oc >= MANY_WEIGHTS;
    g->together = 1;
    g->depth_run = 1;
    int64_t phase = 0;
    if (g->repack)
        step->items[phase++] = rows;
    if (g->share_panels) {
        const int64_t image = points * blocks * CC_BLOCK * tiles;
        g->together = image > most_together ? 1 : most_together / image;
        g->together = g->together < g->images ? g->together : g->images;
        g->together = ceil_div(g->images, ceil_div(g->images, g->together)); /* rounds of equal length */
        const int64_t all = g->together * tiles;
        g->tile_block = ceil_div(all, ceil_div(all, MOST_TILE_BLOCK));
        g->ld_v = blocks * all * CC_BLOCK;
        if (g->repack)
            step->items[0] *= g->together;
        step->items[phase++] = g->together * blocks;
        step->items[phase++] = g->panels;
    } else {
        const int64_t column = kernels->columns;
        g->tile_block = ceil_div(14, column) * column; /* the widest tile's columns: each weight is read once */
        if (g->tile_block > tiles)
            g->tile_block = tiles;
        g->depth_run = depth == 1 ? 1 : g->out_d < 6 ? g->out_d : 6;
        g->ld_v = blocks * g->tile_block * CC_BLOCK;
        step->items[phase++] = (g->repack ? 1 : g->images) * ceil_div(g->out_d, g->depth_run) *
                               ceil_div(tiles, g->tile_block);
    }
    if (g->ld_v / CC_BLOCK % 2 == 0)
        g->ld_v += CC_BLOCK;
    g->ld_m = g->tile_block * CC_PANEL + CC_BLOCK;
    const int64_t v = points * g->ld_v * (int64_t)sizeof(float), m_bytes = points * g->ld_m * (int64_t)sizeof(float);
    step->period = phase;
    step->phases = phase * (g->share_panels || g->repack ? ceil_div(g->images, g->together) : 1);
    step->workspace_bytes = g->together * g->repacked_floats * (int64_t)sizeof(float);
    step->scratch_bytes = m_bytes;
    if (g->share_panels)
        step->workspace_bytes += v;
    else
        step->scratch_bytes += (g->depth_run + depth - 1) * v;
    step->packed_floats = g->panels * cc_winograd_panel_floats(m, depth, g->ic);
    step->kernel = kernels->conv_winograd_f32;
    step->algorithm = m == 2 ? "Winograd 2x2" : m == 4 ? "Winograd 4x4" : "Winograd 6x6";
}

/* Blocked channels of a group must begin a block of their own. */
static int blocks_fit(const cc_view *v, int64_t groups, int64_t channels)
{
    return !v->ld_block || (v->ld[4] == 1 && (groups == 1 || channels % CC_BLOCK == 0));
}

/* The views of a convolution as strides; the output's before pooling is twice as high and wide. */
static cc_status set_views(const cc_step *step, cc_conv_geometry *g)
{
    const cc_view *in = &step->in, *out = &step->out;
    const int64_t groups = step->operation == CC_CONV ? step->groups : 1;
    if (in->rank != 5 || out->rank != 5 || in->shape[0] != out->shape[0])
        return CC_ERROR_SHAPE;
    if (groups < 1 || in->shape[4] % groups || out->shape[4] % groups || out->ld[4] != 1)
        return CC_ERROR_ARGUMENT;
    g->images = in->shape[0];
    g->groups = groups;
    g->ic = in->shape[4] / groups;
    g->oc = out->shape[4] / groups;
    if (!blocks_fit(in, groups, g->ic) || !blocks_fit(out, groups, g->oc))
        return CC_ERROR_ARGUMENT;
    if (step->operation == CC_CONV && (step->pool < 0 || step->pool > 2 || step->accuracy < CC_DIRECT ||
                                       step->accuracy > CC_FAST))
        return CC_ERROR_ARGUMENT;
    const int64_t pool = step->operation == CC_CONV && step->pool == 2 ? 2 : 1;
    g->out_d = out->shape[1];
    g->out_h = out->shape[2] * pool;
    g->out_w = out->shape[3] * pool;
    g->x_image = in->ld[0];
    g->y_image = out->ld[0];
    memcpy(g->x_ld, in->ld + 1, sizeof g->x_ld);
    memcpy(g->y_ld, out->ld + 1, sizeof g->y_ld);
    g->x_block = in->ld_block ? in->ld_block : CC_BLOCK;
    g->y_block = out->ld_block ? out->ld_block : CC_BLOCK;
    return CC_OK;
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
        status = set_views(step, &g);
        if (status == CC_OK)
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
    g.tile = winograd_tile(step, &g);
    if (step->operation == CC_CONV && step->pool == 2) {
        const int simple = step->activation.kind == CC_LINEAR || step->activation.kind == CC_RELU;
        if (g.tile == 0 || !simple)
            return CC_ERROR_ARGUMENT;
        step->flops *= 4;
    }
    if (g.tile) {
        choose_winograd(step, &g, kernels);
        memcpy(step->detail, &g, sizeof g);
        return CC_OK;
    }
    int64_t units;
    if (step->operation == CC_CONV) {
        cc_rectangle rectangles[CC_MOST_SPANS * CC_MOST_SPANS];
        memcpy(step->detail, &g, sizeof g);
        units = g.out_d * cc_rectangles(step, rectangles);
    } else if (step->operation == CC_CONV_TRANSPOSE) {
        const int64_t residues = step->window.stride[2] < g.out_w ? step->window.stride[2] : g.out_w;
        set_rows(&g, ceil_div(g.out_w, step->window.stride[2]));
        units = g.out_d * g.out_h * residues * g.chunks;
    } else {
        set_rows(&g, g.out_w);
        units = g.chunks;
    }
    set_phases(step, &g, units);
    memcpy(step->detail, &g, sizeof g);
    step->kernel = step->operation == CC_DENSE            ? kernels->dense_f32
                   : step->operation == CC_CONV_TRANSPOSE ? kernels->conv_transpose_f32
                                                          : kernels->conv_direct_f32;
    step->packed_floats = g.groups * g.panels * cc_panel_floats(step);
    return CC_OK;
}

/* 3x3 convolution with stride 1 by Winograd's F(m x m, 3x3): transform, (m + 2)^2 small matrix products,
 * transform back, all fused per block of tiles, so that nothing but V and the weights leaves the L2 cache.
 *
 *     V [slice][point][channel block][tile][16]   transformed input, points ld_v apart (an odd number of
 *                                       cache lines: powers of two would fall on the same cache set)
 *     U [panel] bias [32], then [point] zeros [32], then [tap along d][channel][32]   packed weights
 *     M [point][tile][32]               products of one panel of 32 output channels
 *
 * Many tiles: an item is a block of tiles, in a run of output slices; its V stays in the thread's scratch
 * memory while all panels of U pass by. A 3x3x3 convolution is the same with three taps along d, each a
 * further piece of the sum that reads the V of its slice: every slice is transformed once.
 * Few tiles under many weights (deep layers): V of whole images is computed first, and an item is a panel
 * of U, so that every weight is read from memory once; the next weights are fetched while these are
 * multiplied.
 * Both compute every output in the same way, so the choice between them does not show in the bits. */
#include "winograd.h"
#include "winograd_products.h"

/* Floats of U that are multiplied several times: half of a 32 KiB cache. */
enum { MOST_U = 4 * 1024 };

/* Tiles of one slice; or of a run of images, if count goes beyond the first. */
typedef struct tile_range {
    int64_t image, d, first, count;
} tile_range;

/* The tiles of a slice are cut into blocks. If blocks fit a row evenly they are numbered down their column,
 * so that the two input rows that neighbours share are still in the L2 cache. */
CC_INLINE int64_t first_tile(const cc_conv_geometry *g, int64_t block)
{
    const int64_t strips = g->tiles_w / g->tile_block;
    if (strips * g->tile_block != g->tiles_w)
        return block * g->tile_block;
    return block % g->tiles_h * g->tiles_w + block / g->tiles_h * g->tile_block;
}

/* V of one tile, all 16 channels of a block. The pixels of the tile but one are asked for meanwhile. */
CC_INLINE void transform_tile(const int m, const float *x, int64_t ld_row, float *v, int64_t ld_point)
{
    for (int i = 0; i < m + 2; i++)
        for (int j = 0; j < m; j++)
            vf_prefetch(x + i * ld_row + (2 * m + 2 + j) * CC_BLOCK);
    for (int c = 0; c < CC_BLOCK; c += VF_LANES)
        input_transform(m, x + c, ld_row, v + c, ld_point);
}

/* How a tile of results is finished: y = max(A^T M A + bias, floor), and where it goes. */
typedef struct tile_output {
    const float *products, *bias;
    int64_t ld_m;
    float floor; /* 0 for ReLU, -inf for the identity */
    float *y;
    int64_t ld_h, ld_w;
    int64_t rows, columns; /* that lie in the image; only edge tiles look */
    int width;             /* channels, likewise */
} tile_output;

/* The largest of 2x2 squares; NaN wherever one is among them. */
CC_INLINE vf square_max(const vf *upper, const vf *lower)
{
    const vf top = vf_max(vf_max(upper[0], upper[1]), vf_max(lower[0], lower[1]));
    const vm nan = vm_or(vf_unordered(upper[0], upper[1]), vf_unordered(lower[0], lower[1]));
    return vf_select(nan, vf_set1(NAN), top);
}

/* Transforms one tile back. The maximum of a square comes before bias and ReLU, which it commutes with:
 * one of each instead of four. NaN passes through. */
CC_INLINE void finish_tile(const int m, const int pool, const int edge, const tile_output *o)
{
    const int side = m / pool;
    for (int c = 0; c < (edge ? o->width : CC_BLOCK); c += VF_LANES) {
        const vf bias = vf_load(o->bias + c), floor = vf_set1(o->floor);
        vf out[MOST_TILE][MOST_TILE];
        output_transform(m, o->products + c, o->ld_m, out);
        float *y = o->y + c;
#pragma GCC unroll 6
        for (int i = 0; i < side; i++, y += o->ld_h) {
            if (edge && i >= o->rows)
                break;
#pragma GCC unroll 6
            for (int j = 0; j < side; j++) {
                if (edge && j >= o->columns)
                    break;
                const vf sum = pool == 2 ? square_max(&out[2 * i][2 * j], &out[2 * i + 1][2 * j]) : out[i][j];
                const vf z = vf_max(floor, vf_add(sum, bias));
                if (edge && o->width - c < VF_LANES)
                    vf_store_n(y + j * o->ld_w, z, o->width - c);
                else
                    vf_store(y + j * o->ld_w, z);
            }
        }
    }
}

/* One function per tile and kind: they need every register, so nothing is inlined into anything. */
#define TRANSFORMS_OF(m)                                                                                         \
    static __attribute__((noinline)) void transform_tile_##m(const float *x, int64_t ld_row, float *v,           \
                                                             int64_t ld_point)                                   \
    {                                                                                                            \
        transform_tile(m, x, ld_row, v, ld_point);                                                               \
    }                                                                                                            \
    static __attribute__((noinline)) void finish_tile_##m(const tile_output *o) { finish_tile(m, 1, 0, o); }      \
    static __attribute__((noinline)) void finish_edge_##m(const tile_output *o) { finish_tile(m, 1, 1, o); }      \
    static __attribute__((noinline)) void finish_pooled_##m(const tile_output *o) { finish_tile(m, 2, 0, o); }    \
    static __attribute__((noinline)) void finish_pooled_edge_##m(const tile_output *o) { finish_tile(m, 2, 1, o); }
TRANSFORMS_OF(2)
TRANSFORMS_OF(4)
TRANSFORMS_OF(6)

typedef struct transforms {
    void (*input)(const float *x, int64_t ld_row, float *v, int64_t ld_point);
    void (*finish[2][2])(const tile_output *o); /* [pooled][edge] */
} transforms;

#define TRANSFORMS(m) \
    {transform_tile_##m, {{finish_tile_##m, finish_edge_##m}, {finish_pooled_##m, finish_pooled_edge_##m}}}
static const transforms transforms_of_tile[3] = {TRANSFORMS(2), TRANSFORMS(4), TRANSFORMS(6)};

CC_INLINE const transforms *transforms_of(const cc_conv_geometry *g) { return &transforms_of_tile[g->tile / 2 - 1]; }

/* V of tiles [first, first + count) of one slice, for channel blocks [begin, end); block b of tile
 * first + t goes to v[point*ld_v + (b*ld_tiles + t)*16]. */
static void transform_tiles(const cc_conv_geometry *g, const conv_source *s, int64_t slice, int64_t first,
                            int64_t count, int64_t begin, int64_t end, float *v, int64_t ld_tiles)
{
    const transforms *const f = transforms_of(g);
    const int64_t m = g->tile;
    for (int64_t b = begin; b < end; b++) {
        const float *x0 = s->x + b * s->ld_block + slice * s->ld[0];
        int64_t h = first / g->tiles_w, w = first % g->tiles_w;
        for (int64_t t = 0; t < count; t++) {
            f->input(x0 + h * m * s->ld[1] + w * m * CC_BLOCK, s->ld[1], v + (b * ld_tiles + t) * CC_BLOCK, g->ld_v);
            if (++w == g->tiles_w)
                w = 0, h++;
        }
    }
}

/* Transforms back what the products of one panel are for the tiles of `at`, and writes it. */
static void store_tiles(const cc_step *step, void *const *buffers, tile_range at, int64_t panel, const float *products)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int pooled = step->pool == 2;
    const int64_t side = pooled ? g->tile / 2 : g->tile, oc0 = panel * CC_PANEL, width = panel_width(step, oc0);
    const int64_t out_h = pooled ? g->out_h / 2 : g->out_h, out_w = pooled ? g->out_w / 2 : g->out_w;
    const int plain = step->activation.kind == CC_LINEAR || step->activation.kind == CC_RELU;
    const float *bias = step->weights + panel * cc_winograd_panel_floats(g->tile, step->window.kernel[0], g->ic);
    float *const image = view_f32(&step->out, buffers) + at.image * g->y_image + at.d * g->y_ld[0];
    tile_output o = {.ld_m = g->ld_m,
                     .floor = step->activation.kind == CC_RELU ? 0.0f : -INFINITY,
                     .ld_h = g->y_ld[1],
                     .ld_w = g->y_ld[2]};
    for (int64_t c = 0; c < width; c += CC_BLOCK) {
        float *y0 = image + (oc0 + c) / CC_BLOCK * g->y_block;
        int64_t h = at.first / g->tiles_w, w = at.first % g->tiles_w;
        o.width = (int)min_i64(width - c, CC_BLOCK);
        o.bias = bias + c;
        for (int64_t t = 0; t < at.count; t++) {
            o.products = products + t * CC_PANEL + c;
            o.rows = min_i64(out_h - h * side, side);
            o.columns = min_i64(out_w - w * side, side);
            o.y = y0 + h * side * o.ld_h + w * side * o.ld_w;
            const int edge = o.rows < side || o.columns < side || o.width < CC_BLOCK;
            transforms_of(g)->finish[pooled][edge](&o);
            for (int64_t i = 0; !plain && i < o.rows; i++)
                for (int64_t j = 0; j < o.columns; j++)
                    activate(o.y + i * o.ld_h + j * o.ld_w, o.width, &step->activation);
            if (++w < g->tiles_w)
                continue;
            w = 0;
            if (++h == g->tiles_h)
                h = 0, y0 += g->y_image;
        }
    }
}

/* The products of a run of points: tiles [0, count) times one panel, whose U of the first point is at u. Columns are
 * split evenly, as in tile.h. `next`: the U of what is multiplied after this, or NULL to fetch `ahead` instead. */
static void multiply_run(const point_run *r, int64_t count, const float *v, const float *u, float *m, const char *next,
                         fetch_ahead *ahead)
{
    const int64_t parts = (count + TILE_COLUMNS - 1) / TILE_COLUMNS, part = count / parts, longer = count % parts;
    const int64_t line = CC_PANEL * sizeof(float), share = (line + parts - 1) / parts;
    for (int64_t channel = 0; channel < CC_PANEL; channel += TILE_WIDTH) {
        int64_t t = 0;
        for (int64_t i = 0; i < parts; i++) {
            const int64_t nr = part + (i < longer);
            products_of[nr][next != NULL](v + t * CC_BLOCK, u + channel, m + t * CC_PANEL + channel, r,
                                          next ? next + i * share * r->channels * r->taps * r->points : NULL, channel == 0 ? share : 0, ahead);
            t += nr;
        }
    }
}

/* How many products are made of the tiles of `at` and one panel. */
static int64_t products_of_panel(const cc_conv_geometry *g, tile_range at)
{
    return cc_winograd_points(g->tile) * ((at.count + TILE_COLUMNS - 1) / TILE_COLUMNS) * (CC_PANEL / TILE_WIDTH);
}

/* `lines` cells of `rows` rows from x on, in every channel block, over a number of products. */
static fetch_queue fetch_rows(const float *x, int64_t ld_row, int64_t ld_block, int64_t blocks, int64_t rows,
                              int64_t lines, int64_t products)
{
    const int64_t all = blocks * rows * lines;
    return (fetch_queue){x, x, ld_row, ld_block, rows, lines, rows, lines, all, (all + products - 1) / products};
}

/* Where store_tiles will write a panel; of tiles that go on in the next row, only those of the first. */
static fetch_queue fetch_outputs(const cc_step *step, void *const *buffers, tile_range at, int64_t panel)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int64_t side = step->pool == 2 ? g->tile / 2 : g->tile, h = at.first / g->tiles_w, w = at.first % g->tiles_w;
    const float *y = view_f32(&step->out, buffers) + at.image * g->y_image + at.d * g->y_ld[0] + h * side * g->y_ld[1] +
                     w * side * g->y_ld[2] + panel * (CC_PANEL / CC_BLOCK) * g->y_block;
    if (g->y_ld[2] != CC_BLOCK)
        return (fetch_queue){0};
    const int64_t channels = min_i64(g->oc - panel * CC_PANEL, CC_PANEL);
    return fetch_rows(y, g->y_ld[1], g->y_block, (channels + CC_BLOCK - 1) / CC_BLOCK, side,
                      min_i64(at.count, g->tiles_w - w) * side, products_of_panel(g, at));
}

/* One panel for the tiles of `at`. V of the first slice that its windows reach is at v. If `ahead` is NULL, the
 * weights of what comes after are fetched meanwhile. */
static void multiply_panel(const cc_step *step, void *const *buffers, tile_range at, int64_t panel, const float *v,
                           int64_t ld_tiles, float *products, fetch_ahead *ahead)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int64_t points = cc_winograd_points(g->tile), depth = step->window.kernel[0];
    const int64_t point_floats = cc_winograd_point_floats(depth, g->ic);
    const float *const first = step->weights + panel * cc_winograd_panel_floats(g->tile, depth, g->ic) + 2 * CC_PANEL;
    point_run r = {.ld_v = g->ld_v,
                   .ld_u = point_floats,
                   .ld_m = g->ld_m,
                   .taps = depth,
                   .ld_slice = points * g->ld_v,
                   .channels = g->ic,
                   .ld_block = ld_tiles * CC_BLOCK};
    /* U of a run of points stays in the L1 cache while tile after tile of columns reads it. */
    const int64_t most = at.count <= TILE_COLUMNS ? points : max_i64(1, MOST_U / point_floats);
    for (int64_t point = 0; point < points; point += r.points) {
        const float *u = first + point * point_floats;
        r.points = min_i64(most, points - point);
        multiply_run(&r, at.count, v + point * g->ld_v, u, products + point * g->ld_m,
                     ahead ? NULL : (const char *)(u + r.points * point_floats), ahead);
    }
    store_tiles(step, buffers, at, panel, products);
}

/* Items are blocks of tiles: (image, run of slices, block). */
static void tile_items(const cc_step *step, const cc_call *call, int64_t round, int64_t begin, int64_t end)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int64_t m = g->tile, points = cc_winograd_points(m), depth = step->window.kernel[0];
    const int64_t tiles = g->tiles_h * g->tiles_w, blocks = (tiles + g->tile_block - 1) / g->tile_block;
    const int64_t runs = (g->out_d + g->depth_run - 1) / g->depth_run, slice = points * g->ld_v;
    const int64_t channel_blocks = (g->ic + CC_BLOCK - 1) / CC_BLOCK;
    float *const v = call->scratch, *const products = v + (g->depth_run + depth - 1) * slice;
    for (int64_t item = begin; item < end; item++) {
        const int64_t image = g->repack ? round : item / blocks / runs, run = item / blocks % runs;
        const conv_source s = source_of(step, call->buffers, image, 0, 0);
        const int64_t first = first_tile(g, item % blocks);
        tile_range at = {image, run * g->depth_run, first, min_i64(tiles - first, g->tile_block)};
        const int64_t slices = min_i64(g->out_d - at.d, g->depth_run);
        for (int64_t i = 0; i < slices + depth - 1; i++)
            transform_tiles(g, &s, at.d + i, first, at.count, 0, channel_blocks, v + i * slice, g->tile_block);
        fetch_ahead ahead = {0};
        if (item + 1 < end && (item + 1) % blocks != 0 && depth == 1) {
            const int64_t next = first_tile(g, (item + 1) % blocks);
            const int64_t h = next / g->tiles_w * m, w = next % g->tiles_w * m;
            ahead.input = fetch_rows(s.x + at.d * s.ld[0] + h * s.ld[1] + w * CC_BLOCK, s.ld[1], s.ld_block,
                                     channel_blocks, m + 2, min_i64(g->tile_block, g->tiles_w) * m + 2,
                                     products_of_panel(g, at) * g->panels);
        }
        for (int64_t i = 0; i < slices; i++, at.d++)
            for (int64_t panel = 0; panel < g->panels; panel++) {
                ahead.output = fetch_outputs(step, call->buffers, at, panel);
                multiply_panel(step, call->buffers, at, panel, v + i * slice, g->tile_block, products, &ahead);
            }
    }
}

/* V of whole images: an item is a channel block of one of them. */
static void transform_items(const cc_step *step, void *const *buffers, int64_t first_image, int64_t begin, int64_t end)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int64_t tiles = g->tiles_h * g->tiles_w, blocks = (g->ic + CC_BLOCK - 1) / CC_BLOCK;
    float *const v = workspace(step, buffers) + g->together * g->repacked_floats;
    for (int64_t item = begin; item < end; item++) {
        const int64_t slot = item / blocks, block = item % blocks;
        if (first_image + slot >= g->images)
            continue;
        const conv_source s = source_of(step, buffers, first_image + slot, 0, slot);
        transform_tiles(g, &s, 0, 0, tiles, block, block + 1, v + slot * tiles * CC_BLOCK, g->together * tiles);
    }
}

/* Items are panels, for all images of a round. */
static void panel_items(const cc_step *step, const cc_call *call, int64_t first_image, int64_t begin, int64_t end)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int64_t tiles = g->tiles_h * g->tiles_w, images = min_i64(g->images - first_image, g->together);
    const float *const v = workspace(step, call->buffers) + g->together * g->repacked_floats;
    for (int64_t panel = begin; panel < end; panel++) {
        for (int64_t first = 0; first < images * tiles; first += g->tile_block) {
            const tile_range at = {first_image + first / tiles, 0, first % tiles,
                                   min_i64(images * tiles - first, g->tile_block)};
            multiply_panel(step, call->buffers, at, panel, v + first * CC_BLOCK, g->together * tiles, call->scratch,
                           NULL);
        }
    }
}

/* Rows of a round's images, where the kernel cannot read them as they are. A share may reach over several. */
static void repack_items(const cc_step *step, void *const *buffers, int64_t first_image, int64_t begin, int64_t end)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int64_t rows = step->items[0] / g->together;
    while (begin < end) {
        const int64_t slot = begin / rows, stop = min_i64(end, (slot + 1) * rows);
        if (first_image + slot < g->images)
            repack_rows(step, view_f32(&step->in, buffers) + (first_image + slot) * g->x_image,
                        workspace(step, buffers) + slot * g->repacked_floats, begin - slot * rows, stop - slot * rows);
        begin = stop;
    }
}

void CC_FN(conv_winograd_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int64_t round = call->phase / step->period, first_image = round * g->together;
    int64_t phase = call->phase % step->period;
    if (g->repack && phase-- == 0)
        repack_items(step, call->buffers, first_image, begin, end);
    else if (!g->share_panels)
        tile_items(step, call, round, begin, end);
    else if (phase == 0)
        transform_items(step, call->buffers, first_image, begin, end);
    else
        panel_items(step, call, first_image, begin, end);
}

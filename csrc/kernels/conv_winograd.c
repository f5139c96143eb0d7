/* 3x3 convolution with stride 1 by Winograd's F(m x m, 3x3): transform, (m + 2)^2 small matrix products,
 * transform back, all fused per block of tiles, so that nothing but V and the weights leaves the L2 cache.
 *
 *     V [slice][point][channel block][tile][16]   transformed input, points ld_v apart (an odd number of
 *                                       cache lines: powers of two would fall on the same cache set)
 *     U [panel] bias [32], then [point] zeros [32], then [tap along d][channel][32]   packed weights
 *     M [panel][point][tile][32]        products of up to two panels of 32 output channels
 *
 * Many tiles: an item is a block of tiles, in a run of output slices; its V stays in the thread's scratch
 * memory while all panels of U pass by. A 3x3x3 convolution is the same with three taps along d, each a
 * further piece of the sum that reads the V of its slice: every slice is transformed once.
 * Few tiles under many weights (deep layers): V of whole images is computed first, and an item is a pair
 * of panels of U, so that every weight is read from memory once; the next weights are fetched while these
 * are multiplied.
 * Both compute every output in the same way, so the choice between them does not show in the bits. */
#include "tile.h"
#include "winograd.h"

enum { PANELS = 2 }; /* that share a pass over V */

/* Tiles of one slice; or of a run of images, if count goes beyond the first. */
typedef struct tile_range {
    int64_t image, d, first, count;
} tile_range;

CC_INLINE int64_t points_of(const int m) { return (m + 2) * (m + 2); }

/* The tiles of a slice are cut into blocks. If blocks fit a row evenly they are numbered down their column,
 * so that the two input rows that neighbours share are still in the L2 cache. */
CC_INLINE int64_t first_tile(const cc_conv_geometry *g, int64_t block)
{
    const int64_t strips = g->tiles_w / g->tile_block;
    if (strips * g->tile_block != g->tiles_w)
        return block * g->tile_block;
    return block % g->tiles_h * g->tiles_w + block / g->tiles_h * g->tile_block;
}

/* V of tiles [first, first + count) of one slice, for channel blocks [begin, end); block b of tile
 * first + t goes to v[point*ld_v + (b*ld_tiles + t)*16]. */
CC_INLINE void transform_tiles(const int m, const cc_conv_geometry *g, const conv_source *s, int64_t slice,
                               int64_t first, int64_t count, int64_t begin, int64_t end, float *v, int64_t ld_tiles)
{
    for (int64_t b = begin; b < end; b++) {
        const float *x0 = s->x + b * s->ld_block + slice * s->ld[0];
        int64_t h = first / g->tiles_w, w = first % g->tiles_w;
        for (int64_t t = 0; t < count; t++) {
            const float *x = x0 + h * m * s->ld[1] + w * m * CC_BLOCK;
            for (int i = 0; i < m + 2; i++)
                for (int j = 0; j < m; j++)
                    vf_prefetch(x + i * s->ld[1] + (2 * m + 2 + j) * CC_BLOCK);
            for (int c = 0; c < CC_BLOCK; c += VF_LANES)
                input_transform(m, x + c, s->ld[1], v + (b * ld_tiles + t) * CC_BLOCK + c, g->ld_v);
            if (++w == g->tiles_w)
                w = 0, h++;
        }
    }
}

/* The largest of 2x2 squares; NaN wherever one is among them. */
CC_INLINE vf square_max(const vf *upper, const vf *lower)
{
    const vf top = vf_max(vf_max(upper[0], upper[1]), vf_max(lower[0], lower[1]));
    const vm nan = vm_or(vf_unordered(upper[0], upper[1]), vf_unordered(lower[0], lower[1]));
    return vf_select(nan, vf_set1(NAN), top);
}

/* Transforms one tile back and writes what lies in the image: `width` <= 16 channels. The maximum of a
 * square comes before bias and ReLU, which it commutes with: one of each instead of four. */
CC_INLINE void store_tile(const int m, const int pool, const cc_step *step, const float *products, const float *bias,
                          float *y, int64_t rows, int64_t columns, int width)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int relu = step->activation.kind == CC_RELU;
    const int64_t ld_h = g->y_ld[1], ld_w = g->y_ld[2];
    for (int c = 0; c < width; c += VF_LANES) {
        const int lanes = width - c < VF_LANES ? width - c : VF_LANES;
        const vf b = vf_load(bias + c);
        vf out[MOST_TILE][MOST_TILE];
        output_transform(m, products + c, g->ld_m, out);
#pragma GCC unroll 6
        for (int i = 0; i < m / pool; i++) {
            if (i >= rows)
                break;
#pragma GCC unroll 6
            for (int j = 0; j < m / pool; j++) {
                if (j >= columns)
                    break;
                vf z = pool == 2 ? square_max(&out[2 * i][2 * j], &out[2 * i + 1][2 * j]) : out[i][j];
                z = vf_add(z, b);
                z = relu ? vf_max(vf_zero(), z) : z;
                float *to = y + i * ld_h + j * ld_w + c;
                if (lanes == VF_LANES)
                    vf_store(to, z);
                else
                    vf_store_n(to, z, lanes);
            }
        }
    }
    if (!relu && step->activation.kind != CC_LINEAR)
        for (int64_t i = 0; i < min_i64(rows, m); i++)
            for (int64_t j = 0; j < min_i64(columns, m); j++)
                activate(y + i * ld_h + j * ld_w, width, &step->activation);
}

CC_INLINE void store_tiles(const int m, const int pool, const cc_step *step, void *const *buffers, tile_range at,
                           int64_t panel, const float *products)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int64_t tile_rows = m / pool, oc0 = panel * CC_PANEL, width = panel_width(step, oc0);
    const int64_t out_h = g->out_h / pool, out_w = g->out_w / pool;
    const float *bias = step->weights + panel * cc_winograd_panel_floats(m, step->window.kernel[0], g->ic);
    float *const image = view_f32(&step->out, buffers) + at.image * g->y_image + at.d * g->y_ld[0];
    for (int64_t c = 0; c < width; c += CC_BLOCK) {
        float *y0 = image + (oc0 + c) / CC_BLOCK * g->y_block;
        const int lanes = (int)min_i64(width - c, CC_BLOCK);
        int64_t h = at.first / g->tiles_w, w = at.first % g->tiles_w;
        for (int64_t t = 0; t < at.count; t++) {
            const int64_t row = h * tile_rows, column = w * tile_rows;
            store_tile(m, pool, step, products + t * CC_PANEL + c, bias + c,
                       y0 + row * g->y_ld[1] + column * g->y_ld[2], out_h - row, out_w - column, lanes);
            if (++w < g->tiles_w)
                continue;
            w = 0;
            if (++h == g->tiles_h)
                h = 0, y0 += g->y_image;
        }
    }
}

/* Lines that the next item will read, fetched into the L2 cache a few at a time. */
typedef struct fetch_queue {
    const conv_source *source;
    const float *x;          /* of channel block 0; NULL: nothing to fetch */
    int64_t rows, lines;     /* of a channel block, of a row */
    int64_t row, line, left; /* where it is, and lines still to fetch */
} fetch_queue;

static void fetch_some(fetch_queue *q, int64_t count)
{
    for (; count > 0 && q->left > 0; count--, q->left--) {
        const float *row = q->x + q->row / q->rows * q->source->ld_block + q->row % q->rows * q->source->ld[1];
        vf_prefetch_l2((const char *)(row + q->line * CC_BLOCK));
        if (++q->line == q->lines)
            q->line = 0, q->row++;
    }
}

/* Panels [panel, panel_end) for the tiles of `at`. V of the first slice that its windows reach is at v. */
CC_INLINE void multiply_panels(const int m, const cc_step *step, void *const *buffers, tile_range at, int64_t panel,
                               int64_t panel_end, const float *v, int64_t ld_tiles, float *products, int fetch_weights,
                               fetch_queue *queue)
{
    static const cc_activation linear = {.kind = CC_LINEAR};
    const cc_conv_geometry *g = conv_geometry(step);
    const int64_t points = points_of(m), depth = step->window.kernel[0];
    const int64_t panel_floats = cc_winograd_panel_floats(m, depth, g->ic);
    const int64_t point_floats = cc_winograd_point_floats(depth, g->ic), panel_products = points * g->ld_m;
    const reduction r = {.taps = {depth, 1, 1},
                         .x_step = {points * g->ld_v},
                         .w_step = {g->ic * CC_PANEL},
                         .channels = g->ic,
                         .ld_block = ld_tiles * CC_BLOCK};
    const int64_t calls = points * (panel_end - panel), lines = queue ? (queue->left + calls - 1) / calls : 0;
    panel_store to = {.ldy = CC_PANEL, .y_block = CC_BLOCK, .width = CC_PANEL, .activation = &linear};
    for (int64_t point = 0; point < points; point++)
        for (int64_t p = panel; p < panel_end; p++) {
            const float *u = step->weights + p * panel_floats + CC_PANEL + point * point_floats;
            const float *next = p + 1 < panel_end ? u + panel_floats : u - (p - panel) * panel_floats + point_floats;
            to.y = products + (p - panel) * panel_products + point * g->ld_m;
            panel_row(v + point * g->ld_v, CC_BLOCK, u, 0, &r, at.count, &to,
                      fetch_weights ? (const char *)next : NULL);
            if (queue)
                fetch_some(queue, lines);
        }
    for (int64_t p = panel; p < panel_end; p++, products += panel_products)
        if (step->pool == 2)
            store_tiles(m, 2, step, buffers, at, p, products);
        else
            store_tiles(m, 1, step, buffers, at, p, products);
}

/* Items are blocks of tiles: (image, run of slices, block). */
CC_INLINE void tile_items(const int m, const cc_step *step, const cc_call *call, int64_t round, int64_t begin,
                          int64_t end)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int64_t tiles = g->tiles_h * g->tiles_w, blocks = (tiles + g->tile_block - 1) / g->tile_block;
    const int64_t runs = (g->out_d + g->depth_run - 1) / g->depth_run, depth = step->window.kernel[0];
    const int64_t channel_blocks = (g->ic + CC_BLOCK - 1) / CC_BLOCK, slice = points_of(m) * g->ld_v;
    float *const v = call->scratch, *const products = v + (g->depth_run + depth - 1) * slice;
    for (int64_t item = begin; item < end; item++) {
        const int64_t image = g->repack ? round : item / blocks / runs, run = item / blocks % runs;
        const conv_source s = source_of(step, call->buffers, image, 0, 0);
        const int64_t first = first_tile(g, item % blocks);
        tile_range at = {image, run * g->depth_run, first, min_i64(tiles - first, g->tile_block)};
        const int64_t slices = min_i64(g->out_d - at.d, g->depth_run);
        for (int64_t i = 0; i < slices + depth - 1; i++)
            transform_tiles(m, g, &s, at.d + i, first, at.count, 0, channel_blocks, v + i * slice, g->tile_block);
        fetch_queue queue = {0};
        if (item + 1 < end && (item + 1) % blocks != 0 && depth == 1) {
            const int64_t next = first_tile(g, (item + 1) % blocks);
            queue.source = &s;
            queue.x = s.x + at.d * s.ld[0] + next / g->tiles_w * m * s.ld[1] + next % g->tiles_w * m * CC_BLOCK;
            queue.rows = m + 2;
            queue.lines = min_i64(g->tile_block, g->tiles_w) * m + 2;
            queue.left = queue.rows * queue.lines * channel_blocks;
        }
        for (int64_t i = 0; i < slices; i++, at.d++)
            for (int64_t panel = 0; panel < g->panels; panel += PANELS) {
                fetch_queue *const q = queue.left > 0 ? &queue : NULL;
                const int64_t turns = (g->panels - panel + PANELS - 1) / PANELS;
                fetch_queue part = queue;
                part.left = (queue.left + turns - 1) / turns;
                const int64_t planned = part.left;
                multiply_panels(m, step, call->buffers, at, panel, min_i64(panel + PANELS, g->panels), v + i * slice,
                                g->tile_block, products, 0, q ? &part : NULL);
                part.left = queue.left - (planned - part.left);
                queue = part;
            }
    }
}

/* V of whole images: an item is a channel block of one of them. */
CC_INLINE void transform_items(const int m, const cc_step *step, void *const *buffers, int64_t first_image,
                               int64_t begin, int64_t end)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int64_t tiles = g->tiles_h * g->tiles_w, blocks = (g->ic + CC_BLOCK - 1) / CC_BLOCK;
    float *const v = workspace(step, buffers) + g->together * g->repacked_floats;
    for (int64_t item = begin; item < end; item++) {
        const int64_t slot = item / blocks, block = item % blocks;
        if (first_image + slot >= g->images)
            continue;
        const conv_source s = source_of(step, buffers, first_image + slot, 0, slot);
        transform_tiles(m, g, &s, 0, 0, tiles, block, block + 1, v + slot * tiles * CC_BLOCK, g->together * tiles);
    }
}

/* Items are pairs of panels, for all images of a round. */
CC_INLINE void panel_items(const int m, const cc_step *step, const cc_call *call, int64_t first_image, int64_t begin,
                           int64_t end)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int64_t tiles = g->tiles_h * g->tiles_w, images = min_i64(g->images - first_image, g->together);
    const float *const v = workspace(step, call->buffers) + g->together * g->repacked_floats;
    for (int64_t item = begin; item < end; item++) {
        const int64_t panel = item * PANELS, panel_end = min_i64(panel + PANELS, g->panels);
        for (int64_t first = 0; first < images * tiles; first += g->tile_block) {
            const tile_range at = {first_image + first / tiles, 0, first % tiles,
                                   min_i64(images * tiles - first, g->tile_block)};
            multiply_panels(m, step, call->buffers, at, panel, panel_end, v + first * CC_BLOCK, g->together * tiles,
                            call->scratch, 1, NULL);
        }
    }
}

CC_INLINE void winograd(const int m, const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int64_t round = call->phase / step->period, first_image = round * g->together;
    int64_t phase = call->phase % step->period;
    if (g->repack && phase-- == 0) {
        const int64_t rows = step->items[0] / g->together;
        while (begin < end) { /* a share may reach over several images */
            const int64_t slot = begin / rows, stop = min_i64(end, (slot + 1) * rows);
            if (first_image + slot < g->images)
                repack_rows(step, view_f32(&step->in, call->buffers) + (first_image + slot) * g->x_image,
                            workspace(step, call->buffers) + slot * g->repacked_floats, begin - slot * rows,
                            stop - slot * rows);
            begin = stop;
        }
    } else if (!g->share_panels) {
        tile_items(m, step, call, round, begin, end);
    } else if (phase == 0) {
        transform_items(m, step, call->buffers, first_image, begin, end);
    } else {
        panel_items(m, step, call, first_image, begin, end);
    }
}

#define WINOGRAD_OF(m)                                                                                          \
    static __attribute__((noinline)) void winograd_##m(const cc_step *step, const cc_call *call, int64_t begin, \
                                                       int64_t end)                                             \
    {                                                                                                           \
        winograd(m, step, call, begin, end);                                                                    \
    }
WINOGRAD_OF(2)
WINOGRAD_OF(4)
WINOGRAD_OF(6)

void CC_FN(conv_winograd_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    switch (conv_geometry(step)->tile) {
    case 2:
        winograd_2(step, call, begin, end);
        break;
    case 4:
        winograd_4(step, call, begin, end);
        break;
    default:
        winograd_6(step, call, begin, end);
    }
}

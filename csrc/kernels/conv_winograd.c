/* 3x3 convolution with stride 1 by Winograd's F(4x4, 3x3): transform, 36 small matrix products, transform
 * back, all fused per block of tiles, so that nothing but the repacked input leaves the L2 cache.
 *
 *     V [36][channel block][tile][16]   transformed input, points ld_v apart (an odd number of cache
 *                                       lines: powers of two would fall on the same cache set)
 *     U [panel][bias 32][36][zeros 32, then channel][32]   packed weights, read strictly in this order
 *     M [36][tile][32]                  products of one panel of 32 output channels
 *
 * Many tiles: an item is a block of tiles; its V stays in the thread's scratch memory while all panels of
 * U pass by. Few tiles (deep layers, where U is far larger than V): V of the whole image is computed
 * first, and an item is a panel of U, so that every weight is read from memory once. Both compute every
 * output in the same way, so the choice between them does not show in the bits. */
#include "tile.h"
#include "winograd.h"

CC_INLINE float *workspace(const cc_step *step, void *const *buffers)
{
    return (float *)((char *)buffers[step->workspace_buffer] + step->workspace_offset);
}

typedef struct tile_place {
    int64_t d, h, w; /* in tiles, but for d */
} tile_place;

CC_INLINE tile_place place_of(const cc_conv_geometry *g, int64_t tile)
{
    const int64_t row = tile / g->tiles_w;
    return (tile_place){row / g->tiles_h, row % g->tiles_h, tile % g->tiles_w};
}

/* V of `count` tiles from `first`, for channel blocks [begin, end); block b of tile first + t goes to
 * v[point*ld_v + (b*ld_block + t)*16]. */
static void transform_tiles(const cc_conv_geometry *g, const float *image, int64_t first, int64_t count,
                            int64_t begin, int64_t end, float *v, int64_t ld_v, int64_t ld_block)
{
    const int64_t ld_row = g->size[2] * CC_BLOCK, plane = g->size[1] * ld_row, block = g->size[0] * plane;
    for (int64_t b = begin; b < end; b++)
        for (int64_t t = 0; t < count; t++) {
            const tile_place p = place_of(g, first + t);
            const float *x = image + b * block + p.d * plane + p.h * TILE_OUT * ld_row + p.w * TILE_OUT * CC_BLOCK;
            for (int c = 0; c < CC_BLOCK; c += VF_LANES)
                input_transform(x + c, ld_row, v + (b * ld_block + t) * CC_BLOCK + c, ld_v);
        }
}

/* Writes the part of one tile's 4x4 outputs that lies in the image, `width` <= 32 channels. */
static void store_tile(const cc_step *step, const float *m, int64_t ld_m, const float *bias, float *y, int rows,
                       int columns, int width)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int relu = step->activation.kind == CC_RELU;
    for (int c = 0; c < width; c += VF_LANES) {
        vf out[TILE_OUT][TILE_OUT];
        output_transform(m + c, ld_m, vf_load(bias + c), out);
        const int lanes = width - c < VF_LANES ? width - c : VF_LANES;
#pragma GCC unroll 4
        for (int i = 0; i < TILE_OUT; i++) {
            if (i >= rows)
                break;
#pragma GCC unroll 4
            for (int j = 0; j < TILE_OUT; j++) {
                if (j >= columns)
                    break;
                const vf z = relu ? vf_max(vf_zero(), out[i][j]) : out[i][j];
                float *to = y + i * g->y_ld[1] + j * g->y_ld[2] + c;
                if (lanes == VF_LANES)
                    vf_store(to, z);
                else
                    vf_store_n(to, z, lanes);
            }
        }
    }
    if (!relu && step->activation.kind != CC_LINEAR)
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++)
                activate(y + i * g->y_ld[1] + j * g->y_ld[2], width, &step->activation);
}

/* One panel of output channels for `count` tiles from `first`. */
static void multiply_panel(const cc_step *step, float *image_out, int64_t panel, int64_t first, int64_t count,
                           const float *v, int64_t ld_v, int64_t ld_block, float *m, int64_t ld_m)
{
    static const cc_activation linear = {.kind = CC_LINEAR};
    const cc_conv_geometry *g = conv_geometry(step);
    const float *packed = step->weights + panel * cc_winograd_panel_floats(g->ic);
    const reduction r = {.taps = {1, 1, 1}, .channels = g->ic, .ld_block = ld_block * CC_BLOCK};
    const float *u = packed + CC_PANEL;
    for (int point = 0; point < TRANSFORMED; point++, u += CC_PANEL * (1 + g->ic))
        panel_row(v + point * ld_v, CC_BLOCK, u, 0, &r, count, m + point * ld_m, CC_PANEL, CC_PANEL, &linear);
    const int64_t oc0 = panel * CC_PANEL;
    const int width = (int)min_i64(g->oc - oc0, CC_PANEL);
    for (int64_t t = 0; t < count; t++) {
        const tile_place p = place_of(g, first + t);
        const int64_t h = p.h * TILE_OUT, w = p.w * TILE_OUT;
        store_tile(step, m + t * CC_PANEL, ld_m, packed,
                   image_out + p.d * g->y_ld[0] + h * g->y_ld[1] + w * g->y_ld[2] + oc0,
                   (int)min_i64(g->out_h - h, TILE_OUT), (int)min_i64(g->out_w - w, TILE_OUT), width);
    }
}

void CC_FN(conv_winograd_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int64_t image = call->phase / step->period, blocks = (g->ic + CC_BLOCK - 1) / CC_BLOCK;
    const int64_t tiles = g->out_d * g->tiles_h * g->tiles_w;
    float *const repacked = workspace(step, call->buffers);
    float *const out = view_f32(&step->out, call->buffers) + image * g->y_image;
    const int64_t phase = call->phase % step->period;
    if (phase == 0) {
        repack_rows(step, view_f32(&step->in, call->buffers) + image * g->x_image, repacked, begin, end);
    } else if (step->period == 2) {
        float *const v = call->scratch, *const m = v + TRANSFORMED * g->ld_v;
        for (int64_t item = begin; item < end; item++) {
            const int64_t first = item * g->tile_block, count = min_i64(tiles - first, g->tile_block);
            transform_tiles(g, repacked, first, count, 0, blocks, v, g->ld_v, g->tile_block);
            for (int64_t panel = 0; panel < g->panels; panel++)
                multiply_panel(step, out, panel, first, count, v, g->ld_v, g->tile_block, m, g->ld_m);
        }
    } else {
        float *const v = repacked + g->repacked_floats;
        if (phase == 1) {
            for (int64_t item = begin; item < end; item++) {
                const int64_t tile = item % tiles, b = item / tiles;
                transform_tiles(g, repacked, tile, 1, b, b + 1, v + tile * CC_BLOCK, g->ld_v, tiles);
            }
        } else {
            for (int64_t panel = begin; panel < end; panel++)
                multiply_panel(step, out, panel, 0, tiles, v, g->ld_v, tiles, call->scratch, g->ld_m);
        }
    }
}

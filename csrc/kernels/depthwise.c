/* Depthwise convolution: every input channel has `multiplier` filters of its own. An item is one output
 * row, or a piece of a long one.
 *
 * Weights are packed in blocks of 16 output channels, bias and then tap by tap (items.h), so one vector holds
 * output channels o, o+1, ... whatever the multiplier; only the load of the input differs.
 * An output starts as its bias and takes one vf_fma per tap, in row-major order (d, h, w); taps outside
 * the input are left out, not multiplied by zero. That order is the same in every tile below, so a
 * pixel's bits do not depend on where it lies. */
#include "activation.h"
#include "items.h"
#include "window.h"

#define CC_APART __attribute__((noinline)) static

enum {
    SMALL_TILE = 4,
    TILE = VF_LANES >= 8 || VF_REGISTERS == 32 ? 8 : SMALL_TILE, /* output pixels in registers */
    PIXELS = VF_REGISTERS == 32 ? 14 : 7 /* the same, of windows of 3, 5 or 7: with 7 weights and an input, 22 or 15 */
};

/* How VF_LANES output channels find their inputs. */
typedef enum channel_map {
    CHANNELS_FULL, /* one to one, neighbours in memory */
    CHANNELS_UPTO, /* the same, fewer than VF_LANES */
    CHANNELS_ONE,  /* all lanes read the same channel: large multipliers */
    CHANNELS_SPREAD, /* some neighbours, each to several lanes: small multipliers */
    CHANNELS_ANY   /* by table: input channels that are not neighbours */
} channel_map;

typedef struct depthwise_block {
    channel_map map;
    int lanes;
    int64_t o;                 /* first output channel */
    int64_t first;             /* where its input is, from the pixel, */
    int64_t channel[VF_LANES]; /* and, for CHANNELS_ANY, each lane's from there; */
    int inputs;                /* for CHANNELS_SPREAD, how many there are, */
    int32_t spread[VF_LANES];  /* and which of them each lane takes */
} depthwise_block;

/* One output row. */
typedef struct depthwise_row {
    const cc_step *step;
    const float *x;       /* the image */
    float *y;             /* the row */
    int64_t block_floats; /* from the weights of a block of channels to those of the next */
    int64_t ow;           /* the output pixel being made */
    cc_taps d, h;
} depthwise_row;

/* The bias of channel o and of those behind it; tap t's weights are (1 + t) * CC_BLOCK floats on. */
CC_INLINE const float *depthwise_weights(const depthwise_row *row, int64_t o)
{
    return row->step->weights + o / CC_BLOCK * row->block_floats + o % CC_BLOCK;
}

/* ---- windows of 3, 5 or 7 columns, channels one to one and neighbours in memory --------------------- */

/* The lines of the input under an output row, clipped to the map, and the distances between what they hold. */
typedef struct window_lines {
    int64_t planes, lines;
    int64_t ld_plane, ld_line, ld_in, ld_out;
    int64_t first_tap, plane_taps; /* floats of weights: to the first line's, and of one plane of the window */
} window_lines;

/* PIXELS outputs side by side. */
typedef struct window_tile {
    const float *x;  /* channel 0 of the first column of the first window, which may lie outside the input */
    float *y;        /* channel 0 of the first output */
    uint32_t inside; /* bit j: column j from there is one of the input, and an output to be stored reads it */
    int outputs;     /* to be stored: all, but at the end of a row */
} window_tile;

/* Channels [o, o + lanes) of a tile: each input is loaded once and goes to every output whose window holds it, in
 * the order of the taps. What follows `lanes` is constant: whole, that all columns are inside; upto, that lanes may
 * be less than VF_LANES. */
CC_INLINE void window_channels(const window_lines *l, const window_tile *tile, const float *weights, int64_t o,
                               int lanes, int kernel, int stride, int whole, int upto)
{
    vf sum[PIXELS];
#pragma GCC unroll 14
    for (int p = 0; p < PIXELS; p++)
        sum[p] = vf_load(weights);
    const float *plane = tile->x + o, *plane_taps = weights + l->first_tap;
    for (int64_t d = l->planes; d > 0; d--, plane += l->ld_plane, plane_taps += l->plane_taps) {
        const float *line = plane, *taps = plane_taps;
        for (int64_t h = l->lines; h > 0; h--, line += l->ld_line, taps += kernel * CC_BLOCK) {
            const float *cell = line;
            vf weight[7];
#pragma GCC unroll 7
            for (int t = 0; t < kernel; t++)
                weight[t] = vf_load(taps + t * CC_BLOCK);
#pragma GCC unroll 31
            for (int j = 0; j < (PIXELS - 1) * stride + kernel; j++, cell += l->ld_in)
                if (whole || tile->inside >> j & 1) {
                    /* Where a mask costs nothing it is used for all: gcc takes a plain load for free, and would
                     * repeat it for each multiply-add, of which there are then fewer than loads. */
                    const vf value = upto || VF_LANES == 16 ? vf_load_n(cell, lanes) : vf_load(cell);
#pragma GCC unroll 14
                    for (int p = 0; p < PIXELS; p++)
                        if (j >= p * stride && j < p * stride + kernel)
                            sum[p] = vf_fma(value, weight[j - p * stride], sum[p]);
                }
        }
    }
    float *y = tile->y + o;
#pragma GCC unroll 14
    for (int p = 0; p < PIXELS; p++, y += l->ld_out)
        if (whole || p < tile->outputs)
            store_channels(y, 1, upto ? lanes : VF_LANES, sum[p]);
}

/* Outputs [begin, end) of a row, all channels. */
CC_INLINE void window_columns(const depthwise_row *row, int64_t begin, int64_t end, int kernel, int stride)
{
    const cc_view *in = &row->step->in, *out = &row->step->out;
    const cc_window *window = &row->step->window;
    const int64_t channels = out->shape[C], block_floats = row->block_floats;
    const float *const weights = row->step->weights;
    const float *const x = row->x + (row->d.start + row->d.begin * window->dilation[0]) * in->ld[D] +
                           (row->h.start + row->h.begin * window->dilation[1]) * in->ld[H];
    const window_lines lines = {
        .planes = row->d.end - row->d.begin,
        .lines = row->h.end - row->h.begin,
        .ld_plane = window->dilation[0] * in->ld[D],
        .ld_line = window->dilation[1] * in->ld[H],
        .ld_in = in->ld[W],
        .ld_out = out->ld[W],
        .first_tap = (1 + (row->d.begin * window->kernel[1] + row->h.begin) * kernel) * CC_BLOCK,
        .plane_taps = window->kernel[1] * kernel * CC_BLOCK,
    };
    for (int64_t ow = begin; ow < end; ow += PIXELS) {
        const int64_t first = ow * stride - window->pad_low[2];
        window_tile tile = {.x = x + first * in->ld[W],
                            .y = row->y + ow * out->ld[W],
                            .outputs = (int)min_i64(PIXELS, end - ow)};
        for (int j = 0; j < (tile.outputs - 1) * stride + kernel; j++)
            tile.inside |= (uint32_t)(first + j >= 0 && first + j < in->shape[W]) << j;
        const int whole = tile.inside == (1u << ((PIXELS - 1) * stride + kernel)) - 1;
        for (int64_t o = 0; o < channels; o += VF_LANES) {
            const float *w = weights + o / CC_BLOCK * block_floats + o % CC_BLOCK;
            const int lanes = (int)min_i64(channels - o, VF_LANES);
            if (o + VF_LANES > channels)
                window_channels(&lines, &tile, w, o, lanes, kernel, stride, 0, 1);
            else if (whole)
                window_channels(&lines, &tile, w, o, lanes, kernel, stride, 1, 0);
            else
                window_channels(&lines, &tile, w, o, lanes, kernel, stride, 0, 0);
        }
    }
}

typedef void window_fn(const depthwise_row *row, int64_t begin, int64_t end);

#define WINDOW_DEFINE(kernel, stride)                                                                     \
    CC_APART void window_##kernel##_by_##stride(const depthwise_row *row, int64_t begin, int64_t end)     \
    {                                                                                                     \
        window_columns(row, begin, end, kernel, stride);                                                  \
    }
WINDOW_DEFINE(3, 1) WINDOW_DEFINE(3, 2) WINDOW_DEFINE(5, 1) WINDOW_DEFINE(5, 2) WINDOW_DEFINE(7, 1)

/* NULL where another window, or other channels, are in the way. */
static window_fn *window_of(const cc_step *step)
{
    const int64_t kernel = step->window.kernel[2], stride = step->window.stride[2];
    if (step->in.shape[C] != step->out.shape[C] || step->in.ld[C] != 1 || step->out.ld[C] != 1 ||
        step->window.dilation[2] != 1)
        return NULL;
    if (kernel == 3)
        return stride == 1 ? window_3_by_1 : stride == 2 ? window_3_by_2 : NULL;
    if (kernel == 5)
        return stride == 1 ? window_5_by_1 : stride == 2 ? window_5_by_2 : NULL;
    return kernel == 7 && stride == 1 ? window_7_by_1 : NULL;
}

/* ---- any window, any channels ----------------------------------------------------------------------- */

CC_INLINE vf load_inputs(const float *pixel, const depthwise_block *block, channel_map map)
{
    if (map == CHANNELS_FULL)
        return vf_load(pixel);
    if (map == CHANNELS_UPTO)
        return vf_load_n(pixel, block->lanes);
    if (map == CHANNELS_ONE)
        return vf_set1(*pixel);
    if (map == CHANNELS_SPREAD)
        return vf_permute(vf_load_n(pixel, block->inputs), vi_load(block->spread));
    float lanes[VF_LANES];
    for (int i = 0; i < VF_LANES; i++)
        lanes[i] = pixel[block->channel[i]];
    return vf_load(lanes);
}

/* Outputs whose channels are not neighbours in memory are activated on their way there. */
CC_APART void store_apart(const depthwise_row *row, const depthwise_block *block, float *y, vf x)
{
    float lanes[VF_LANES];
    vf_store(lanes, x);
    if (row->step->activation.kind != CC_LINEAR)
        activate(lanes, block->lanes, &row->step->activation);
    for (int i = 0; i < block->lanes; i++)
        y[i * row->step->out.ld[C]] = lanes[i];
}

/* The widths of a window along a row; constants in spread_three. */
typedef struct depthwise_widths {
    int64_t kernel, stride, dilation;
} depthwise_widths;

/* `pixels` outputs side by side, the window of the first starting at column w.start; all have the taps
 * [w.begin, w.end). `map`, `pixels` and, in spread_three, the widths and taps are constants: neighbouring
 * pixels then share their loads. */
CC_INLINE void depthwise_tile(const depthwise_row *row, const depthwise_block *block, channel_map map,
                              depthwise_widths width, cc_taps w, int pixels)
{
    const cc_view *in = &row->step->in;
    const cc_window *window = &row->step->window;
    const int64_t ld_w = in->ld[W];
    const float *weights = depthwise_weights(row, block->o);
    vf sum[TILE];
    const vf bias = vf_load(weights);
#pragma GCC unroll 8
    for (int p = 0; p < pixels; p++)
        sum[p] = bias;
    for (int64_t td = row->d.begin; td < row->d.end; td++)
        for (int64_t th = row->h.begin; th < row->h.end; th++) {
            const float *line = row->x + (row->d.start + td * window->dilation[0]) * in->ld[D] +
                                (row->h.start + th * window->dilation[1]) * in->ld[H] + block->first;
            const float *taps = weights + (1 + (td * window->kernel[1] + th) * width.kernel) * CC_BLOCK;
#pragma GCC unroll 3
            for (int64_t tw = w.begin; tw < w.end; tw++) {
                const vf weight = vf_load(taps + tw * CC_BLOCK);
#pragma GCC unroll 8
                for (int p = 0; p < pixels; p++) {
                    const int64_t cell = w.start + p * width.stride + tw * width.dilation;
                    sum[p] = vf_fma(load_inputs(line + cell * ld_w, block, map), weight, sum[p]);
                }
            }
        }
    const cc_view *out = &row->step->out;
    float *y = row->y + row->ow * out->ld[W] + block->o * out->ld[C];
#pragma GCC unroll 8
    for (int p = 0; p < pixels; p++) {
        if (out->ld[C] == 1) /* the whole row is activated at once, later */
            store_channels(y + p * out->ld[W], 1, map == CHANNELS_FULL ? VF_LANES : block->lanes, sum[p]);
        else
            store_apart(row, block, y + p * out->ld[W], sum[p]);
    }
}

/* pixels is TILE, SMALL_TILE or 1. */
CC_INLINE void depthwise_pixels(const depthwise_row *row, const depthwise_block *block, channel_map map,
                                depthwise_widths width, cc_taps w, int64_t pixels)
{
    if (pixels == TILE)
        depthwise_tile(row, block, map, width, w, TILE);
    else if (pixels == SMALL_TILE)
        depthwise_tile(row, block, map, width, w, SMALL_TILE);
    else
        depthwise_tile(row, block, map, width, w, 1);
}

typedef void depthwise_fn(const depthwise_row *row, const depthwise_block *block, cc_taps w, int64_t pixels);

CC_INLINE depthwise_widths widths_of(const depthwise_row *row)
{
    const cc_window *window = &row->step->window;
    return (depthwise_widths){window->kernel[2], window->stride[2], window->dilation[2]};
}

/* One function for each kind of tile, never inlined into one large one, where the compiler would run out
 * of registers for the sums. */
CC_APART void spread_three(const depthwise_row *row, const depthwise_block *block, cc_taps w, int64_t pixels)
{
    depthwise_pixels(row, block, CHANNELS_SPREAD, (depthwise_widths){3, 1, 1}, (cc_taps){w.start, 0, 3}, pixels);
}

CC_APART void spread_any(const depthwise_row *row, const depthwise_block *block, cc_taps w, int64_t pixels)
{
    depthwise_pixels(row, block, CHANNELS_SPREAD, widths_of(row), w, pixels);
}

CC_APART void full_any(const depthwise_row *row, const depthwise_block *block, cc_taps w, int64_t pixels)
{
    depthwise_pixels(row, block, CHANNELS_FULL, widths_of(row), w, pixels);
}

CC_APART void upto_any(const depthwise_row *row, const depthwise_block *block, cc_taps w, int64_t pixels)
{
    depthwise_pixels(row, block, CHANNELS_UPTO, widths_of(row), w, pixels);
}

CC_APART void one_any(const depthwise_row *row, const depthwise_block *block, cc_taps w, int64_t pixels)
{
    depthwise_pixels(row, block, CHANNELS_ONE, widths_of(row), w, pixels);
}

CC_APART void any_any(const depthwise_row *row, const depthwise_block *block, cc_taps w, int64_t pixels)
{
    depthwise_pixels(row, block, CHANNELS_ANY, widths_of(row), w, pixels);
}

/* Outputs ow ... ow + pixels - 1 of one block of channels. */
static void depthwise_dispatch(const depthwise_row *row, const depthwise_block *block, cc_taps w, int64_t pixels)
{
    static depthwise_fn *const any_width[] = {[CHANNELS_FULL] = full_any,
                                              [CHANNELS_UPTO] = upto_any,
                                              [CHANNELS_ONE] = one_any,
                                              [CHANNELS_SPREAD] = spread_any,
                                              [CHANNELS_ANY] = any_any};
    const depthwise_widths width = widths_of(row);
    if (block->map == CHANNELS_SPREAD && width.kernel == 3 && width.stride == 1 && width.dilation == 1 &&
        w.begin == 0 && w.end == 3)
        spread_three(row, block, w, pixels);
    else
        any_width[block->map](row, block, w, pixels);
}

static void block_of_channels(const cc_step *step, int64_t multiplier, int64_t o, depthwise_block *to)
{
    const int64_t oc = step->out.shape[C], ld = step->in.ld[C];
    const int lanes = (int)min_i64(VF_LANES, oc - o);
    if (multiplier == 1 && ld == 1 && lanes == VF_LANES) { /* made as often as a tile: no tables, no division */
        to->map = CHANNELS_FULL;
        to->lanes = lanes;
        to->o = to->first = o;
        return;
    }
    const int64_t first = o / multiplier, last = (o + lanes - 1) / multiplier;
    depthwise_block block = {.o = o, .lanes = lanes, .first = first * ld};
    if (first == last)
        block.map = CHANNELS_ONE;
    else if (multiplier == 1 && ld == 1)
        block.map = CHANNELS_UPTO;
    else if (ld == 1)
        block.map = CHANNELS_SPREAD;
    else
        block.map = CHANNELS_ANY;
    block.inputs = (int)(last - first + 1);
    for (int i = 0; block.map == CHANNELS_SPREAD && i < VF_LANES; i++)
        block.spread[i] = (int32_t)(min_i64(o + i, oc - 1) / multiplier - first);
    for (int i = 0; block.map == CHANNELS_ANY && i < VF_LANES; i++)
        block.channel[i] = (min_i64(o + i, oc - 1) / multiplier - first) * ld;
    *to = block;
}

/* Outputs [begin, end) of a row for one block of channels. Those in [inside, outside) have all their taps
 * inside the input and are done in tiles; a tile that would reach too far is moved back over outputs
 * already written, which get the same bits again. */
static void depthwise_columns(depthwise_row *row, const depthwise_block *block, int64_t begin, int64_t end,
                              int64_t inside, int64_t outside)
{
    const int64_t span = outside - inside;
    for (int64_t ow = begin; ow < end;) {
        const int64_t left = ow < inside ? 0 : outside - ow;
        int64_t pixels = 1;
        if (left > SMALL_TILE && span >= TILE)
            pixels = TILE;
        else if (left > 0 && span >= SMALL_TILE)
            pixels = SMALL_TILE;
        row->ow = left > 0 ? min_i64(ow, outside - pixels) : ow;
        depthwise_dispatch(row, block, clip_taps(row->step, 2, row->ow), pixels);
        ow = row->ow + pixels;
    }
}

/* Columns [begin, end) of a row */
static void activate_columns(const cc_step *step, float *y, int64_t begin, int64_t end)
{
    const cc_view *out = &step->out;
    if (step->activation.kind == CC_LINEAR || out->ld[C] != 1)
        return;
    if (out->ld[W] == out->shape[C])
        activate(y + begin * out->ld[W], (end - begin) * out->shape[C], &step->activation);
    else
        for (int64_t ow = begin; ow < end; ow++)
            activate(y + ow * out->ld[W], out->shape[C], &step->activation);
}

/* Columns made for all channels before the row goes on: as many as keep their inputs, lines of all channels,
 * in half of a 32 KiB L1 cache, for the next tile reads some of them again. Many columns of one block of
 * channels would lie a power of two apart, and push each other out. */
static int64_t stretch_of(const cc_step *step)
{
    const int64_t *kernel = step->window.kernel;
    if (kernel[2] == 3) /* which reads little again */
        return step->detail[DEPTHWISE_PIECE];
    const int64_t column = kernel[0] * kernel[1] * step->window.stride[2] * step->in.shape[C] * (int64_t)sizeof(float);
    const int64_t columns = 16384 / column / TILE * TILE;
    return min_i64(max_i64(columns, TILE), DEPTHWISE_STRETCH);
}

void CC_FN(depthwise_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    void *const *buffers = call->buffers;
    const cc_view *in = &step->in, *out = &step->out;
    const cc_window *window = &step->window;
    const int64_t columns = out->shape[W];
    const int64_t pad = window->pad_low[2], stride = window->stride[2];
    const int64_t room = in->shape[W] - (window->kernel[2] - 1) * window->dilation[2] + pad - 1;
    const int64_t outside = room < 0 ? 0 : min_i64(columns, room / stride + 1);
    const int64_t inside = min_i64((pad + stride - 1) / stride, outside);
    const int64_t multiplier = out->shape[C] / in->shape[C], stretch = stretch_of(step);
    window_fn *const make_columns = window_of(step);
    depthwise_block block;
    const int64_t piece = step->detail[DEPTHWISE_PIECE], pieces = step->detail[DEPTHWISE_PIECES];
    for (int64_t item = begin; item < end; item++) {
        const cc_row at = row_of_item(out, item / pieces);
        const int64_t from = item % pieces * piece, to = min_i64(from + piece, columns);
        depthwise_row row = {.step = step,
                             .x = view_f32(in, buffers) + at.n * in->ld[0],
                             .y = view_f32(out, buffers) + at.n * out->ld[0] + at.d * out->ld[D] + at.h * out->ld[H],
                             .block_floats = CC_BLOCK * (1 + window->kernel[0] * window->kernel[1] * window->kernel[2]),
                             .d = clip_taps(step, 0, at.d),
                             .h = clip_taps(step, 1, at.h)};
        if (make_columns)
            make_columns(&row, from, to);
        for (int64_t ow = make_columns ? to : from; ow < to; ow += stretch)
            for (int64_t o = 0; o < out->shape[C]; o += VF_LANES) {
                block_of_channels(step, multiplier, o, &block);
                depthwise_columns(&row, &block, ow, min_i64(ow + stretch, to), max_i64(inside, from),
                                  min_i64(outside, to));
            }
        activate_columns(step, row.y, from, to);
    }
}

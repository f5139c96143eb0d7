/* Depthwise convolution: every input channel has `multiplier` filters of its own. An item is one output
 * row, or a piece of a long one.
 *
 * Weights are packed as bias [oc], then [tap][oc], each row padded to whole vectors (items.h), so one
 * vector holds output channels o, o+1, ... whatever the multiplier; only the load of the input differs.
 * An output starts as its bias and takes one vf_fma per tap, in row-major order (d, h, w); taps outside
 * the input are left out, not multiplied by zero. That order is the same in every tile below, so a
 * pixel's bits do not depend on where it lies. */
#include "activation.h"
#include "items.h"
#include "window.h"

#define CC_APART __attribute__((noinline)) static

enum {
    SMALL_TILE = 4,
    TILE = VF_LANES >= 8 ? 8 : SMALL_TILE /* output pixels in registers */
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
    const float *x; /* the image */
    float *y;       /* the row */
    const float *bias, *taps;
    int64_t padded; /* floats from one tap's weights to the next's */
    int64_t ow;     /* the output pixel being made */
    cc_taps d, h;
} depthwise_row;

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

/* The widths of a window along a row; constants on the fast path. */
typedef struct depthwise_widths {
    int64_t kernel, stride, dilation;
} depthwise_widths;

/* `pixels` outputs side by side, the window of the first starting at column w.start; all have the taps
 * [w.begin, w.end). `map`, `pixels` and, on the fast path, the widths and taps are constants: neighbouring
 * pixels then share their loads. */
CC_INLINE void depthwise_tile(const depthwise_row *row, const depthwise_block *block, channel_map map,
                              depthwise_widths width, cc_taps w, int pixels)
{
    const cc_view *in = &row->step->in;
    const cc_window *window = &row->step->window;
    const int64_t ld_w = in->ld[W], padded = row->padded;
    vf sum[TILE];
    const vf bias = vf_load(row->bias + block->o);
#pragma GCC unroll 8
    for (int p = 0; p < pixels; p++)
        sum[p] = bias;
    for (int64_t td = row->d.begin; td < row->d.end; td++)
        for (int64_t th = row->h.begin; th < row->h.end; th++) {
            const float *line = row->x + (row->d.start + td * window->dilation[0]) * in->ld[D] +
                                (row->h.start + th * window->dilation[1]) * in->ld[H] + block->first;
            const float *taps = row->taps + (td * window->kernel[1] + th) * width.kernel * padded + block->o;
#pragma GCC unroll 5
            for (int64_t tw = w.begin; tw < w.end; tw++) {
                const vf weight = vf_load(taps + tw * padded);
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

/* Outputs [begin, end) of a row whose windows are `rows` lines of 3 neighbours. Those in [inside, outside) lie
 * inside the input: there the window slides along in registers, and every input is loaded once. rows and stride
 * are constants. */
CC_INLINE void slide_three(const depthwise_row *row, const depthwise_block *block, int64_t begin, int64_t end,
                           int64_t inside, int64_t outside, int rows, int stride)
{
    const cc_view *in = &row->step->in, *out = &row->step->out;
    const cc_window *window = &row->step->window;
    const int64_t ld_in = in->ld[W], ld_out = out->ld[W], pad = window->pad_low[2];
    const float *x = row->x + (row->d.start + row->d.begin * window->dilation[0]) * in->ld[D] + block->first;
    const float *taps = row->taps + (row->d.begin * window->kernel[1] + row->h.begin) * 3 * row->padded + block->o;
    float *y = row->y + begin * ld_out + block->o;
    const vf bias = vf_load(row->bias + block->o);
    vf weight[3][3], cell[3][3];
    const float *line[3]; /* where the window of output `ow` begins */
#pragma GCC unroll 3
    for (int r = 0; r < rows; r++) {
        line[r] = x + (row->h.start + (row->h.begin + r) * window->dilation[1]) * in->ld[H] +
                  (begin * stride - pad) * ld_in;
#pragma GCC unroll 3
        for (int t = 0; t < 3; t++)
            weight[r][t] = vf_load(taps + (r * 3 + t) * row->padded);
    }
    for (int64_t ow = begin; ow < end;) {
        const int64_t until = ow >= inside && ow < outside ? min_i64(outside, end) : ow + 1;
        if (ow < inside || ow >= outside) { /* at an edge, where taps are left out */
            vf sum = bias;
#pragma GCC unroll 3
            for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
                for (int t = 0; t < 3; t++) {
                    const int64_t column = ow * stride - pad + t;
                    if (column >= 0 && column < in->shape[W])
                        sum = vf_fma(vf_load(line[r] + t * ld_in), weight[r][t], sum);
                }
            vf_store(y, sum);
        } else {
#pragma GCC unroll 3
            for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
                for (int t = 0; t < 3 - stride; t++)
                    cell[r][t] = vf_load(line[r] + t * ld_in);
            const float *next[3];
            for (int r = 0; r < rows; r++)
                next[r] = line[r] + (3 - stride) * ld_in;
            float *to = y;
            for (int64_t n = until - ow; n > 0; n--, to += ld_out) {
                vf sum = bias;
#pragma GCC unroll 3
                for (int r = 0; r < rows; r++) {
#pragma GCC unroll 2
                    for (int t = 0; t < stride; t++)
                        cell[r][3 - stride + t] = vf_load(next[r] + t * ld_in);
                    next[r] += stride * ld_in;
#pragma GCC unroll 3
                    for (int t = 0; t < 3; t++)
                        sum = vf_fma(cell[r][t], weight[r][t], sum);
#pragma GCC unroll 2
                    for (int t = 0; t < 3 - stride; t++)
                        cell[r][t] = cell[r][t + stride];
                }
                vf_store(to, sum);
            }
        }
        y += (until - ow) * ld_out;
#pragma GCC unroll 3
        for (int r = 0; r < rows; r++)
            line[r] += (until - ow) * stride * ld_in;
        ow = until;
    }
}

typedef void slide_fn(const depthwise_row *row, const depthwise_block *block, int64_t begin, int64_t end,
                      int64_t inside, int64_t outside);

#define SLIDE_DEFINE(rows, stride)                                                                    \
    CC_APART void slide_##rows##_by_##stride(const depthwise_row *row, const depthwise_block *block,  \
                                             int64_t begin, int64_t end, int64_t inside, int64_t outside) \
    {                                                                                                 \
        slide_three(row, block, begin, end, inside, outside, rows, stride);                           \
    }
SLIDE_DEFINE(1, 1) SLIDE_DEFINE(2, 1) SLIDE_DEFINE(3, 1) SLIDE_DEFINE(1, 2) SLIDE_DEFINE(2, 2) SLIDE_DEFINE(3, 2)

/* NULL where the window of this row does not slide. */
static slide_fn *slide_of(const depthwise_row *row, const depthwise_block *block)
{
    static slide_fn *const slides[2][3] = {{slide_1_by_1, slide_2_by_1, slide_3_by_1},
                                           {slide_1_by_2, slide_2_by_2, slide_3_by_2}};
    const cc_window *window = &row->step->window;
    const int64_t rows = row->h.end - row->h.begin;
    const int slides_here = block->map == CHANNELS_FULL && row->step->out.ld[C] == 1 && window->kernel[2] == 3 &&
                            window->dilation[2] == 1 && window->stride[2] <= 2 && row->d.end - row->d.begin == 1 &&
                            rows >= 1 && rows <= 3;
    return slides_here ? slides[window->stride[2] - 1][rows - 1] : NULL;
}

typedef void depthwise_fn(const depthwise_row *row, const depthwise_block *block, cc_taps w, int64_t pixels);

CC_INLINE depthwise_widths widths_of(const depthwise_row *row)
{
    const cc_window *window = &row->step->window;
    return (depthwise_widths){window->kernel[2], window->stride[2], window->dilation[2]};
}

/* One function for each kind of tile, never inlined into one large one, where the compiler would run out
 * of registers for the sums. */
CC_APART void full_five(const depthwise_row *row, const depthwise_block *block, cc_taps w, int64_t pixels)
{
    depthwise_pixels(row, block, CHANNELS_FULL, (depthwise_widths){5, 1, 1}, (cc_taps){w.start, 0, 5}, pixels);
}

CC_APART void full_five_by_two(const depthwise_row *row, const depthwise_block *block, cc_taps w, int64_t pixels)
{
    depthwise_pixels(row, block, CHANNELS_FULL, (depthwise_widths){5, 2, 1}, (cc_taps){w.start, 0, 5}, pixels);
}

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
    /* [channels full, spread][3, 5 taps][stride 1, 2], for windows that lie inside the input */
    static depthwise_fn *const known_width[2][2][2] = {
        {{full_any, full_any}, {full_five, full_five_by_two}},
        {{spread_three, spread_any}, {spread_any, spread_any}},
    };
    const depthwise_widths width = widths_of(row);
    const int known = (block->map == CHANNELS_FULL || block->map == CHANNELS_SPREAD) && width.dilation == 1 &&
                      (width.kernel == 3 || width.kernel == 5) && width.stride <= 2 && w.begin == 0 &&
                      w.end == width.kernel;
    if (known)
        known_width[block->map == CHANNELS_SPREAD][width.kernel == 5][width.stride - 1](row, block, w, pixels);
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
    slide_fn *const slide = slide_of(row, block);
    if (slide) {
        slide(row, block, begin, end, inside, outside);
        return;
    }
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
    if (kernel[2] == 3) /* which most often slides, and reads nothing again */
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
    const int64_t padded = depthwise_padded(out->shape[C]), columns = out->shape[W];
    const int64_t pad = window->pad_low[2], stride = window->stride[2];
    const int64_t room = in->shape[W] - (window->kernel[2] - 1) * window->dilation[2] + pad - 1;
    const int64_t outside = room < 0 ? 0 : min_i64(columns, room / stride + 1);
    const int64_t inside = min_i64((pad + stride - 1) / stride, outside);
    const int64_t multiplier = out->shape[C] / in->shape[C], stretch = stretch_of(step);
    depthwise_block block;
    const int64_t piece = step->detail[DEPTHWISE_PIECE], pieces = step->detail[DEPTHWISE_PIECES];
    for (int64_t item = begin; item < end; item++) {
        const cc_row at = row_of_item(out, item / pieces);
        const int64_t from = item % pieces * piece, to = min_i64(from + piece, columns);
        depthwise_row row = {.step = step,
                             .x = view_f32(in, buffers) + at.n * in->ld[0],
                             .y = view_f32(out, buffers) + at.n * out->ld[0] + at.d * out->ld[D] + at.h * out->ld[H],
                             .bias = step->weights,
                             .taps = step->weights + padded,
                             .padded = padded,
                             .d = clip_taps(step, 0, at.d),
                             .h = clip_taps(step, 1, at.h)};
        for (int64_t ow = from; ow < to; ow += stretch)
            for (int64_t o = 0; o < out->shape[C]; o += VF_LANES) {
                block_of_channels(step, multiplier, o, &block);
                depthwise_columns(&row, &block, ow, min_i64(ow + stretch, to), max_i64(inside, from),
                                  min_i64(outside, to));
            }
        activate_columns(step, row.y, from, to);
    }
}

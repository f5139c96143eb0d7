/* CC_FILTER: checks, the choice between sums and transforms, and how the work is cut up (filter_geometry.h). Only that
 * choice changes rounding, and it is made from one image's shape; however sums are cut up, every output is one sum in
 * one order. */
#include "choose.h"
#include "filter_geometry.h"
#include "type_size.h"

#include <math.h>
#include <string.h>

_Static_assert(sizeof(cc_filter_geometry) <= sizeof(((cc_step *)0)->detail), "the geometry fits the step");

/* A point of a transform, there and back, divided by the logarithm of all of them. */
static const double FOURIER_TIME = 12;

enum { PIECE = 2048, LONG_PIECE = 16384, LINE = 64 };

/* Sums are in the kernel's type: whatever it holds exactly can be filtered. */
static cc_status check_types(const cc_step *step)
{
    const int32_t in = step->in.type, sums = step->in2.type, out = step->out.type;
    if (sums == CC_F64)
        return in >= CC_F32 && in <= CC_F64 && out >= CC_F32 && out <= CC_F64 ? CC_OK : CC_ERROR_TYPE;
    if (sums != CC_F32)
        return CC_ERROR_TYPE;
    return in >= CC_F32 && in <= CC_U16 && out >= CC_F32 && out <= CC_U16 ? CC_OK : CC_ERROR_TYPE;
}

static void swap(int64_t *a, int64_t *b)
{
    const int64_t c = *a;
    *a = *b;
    *b = c;
}

/* A kernel of one row filters along d as well as along h: then h is the axis whose rows share inputs. */
static void turn_depth(cc_step *step)
{
    if (step->window.kernel[1] > 1 || step->window.kernel[0] == 1)
        return;
    cc_view *const maps[] = {&step->in, &step->out};
    for (int v = 0; v < 2; v++) {
        swap(&maps[v]->shape[1], &maps[v]->shape[2]);
        swap(&maps[v]->ld[1], &maps[v]->ld[2]);
    }
    swap(&step->in2.shape[0], &step->in2.shape[1]);
    swap(&step->in2.ld[0], &step->in2.ld[1]);
    swap(&step->window.kernel[0], &step->window.kernel[1]);
    swap(&step->window.pad_low[0], &step->window.pad_low[1]);
}

/* Whether the samples of a row lie side by side. */
static int side_by_side(const cc_view *v) { return v->shape[4] == 1 ? v->ld[3] == 1 : v->ld[4] == 1 && v->ld[3] == v->shape[4]; }

/* Points of a tile along an axis: the kernel's taps leave n - taps + 1 outputs of it. */
enum { FOURIER_LEAST = 32, FOURIER_MOST = 256 };

static int64_t tiles_of(int64_t outputs, int64_t n, int64_t taps) { return (outputs + n - taps) / (n - taps + 1); }

/* Picks the tiles that take the least time, in units of one product and sum of an output of the direct kernel, and
 * returns that; 0 where the kernel is too large for any. */
static double fourier_time(const cc_step *step, cc_filter_geometry *g)
{
    const int64_t kh = step->window.kernel[1], kw = step->window.kernel[2];
    double least = 0;
    for (int64_t h = FOURIER_LEAST; h <= FOURIER_MOST; h *= 2)
        for (int64_t w = FOURIER_LEAST; w <= FOURIER_MOST; w *= 2) {
            if (h < kh || w < kw)
                continue;
            const int64_t tiles = tiles_of(step->out.shape[2], h, kh) * tiles_of(step->out.shape[3], w, kw);
            /* A pair of tiles is transformed there and back, and so is the kernel. */
            const double time = (double)((tiles + 1) / 2 + 1) * (double)(h * w) * FOURIER_TIME * log2((double)(h * w));
            if (least == 0 || time < least) {
                least = time;
                g->tile_height = h;
                g->tile_width = w;
            }
        }
    return least;
}

/* From one slice's shape alone: whether transforms take three quarters of the time that sums do, or less; with CC_FAST, whether
 * there are any. */
static int choose_fourier(cc_step *step, const cc_kernels *kernels)
{
    const cc_view *out = &step->out;
    const int64_t kh = step->window.kernel[1], kw = step->window.kernel[2];
    cc_filter_geometry g = {.step = 1, .in_columns = step->in.shape[3], .columns = out->shape[3]};
    if (step->accuracy == CC_DIRECT || step->in2.type != CC_F32 || step->window.kernel[0] != 1 || out->shape[4] != 1 ||
        step->window.pad_low[0] != 0 || step->in.shape[1] != out->shape[1])
        return 0;
    const double time = fourier_time(step, &g);
    if (time == 0)
        return 0;
    if (step->accuracy != CC_FAST && 4 * time > 3 * (double)kh * (double)kw * (double)out->shape[2] * (double)out->shape[3])
        return 0;
    g.strip = g.tile_height - kh + 1;
    g.piece = g.tile_width - kw + 1;
    g.strips = tiles_of(out->shape[2], g.tile_height, kh);
    g.pieces = tiles_of(out->shape[3], g.tile_width, kw);
    g.pitch = g.tile_width + FILTER_COLUMNS; /* an odd number of cache lines: columns fill all sets */
    memcpy(step->detail, &g, sizeof g);
    step->algorithm = "Fourier";
    step->kernel = kernels->filter_fourier_f32;
    step->workspace_bytes = (2 * g.tile_height * g.tile_width + 2 * g.tile_height + 2 * g.tile_width) * 4;
    step->scratch_bytes = (2 * g.tile_height * g.pitch + 2 * FILTER_COLUMNS * g.tile_width) * 4;
    step->phases = step->period = 2;
    step->items[0] = 1;
    step->items[1] = out->shape[0] * out->shape[1] * ((g.strips * g.pieces + 1) / 2);
    return 1;
}

cc_status cc_choose_filter(cc_step *step, const cc_kernels *kernels)
{
    const cc_view *in = &step->in, *kernel = &step->in2, *out = &step->out;
    cc_window *const w = &step->window;
    if (in->rank != 5 || out->rank != 5 || kernel->rank != CC_SPATIAL || in->shape[0] != out->shape[0] ||
        in->shape[4] != out->shape[4])
        return CC_ERROR_SHAPE;
    const cc_status status = check_types(step);
    if (status != CC_OK)
        return status;
    if (step->edge < CC_EDGE_CONSTANT || step->edge > CC_EDGE_WRAP)
        return CC_ERROR_ARGUMENT;
    for (int a = 0; a < CC_SPATIAL; a++) {
        if (w->kernel[a] != kernel->shape[a])
            return CC_ERROR_SHAPE;
        if (w->stride[a] != 1 || w->dilation[a] != 1)
            return CC_ERROR_ARGUMENT;
    }
    turn_depth(step);
    step->flops = 2.0 * (double)w->kernel[0] * (double)w->kernel[1] * (double)w->kernel[2] * (double)cc_elements(out);
    step->bytes = (double)cc_type_size(in->type) * (double)cc_elements(in) + (double)cc_type_size(out->type) * (double)cc_elements(out);
    if (choose_fourier(step, kernels))
        return CC_OK;
    const int64_t kd = w->kernel[0], kh = w->kernel[1], kw = w->kernel[2], c = in->shape[4];
    const int64_t real = cc_type_size(kernel->type);
    cc_filter_geometry g = {.step = c, .in_columns = in->shape[3] * c, .columns = out->shape[3] * c};
    g.before = w->pad_low[2] * c;
    g.behind = g.columns - (g.in_columns - (kw - 1 - w->pad_low[2]) * c);
    if (g.behind < 0)
        g.behind = 0;
    if (g.before > g.columns)
        g.before = g.columns;
    if (g.behind > g.columns)
        g.behind = g.columns;
    g.in_place = in->type == kernel->type && side_by_side(in);
    g.out_in_place = out->type == kernel->type && side_by_side(out);
    g.strip = g.in_place || kh <= FILTER_STRIP ? FILTER_STRIP : FILTER_TALL_STRIP;
    if (out->shape[2] < g.strip)
        g.strip = out->shape[2];
    g.strips = (out->shape[2] + g.strip - 1) / g.strip;
    const int64_t most = g.strip * PIECE < LONG_PIECE * 4 ? LONG_PIECE * 4 / g.strip : PIECE;
    g.piece = most < LONG_PIECE ? most : LONG_PIECE;
    g.pieces = (g.columns + g.piece - 1) / g.piece;
    g.piece = filter_up((g.columns + g.pieces - 1) / g.pieces, 4 * FILTER_COLUMNS);
    g.pieces = (g.columns + g.piece - 1) / g.piece;
    /* A power of two between rows would put all of them into the same few cache sets. */
    const int64_t reach = (kw - 1) * c + FILTER_COLUMNS;
    g.pitch = filter_up(filter_up(filter_widest_copy(&g), FILTER_COLUMNS) + reach, FILTER_COLUMNS);
    if (g.pitch % (4 * FILTER_COLUMNS) == 0)
        g.pitch += FILTER_COLUMNS;
    /* Each factor is at most 2^41, and their product is compared before it is formed. */
    const int64_t rows = g.strip + FILTER_STRIP + kh;
    if (rows > CC_MOST_FLOATS / kd || kw > CC_MOST_FLOATS / (kd * rows) || g.pitch > CC_MOST_FLOATS / (kd * rows))
        return CC_ERROR_ARGUMENT;
    g.rows_at = filter_up(kd * kh * kw * real, LINE);
    g.copy_at = filter_up(g.rows_at + kd * rows * (int64_t)sizeof(void *), LINE);
    g.border_at = filter_up(g.copy_at + kd * rows * g.pitch * real, LINE);
    g.result_at = filter_up(g.border_at + (filter_up(g.piece, FILTER_COLUMNS) + reach) * real, LINE);
    step->scratch_bytes = g.result_at + (g.out_in_place ? 0 : FILTER_STRIP * g.piece * real);
    memcpy(step->detail, &g, sizeof g);
    step->algorithm = "filter";
    step->kernel = kernel->type == CC_F64 ? kernels->filter_f64 : kernels->filter_f32;
    step->items[0] = out->shape[0] * out->shape[1] * g.strips * g.pieces;
    return CC_OK;
}

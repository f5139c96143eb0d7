/* Packing of convolution, transposed convolution and dense weights: from the caller's layout to panels of
 * 32 output channels, in the order in which the kernels read them.
 *
 * The caller's weights are a matrix of taps*ic rows, each of groups*oc floats. Threads share blocks of
 * whole rows: a block is read once, from end to end, and its columns go to the panels they belong to while
 * it is in the L2 cache. Weights that are still in a file are read block by block into a buffer of that
 * size, so they are never in memory as a whole, and a file that is cut short is an error and not a fault. */
#include "choose.h"
#include "conv_geometry.h"
#include "threads.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    MOST_ROWS = 32,           /* of a block: a run of 4 KiB in every panel */
    BLOCK_FLOATS = 64 * 1024, /* a quarter of a 1 MiB L2 cache; a block has one row at least */
    CHANNELS = 16,            /* of a block of Winograd's, from each of the nine taps */
    MOST_POINTS = 8           /* of a transform: F(6x6, 3x3) */
};

typedef struct pack_job {
    const cc_step *step;
    const float *weights; /* NULL: in the file */
    int file;
    int64_t offset;
    const float *bias;
    float *packed;
    int shares;        /* of the work, one for every thread */
    _Atomic int taken; /* of them */
    _Atomic int status;
    _Atomic int finite;
} pack_job;

static int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- where weights come from -------------------------------------------------------------------- */

static int all_finite(const float *x, int64_t count)
{
    int32_t worst = 0;
    for (int64_t i = 0; i < count; i++) {
        int32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7fffffff;
        worst = bits > worst ? bits : worst;
    }
    return worst < 0x7f800000;
}

/* Floats [begin, begin + count) of the weights: where they are, or read into `buffer`. NULL is a failure
 * that job->status tells. */
static const float *fetch(pack_job *job, int64_t begin, int64_t count, float *buffer)
{
    if (job->weights)
        return job->weights + begin;
    char *to = (char *)buffer;
    int64_t left = count * (int64_t)sizeof(float), at = job->offset + begin * (int64_t)sizeof(float);
    while (left > 0) {
        const ssize_t got = pread(job->file, to, (size_t)left, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            atomic_store(&job->status, CC_ERROR_FILE);
            return NULL;
        }
        to += got, at += got, left -= got;
    }
    if (!all_finite(buffer, count))
        atomic_store_explicit(&job->finite, 0, memory_order_relaxed);
    return buffer;
}

/* ---- direct and dense ----------------------------------------------------------------------------- */

/* Bias and the zeros behind the last channel of a group. */
static void pack_bias(const pack_job *job, int64_t p, float *to)
{
    const cc_conv_geometry *g = conv_geometry(job->step);
    const int64_t oc0 = p % g->panels * CC_PANEL, oc = min_i64(g->oc - oc0, CC_PANEL);
    memset(to, 0, CC_PANEL * sizeof *to);
    if (job->bias)
        memcpy(to, job->bias + p / g->panels * g->oc + oc0, (size_t)oc * sizeof *to);
}

/* Rows [begin, end) of the matrix, which begins at `from`, into every panel. */
static void pack_rows(const pack_job *job, const float *from, int64_t begin, int64_t end)
{
    const cc_conv_geometry *g = conv_geometry(job->step);
    const int64_t *k = job->step->window.kernel;
    const int64_t taps = k[0] * k[1] * k[2], width = g->groups * g->oc;
    int64_t place[MOST_ROWS]; /* of each row in a panel */
    for (int64_t r = begin; r < end; r++) {
        const int64_t tap = r / g->ic;
        place[r - begin] = CC_PANEL * (1 + (job->step->flip ? taps - 1 - tap : tap) * g->ic + r % g->ic);
    }
    for (int64_t p = 0; p < g->groups * g->panels; p++) {
        const int64_t oc0 = p % g->panels * CC_PANEL, oc = min_i64(g->oc - oc0, CC_PANEL);
        const float *x = from + p / g->panels * g->oc + oc0;
        float *panel = job->packed + p * cc_panel_floats(job->step);
        for (int64_t r = 0; r < end - begin; r++, x += width) {
            float *to = panel + place[r];
            if (oc == CC_PANEL) {
                memcpy(to, x, CC_PANEL * sizeof *to);
            } else {
                memcpy(to, x, (size_t)oc * sizeof *to);
                memset(to + oc, 0, (size_t)(CC_PANEL - oc) * sizeof *to);
            }
        }
    }
}

/* Panel p of a transposed convolution, whose weights are (taps, oc, ic). */
static void pack_transposed_panel(const pack_job *job, int64_t p)
{
    const cc_conv_geometry *g = conv_geometry(job->step);
    const int64_t *k = job->step->window.kernel;
    const int64_t taps = k[0] * k[1] * k[2], oc0 = p * CC_PANEL, oc = min_i64(g->oc - oc0, CC_PANEL);
    float *to = job->packed + p * cc_panel_floats(job->step);
    pack_bias(job, p, to);
    to += CC_PANEL;
    for (int64_t t = 0; t < taps; t++) {
        const int64_t tap = job->step->flip ? taps - 1 - t : t;
        for (int64_t c = 0; c < g->ic; c++, to += CC_PANEL) {
            for (int64_t o = 0; o < oc; o++)
                to[o] = job->weights[(tap * g->oc + oc0 + o) * g->ic + c];
            memset(to + oc, 0, (size_t)(CC_PANEL - oc) * sizeof *to);
        }
    }
}

/* ---- Winograd ----------------------------------------------------------------------------------- */

/* The points of F(m x m, 3x3) but infinity, m + 1 of them, in the order of V: see winograd.h. */
typedef struct winograd_points {
    int count;
    double at[MOST_POINTS - 1];
} winograd_points;

static const winograd_points *points_of(const cc_conv_geometry *g)
{
    static const winograd_points points[3] = {
        {3, {0, 1, -1}},
        {5, {0, 0.75, -0.75, 1.5, -1.5}},
        {7, {0, 0.5, -0.5, 1, -1, 2, -2}},
    };
    return &points[g->tile / 2 - 1];
}

/* Row i of G is (1, p, p^2) / prod over the other points q of (p - q); infinity's is (0, 0, 1). */
static void transform_of(const winograd_points *points, double g[MOST_POINTS][3])
{
    for (int i = 0; i < points->count; i++) {
        const double p = points->at[i];
        double product = 1;
        for (int j = 0; j < points->count; j++)
            product *= j == i ? 1 : p - points->at[j];
        g[i][0] = 1 / product;
        g[i][1] = 1 / product * p;
        g[i][2] = 1 / product * (p * p);
    }
    memcpy(g[points->count], (const double[3]){0, 0, 1}, 3 * sizeof(double));
}

/* U = G w G^T of one input channel and one panel, in double, each element rounded once. w[tap] are the
 * channel's rows, of which `oc` columns count; u is the place of the first of n*n points, `ld` apart.
 * Loops over the panel's columns are innermost: they are what the compiler turns into vectors. */
static void transform_channel(int n, const double g[MOST_POINTS][3], const float *const w[9], int64_t oc, float *u,
                              int64_t ld)
{
    double x[9][CC_PANEL], rows[3][CC_PANEL];
    for (int t = 0; t < 9; t++)
        for (int o = 0; o < CC_PANEL; o++)
            x[t][o] = o < oc ? (double)w[t][o] : 0;
    for (int i = 0; i < n; i++) {
        for (int s = 0; s < 3; s++)
            for (int o = 0; o < CC_PANEL; o++)
                rows[s][o] = 0 + g[i][0] * x[s][o] + g[i][1] * x[3 + s][o] + g[i][2] * x[6 + s][o];
        for (int j = 0; j < n; j++, u += ld) {
            for (int o = 0; o < CC_PANEL; o++)
                u[o] = (float)(rows[0][o] * g[j][0] + rows[1][o] * g[j][1] + rows[2][o] * g[j][2]);
            for (int64_t o = oc; o < CC_PANEL; o++)
                u[o] = 0; /* and not -0 */
        }
    }
}

/* Channels [c0, c1) of the nine taps of slice d, which begin at from[tap], into every panel. */
static void pack_winograd_channels(const pack_job *job, const float *const from[9], int64_t d, int64_t c0, int64_t c1)
{
    const cc_conv_geometry *g = conv_geometry(job->step);
    const winograd_points *points = points_of(g);
    const int64_t depth = job->step->window.kernel[0], ld = cc_winograd_point_floats(depth, g->ic);
    const int64_t panel = cc_winograd_panel_floats(g->tile, depth, g->ic), row = CC_PANEL * (2 + d * g->ic);
    double transform[MOST_POINTS][3];
    transform_of(points, transform);
    for (int64_t p = 0; p < g->panels; p++) {
        const int64_t oc0 = p * CC_PANEL, oc = min_i64(g->oc - oc0, CC_PANEL);
        for (int64_t c = c0; c < c1; c++) {
            const float *w[9];
            for (int t = 0; t < 9; t++)
                w[t] = from[job->step->flip ? 8 - t : t] + (c - c0) * g->oc + oc0;
            transform_channel(points->count + 1, transform, w, oc, job->packed + p * panel + row + CC_PANEL * c, ld);
        }
    }
}

/* The bias of panel p, and the zeros before the channels of each point. */
static void pack_winograd_head(const pack_job *job, int64_t p)
{
    const cc_conv_geometry *g = conv_geometry(job->step);
    const int64_t depth = job->step->window.kernel[0];
    float *to = job->packed + p * cc_winograd_panel_floats(g->tile, depth, g->ic);
    pack_bias(job, p, to);
    for (int64_t i = 0; i < cc_winograd_points(g->tile); i++)
        memset(to + CC_PANEL + i * cc_winograd_point_floats(depth, g->ic), 0, CC_PANEL * sizeof *to);
}

/* ---- sharing ------------------------------------------------------------------------------------ */

/* The rows or channels of share i of `shares`. One run each: a page that is new is touched by one thread. */
static void share(int64_t items, int64_t block, int i, int shares, int64_t *begin, int64_t *end)
{
    const int64_t blocks = (items + block - 1) / block;
    *begin = min_i64(items, blocks * i / shares * block);
    *end = min_i64(items, blocks * (i + 1) / shares * block);
}

static void share_rows(pack_job *job, int i, int shares)
{
    const cc_conv_geometry *g = conv_geometry(job->step);
    const int64_t *k = job->step->window.kernel;
    const int64_t rows = k[0] * k[1] * k[2] * g->ic, width = g->groups * g->oc;
    int64_t block = BLOCK_FLOATS / width, begin, end;
    block = block < 1 ? 1 : min_i64(block, MOST_ROWS);
    share(rows, block, i, shares, &begin, &end);
    float *buffer = job->weights ? NULL : malloc((size_t)(block * width) * sizeof *buffer);
    if (!job->weights && !buffer) {
        atomic_store(&job->status, CC_ERROR_MEMORY);
        return;
    }
    for (int64_t r = begin; r < end; r += block) {
        const int64_t stop = min_i64(r + block, end);
        const float *from = fetch(job, r * width, (stop - r) * width, buffer);
        if (!from)
            break;
        pack_rows(job, from, r, stop);
    }
    free(buffer);
    for (int64_t p = i; p < g->groups * g->panels; p += shares)
        pack_bias(job, p, job->packed + p * cc_panel_floats(job->step));
}

static void share_channels(pack_job *job, int i, int shares)
{
    const cc_conv_geometry *g = conv_geometry(job->step);
    const int64_t most = CHANNELS * g->oc, depth = job->step->window.kernel[0];
    int64_t begin, end;
    share(g->ic, CHANNELS, i, shares, &begin, &end);
    float *buffer = job->weights ? NULL : malloc((size_t)(9 * most) * sizeof *buffer);
    if (!job->weights && !buffer) {
        atomic_store(&job->status, CC_ERROR_MEMORY);
        return;
    }
    for (int64_t c = begin; c < end; c += CHANNELS)
        for (int64_t d = 0; d < depth; d++) {
            const int64_t stop = min_i64(c + CHANNELS, end), first = (job->step->flip ? depth - 1 - d : d) * 9;
            const float *from[9];
            int whole = 1;
            for (int t = 0; t < 9 && whole; t++) {
                from[t] = fetch(job, ((first + t) * g->ic + c) * g->oc, (stop - c) * g->oc,
                                buffer ? buffer + t * most : NULL);
                whole = from[t] != NULL;
            }
            if (!whole)
                goto done; /* job->status says why */
            pack_winograd_channels(job, from, d, c, stop);
        }
    for (int64_t p = i; p < g->panels; p += shares)
        pack_winograd_head(job, p);
done:
    free(buffer);
}

static void pack_shares(void *argument, int thread, int threads)
{
    pack_job *job = argument;
    const cc_conv_geometry *g = conv_geometry(job->step);
    (void)thread, (void)threads; /* who comes takes what is left */
    for (int i; (i = atomic_fetch_add(&job->taken, 1)) < job->shares;) {
        if (g->tile)
            share_channels(job, i, job->shares);
        else if (job->step->operation != CC_CONV_TRANSPOSE)
            share_rows(job, i, job->shares);
        else
            for (int64_t p = i; p < g->panels; p += job->shares)
                pack_transposed_panel(job, p);
    }
}

static cc_status pack(pack_job *job)
{
    const int64_t worth_sharing = 1 << 16; /* floats: below, waking the pool costs more than it saves */
    const double seconds = (double)job->step->packed_floats * 1e-9;
    job->shares = job->step->packed_floats < worth_sharing ? 1 : cc_get_num_threads();
    cc_parallel(job->shares, seconds, pack_shares, job);
    return (cc_status)atomic_load(&job->status);
}

void cc_pack_conv(const cc_step *step, const float *weights, const float *bias, float *packed)
{
    pack_job job = {.step = step, .weights = weights, .bias = bias, .packed = packed, .finite = 1};
    pack(&job); /* from memory nothing can fail */
}

cc_status cc_pack_conv_file(const cc_step *step, int file, int64_t offset, const float *bias, float *packed, int *finite)
{
    pack_job job = {.step = step, .file = file, .offset = offset, .bias = bias, .packed = packed, .finite = 1};
    const cc_status status = pack(&job);
    *finite = atomic_load(&job.finite);
    return status;
}

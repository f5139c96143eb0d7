/* Packing of convolution, transposed convolution and dense weights: from the caller's layout to panels of
 * 32 output channels, in the order in which the kernels read them. */
#include "choose.h"
#include "conv_geometry.h"
#include "threads.h"

#include <string.h>

typedef struct pack_job {
    const cc_step *step;
    const float *weights, *bias;
    float *packed;
} pack_job;

/* Panel p of the packed weights from the caller's layout: (taps, ic, groups*oc), or (taps, oc, ic). */
static void pack_panel(const pack_job *job, int64_t p)
{
    const cc_conv_geometry *g = conv_geometry(job->step);
    const int64_t *k = job->step->window.kernel;
    const int64_t taps = k[0] * k[1] * k[2], group = p / g->panels, oc0 = p % g->panels * CC_PANEL;
    const int64_t oc = g->oc - oc0 < CC_PANEL ? g->oc - oc0 : CC_PANEL, first = group * g->oc + oc0;
    const int transposed = job->step->operation == CC_CONV_TRANSPOSE;
    float *to = job->packed + p * cc_panel_floats(job->step);
    memset(to, 0, CC_PANEL * sizeof *to);
    if (job->bias)
        memcpy(to, job->bias + first, (size_t)oc * sizeof *to);
    to += CC_PANEL;
    for (int64_t t = 0; t < taps; t++) {
        const int64_t tap = job->step->flip ? taps - 1 - t : t;
        for (int64_t c = 0; c < g->ic; c++, to += CC_PANEL) {
            if (transposed) {
                for (int64_t o = 0; o < oc; o++)
                    to[o] = job->weights[(tap * g->oc + first + o) * g->ic + c];
            } else {
                memcpy(to, job->weights + (tap * g->ic + c) * g->oc * g->groups + first, (size_t)oc * sizeof *to);
            }
            memset(to + oc, 0, (size_t)(CC_PANEL - oc) * sizeof *to);
        }
    }
}

/* Finite points of F(m x m, 3x3), in the order in which V and U have them: see winograd.h. */
static const double points_of_tile[3][7] = {
    {0, 1, -1},
    {0, 0.75, -0.75, 1.5, -1.5},
    {0, 0.5, -0.5, 1, -1, 2, -2},
};

/* G: row i is (1, p, p^2) / prod over other points q of (p - q); the last one, infinity, is (0, 0, 1). */
static void fill_g(int64_t tile, double g[8][3])
{
    const double *points = points_of_tile[tile / 2 - 1];
    const int finite = (int)tile + 1;
    for (int i = 0; i < finite; i++) {
        double product = 1;
        for (int j = 0; j < finite; j++)
            product *= j == i ? 1 : points[i] - points[j];
        for (int r = 0; r < 3; r++)
            g[i][r] = (r == 0 ? 1 : r == 1 ? points[i] : points[i] * points[i]) / product;
    }
    g[finite][0] = g[finite][1] = 0;
    g[finite][2] = 1;
}

/* U = G w G^T for panel p, in double and rounded once. */
static void pack_winograd_panel(const pack_job *job, int64_t p)
{
    const cc_conv_geometry *g = conv_geometry(job->step);
    const int64_t depth = job->step->window.kernel[0], panel_floats = cc_winograd_panel_floats(g->tile, depth, g->ic);
    const int64_t oc0 = p * CC_PANEL, oc = g->oc - oc0 < CC_PANEL ? g->oc - oc0 : CC_PANEL;
    const int side = (int)g->tile + 2;
    double gt[8][3];
    fill_g(g->tile, gt);
    float *to = job->packed + p * panel_floats;
    memset(to, 0, (size_t)panel_floats * sizeof *to);
    if (job->bias)
        memcpy(to, job->bias + oc0, (size_t)oc * sizeof *to);
    to += CC_PANEL;
    const int64_t point = cc_winograd_point_floats(depth, g->ic);
    for (int64_t d = 0; d < depth; d++)
        for (int64_t c = 0; c < g->ic; c++)
            for (int64_t o = 0; o < oc; o++) {
                double rows[8][3];
                for (int i = 0; i < side; i++)
                    for (int s = 0; s < 3; s++) {
                        rows[i][s] = 0;
                        for (int r = 0; r < 3; r++) {
                            const int64_t tap = (d * 3 + r) * 3 + s;
                            const int64_t from = job->step->flip ? 9 * depth - 1 - tap : tap;
                            rows[i][s] += gt[i][r] * (double)job->weights[(from * g->ic + c) * g->oc + oc0 + o];
                        }
                    }
                for (int i = 0; i < side; i++)
                    for (int j = 0; j < side; j++)
                        to[(side * i + j) * point + CC_PANEL * (1 + d * g->ic + c) + o] =
                            (float)(rows[i][0] * gt[j][0] + rows[i][1] * gt[j][1] + rows[i][2] * gt[j][2]);
            }
}

static void pack_share(void *argument, int thread, int threads)
{
    const pack_job *job = argument;
    const cc_conv_geometry *g = conv_geometry(job->step);
    for (int64_t p = thread; p < g->groups * g->panels; p += threads)
        if (g->tile)
            pack_winograd_panel(job, p);
        else
            pack_panel(job, p);
}

void cc_pack_conv(const cc_step *step, const float *weights, const float *bias, float *packed)
{
    pack_job job = {step, weights, bias, packed};
    const int64_t worth_sharing = 1 << 16; /* floats: below, waking the pool costs more than it saves */
    cc_parallel(step->packed_floats < worth_sharing ? 1 : cc_get_num_threads(), pack_share, &job);
}

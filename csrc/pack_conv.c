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

/* U = G w G^T for panel p, in double. Row i of G is (1, p, p^2) / prod over other points q of (p - q). */
static void pack_winograd_panel(const pack_job *job, int64_t p)
{
    const double a = 0.75, b = 1.5, a2 = a * a, b2 = b * b;
    const double at_0 = 1 / (a2 * b2), at_a = 1 / (2 * a2 * (a2 - b2)), at_b = 1 / (2 * b2 * (b2 - a2));
    const double gt[6][3] = {{at_0, 0, 0},
                             {at_a, at_a * a, at_a * a2},
                             {at_a, -at_a * a, at_a * a2},
                             {at_b, at_b * b, at_b * b2},
                             {at_b, -at_b * b, at_b * b2},
                             {0, 0, 1}};
    const cc_conv_geometry *g = conv_geometry(job->step);
    const int64_t oc0 = p * CC_PANEL, oc = g->oc - oc0 < CC_PANEL ? g->oc - oc0 : CC_PANEL;
    float *to = job->packed + p * cc_winograd_panel_floats(g->ic);
    memset(to, 0, (size_t)cc_winograd_panel_floats(g->ic) * sizeof *to);
    if (job->bias)
        memcpy(to, job->bias + oc0, (size_t)oc * sizeof *to);
    to += CC_PANEL;
    const int64_t point = CC_PANEL * (1 + g->ic);
    for (int64_t c = 0; c < g->ic; c++)
        for (int64_t o = 0; o < oc; o++) {
            double rows[6][3];
            for (int i = 0; i < 6; i++)
                for (int s = 0; s < 3; s++) {
                    rows[i][s] = 0;
                    for (int r = 0; r < 3; r++) {
                        const int64_t tap = job->step->flip ? 8 - (3 * r + s) : 3 * r + s;
                        rows[i][s] += gt[i][r] * (double)job->weights[(tap * g->ic + c) * g->oc + oc0 + o];
                    }
                }
            for (int i = 0; i < 6; i++)
                for (int j = 0; j < 6; j++)
                    to[(6 * i + j) * point + CC_PANEL * (1 + c) + o] =
                        (float)(rows[i][0] * gt[j][0] + rows[i][1] * gt[j][1] + rows[i][2] * gt[j][2]);
        }
}

static void pack_share(void *argument, int thread, int threads)
{
    const pack_job *job = argument;
    const cc_conv_geometry *g = conv_geometry(job->step);
    for (int64_t p = thread; p < g->groups * g->panels; p += threads)
        if (g->tile_block)
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

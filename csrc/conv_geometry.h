/* What cc_choose_conv tells the convolution kernels, kept in step->detail. */
#ifndef CC_CONV_GEOMETRY_H
#define CC_CONV_GEOMETRY_H

#include "convcore.h"

/* Channels are blocked by 16 (one cache line of floats) in repacked inputs, by 32 in packed weights. */
enum { CC_BLOCK = 16, CC_PANEL = 32 };

/* The input that the kernel reads is either the caller's own (repack = 0; nothing of the window lies
 * outside it) or a copy in the workspace with a halo of zeros:
 *     [group][channel block][d][h][w][16],  size[] = padded d, h, w,  pixel 0 at low[].
 * Packed weights are, for each group and each panel of 32 output channels,
 *     bias [32], then [tap][channel][32]:
 * the order in which the kernel reads them, on every instruction set. */
typedef struct cc_conv_geometry {
    int64_t images;             /* one to three phases each */
    int64_t groups, ic, oc;     /* channels of one group */
    int64_t panels;             /* of one group */
    int64_t repack;
    int64_t low[CC_SPATIAL], size[CC_SPATIAL];
    int64_t out_d, out_h, out_w;
    int64_t x_ld[CC_SPATIAL];   /* of the caller's input; a repacked one follows from size[] */
    int64_t y_ld[CC_SPATIAL];
    int64_t x_image, y_image;   /* between images */
    int64_t chunk, chunks;      /* an output row is cut into `chunks` of at most `chunk` columns */
    /* Winograd only, 0 otherwise: */
    int64_t tiles_h, tiles_w;   /* of 4x4 outputs, in one slice */
    int64_t tile_block;         /* tiles of one item, where items are blocks of tiles */
    int64_t ld_v, ld_m;         /* floats between points of V and of M */
    int64_t repacked_floats;    /* of one image, before V in the workspace */
    int64_t spare[1];
} cc_conv_geometry;

_Static_assert(sizeof(cc_conv_geometry) == sizeof(((cc_step *)0)->detail), "geometry must fit step->detail");

static inline const cc_conv_geometry *conv_geometry(const cc_step *step)
{
    return (const cc_conv_geometry *)step->detail;
}

/* Floats of one panel of transformed weights: see conv_winograd.c. */
static inline int64_t cc_winograd_panel_floats(int64_t ic) { return CC_PANEL * (1 + 36 * (1 + ic)); }

static inline int64_t cc_panel_floats(const cc_step *step)
{
    const int64_t *k = step->window.kernel;
    return CC_PANEL * (1 + k[0] * k[1] * k[2] * conv_geometry(step)->ic);
}

#endif

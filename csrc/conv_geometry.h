/* What cc_choose_conv tells the convolution kernels, kept in step->detail. */
#ifndef CC_CONV_GEOMETRY_H
#define CC_CONV_GEOMETRY_H

#include "convcore.h"

/* Packed weights are blocked by so many output channels: two channel blocks. */
enum { CC_PANEL = 2 * CC_BLOCK };

/* Sums go to a second accumulator after so many products (see tile.h). One number for convolutions and for
 * dense layers: a dense layer of one row must have the bits of the same row in a batch. */
enum { PARTIAL_PRODUCTS = 512 };

/* The input that the kernel reads is either the caller's own (repack = 0: blocked with a halo wide enough,
 * or nothing of the window outside it, or clip = 1: taps outside are left out, see conv_rectangles.h) or a
 * copy in the workspace with a halo of zeros,
 *     [group][channel block][d][h][w][16]   or, of few channels,   [d][h][w][ic],
 * size[] = padded d, h, w, with cell 0 at low[].
 * Packed weights are, for each group and each panel of 32 output channels,
 *     bias [32], then [tap][channel][32]:
 * the order in which the kernel reads them, on every instruction set. */
typedef struct cc_conv_geometry {
    int64_t images;
    int64_t groups, ic, oc;     /* channels of one group */
    int64_t panels;             /* of one group */
    int64_t repack;
    int64_t clip;               /* direct only */
    int64_t few_channels;       /* taps along w and channels are one contiguous run of the reduction */
    int64_t low[CC_SPATIAL], size[CC_SPATIAL];
    int64_t out_d, out_h, out_w;           /* before pooling */
    int64_t x_ld[CC_SPATIAL], x_block, x_image; /* the caller's input; a repacked one follows from size[] */
    int64_t y_ld[CC_SPATIAL], y_block, y_image; /* block: from 16 channels to the next 16 */
    int64_t chunk, chunks;      /* an output row is cut into `chunks` of at most `chunk` columns */
    /* Winograd only, 0 otherwise; see conv_winograd.c: */
    int64_t tile;               /* F(tile x tile, 3x3) */
    int64_t tiles_h, tiles_w;   /* of one slice */
    int64_t tile_block;         /* tiles that go through the matrix products together */
    int64_t share_panels;       /* threads share panels of weights; otherwise blocks of tiles */
    int64_t depth_run;          /* output slices of an item */
    int64_t together;           /* images between two barriers, where threads share panels */
    int64_t ld_v, ld_m;         /* floats between points of V and of M */
    int64_t repacked_floats;    /* of one image, before V in the workspace */
} cc_conv_geometry;

_Static_assert(sizeof(cc_conv_geometry) <= sizeof(((cc_step *)0)->detail), "geometry must fit step->detail");

static inline const cc_conv_geometry *conv_geometry(const cc_step *step)
{
    return (const cc_conv_geometry *)step->detail;
}

/* Points of a tile, and floats of one panel of transformed weights:
 *     bias [32], then for each point: zeros [32], then [tap along d][channel][32]. */
static inline int64_t cc_winograd_points(int64_t tile) { return (tile + 2) * (tile + 2); }
static inline int64_t cc_winograd_point_floats(int64_t depth, int64_t ic) { return CC_PANEL * (1 + depth * ic); }
static inline int64_t cc_winograd_panel_floats(int64_t tile, int64_t depth, int64_t ic)
{
    return CC_PANEL + cc_winograd_points(tile) * cc_winograd_point_floats(depth, ic);
}

static inline int64_t cc_panel_floats(const cc_step *step)
{
    const int64_t *k = step->window.kernel;
    return CC_PANEL * (1 + k[0] * k[1] * k[2] * conv_geometry(step)->ic);
}

#endif

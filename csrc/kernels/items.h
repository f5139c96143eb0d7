/* How the window kernels cut their work into items, where that is more than one output row: what the
 * chooser counts and what the kernels do must be the same thing. */
#ifndef CC_ITEMS_H
#define CC_ITEMS_H

#include "../convcore.h"

/* In cc_step.detail: 1 where the output goes past the caches (cc_streams); columns of an output row that
 * are one item of a depthwise convolution, and how many such pieces a row has. */
enum { DEPTHWISE_STRETCH = 32 }; /* outputs of a row made for all channels before it goes on */
enum { WINDOW_STREAM, DEPTHWISE_PIECE, DEPTHWISE_PIECES };

/* Global pooling: an item is this many channels of one image, whatever the instruction set. */
enum { GLOBAL_CHANNELS = 64 };

static inline int64_t global_channel_blocks(int64_t channels)
{
    return (channels + GLOBAL_CHANNELS - 1) / GLOBAL_CHANNELS;
}

/* The probe of multiply-adds: an item works this long on each of this many chains, in elements. */
enum { PROBE_CHAINS = 14, PROBE_ELEMENTS = 1 << 15 };

/* Depthwise weights are packed in blocks of CC_BLOCK output channels: their biases, then their weights of each
 * tap (d, h, w). A block is read from end to end, and, behind the last channel filled with zeros, never in part. */
static inline int64_t depthwise_padded(int64_t oc) { return (oc + 15) / 16 * 16; }

/* The loops of a copy, innermost first. Axis 0 is the one whose neighbours are closest in the output;
 * axis 1 the one whose neighbours are closest in the input, if that is another (a transposition). An
 * item is a tile of these two axes, tile[1] rows of tile[0] elements. */
typedef struct cc_copy_loops {
    int rank; /* 2 at least */
    int64_t size[CC_MAX_RANK], in_ld[CC_MAX_RANK], out_ld[CC_MAX_RANK];
    int64_t in_offset, out_offset; /* of the first element, from that of the views */
    int64_t tile[2], tiles[2];
    int64_t items;
} cc_copy_loops;

enum {
    COPY_ITEM = 8192,   /* elements of an item: enough to make its set-up small */
    COPY_TRANSPOSE = 64 /* side of a transposed tile: 64 lines of each side fit the L1 cache together */
};

static inline int64_t copy_distance(int64_t ld) { return ld < 0 ? -ld : ld; }

static inline void copy_swap_axes(cc_copy_loops *l, int a, int b)
{
    const int64_t size = l->size[a], in_ld = l->in_ld[a], out_ld = l->out_ld[a];
    l->size[a] = l->size[b], l->in_ld[a] = l->in_ld[b], l->out_ld[a] = l->out_ld[b];
    l->size[b] = size, l->in_ld[b] = in_ld, l->out_ld[b] = out_ld;
}

/* Inserts an axis where its output step belongs, walking it so that the output is written upwards. */
static inline void copy_insert_axis(cc_copy_loops *l, int64_t size, int64_t in_ld, int64_t out_ld)
{
    if (out_ld < 0) {
        l->in_offset += (size - 1) * in_ld;
        l->out_offset += (size - 1) * out_ld;
        in_ld = -in_ld;
        out_ld = -out_ld;
    }
    int a = l->rank++;
    l->size[a] = size, l->in_ld[a] = in_ld, l->out_ld[a] = out_ld;
    for (; a > 0 && l->out_ld[a] < l->out_ld[a - 1]; a--)
        copy_swap_axes(l, a, a - 1);
}

/* Joins axes that follow each other in memory on both sides. */
static inline void copy_merge_axes(cc_copy_loops *l)
{
    if (l->rank == 0)
        return;
    int last = 0;
    for (int a = 1; a < l->rank; a++) {
        if (l->in_ld[a] == l->size[last] * l->in_ld[last] && l->out_ld[a] == l->size[last] * l->out_ld[last]) {
            l->size[last] *= l->size[a];
        } else {
            last++;
            l->size[last] = l->size[a], l->in_ld[last] = l->in_ld[a], l->out_ld[last] = l->out_ld[a];
        }
    }
    l->rank = last + 1;
}

/* in may be NULL: every input step is 0 then (a fill). */
static inline cc_copy_loops copy_loops(const cc_view *in, const cc_view *out)
{
    cc_copy_loops l = {0};
    for (int a = out->rank - 1; a >= 0; a--)
        if (out->shape[a] > 1)
            copy_insert_axis(&l, out->shape[a], in ? in->ld[a] : 0, out->ld[a]);
    copy_merge_axes(&l);
    for (; l.rank < 2; l.rank++)
        l.size[l.rank] = 1;
    int nearest = 0;
    for (int a = 1; a < l.rank; a++)
        if (l.in_ld[a] && copy_distance(l.in_ld[a]) < copy_distance(l.in_ld[nearest]))
            nearest = a;
    if (nearest > 1)
        copy_swap_axes(&l, 1, nearest);
    if (nearest > 0) {
        const int64_t narrow = l.size[0] < l.size[1] ? l.size[0] : l.size[1];
        l.tile[0] = l.tile[1] = narrow < COPY_TRANSPOSE ? COPY_TRANSPOSE * COPY_TRANSPOSE / narrow : COPY_TRANSPOSE;
    } else {
        l.tile[0] = COPY_ITEM;
        l.tile[1] = l.size[0] < COPY_ITEM ? COPY_ITEM / l.size[0] : 1;
    }
    l.items = 1;
    for (int a = 0; a < l.rank; a++) {
        if (a < 2) {
            if (l.tile[a] > l.size[a])
                l.tile[a] = l.size[a];
            l.tiles[a] = (l.size[a] + l.tile[a] - 1) / l.tile[a];
            l.items *= l.tiles[a];
        } else {
            l.items *= l.size[a];
        }
    }
    return l;
}

#endif

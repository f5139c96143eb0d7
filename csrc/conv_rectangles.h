/* How a direct convolution cuts its outputs into items: what the chooser counts and what the kernel does.
 *
 * Taps that lie outside the input add nothing, and are left out. Along one axis, output positions whose
 * windows have the same taps inside follow each other: a span. "Same" padding of a 3x3 window has three,
 *
 *      first position: taps 1, 2        all in between: taps 0, 1, 2        last position: taps 0, 1
 *
 * and a span of h with one of w is a rectangle of outputs that are sums over the same taps: nine here. */
#ifndef CC_CONV_RECTANGLES_H
#define CC_CONV_RECTANGLES_H

#include "conv_geometry.h"

/* Spans of one axis at most; where a window would have more, its input is copied and padded instead. */
enum { CC_MOST_SPANS = 8 };

/* Longer lines are cut, so that a long one (a 1x1 convolution) can be shared by threads and its inputs stay
 * in the L1 cache. Pieces are multiples of the widest tile; this is one of every tile's width. */
enum { CC_WIDEST_TILE = 14, CC_MOST_COLUMNS = 6 * CC_WIDEST_TILE };

/* Lines go along w, unless they were shorter than this there, and longer along h. */
enum { CC_FEW_COLUMNS = 7 };

typedef struct cc_span {
    int64_t begin, count; /* output positions */
    int64_t tap, taps;    /* the first inside, and how many */
} cc_span;

/* Items are pieces of lines, `items` altogether, for each slice along d. */
typedef struct cc_rectangle {
    cc_span h, w;
    int along;            /* the axis of a line, 1 or 2 */
    int64_t line, lines;  /* outputs of a line */
    int64_t piece, pieces;
    int64_t items;
} cc_rectangle;

/* a / b: strides and dilations are mostly 1, and of a small map the divisions here are what takes time. */
static inline int64_t cc_divided(int64_t a, int64_t b) { return b == 1 ? a : a / b; }

/* The span of axis a that begins at output position o. */
static inline cc_span cc_span_from(const cc_step *step, int a, int64_t o)
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int64_t out = a == 0 ? g->out_d : a == 1 ? g->out_h : g->out_w, kernel = step->window.kernel[a];
    if (!g->clip)
        return (cc_span){o, out - o, 0, kernel};
    const int64_t stride = step->window.stride[a], dilation = step->window.dilation[a];
    const int64_t low = step->window.pad_low[a], in = step->in.shape[a + 1], first = o * stride - low;
    int64_t tap = first < 0 ? cc_divided(-first + dilation - 1, dilation) : 0;
    int64_t end = first < in ? cc_divided(in - first + dilation - 1, dilation) : 0;
    tap = tap < kernel ? tap : kernel;
    end = end < kernel ? end : kernel;
    int64_t next = out; /* where tap - 1 comes inside, or end - 1 goes outside */
    if (tap > 0) {
        const int64_t enters = cc_divided(low - (tap - 1) * dilation + stride - 1, stride);
        next = enters < next ? enters : next;
    }
    if (end > 0) {
        const int64_t leaves = cc_divided(low + in - (end - 1) * dilation + stride - 1, stride);
        next = leaves < next ? leaves : next;
    }
    return (cc_span){o, next - o, tap, end > tap ? end - tap : 0};
}

/* All spans of axis a, and how many; more than CC_MOST_SPANS are not stored. */
static inline int cc_spans(const cc_step *step, int a, cc_span spans[CC_MOST_SPANS])
{
    const cc_conv_geometry *g = conv_geometry(step);
    const int64_t out = a == 0 ? g->out_d : a == 1 ? g->out_h : g->out_w;
    int count = 0;
    for (int64_t o = 0; o < out && count <= CC_MOST_SPANS; count++) {
        const cc_span span = cc_span_from(step, a, o);
        if (count < CC_MOST_SPANS)
            spans[count] = span;
        o += span.count;
    }
    return count;
}

/* All rectangles, and the items that they are together. Few channels make light columns: their pieces are longer. */
static inline int64_t cc_rectangles(const cc_step *step, cc_rectangle rectangles[CC_MOST_SPANS * CC_MOST_SPANS])
{
    const int64_t most = conv_geometry(step)->few_channels ? 4 * CC_MOST_COLUMNS : CC_MOST_COLUMNS;
    cc_span h[CC_MOST_SPANS], w[CC_MOST_SPANS];
    const int hs = cc_spans(step, 1, h), ws = cc_spans(step, 2, w);
    int64_t items = 0;
    for (int i = 0; i < hs; i++)
        for (int j = 0; j < ws; j++) {
            cc_rectangle *r = rectangles++;
            *r = (cc_rectangle){h[i], w[j], 2, w[j].count, h[i].count, 0, 0, 0};
            if (r->line < CC_FEW_COLUMNS && r->line < r->lines)
                *r = (cc_rectangle){h[i], w[j], 1, h[i].count, w[j].count, 0, 0, 0};
            const int64_t pieces = r->line <= most ? 1 : (r->line + most - 1) / most, widest = CC_WIDEST_TILE;
            r->piece = (cc_divided(r->line + pieces - 1, pieces) + widest - 1) / widest * widest;
            r->pieces = r->line <= r->piece ? 1 : (r->line + r->piece - 1) / r->piece;
            r->items = r->lines * r->pieces;
            items += r->items;
        }
    return items;
}

#endif

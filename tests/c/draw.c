#include "draw.h"

#include <stddef.h>

enum {
    MOST_PRODUCTS = 200000, /* multiplications of one step: the sanitizers make each dear */
    MOST_ELEMENTS = 100000,
};

static int64_t awkward(void)
{
    static const int64_t sizes[] = {1, 2, 3, 15, 16, 17, 31, 33, 97};
    return sizes[below(sizeof sizes / sizeof *sizes)];
}

static int64_t small(void) { return 1 + below(3); }

typedef enum layout {
    ANY_LAYOUT,     /* gaps, any order of axes in memory, any direction */
    CHANNELS_LAST,  /* the same, but neighbouring channels are neighbours */
} layout;

/* Steps and offset of a view whose shape is set; returns the elements that its buffer must have. */
static int64_t lay_out(cc_view *v, layout kind)
{
    int order[CC_MAX_RANK];
    for (int a = 0; a < v->rank; a++)
        order[a] = a;
    const int movable = kind == CHANNELS_LAST ? v->rank - 1 : v->rank;
    if (below(3) == 0)
        for (int a = movable - 1; a > 0; a--) {
            const int other = (int)below(a + 1), keep = order[a];
            order[a] = order[other];
            order[other] = keep;
        }
    const int tight = below(3) == 0; /* nothing but order: rows can be joined */
    int64_t ld = kind == ANY_LAYOUT && !tight && below(3) == 0 ? 2 : 1, lowest = 0, highest = 0;
    for (int k = v->rank - 1; k >= 0; k--) {
        const int a = order[k];
        const int fixed = kind == CHANNELS_LAST && a == v->rank - 1;
        v->ld[a] = tight || fixed || below(4) ? ld : -ld;
        const int64_t reach = (v->shape[a] - 1) * v->ld[a];
        *(reach < 0 ? &lowest : &highest) += reach;
        ld = ld * v->shape[a] + (tight || below(2) ? 0 : below(3));
    }
    v->offset = -lowest + below(2) * below(4); /* odd addresses, too */
    return v->offset + highest + 1;
}

/* Sometimes one axis of an input repeats itself. */
static void repeat_axis(cc_view *v)
{
    if (below(8) == 0) {
        const int a = (int)below(v->rank);
        if (v->ld[a] < 0)
            v->offset += (v->shape[a] - 1) * v->ld[a];
        v->ld[a] = 0;
    }
}

static void lay_out_all(drawn *d, layout in, layout out)
{
    cc_step *s = &d->step;
    s->in.buffer = IN;
    s->in2.buffer = IN2;
    s->out.buffer = OUT;
    d->span[IN] = s->in.rank ? lay_out(&s->in, in) : 0;
    d->span[IN2] = s->in2.rank ? lay_out(&s->in2, in) : 0;
    d->span[OUT] = lay_out(&s->out, out);
    if (s->in.rank && in == ANY_LAYOUT)
        repeat_axis(&s->in);
    if (s->in2.rank)
        repeat_axis(&s->in2);
}

static void set_shape(cc_view *v, int rank, const int64_t *shape)
{
    v->rank = rank;
    for (int a = 0; a < rank; a++)
        v->shape[a] = shape[a];
}

static void draw_activation(cc_step *s)
{
    const int64_t which = below(4);
    s->activation.kind = which < 2 ? CC_LINEAR : which == 2 ? CC_RELU : (int32_t)below(CC_ACTIVATION_KIND_COUNT);
    s->activation.parameter[0] = 0.25f;
    s->activation.parameter[1] = 6.0f;
}

static void draw_window(cc_window *w, int dilated)
{
    static const int64_t kernels[] = {1, 1, 2, 3, 3, 5};
    const int plain = below(4) == 0;
    for (int a = 0; a < CC_SPATIAL; a++) {
        w->kernel[a] = plain ? 1 : kernels[below(6)];
        w->stride[a] = plain || below(2) ? 1 : below(8) ? small() : 7;
        w->dilation[a] = dilated && below(3) == 0 ? small() : 1;
        w->pad_low[a] = plain || below(2) ? 0 : below(4);
    }
}

static int64_t taps(const cc_window *w) { return w->kernel[0] * w->kernel[1] * w->kernel[2]; }

/* Maps of a 1-, 2- or 3-D network. */
static void draw_map(int64_t shape[5])
{
    const int64_t dimensions = small();
    shape[0] = small();
    shape[1] = dimensions > 2 ? 1 + below(5) : 1;
    shape[2] = dimensions > 1 ? awkward() : 1;
    shape[3] = awkward();
    shape[4] = awkward();
}

/* Mostly what the window leaves of the input; sometimes less, sometimes windows that reach out of it. */
static int64_t draw_output(int64_t natural)
{
    const int64_t size = natural + (below(2) ? 0 : below(3) - 1);
    return size < 1 ? 1 : size;
}

static int too_large(const cc_step *s, int64_t products)
{
    return products > MOST_PRODUCTS || elements(&s->in) > MOST_ELEMENTS || elements(&s->out) > MOST_ELEMENTS;
}

/* A blocked view whose shape and halo are set; cells may lie apart, and images side by side in a block. */
static int64_t lay_out_blocks(cc_view *v)
{
    const int64_t blocks = (v->shape[4] + CC_BLOCK - 1) / CC_BLOCK, lead = below(2) * below(4);
    int64_t ld = below(4) ? CC_BLOCK : 2 * CC_BLOCK;
    v->ld[4] = 1;
    v->offset = lead;
    for (int a = CC_SPATIAL; a >= 1; a--) {
        v->ld[a] = ld;
        v->offset += v->halo_low[a - 1] * ld;
        ld *= v->halo_low[a - 1] + v->shape[a] + v->halo_high[a - 1];
        ld += below(4) ? 0 : CC_BLOCK;
    }
    const int images_inside = below(4) == 0;
    v->ld_block = images_inside ? ld * v->shape[0] : ld;
    v->ld[0] = images_inside ? ld : ld * blocks;
    return lead + ld * blocks * v->shape[0];
}

static int64_t lay_out_output_blocks(cc_view *v)
{
    for (int a = 0; a < CC_SPATIAL; a++) {
        v->halo_low[a] = (int32_t)below(3);
        v->halo_high[a] = (int32_t)below(3);
    }
    return lay_out_blocks(v);
}

/* With the halo that the kernel asks for, or more; or with too little. */
static int64_t lay_out_input_blocks(const cc_step *s, cc_view *v)
{
    cc_step asked = *s;
    lay_out_blocks(&asked.in);
    cc_choose(&asked); /* an error will be met again */
    const int enough = below(3) != 0, none = below(2) == 0;
    for (int a = 0; a < CC_SPATIAL; a++) {
        v->halo_low[a] = asked.need_low[a] + (int32_t)(below(3) == 0);
        v->halo_high[a] = asked.need_high[a] + (int32_t)(below(3) == 0);
        if (!enough && none)
            v->halo_low[a] = v->halo_high[a] = 0;
    }
    if (!enough && !none) { /* a cell too few at one end */
        const int a = (int)below(CC_SPATIAL);
        int32_t *const end = below(2) ? &v->halo_low[a] : &v->halo_high[a];
        const int32_t need = end == &v->halo_low[a] ? asked.need_low[a] : asked.need_high[a];
        *end = need > 0 ? need - 1 : 0;
    }
    return lay_out_blocks(v);
}

/* Maps of a convolution: plain or blocked, each side for itself. */
static void lay_out_maps(drawn *d)
{
    cc_step *s = &d->step;
    const int64_t groups = s->operation == CC_CONV ? s->groups : 1;
    const int in_fits = groups == 1 || s->in.shape[4] / groups % CC_BLOCK == 0;
    const int out_fits = groups == 1 || s->out.shape[4] / groups % CC_BLOCK == 0;
    lay_out_all(d, ANY_LAYOUT, CHANNELS_LAST);
    if (out_fits && below(2))
        d->span[OUT] = lay_out_output_blocks(&s->out);
    if (in_fits && below(2))
        d->span[IN] = lay_out_input_blocks(s, &s->in);
}

/* A 3x3 or 3x3x3 convolution that Winograd's algorithm takes: tiles cut by the borders, channels that end
 * inside a vector, few tiles and many, few of them under many weights. Sizes are those before pooling, and
 * the same tile suits them behind it. */
static void draw_winograd(drawn *d)
{
    static const struct {
        int64_t tile, h, w, many; /* weights are many from so many channels on */
    } maps[] = {
        {2, 7, 8, 182},  {2, 9, 8, 182}, {2, 6, 8, 182},  {4, 13, 12, 121}, {4, 11, 13, 121}, {4, 8, 16, 121},
        {4, 34, 33, 0}, {6, 17, 23, 91}, {6, 12, 23, 91}, {6, 23, 24, 91},  {6, 36, 35, 91},
    };
    enum { MOST_WINOGRAD = 40 << 20 }; /* two images under many weights */
    cc_step *s = &d->step;
    const int64_t which = below(sizeof maps / sizeof *maps);
    int64_t products;
    do {
        const int many = maps[which].many && below(4) == 0;
        const int64_t least = many ? maps[which].many : CC_BLOCK, pool = 1 + below(2);
        int64_t in[5] = {1 + below(3), 0, 0, 0, least + below(20)};
        const int64_t depth = many ? 1 : 1 + below(below(3) ? 3 : 8);
        int64_t out[5] = {in[0], depth, maps[which].h, maps[which].w, least + below(40)};
        for (int a = 0; a < CC_SPATIAL; a++) {
            const int64_t k = a ? 3 : many ? 1 : small();
            s->window.kernel[a] = k;
            s->window.stride[a] = s->window.dilation[a] = 1;
            s->window.pad_low[a] = below(k);
            in[a + 1] = out[a + 1] + k - 1 - s->window.pad_low[a] - below(k);
            in[a + 1] = in[a + 1] < 1 ? 1 : in[a + 1];
        }
        d->tile = maps[which].tile;
        d->weights = taps(&s->window) * in[4] * out[4];
        products = d->weights * out[0] * out[1] * out[2] * out[3];
        out[2] /= pool;
        out[3] /= pool;
        s->pool = pool == 2 ? 2 : (int32_t)below(2);
        set_shape(&s->in, 5, in);
        set_shape(&s->out, 5, out);
    } while (products > MOST_WINOGRAD);
    s->groups = 1;
    s->accuracy = d->tile == 6 || (d->tile == 2 && below(2)) ? CC_FAST : CC_STANDARD;
}

static void draw_direct(drawn *d)
{
    cc_step *s = &d->step;
    int64_t products;
    do {
        int64_t in[5], out[5];
        draw_map(in);
        draw_window(&s->window, 1);
        s->groups = below(3) ? 1 : small();
        const int64_t multiple = s->groups * (s->groups > 1 && below(2) ? CC_BLOCK : 1); /* groups of whole blocks */
        in[4] = (in[4] + multiple - 1) / multiple * multiple;
        out[0] = in[0];
        for (int a = 0; a < CC_SPATIAL; a++) {
            const cc_window *w = &s->window;
            const int64_t reach = (w->kernel[a] - 1) * w->dilation[a] + 1;
            out[a + 1] = draw_output((in[a + 1] + w->pad_low[a] + below(2) * w->pad_low[a] - reach) / w->stride[a] + 1);
        }
        out[4] = (awkward() + multiple - 1) / multiple * multiple;
        set_shape(&s->in, 5, in);
        set_shape(&s->out, 5, out);
        d->weights = taps(&s->window) * in[4] / s->groups * out[4];
        products = d->weights * elements(&s->out) / out[4];
    } while (too_large(s, products));
}

static void draw_conv(drawn *d)
{
    cc_step *s = &d->step;
    if (below(2))
        draw_direct(d);
    else
        draw_winograd(d);
    d->bias = below(2) * s->out.shape[4];
    s->flip = (int32_t)below(2);
    draw_activation(s);
    if (s->pool == 2)
        s->activation.kind = below(2) ? CC_RELU : CC_LINEAR;
    lay_out_maps(d);
}

static void draw_transpose(drawn *d)
{
    cc_step *s = &d->step;
    int64_t products;
    do {
        int64_t in[5], out[5];
        draw_map(in);
        draw_window(&s->window, 1);
        out[0] = in[0];
        for (int a = 0; a < CC_SPATIAL; a++) {
            const cc_window *w = &s->window;
            const int64_t full = (in[a + 1] - 1) * w->stride[a] + (w->kernel[a] - 1) * w->dilation[a] + 1;
            out[a + 1] = draw_output(full - w->pad_low[a] - below(2) * w->pad_low[a]);
        }
        out[4] = awkward();
        set_shape(&s->in, 5, in);
        set_shape(&s->out, 5, out);
        d->weights = taps(&s->window) * in[4] * out[4];
        products = d->weights * elements(&s->in) / in[4];
    } while (too_large(s, products));
    d->bias = below(2) * s->out.shape[4];
    s->flip = (int32_t)below(2);
    draw_activation(s);
    lay_out_maps(d);
}

static void draw_depthwise(drawn *d)
{
    static const int64_t multipliers[] = {1, 1, 1, 2, 3, 16};
    cc_step *s = &d->step;
    do {
        int64_t in[5], out[5];
        draw_map(in);
        draw_window(&s->window, 1);
        out[0] = in[0];
        for (int a = 0; a < CC_SPATIAL; a++) {
            const cc_window *w = &s->window;
            const int64_t reach = (w->kernel[a] - 1) * w->dilation[a] + 1;
            out[a + 1] = draw_output((in[a + 1] + 2 * w->pad_low[a] - reach) / w->stride[a] + 1);
        }
        out[4] = in[4] * multipliers[below(6)];
        set_shape(&s->in, 5, in);
        set_shape(&s->out, 5, out);
    } while (too_large(s, taps(&s->window) * elements(&s->out)));
    d->weights = taps(&s->window) * s->out.shape[4];
    d->bias = below(2) * s->out.shape[4];
    s->flip = (int32_t)below(2);
    draw_activation(s);
    lay_out_all(d, ANY_LAYOUT, below(2) ? CHANNELS_LAST : ANY_LAYOUT);
}

/* Every window must hold a cell of the input. */
static int windows_overlap(const cc_step *s)
{
    for (int a = 0; a < CC_SPATIAL; a++) {
        const int64_t last = (s->out.shape[a + 1] - 1) * s->window.stride[a] - s->window.pad_low[a];
        if (s->window.pad_low[a] >= s->window.kernel[a] || last >= s->in.shape[a + 1])
            return 0;
    }
    return 1;
}

static void draw_pool(drawn *d)
{
    cc_step *s = &d->step;
    do {
        int64_t in[5], out[5];
        draw_map(in);
        draw_window(&s->window, 0);
        out[0] = in[0];
        out[4] = in[4];
        for (int a = 0; a < CC_SPATIAL; a++) {
            const cc_window *w = &s->window;
            out[a + 1] = draw_output((in[a + 1] + 2 * w->pad_low[a] - w->kernel[a]) / w->stride[a] + 1);
        }
        set_shape(&s->in, 5, in);
        set_shape(&s->out, 5, out);
    } while (!windows_overlap(s) || too_large(s, taps(&s->window) * elements(&s->out)));
    s->include_padding = (int32_t)below(2);
    lay_out_all(d, ANY_LAYOUT, ANY_LAYOUT);
}

static void draw_global_pool(drawn *d)
{
    cc_step *s = &d->step;
    do {
        int64_t in[5];
        draw_map(in);
        set_shape(&s->in, 5, in);
        set_shape(&s->out, 5, (const int64_t[]){in[0], 1, 1, 1, in[4]});
    } while (too_large(s, 0));
    lay_out_all(d, ANY_LAYOUT, ANY_LAYOUT);
}

static void draw_resize(drawn *d)
{
    cc_step *s = &d->step;
    do {
        int64_t in[5], out[5];
        draw_map(in);
        draw_map(out);
        out[0] = in[0];
        out[4] = in[4];
        set_shape(&s->in, 5, in);
        set_shape(&s->out, 5, out);
    } while (too_large(s, 0));
    s->linear = (int32_t)below(2);
    for (int a = 0; a < CC_SPATIAL; a++) {
        s->resize_scale[a] = (float)s->in.shape[a + 1] / (float)s->out.shape[a + 1];
        s->resize_offset[a] = below(2) ? 0.5 * s->resize_scale[a] - 0.5 : 100.0 * random_float();
    }
    lay_out_all(d, ANY_LAYOUT, ANY_LAYOUT);
}

static void draw_dense(drawn *d)
{
    cc_step *s = &d->step;
    do {
        const int64_t rows = awkward(), ic = below(3) ? awkward() : 1 + below(5000), oc = awkward();
        set_shape(&s->in, 2, (const int64_t[]){rows, ic});
        set_shape(&s->out, 2, (const int64_t[]){rows, oc});
        d->weights = ic * oc;
    } while (too_large(s, s->in.shape[0] * d->weights));
    d->bias = below(2) * s->out.shape[1];
    draw_activation(s);
    lay_out_all(d, CHANNELS_LAST, CHANNELS_LAST);
}

/* Equal shapes everywhere; `rank` 0 is any. */
static void draw_elementwise(drawn *d, int rank, int inputs)
{
    cc_step *s = &d->step;
    const int any = rank == 0;
    int64_t shape[CC_MAX_RANK];
    if (any)
        rank = 1 + (int)below(below(4) ? 5 : CC_MAX_RANK);
    do {
        for (int a = 0; a < rank; a++)
            shape[a] = rank > 3 && below(2) ? small() : awkward();
        if (rank < 3 && below(3) == 0)
            shape[rank - 1] = 1 + below(40000); /* more than one item to a row */
        set_shape(&s->out, rank, shape);
    } while (elements(&s->out) > MOST_ELEMENTS);
    if (inputs > 0)
        set_shape(&s->in, rank, shape);
    if (inputs > 1)
        set_shape(&s->in2, rank, shape);
    lay_out_all(d, ANY_LAYOUT, ANY_LAYOUT);
}

/* A map with a halo, blocked or plain; the plain one is wider in memory than its cells. */
static void draw_border(drawn *d)
{
    cc_view *v = &d->step.out;
    int64_t shape[5];
    do {
        draw_map(shape);
        set_shape(v, 5, shape);
    } while (elements(v) > MOST_ELEMENTS / 10);
    v->buffer = OUT;
    d->span[OUT] = lay_out_output_blocks(v);
    if (below(2))
        return;
    int64_t ld = 1;
    v->ld_block = v->offset = 0;
    for (int a = 4; a >= 0; a--) {
        const int spatial = a >= 1 && a <= CC_SPATIAL;
        const int64_t low = spatial ? v->halo_low[a - 1] : 0, high = spatial ? v->halo_high[a - 1] : below(2);
        v->ld[a] = ld;
        v->offset += low * ld;
        ld *= low + v->shape[a] + high;
    }
    d->span[OUT] = ld;
}

static void draw_probe(drawn *d)
{
    cc_step *s = &d->step;
    const int64_t rows = awkward();
    s->probe = (int32_t)below(CC_PROBE_COPY + 1);
    s->value = 0.5f;
    set_shape(&s->in, 2, (const int64_t[]){rows, 1 + below(400)});
    set_shape(&s->out, 2, (const int64_t[]){rows, s->probe == CC_PROBE_COPY ? s->in.shape[1] : awkward()});
    lay_out_all(d, CHANNELS_LAST, CHANNELS_LAST);
}

static void draw_hu(drawn *d)
{
    static const double slopes[MOST_HU_ROWS] = {1, 0.1, -1.5}, intercepts[MOST_HU_ROWS] = {-1024, -1000.5, 7.1};
    cc_step *s = &d->step;
    const int64_t shape[2] = {1 + below(MOST_HU_ROWS), 1 + below(3000)};
    s->in.type = CC_I8 + (int32_t)below(5);
    s->out.type = below(2) ? CC_F32 : CC_I16;
    set_shape(&s->in, 2, shape);
    set_shape(&s->out, 2, shape);
    s->hu = (cc_hu){.has_padding = (int32_t)below(2), .padding_value = 100, .padding_is_hu = (int32_t)below(2),
                    .padding_to = -1000.5f, .slope = slopes, .intercept = intercepts};
    lay_out_all(d, ANY_LAYOUT, ANY_LAYOUT);
}

/* A kernel of any shape with any of the edges; small outputs, and such as see nothing but the border. */
static void draw_filter(drawn *d)
{
    static const int64_t kernels[] = {1, 1, 2, 3, 4, 5, 6, 9};
    cc_step *s = &d->step;
    cc_window *w = &s->window;
    int64_t shape[5], out[5];
    do {
        draw_map(shape);
        shape[4] = below(3) ? 1 : small();
        out[0] = shape[0];
        out[4] = shape[4];
        for (int a = 0; a < CC_SPATIAL; a++) {
            w->kernel[a] = a || below(3) == 0 ? kernels[below(8)] : 1;
            w->stride[a] = w->dilation[a] = 1;
            w->pad_low[a] = below(w->kernel[a] + (below(8) == 0 ? 40 : 0));
            out[a + 1] = below(4) ? shape[a + 1] : 1 + below(shape[a + 1] + w->kernel[a]);
        }
        set_shape(&s->in, 5, shape);
        set_shape(&s->in2, 3, w->kernel);
        set_shape(&s->out, 5, out);
    } while (too_large(s, elements(&s->out) * taps(w)));
    s->flip = (int32_t)below(2);
    s->edge = (int32_t)below(CC_EDGE_WRAP + 1);
    s->edge_value = random_float();
    s->accuracy = (int32_t)below(CC_FAST + 1);
    s->in2.type = below(3) ? CC_F32 : CC_F64;
    const int64_t types = s->in2.type == CC_F64 ? CC_F64 + 1 : CC_U16 + 1;
    s->in.type = below(2) ? s->in2.type : (int32_t)below(types);
    s->out.type = below(2) ? s->in2.type : (int32_t)below(types);
    lay_out_all(d, ANY_LAYOUT, ANY_LAYOUT);
}

void draw_step(int operation, drawn *d)
{
    *d = (drawn){.step = {.operation = operation, .groups = 1}};
    cc_step *s = &d->step;
    switch (operation) {
    case CC_CONV:
        draw_conv(d);
        break;
    case CC_DEPTHWISE_CONV:
        draw_depthwise(d);
        break;
    case CC_CONV_TRANSPOSE:
        draw_transpose(d);
        break;
    case CC_DENSE:
        draw_dense(d);
        break;
    case CC_MAX_POOL:
    case CC_AVERAGE_POOL:
        draw_pool(d);
        break;
    case CC_GLOBAL_MAX_POOL:
    case CC_GLOBAL_AVERAGE_POOL:
        draw_global_pool(d);
        break;
    case CC_AFFINE:
        draw_elementwise(d, 2, 1);
        draw_activation(s);
        d->weights = s->out.shape[1];
        d->bias = below(2) * s->out.shape[1];
        break;
    case CC_SOFTMAX:
        draw_elementwise(d, 2, 1);
        break;
    case CC_ACTIVATION:
        s->activation = (cc_activation){(int32_t)below(CC_ACTIVATION_KIND_COUNT), {0.25f, 6.0f, 0.5f}};
        draw_elementwise(d, 0, 1);
        break;
    case CC_SAMPLE:
        s->sample = (int32_t)below(2);
        s->seed = (uint64_t)below(1000);
        s->activation.parameter[0] = 3.0f;
        s->activation.parameter[1] = 8.0f;
        draw_elementwise(d, 0, 1);
        break;
    case CC_BINARY:
        s->binary = (int32_t)below(CC_PRELU + 1);
        draw_activation(s);
        draw_elementwise(d, 0, 2);
        break;
    case CC_COPY:
        draw_elementwise(d, 0, 1);
        break;
    case CC_FILL:
        s->value = random_float();
        draw_elementwise(d, 0, 0);
        break;
    case CC_BORDER:
        draw_border(d);
        break;
    case CC_RESIZE:
        draw_resize(d);
        break;
    case CC_PROBE:
        draw_probe(d);
        break;
    case CC_FILTER:
        draw_filter(d);
        break;
    default: /* CC_HU_RESCALE */
        draw_hu(d);
    }
}

/* Depthwise convolution, pooling, copies, fills and resizing: what each needs of its views, how many
 * items it has, and the packing of depthwise weights. cc_choose has checked ranks, sizes and windows one
 * by one; here they are checked against each other. */
#include "choose.h"
#include "kernels/items.h"

#include <math.h>
#include <stdint.h>

static double bytes_of(const cc_view *v) { return 4.0 * (double)cc_elements(v); }

static int is_f32(const cc_view *v) { return v->type == CC_F32; }

/* Rank 5, equal batch sizes, equal channels if asked for. */
static cc_status check_maps(const cc_step *step, int same_channels)
{
    const cc_view *in = &step->in, *out = &step->out;
    if (in->rank != 5 || out->rank != 5 || in->shape[0] != out->shape[0])
        return CC_ERROR_SHAPE;
    return same_channels && in->shape[4] != out->shape[4] ? CC_ERROR_SHAPE : CC_OK;
}

static void set_row_items(cc_step *step)
{
    const int64_t *shape = step->out.shape;
    step->items[0] = shape[0] * shape[1] * shape[2];
    step->bytes = bytes_of(&step->in) + bytes_of(&step->out);
    step->detail[WINDOW_STREAM] = cc_streams(step);
}

/* Cells of the window, or 0 if there are more than a float counts exactly. */
static int64_t taps_of(const cc_window *window)
{
    int64_t taps = 1;
    for (int a = 0; a < CC_SPATIAL; a++) {
        if (window->kernel[a] > ((int64_t)1 << 24) / taps)
            return 0;
        taps *= window->kernel[a];
    }
    return taps;
}

static cc_status choose_depthwise(cc_step *step, const cc_kernels *kernels)
{
    const cc_status status = check_maps(step, 0);
    const int64_t ic = step->in.shape[4], oc = step->out.shape[4], taps = taps_of(&step->window);
    if (status != CC_OK)
        return status;
    if (oc % ic != 0)
        return CC_ERROR_SHAPE;
    if (taps == 0 || depthwise_padded(oc) > CC_MOST_FLOATS / (1 + taps))
        return CC_ERROR_ARGUMENT;
    step->algorithm = "depthwise";
    step->kernel = kernels->depthwise_f32;
    step->packed_floats = depthwise_padded(oc) * (1 + taps);
    set_row_items(step);
    const int64_t columns = step->out.shape[3], enough = 16384 / oc; /* some microseconds of work */
    const int64_t piece = enough > DEPTHWISE_STRETCH ? enough / DEPTHWISE_STRETCH * DEPTHWISE_STRETCH : DEPTHWISE_STRETCH;
    const int64_t pieces = (columns + piece - 1) / piece;
    step->detail[DEPTHWISE_PIECE] = piece;
    step->detail[DEPTHWISE_PIECES] = pieces;
    step->items[0] *= pieces;
    step->flops = 2.0 * (double)taps * (double)cc_elements(&step->out);
    step->bytes += 4.0 * (double)oc * (double)(1 + taps);
    return CC_OK;
}

/* Every window must hold a cell of the input: the maximum, and the mean, of nothing are not defined. The
 * first window starts lowest and the last one highest, so these two speak for all. */
static int windows_overlap(const cc_step *step)
{
    const cc_window *window = &step->window;
    for (int a = 0; a < CC_SPATIAL; a++) {
        const int64_t last = (step->out.shape[a + 1] - 1) * window->stride[a] - window->pad_low[a];
        if (window->pad_low[a] >= window->kernel[a] || last >= step->in.shape[a + 1])
            return 0;
    }
    return 1;
}

static cc_status choose_pool(cc_step *step, const cc_kernels *kernels)
{
    const cc_status status = check_maps(step, 1);
    const int64_t taps = taps_of(&step->window);
    if (status != CC_OK)
        return status;
    for (int a = 0; a < CC_SPATIAL; a++)
        if (step->window.dilation[a] != 1)
            return CC_ERROR_ARGUMENT;
    if (taps == 0)
        return CC_ERROR_ARGUMENT;
    if (!windows_overlap(step))
        return CC_ERROR_SHAPE;
    const int is_max = step->operation == CC_MAX_POOL;
    step->algorithm = is_max ? "max pool" : "average pool";
    step->kernel = is_max ? kernels->max_pool_f32 : kernels->average_pool_f32;
    set_row_items(step);
    step->flops = (double)taps * (double)cc_elements(&step->out);
    return CC_OK;
}

static cc_status choose_global_pool(cc_step *step, const cc_kernels *kernels)
{
    const cc_status status = check_maps(step, 1);
    const cc_view *in = &step->in, *out = &step->out;
    if (status != CC_OK)
        return status;
    if (out->shape[1] != 1 || out->shape[2] != 1 || out->shape[3] != 1)
        return CC_ERROR_SHAPE;
    const int is_max = step->operation == CC_GLOBAL_MAX_POOL;
    step->algorithm = is_max ? "global max pool" : "global average pool";
    step->kernel = is_max ? kernels->global_max_pool_f32 : kernels->global_average_pool_f32;
    step->items[0] = in->shape[0] * global_channel_blocks(in->shape[4]);
    step->flops = (double)cc_elements(in);
    step->bytes = bytes_of(in) + bytes_of(out);
    return CC_OK;
}

static cc_status choose_copy(cc_step *step, const cc_kernels *kernels)
{
    if (!cc_same_shape(&step->in, &step->out))
        return CC_ERROR_SHAPE;
    step->algorithm = "copy";
    step->kernel = kernels->copy_f32;
    step->items[0] = copy_loops(&step->in, &step->out).items;
    step->flops = 0;
    step->bytes = 2 * bytes_of(&step->out);
    return CC_OK;
}

static cc_status choose_fill(cc_step *step, const cc_kernels *kernels)
{
    step->algorithm = "fill";
    step->kernel = kernels->fill_f32;
    step->items[0] = copy_loops(NULL, &step->out).items;
    step->flops = 0;
    step->bytes = bytes_of(&step->out);
    step->detail[WINDOW_STREAM] = cc_streams(step);
    return CC_OK;
}

static cc_status choose_border(cc_step *step, const cc_kernels *kernels)
{
    const cc_view *out = &step->out;
    if (out->rank != 5)
        return CC_ERROR_SHAPE;
    if (out->ld[4] != 1)
        return CC_ERROR_ARGUMENT;
    double cells = 1, inside = 1;
    for (int a = 0; a < CC_SPATIAL; a++) {
        cells *= (double)(out->halo_low[a] + out->shape[a + 1] + out->halo_high[a]);
        inside *= (double)out->shape[a + 1];
    }
    step->algorithm = "border";
    step->kernel = kernels->border_f32;
    step->items[0] = out->shape[0] * (out->ld_block ? (out->shape[4] + CC_BLOCK - 1) / CC_BLOCK : 1) *
                     (out->halo_low[0] + out->shape[1] + out->halo_high[0]);
    step->flops = 0;
    step->bytes = 4.0 * (cells - inside) * (double)out->shape[0] * (double)out->shape[4];
    return CC_OK;
}

static cc_status choose_resize(cc_step *step, const cc_kernels *kernels)
{
    const cc_status status = check_maps(step, 1);
    if (status != CC_OK)
        return status;
    int axes = 0; /* interpolated */
    for (int a = 0; a < CC_SPATIAL; a++) {
        if (!isfinite(step->resize_scale[a]) || !isfinite(step->resize_offset[a]))
            return CC_ERROR_ARGUMENT;
        if (step->in.shape[a + 1] > INT32_MAX) /* the kernel tabulates positions as int32 */
            return CC_ERROR_SHAPE;
        axes += step->in.shape[a + 1] > 1;
    }
    step->algorithm = step->linear ? "linear resize" : "nearest resize";
    step->kernel = kernels->resize_f32;
    set_row_items(step);
    /* 2^axes - 1 interpolations of three operations each */
    step->flops = step->linear ? 3.0 * (double)((1 << axes) - 1) * (double)cc_elements(&step->out) : 0;
    return CC_OK;
}

cc_status cc_choose_window(cc_step *step, const cc_kernels *kernels)
{
    const int writes_only = step->operation == CC_FILL || step->operation == CC_BORDER;
    if (!is_f32(&step->out) || (!writes_only && !is_f32(&step->in)))
        return CC_ERROR_TYPE;
    step->packed_floats = step->workspace_bytes = 0;
    step->phases = step->period = 1;
    switch (step->operation) {
    case CC_DEPTHWISE_CONV:
        return choose_depthwise(step, kernels);
    case CC_MAX_POOL:
    case CC_AVERAGE_POOL:
        return choose_pool(step, kernels);
    case CC_GLOBAL_MAX_POOL:
    case CC_GLOBAL_AVERAGE_POOL:
        return choose_global_pool(step, kernels);
    case CC_COPY:
        return choose_copy(step, kernels);
    case CC_FILL:
        return choose_fill(step, kernels);
    case CC_BORDER:
        return choose_border(step, kernels);
    case CC_RESIZE:
        return choose_resize(step, kernels);
    default:
        return CC_ERROR_ARGUMENT;
    }
}

void cc_pack_depthwise(const cc_step *step, const float *weights, const float *bias, float *packed)
{
    const int64_t oc = step->out.shape[4], taps = taps_of(&step->window);
    for (int64_t first = 0; first < oc; first += CC_BLOCK)
        for (int64_t row = 0; row <= taps; row++) {
            /* Reversing every axis of the window is reversing the order of its taps. */
            const float *from = row == 0 ? bias : weights + (step->flip ? taps - row : row - 1) * oc;
            for (int64_t o = first; o < first + CC_BLOCK; o++)
                *packed++ = from && o < oc ? from[o] : 0.0f;
        }
}

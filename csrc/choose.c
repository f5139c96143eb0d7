/* Completes a step: common checks, then the family's own choice. */
#include "choose.h"
#include "cpu.h"

int64_t cc_elements(const cc_view *v)
{
    int64_t n = 1;
    for (int32_t a = 0; a < v->rank; a++)
        n *= v->shape[a];
    return n;
}

int cc_same_shape(const cc_view *a, const cc_view *b)
{
    if (a->rank != b->rank)
        return 0;
    for (int32_t i = 0; i < a->rank; i++)
        if (a->shape[i] != b->shape[i])
            return 0;
    return 1;
}

int cc_streams(const cc_step *step)
{
    const cc_view *in = &step->in, *out = &step->out;
    const int64_t size = out->type == CC_F32 || out->type == CC_I32 ? 4 : 2;
    const int in_place = step->operation != CC_FILL && in->buffer == out->buffer && in->offset == out->offset;
    return out->ld[out->rank - 1] == 1 && !in_place && cc_elements(out) > cc_last_level_cache() / 2 / size;
}

static int takes_blocks(int32_t operation)
{
    return operation == CC_CONV || operation == CC_CONV_TRANSPOSE || operation == CC_BORDER;
}

/* At least one element on every axis, no more than CC_MOST_FLOATS in all, halo included, and memory steps
 * that stay within twice that: neither products of shapes nor positions can overflow. */
static cc_status check_view(const cc_view *v, int32_t operation)
{
    const int64_t farthest = 2 * CC_MOST_FLOATS;
    const int spatial = v->rank == CC_SPATIAL + 2;
    if (v->ld_block < 0 || (v->ld_block && (!spatial || !takes_blocks(operation))))
        return CC_ERROR_ARGUMENT;
    if (v->rank < 1 || v->rank > CC_MAX_RANK || v->buffer < 0 || v->offset < -farthest || v->offset > farthest)
        return CC_ERROR_ARGUMENT;
    int64_t n = 1;
    for (int32_t a = 0; a < v->rank; a++) {
        if (v->shape[a] < 1 || v->shape[a] > CC_MOST_FLOATS)
            return CC_ERROR_SHAPE;
        int64_t size = v->shape[a];
        if (spatial && a >= 1 && a <= CC_SPATIAL) {
            if (v->halo_low[a - 1] < 0 || v->halo_high[a - 1] < 0)
                return CC_ERROR_ARGUMENT;
            size += (int64_t)v->halo_low[a - 1] + v->halo_high[a - 1];
        }
        if (size > CC_MOST_FLOATS / n)
            return CC_ERROR_SHAPE;
        n *= size;
        if (v->ld[a] < -farthest / size || v->ld[a] > farthest / size)
            return CC_ERROR_ARGUMENT;
    }
    return v->ld_block && v->ld_block > farthest / ((v->shape[4] + CC_BLOCK - 1) / CC_BLOCK) ? CC_ERROR_ARGUMENT : CC_OK;
}

/* Threads must never write the same element. Overlaps of other kinds are the caller's to avoid. */
static int repeats(const cc_view *out)
{
    for (int32_t a = 0; a < out->rank; a++)
        if (out->ld[a] == 0 && out->shape[a] > 1)
            return 1;
    return 0;
}

static int in_double(const cc_step *step)
{
    return step->out.type == CC_F64 && (step->operation == CC_CONV || step->operation == CC_DEPTHWISE_CONV);
}

static int takes_activation(int32_t operation)
{
    switch (operation) {
    case CC_CONV:
    case CC_DEPTHWISE_CONV:
    case CC_CONV_TRANSPOSE:
    case CC_DENSE:
    case CC_AFFINE:
    case CC_ACTIVATION:
    case CC_BINARY:
        return 1;
    default:
        return 0;
    }
}

static cc_status check_window(const cc_window *w)
{
    const int64_t most = (int64_t)1 << 20;
    for (int a = 0; a < CC_SPATIAL; a++)
        if (w->kernel[a] < 1 || w->stride[a] < 1 || w->dilation[a] < 1 || w->pad_low[a] < 0 || w->kernel[a] > most ||
            w->stride[a] > most || w->dilation[a] > most || w->pad_low[a] > most)
            return CC_ERROR_ARGUMENT;
    return CC_OK;
}

cc_status cc_choose(cc_step *step)
{
    if (!step || step->operation < 0 || step->operation >= CC_OPERATION_COUNT)
        return CC_ERROR_ARGUMENT;
    if (!cc_isa_supported((cc_isa)step->isa))
        return CC_ERROR_ISA;
    cc_status status = check_view(&step->out, step->operation);
    if (status == CC_OK && step->operation != CC_FILL && step->operation != CC_BORDER)
        status = check_view(&step->in, step->operation);
    if (status == CC_OK && (step->operation == CC_BINARY || step->operation == CC_FILTER || in_double(step)))
        status = check_view(&step->in2, step->operation);
    if (status != CC_OK)
        return status;
    if (repeats(&step->out))
        return CC_ERROR_ARGUMENT;
    if (takes_activation(step->operation) &&
        (step->activation.kind < 0 || step->activation.kind >= CC_ACTIVATION_KIND_COUNT))
        return CC_ERROR_ARGUMENT;
    const cc_kernels *kernels = cc_table((cc_isa)step->isa);
    step->packed_floats = step->workspace_bytes = step->scratch_bytes = 0;
    step->phases = step->period = 1;
    for (int a = 0; a < CC_SPATIAL; a++)
        step->need_low[a] = step->need_high[a] = 0;
    if (in_double(step)) {
        status = check_window(&step->window);
        return status == CC_OK ? cc_choose_f64(step, kernels) : status;
    }
    switch (step->operation) {
    case CC_CONV:
    case CC_CONV_TRANSPOSE:
        status = check_window(&step->window);
        return status == CC_OK ? cc_choose_conv(step, kernels) : status;
    case CC_DENSE:
        return cc_choose_conv(step, kernels);
    case CC_DEPTHWISE_CONV:
    case CC_MAX_POOL:
    case CC_AVERAGE_POOL:
        status = check_window(&step->window);
        return status == CC_OK ? cc_choose_window(step, kernels) : status;
    case CC_FILTER:
        status = check_window(&step->window);
        return status == CC_OK ? cc_choose_filter(step, kernels) : status;
    case CC_GLOBAL_MAX_POOL:
    case CC_GLOBAL_AVERAGE_POOL:
    case CC_COPY:
    case CC_FILL:
    case CC_BORDER:
    case CC_RESIZE:
        return cc_choose_window(step, kernels);
    default:
        return cc_choose_elementwise(step, kernels);
    }
}

cc_status cc_pack(const cc_step *step, const float *weights, const float *bias, float *packed)
{
    if (!step || !step->kernel || !weights || !packed || in_double(step))
        return CC_ERROR_ARGUMENT;
    switch (step->operation) {
    case CC_CONV:
    case CC_CONV_TRANSPOSE:
    case CC_DENSE:
        cc_pack_conv(step, weights, bias, packed);
        return CC_OK;
    case CC_DEPTHWISE_CONV:
        cc_pack_depthwise(step, weights, bias, packed);
        return CC_OK;
    case CC_AFFINE:
        cc_pack_affine(step, weights, bias, packed);
        return CC_OK;
    default:
        return CC_ERROR_ARGUMENT;
    }
}

cc_status cc_pack_file(const cc_step *step, int file, int64_t offset, const float *bias, float *packed, int *finite)
{
    if (!step || !step->kernel || file < 0 || offset < 0 || !packed || !finite)
        return CC_ERROR_ARGUMENT;
    if ((step->operation != CC_CONV && step->operation != CC_DENSE) || in_double(step))
        return CC_ERROR_ARGUMENT;
    return cc_pack_conv_file(step, file, offset, bias, packed, finite);
}

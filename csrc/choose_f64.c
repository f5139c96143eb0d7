/* Convolution and depthwise convolution in double: views that fit, and rows of the output for items. */
#include "choose.h"

static double bytes_of(const cc_view *v) { return 8.0 * (double)cc_elements(v); }

/* Products of one output, or 0 if there are more than an array may have elements. */
static int64_t products(const cc_step *step, int64_t channels)
{
    int64_t n = channels;
    for (int a = 0; a < CC_SPATIAL; a++) {
        if (step->window.kernel[a] > CC_MOST_FLOATS / n)
            return 0;
        n *= step->window.kernel[a];
    }
    return n;
}

cc_status cc_choose_f64(cc_step *step, const cc_kernels *kernels)
{
    const cc_view *in = &step->in, *in2 = &step->in2, *out = &step->out;
    const int depthwise = step->operation == CC_DEPTHWISE_CONV;
    if (in->type != CC_F64 || in2->type != CC_F64)
        return CC_ERROR_TYPE;
    if (in->rank != 5 || out->rank != 5 || in2->rank != 1 || in->shape[0] != out->shape[0])
        return CC_ERROR_SHAPE;
    if (in->ld_block || out->ld_block || in2->ld[0] != 1 || step->pool > 1)
        return CC_ERROR_ARGUMENT;
    if (step->activation.kind != CC_LINEAR && step->activation.kind != CC_RELU)
        return CC_ERROR_ARGUMENT;
    const int64_t ic = in->shape[4], oc = out->shape[4], groups = depthwise ? 1 : step->groups;
    if (groups < 1)
        return CC_ERROR_ARGUMENT;
    if (depthwise ? oc % ic != 0 : ic % groups != 0 || oc % groups != 0)
        return CC_ERROR_SHAPE;
    const int64_t terms = products(step, depthwise ? 1 : ic / groups);
    if (terms == 0 || oc > CC_MOST_FLOATS / (1 + terms))
        return CC_ERROR_ARGUMENT;
    if (in2->shape[0] != oc * (1 + terms))
        return CC_ERROR_SHAPE;
    step->algorithm = depthwise ? "depthwise, double" : "direct, double";
    step->kernel = depthwise ? kernels->depthwise_f64 : kernels->conv_f64;
    step->items[0] = out->shape[0] * out->shape[1] * out->shape[2];
    step->flops = 2.0 * (double)terms * (double)cc_elements(out);
    step->bytes = bytes_of(in) + bytes_of(in2) + bytes_of(out);
    return CC_OK;
}

/* Affine, activation, sample, softmax, binary, HU rescaling and probes: checks, and how the work is cut up.
 *
 * Axes that lie behind one another in every view are merged, so that most tensors become one long row and
 * the kernels' inner loops run over contiguous memory. The step's own views are rewritten; merging keeps
 * the order of elements. */
#include "choose.h"
#include "elementwise_geometry.h"
#include "kernels/items.h"
#include "type_size.h"

enum {
    ITEM = 16384,   /* elements per item: 64 KiB of floats, some microseconds of work */
    PAD = 16,       /* packed scale and offset fill whole vectors of every instruction set */
};

static void drop_axis(cc_view *v, int32_t axis)
{
    for (int32_t a = axis; a + 1 < v->rank; a++) {
        v->shape[a] = v->shape[a + 1];
        v->ld[a] = v->ld[a + 1];
    }
    v->rank--;
}

/* The views have equal shapes. Afterwards no axis of length 1 is left, but for a lone one, and no two
 * neighbouring axes could be walked as one. */
static void collapse(cc_view *const *views, int count)
{
    cc_view *first = views[0];
    for (int32_t a = first->rank - 1; a >= 0 && first->rank > 1; a--)
        if (first->shape[a] == 1)
            for (int v = 0; v < count; v++)
                drop_axis(views[v], a);
    for (int32_t a = first->rank - 2; a >= 0; a--) {
        int together = 1;
        for (int v = 0; v < count; v++)
            together &= views[v]->ld[a] == views[v]->ld[a + 1] * views[v]->shape[a + 1];
        for (int v = 0; v < count && together; v++) {
            views[v]->shape[a + 1] *= views[v]->shape[a];
            drop_axis(views[v], a);
        }
    }
    if (first->rank == 1 && first->shape[0] == 1)
        for (int v = 0; v < count; v++)
            views[v]->ld[0] = 1;
}

/* Items of about ITEM elements: several rows, or a piece of one. */
static void cut(cc_step *step)
{
    const int64_t length = step->out.shape[step->out.rank - 1];
    const int64_t rows = cc_elements(&step->out) / length;
    const int64_t pieces = (length + ITEM - 1) / ITEM;
    const int64_t rows_per_item = pieces > 1 ? 1 : ITEM / length;
    step->detail[ELEMENTWISE_ROWS] = rows_per_item;
    step->detail[ELEMENTWISE_PIECE] = ITEM;
    step->detail[ELEMENTWISE_PIECES] = pieces;
    step->items[0] = (rows + rows_per_item - 1) / rows_per_item * pieces;
}

/* Whole rows: what a row's elements share must be computed in one place. */
static void cut_rows(cc_step *step)
{
    const int64_t rows = step->out.shape[0], length = step->out.shape[1];
    const int64_t rows_per_item = length < ITEM ? ITEM / length : 1;
    step->detail[ELEMENTWISE_ROWS] = rows_per_item;
    step->items[0] = (rows + rows_per_item - 1) / rows_per_item;
}

/* Bytes that a view stands for; an axis with ld = 0 repeats the same ones. */
static double view_bytes(const cc_view *v)
{
    double bytes = (double)cc_type_size(v->type);
    for (int32_t a = 0; a < v->rank; a++)
        if (v->ld[a] != 0)
            bytes *= (double)v->shape[a];
    return bytes;
}

static void set(cc_step *step, const char *algorithm, cc_kernel_fn kernel, double flops_per_element)
{
    step->algorithm = algorithm;
    step->kernel = kernel;
    step->flops = flops_per_element * (double)cc_elements(&step->out);
    step->bytes = view_bytes(&step->in) + view_bytes(&step->out);
    step->detail[ELEMENTWISE_STREAM] = cc_streams(step);
}

static cc_status choose_hu(cc_step *step, const cc_kernels *kernels)
{
    if (step->in.type < CC_I8 || step->in.type > CC_I32 || (step->out.type != CC_F32 && step->out.type != CC_I16))
        return CC_ERROR_TYPE;
    if (step->out.rank != 2)
        return CC_ERROR_SHAPE;
    if (!step->hu.slope || !step->hu.intercept)
        return CC_ERROR_ARGUMENT;
    cut(step);
    set(step, "hu_rescale", kernels->hu_rescale, 2);
    return CC_OK;
}

static cc_status choose_binary(cc_step *step, const cc_kernels *kernels)
{
    if (step->binary < CC_ADD || step->binary > CC_PRELU)
        return CC_ERROR_ARGUMENT;
    if (step->in2.type != CC_F32)
        return CC_ERROR_TYPE;
    if (!cc_same_shape(&step->in2, &step->out))
        return CC_ERROR_SHAPE;
    cc_view *const views[] = {&step->out, &step->in, &step->in2};
    collapse(views, 3);
    cut(step);
    set(step, "binary", kernels->binary_f32, 1);
    step->bytes += view_bytes(&step->in2);
    return CC_OK;
}

static cc_status choose_probe(cc_step *step, const cc_kernels *kernels)
{
    const double row = 2.0 * PROBE_CHAINS * PROBE_ELEMENTS;
    if (step->probe < CC_PROBE_FMA || step->probe > CC_PROBE_COPY)
        return CC_ERROR_ARGUMENT;
    if (step->in.type != CC_F32 || step->out.type != CC_F32)
        return CC_ERROR_TYPE;
    if (step->in.rank != 2 || step->out.rank != 2 || step->in.shape[0] != step->out.shape[0] ||
        (step->probe == CC_PROBE_COPY && step->in.shape[1] != step->out.shape[1]))
        return CC_ERROR_SHAPE;
    if (step->in.ld[1] != 1 || step->out.ld[1] != 1)
        return CC_ERROR_ARGUMENT;
    step->algorithm = "probe";
    step->kernel = kernels->probe_f32;
    step->items[0] = step->out.shape[0];
    step->flops = step->probe == CC_PROBE_FMA ? row * (double)step->out.shape[0] : 0;
    step->bytes = view_bytes(&step->out) + (step->probe == CC_PROBE_WRITE ? 0 : view_bytes(&step->in));
    return CC_OK;
}

cc_status cc_choose_elementwise(cc_step *step, const cc_kernels *kernels)
{
    if (step->operation == CC_PROBE)
        return choose_probe(step, kernels);
    if (!cc_same_shape(&step->in, &step->out))
        return CC_ERROR_SHAPE;
    if (step->operation == CC_HU_RESCALE)
        return choose_hu(step, kernels);
    if (step->in.type != CC_F32 || step->out.type != CC_F32)
        return CC_ERROR_TYPE;
    cc_view *const views[] = {&step->out, &step->in};
    switch (step->operation) {
    case CC_ACTIVATION:
        collapse(views, 2);
        cut(step);
        set(step, "activation", kernels->activation_f32, 1);
        return CC_OK;
    case CC_SAMPLE:
        if (step->sample != CC_RRELU && step->sample != CC_NOISY_RELU)
            return CC_ERROR_ARGUMENT;
        collapse(views, 2);
        cut(step);
        set(step, "sample", kernels->sample_f32, 1);
        return CC_OK;
    case CC_AFFINE:
        if (step->out.rank != 2)
            return CC_ERROR_SHAPE;
        step->detail[AFFINE_CHANNELS] = step->out.shape[1];
        step->packed_floats = 2 * ((step->out.shape[1] + ELEMENTWISE_BLOCK + PAD - 1) / PAD * PAD);
        collapse(views, 2);
        cut(step);
        set(step, "affine", kernels->affine_f32, 2);
        return CC_OK;
    case CC_SOFTMAX:
        if (step->out.rank != 2)
            return CC_ERROR_SHAPE;
        cut_rows(step);
        set(step, "softmax", kernels->softmax_f32, 4); /* subtract, exp, add, divide */
        return CC_OK;
    case CC_BINARY:
        return choose_binary(step, kernels);
    default:
        return CC_ERROR_ARGUMENT;
    }
}

void cc_pack_affine(const cc_step *step, const float *scale, const float *offset, float *packed)
{
    const int64_t channels = step->detail[AFFINE_CHANNELS], half = step->packed_floats / 2;
    for (int64_t i = 0; i < half; i++) {
        packed[i] = scale[i % channels];
        packed[half + i] = offset ? offset[i % channels] : 0.0f;
    }
}

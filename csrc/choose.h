/* One function per family of operations: check the step, pick the kernel, say what it needs. Each sets
 * algorithm, kernel, packed_floats, workspace_bytes, phases, period, items, flops, bytes and, where the
 * kernel wants it, detail[]. Everything that changes rounding is decided from one image's shape. */
#ifndef CC_CHOOSE_H
#define CC_CHOOSE_H

#include "table.h"

cc_status cc_choose_conv(cc_step *step, const cc_kernels *kernels);        /* conv, transpose, dense */
cc_status cc_choose_window(cc_step *step, const cc_kernels *kernels);      /* depthwise, pooling, copy, fill, resize */
cc_status cc_choose_elementwise(cc_step *step, const cc_kernels *kernels); /* affine, activation, sample, softmax,
                                                                              binary, hu_rescale, probe */

cc_status cc_choose_filter(cc_step *step, const cc_kernels *kernels);
cc_status cc_choose_f64(cc_step *step, const cc_kernels *kernels); /* conv and depthwise, in double */

void cc_pack_conv(const cc_step *step, const float *weights, const float *bias, float *packed);
cc_status cc_pack_conv_file(const cc_step *step, int file, int64_t offset, const float *bias, float *packed,
                            int *finite); /* not for CC_CONV_TRANSPOSE */
void cc_pack_depthwise(const cc_step *step, const float *weights, const float *bias, float *packed);
void cc_pack_affine(const cc_step *step, const float *scale, const float *offset, float *packed);

/* No view, packed weights or workspace may have more elements: what is less fits an int64_t in bytes. */
#define CC_MOST_FLOATS ((int64_t)1 << 40)

/* Elements in a view, and whether two views have the same shape. */
int64_t cc_elements(const cc_view *v);
int cc_same_shape(const cc_view *a, const cc_view *b);

/* Whether the step's output should go past the caches: it fills more than half of the last one, so whoever
 * reads it next finds little of it there, and a plain store would first fetch the line that it overwrites.
 * Not where input and output are the same memory: those lines have been fetched already. */
int cc_streams(const cc_step *step);

#endif

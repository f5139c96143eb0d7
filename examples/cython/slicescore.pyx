# cython: language_level=3, boundscheck=False, wraparound=False
"""Scores every slice of a scan with a small network, all in C: convolution, pooling, dense layer, softmax."""

from cython.view cimport array

from convcore cimport (
    CC_LINEAR, CC_OK, CC_RELU, cc_conv2d_f32, cc_dense_f32, cc_max_pool2d_f32, cc_softmax_f32, cc_status,
    cc_status_text, import_convcore,
)

import_convcore()  # raises ImportError if the installed convcore does not fit


def score(
    const float[:, :, ::1] scan, const float[:, :, ::1] kernel, const float[::1] bias, const float[:, ::1] weights,
):
    """Return the probability of every class (slice, class).

    scan (slice, row, column); kernel (kh, kw, map), without padding and with bias (map,) and ReLU; maxima of
    2x2; weights (pixel and map, class).
    """
    cdef Py_ssize_t slices = scan.shape[0], h = scan.shape[1], w = scan.shape[2]
    cdef Py_ssize_t kh = kernel.shape[0], kw = kernel.shape[1], maps = kernel.shape[2], classes = weights.shape[1]
    cdef Py_ssize_t oh = h - kh + 1, ow = w - kw + 1, features = (oh // 2) * (ow // 2) * maps, i
    if slices < 1 or oh < 2 or ow < 2 or bias.shape[0] != maps or weights.shape[0] != features or classes < 1:
        raise ValueError("the shapes of scan, kernel, bias and weights do not fit together")
    cdef float[::1] convolved = array((oh * ow * maps,), sizeof(float), "f")
    cdef float[::1] pooled = array((features,), sizeof(float), "f")
    cdef float[:, ::1] scores = array((slices, classes), sizeof(float), "f")
    cdef cc_status status = CC_OK
    with nogil:
        for i in range(slices):
            status = cc_conv2d_f32(
                &scan[i, 0, 0], 1, h, w, 1, &kernel[0, 0, 0], kh, kw, maps, &bias[0], 1, 0, 0, CC_RELU,
                &convolved[0], oh, ow)
            if status == CC_OK:
                status = cc_max_pool2d_f32(&convolved[0], 1, oh, ow, maps, 2, 2, &pooled[0])
            if status == CC_OK:
                status = cc_dense_f32(
                    &pooled[0], 1, features, &weights[0, 0], classes, NULL, CC_LINEAR, &scores[i, 0])
            if status == CC_OK:
                status = cc_softmax_f32(&scores[i, 0], 1, classes, &scores[i, 0])
            if status != CC_OK:
                break
    if status != CC_OK:
        raise RuntimeError(cc_status_text(status).decode())
    return scores

/* Zeros into the halo of a spatial view. An item is one (image, channel block, slice), halo slices among
 * them: below and above rows of zeros, left and right of each row in between its own. */
#include "window.h"

/* Cells [from, to) of a row; `lanes` floats each, whole blocks if the view is blocked. */
static void zero_cells(const cc_view *v, float *row, int64_t from, int64_t to, int64_t lanes)
{
    for (int64_t w = from; w < to; w++)
        memset(row + w * v->ld[W], 0, (size_t)lanes * sizeof *row);
}

void CC_FN(border_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    const cc_view *v = &step->out;
    const int64_t blocks = v->ld_block ? (v->shape[C] + CC_BLOCK - 1) / CC_BLOCK : 1;
    const int64_t lanes = v->ld_block ? CC_BLOCK : v->shape[C];
    const int64_t slices = v->halo_low[0] + v->shape[D] + v->halo_high[0];
    for (int64_t item = begin; item < end; item++) {
        const int64_t d = item % slices - v->halo_low[0], block = item / slices % blocks, n = item / slices / blocks;
        float *slice = view_f32(v, call->buffers) + n * v->ld[0] + block * v->ld_block + d * v->ld[D];
        const int inside_d = d >= 0 && d < v->shape[D];
        for (int64_t h = -v->halo_low[1]; h < v->shape[H] + v->halo_high[1]; h++) {
            float *row = slice + h * v->ld[H];
            const int64_t right = v->shape[W] + v->halo_high[2];
            if (inside_d && h >= 0 && h < v->shape[H]) {
                zero_cells(v, row, -v->halo_low[2], 0, lanes);
                zero_cells(v, row, v->shape[W], right, lanes);
            } else {
                zero_cells(v, row, -v->halo_low[2], right, lanes);
            }
        }
    }
}

/* hu_rescale.c for one type of stored value. Included once per type, with HU_TYPE, HU_NAME(name), and
 * HU_LOAD, which widens VF_LANES of them. */

/* A streamed y is aligned, or n < VF_LANES; has_padding and stream are constants. */
CC_INLINE void HU_NAME(hu_single_loop)(float *y, const HU_TYPE *x, int64_t n, const hu_row *row, int has_padding,
                                       int stream)
{
    const vf slope = vf_set1((float)row->slope), intercept = vf_set1((float)row->intercept);
    const vf padding_result = vf_set1((float)row->padding_result);
    const vi padding = vi_set1(row->padding_value);
    for (int64_t i = 0; i < n; i += VF_LANES) {
        const int lanes = (int)min_i64(VF_LANES, n - i);
        HU_TYPE last[VF_LANES] = {0}; /* a whole vector must be readable */
        const HU_TYPE *from = x + i;
        if (lanes < VF_LANES)
            from = memcpy(last, from, (size_t)lanes * sizeof *from);
        const vi raw = HU_LOAD(from);
        vf value = vf_fma(vf_from_vi(raw), slope, intercept);
        if (has_padding)
            value = vf_select(vi_eq(raw, padding), padding_result, value);
        if (lanes == VF_LANES)
            vf_put(y + i, value, stream);
        else
            vf_store_n(y + i, value, lanes);
    }
}

static void HU_NAME(hu_single)(float *y, const HU_TYPE *x, int64_t n, const hu_row *row, int stream)
{
    if (row->has_padding && stream)
        HU_NAME(hu_single_loop)(y, x, n, row, 1, 1);
    else if (row->has_padding)
        HU_NAME(hu_single_loop)(y, x, n, row, 1, 0);
    else if (stream)
        HU_NAME(hu_single_loop)(y, x, n, row, 0, 1);
    else
        HU_NAME(hu_single_loop)(y, x, n, row, 0, 0);
}

/* n values in double, for the compiler to vectorise. */
static void HU_NAME(hu_double)(double *restrict y, const HU_TYPE *restrict x, int64_t n, const hu_row *row)
{
    const hu_row r = *row;
    for (int64_t i = 0; i < n; i++) {
        const int padding = r.has_padding & (x[i] == r.padding_value);
        const double value = hu_value((double)x[i], &r);
        y[i] = padding ? r.padding_result : value;
    }
}

static void HU_NAME(hu_row)(void *out, int out_type, int64_t y_ld, const HU_TYPE *x, int64_t x_ld, int64_t n,
                            int single, const hu_row *row)
{
    HU_TYPE raw[ELEMENTWISE_BLOCK];
    _Alignas(64) float value[ELEMENTWISE_BLOCK];
    double exact[ELEMENTWISE_BLOCK];
    const int stream = row->stream;
    for (int64_t i = 0, length; i < n; i += length) {
        length = block_length((const float *)out + i, n - i, stream);
        const HU_TYPE *from = x + i * x_ld;
        if (x_ld != 1) {
            for (int64_t k = 0; k < length; k++)
                raw[k] = from[k * x_ld];
            from = raw;
        }
        if (!single)
            HU_NAME(hu_double)(exact, from, length, row);
        if (out_type == CC_F32) {
            float *y = (float *)out + i * y_ld;
            float *to = y_ld == 1 && (single || !stream) ? y : value;
            if (single)
                HU_NAME(hu_single)(to, from, length, row, stream);
            else
                hu_floats(to, exact, length);
            if (!single && stream)
                stream_floats(y, value, length);
            else if (y_ld != 1)
                scatter(y, y_ld, length, to);
        } else {
            int16_t *y = (int16_t *)out + i * y_ld;
            if (single) {
                HU_NAME(hu_single)(value, from, length, row, 0);
                hu_int16_from_floats(y, y_ld, value, length);
            } else {
                hu_int16_from_doubles(y, y_ld, exact, length);
            }
        }
    }
}

#undef HU_TYPE
#undef HU_NAME
#undef HU_LOAD

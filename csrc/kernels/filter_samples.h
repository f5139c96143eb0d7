/* Samples of any type to FV_REAL and back, and rows of them with their border: included, by the files of the filter,
 * for float and for double. */

/* n samples of any type, `step` apart, as FV_REAL. */
static void FV_NAME(filter_read)(FV_REAL *restrict to, const char *from, int32_t type, int64_t step, int64_t n)
{
#define FILTER_READ(T, LOAD)                                  \
    do {                                                      \
        const T *restrict x = (const T *)from;                \
        int64_t i = 0;                                        \
        if (step == 1)                                        \
            LOAD;                                             \
        for (; i < n; i++)                                    \
            to[i] = (FV_REAL)x[i * step];                     \
    } while (0)
#if FV_FLOAT
#define FILTER_WIDEN(LOAD)                \
    for (; i + VF_LANES <= n; i += VF_LANES) \
    vf_store(to + i, vf_from_vi(LOAD(x + i)))
#else
#define FILTER_WIDEN(LOAD) \
    for (; i < n; i++)     \
    to[i] = (FV_REAL)x[i]
#endif
    switch (type) {
    case CC_I8:
        FILTER_READ(int8_t, FILTER_WIDEN(vi_load_i8));
        return;
    case CC_U8:
        FILTER_READ(uint8_t, FILTER_WIDEN(vi_load_u8));
        return;
    case CC_I16:
        FILTER_READ(int16_t, FILTER_WIDEN(vi_load_i16));
        return;
    case CC_U16:
        FILTER_READ(uint16_t, FILTER_WIDEN(vi_load_u16));
        return;
    case CC_I32:
        FILTER_READ(int32_t, FILTER_WIDEN(vi_load));
        return;
    case CC_F64:
        FILTER_READ(double, for (; i < n; i++) to[i] = (FV_REAL)x[i]);
        return;
    default:
        FILTER_READ(float, for (; i < n; i++) to[i] = (FV_REAL)x[i]);
    }
#undef FILTER_READ
#undef FILTER_WIDEN
}

CC_INLINE FV_REAL FV_NAME(filter_sample)(const char *from, int32_t type)
{
    FV_REAL x;
    if (type == (FV_FLOAT ? CC_F32 : CC_F64))
        memcpy(&x, from, sizeof x);
    else
        FV_NAME(filter_read)(&x, from, type, 1, 1);
    return x;
}

/* n results to a type of the output's: integers are rounded half to even and saturated, NaN becomes the lowest. */
static void FV_NAME(filter_write)(char *to, int32_t type, int64_t step, const FV_REAL *restrict from, int64_t n)
{
#define FILTER_WRITE(T, LOW, HIGH)                                      \
    do {                                                                \
        T *restrict y = (T *)to;                                        \
        for (int64_t i = 0; i < n; i++) {                               \
            FV_REAL v = from[i] > (LOW) ? from[i] : (LOW);              \
            v = v < (HIGH) ? v : (HIGH);                                \
            y[i * step] = (T)(int64_t)((v + to_integer) - to_integer);  \
        }                                                               \
    } while (0)
    /* Adding this leaves no fraction bits. */
    const FV_REAL to_integer = FV_FLOAT ? (FV_REAL)0x1.8p23 : (FV_REAL)0x1.8p52;
    switch (type) {
    case CC_I8:
        FILTER_WRITE(int8_t, INT8_MIN, INT8_MAX);
        return;
    case CC_U8:
        FILTER_WRITE(uint8_t, 0, UINT8_MAX);
        return;
    case CC_I16:
        FILTER_WRITE(int16_t, INT16_MIN, INT16_MAX);
        return;
    case CC_U16:
        FILTER_WRITE(uint16_t, 0, UINT16_MAX);
        return;
#if !FV_FLOAT
    case CC_I32:
        FILTER_WRITE(int32_t, INT32_MIN, INT32_MAX);
        return;
#endif
    case CC_F64:
        for (int64_t i = 0; i < n; i++)
            ((double *)to)[i * step] = (double)from[i];
        return;
    default:
        for (int64_t i = 0; i < n; i++)
            ((float *)to)[i * step] = (float)from[i];
    }
#undef FILTER_WRITE
}

/* Samples [from, from + n) of a row of the input, its border among them. Up to a vector behind them is overwritten. */
static void FV_NAME(filter_copy_row)(const cc_step *step, const char *row, FV_REAL *to, int64_t from, int64_t n,
                                     FV_REAL value)
{
    const cc_view *in = &step->in;
    const int64_t size = cc_type_size(in->type), c = in->shape[4], w = in->shape[3];
    const int64_t columns = w * c, end = from + n;
    for (int64_t e = from; e < end;) {
        if (e >= 0 && e < columns) {
            const int64_t inside = min_i64(end, columns);
            if (c == 1 || (in->ld[4] == 1 && in->ld[3] == c)) {
                const int64_t ld = c == 1 ? in->ld[3] : 1;
#if FV_FLOAT
                if (in->type == CC_F32 && ld == 1) { /* most often two vectors, at an end of a row */
                    const float *x = (const float *)row;
                    for (; e + VF_LANES <= inside; e += VF_LANES)
                        vf_store(to + (e - from), vf_load(x + e));
                    if (e < inside)
                        vf_store(to + (e - from), vf_load_n(x + e, (int)(inside - e)));
                    e = inside;
                    continue;
                }
#endif
                FV_NAME(filter_read)(to + (e - from), row + e * ld * size, in->type, ld, inside - e);
                e = inside;
                continue;
            }
            /* One pixel, or what is left of it. */
            const int64_t pixel = e / c, channel = e % c, count = min_i64(c - channel, inside - e);
            FV_NAME(filter_read)(to + (e - from), row + (pixel * in->ld[3] + channel * in->ld[4]) * size, in->type,
                                 in->ld[4], count);
            e += count;
            continue;
        }
        const int64_t outside = e < 0 ? -((c - 1 - e) / c) : e / c; /* the pixel, rounded down */
        const int64_t channel = e - outside * c, pixel = filter_source(outside, w, step->edge);
        to[e - from] = pixel < 0 ? value
                                 : FV_NAME(filter_sample)(row + (pixel * in->ld[3] + channel * in->ld[4]) * size, in->type);
        e++;
    }
}


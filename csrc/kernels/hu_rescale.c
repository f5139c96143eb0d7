/* Stored CT values to Hounsfield units: y[z,i] = slope[z]*raw[z,i] + intercept[z], DICOM PS3.3 C.11.1.
 *
 * float32 output is the exact result rounded once to float32 (through a double, so at worst 2^-29 of an
 * ulp beyond half of one); int16 output is the exact result rounded half to even and saturated (again
 * but for a double's rounding). Two ways, chosen per slice:
 *   single  slope and intercept are floats, and raw*slope + intercept takes one rounding in float32 (with
 *           FMA: any 8- or 16-bit raw; without: where the product is exact; for int16: where all is);
 *   twice   in double, the product kept exact to 2^-74. Every int32 slice goes this way.
 * The usual slope 1, intercept -1024 is `single` on every instruction set. */
#include "elementwise.h"

typedef struct hu_row {
    double slope, intercept;
    double slope_lo;       /* slope = slope_hi + slope_lo; hi has 21 bits, so times 32 of them is exact */
    double slope_hi;
    double padding_result; /* not yet rounded */
    int32_t padding_value;
    int has_padding;
    int stream; /* the output is float32 and goes past the caches */
} hu_row;

enum { HU_INT16_LOW = -32768, HU_INT16_HIGH = 32767 };

CC_INLINE double hu_value(double raw, const hu_row *row)
{
#if VF_FUSED
    return __builtin_fma(raw, row->slope, row->intercept);
#else
    /* The sum with its error (Knuth 1969): the product may cancel the intercept. */
    const double p = raw * row->slope_hi, c = row->intercept;
    const double sum = p + c, part = sum - p;
    const double error = (p - (sum - part)) + (c - part);
    return sum + (error + raw * row->slope_lo);
#endif
}

static void hu_floats(float *restrict y, const double *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)x[i];
}

/* Half to even, saturated; NaN becomes the lowest. */
static void hu_int16_from_doubles(int16_t *restrict y, int64_t ld, const double *restrict x, int64_t n)
{
    const double to_integer = 0x1.8p52; /* adding this leaves no fraction bits */
    for (int64_t i = 0; i < n; i++) {
        double v = x[i] > HU_INT16_LOW ? x[i] : HU_INT16_LOW;
        v = v < HU_INT16_HIGH ? v : HU_INT16_HIGH;
        y[i * ld] = (int16_t)(int32_t)((v + to_integer) - to_integer);
    }
}

static void hu_int16_from_floats(int16_t *restrict y, int64_t ld, const float *restrict x, int64_t n)
{
    const float to_integer = 0x1.8p23f;
    for (int64_t i = 0; i < n; i++) {
        float v = x[i] > HU_INT16_LOW ? x[i] : HU_INT16_LOW;
        v = v < HU_INT16_HIGH ? v : HU_INT16_HIGH;
        y[i * ld] = (int16_t)(int32_t)((v + to_integer) - to_integer);
    }
}

#define HU_TYPE int8_t
#define HU_NAME(name) name##_i8
#define HU_LOAD vi_load_i8
#include "hu_body.h"

#define HU_TYPE uint8_t
#define HU_NAME(name) name##_u8
#define HU_LOAD vi_load_u8
#include "hu_body.h"

#define HU_TYPE int16_t
#define HU_NAME(name) name##_i16
#define HU_LOAD vi_load_i16
#include "hu_body.h"

#define HU_TYPE uint16_t
#define HU_NAME(name) name##_u16
#define HU_LOAD vi_load_u16
#include "hu_body.h"

#define HU_TYPE int32_t
#define HU_NAME(name) name##_i32
#define HU_LOAD vi_load
#include "hu_body.h"

static hu_row hu_row_of(const cc_step *step, int64_t z)
{
    const cc_hu *hu = &step->hu;
    hu_row row = {.slope = hu->slope[z], .intercept = hu->intercept[z], .has_padding = hu->has_padding,
                  .padding_value = hu->padding_value,
                  .stream = step->out.type == CC_F32 && step->detail[ELEMENTWISE_STREAM]};
    uint64_t bits;
    memcpy(&bits, &row.slope, sizeof bits);
    bits &= ~(uint64_t)0xffffffffu;
    memcpy(&row.slope_hi, &bits, sizeof bits);
    row.slope_lo = row.slope - row.slope_hi;
    /* The article's order: padding becomes raw 0, and that becomes the intercept. */
    row.padding_result = hu->padding_is_hu ? (double)hu->padding_to : row.intercept;
    return row;
}

/* Bits from the first that is set to the last. */
static int significant_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t m = (bits & 0x7fffffu) | 0x800000u;
    return 24 - __builtin_ctz(m);
}

static int takes_single(const cc_view *in, const cc_view *out, const hu_row *row)
{
    const int are_floats = row->slope == (double)(float)row->slope && row->intercept == (double)(float)row->intercept;
    if (in->type == CC_I32 || !are_floats)
        return 0;
    const int raw_bits = in->type == CC_I16 || in->type == CC_U16 ? 16 : 8;
    if (out->type == CC_F32)
        return VF_FUSED || significant_bits((float)row->slope) + raw_bits <= 24;
    /* Multiples of 2^-7 up to 2^17 have 24 bits: nothing is rounded before the int16. */
    const double slope = row->slope * 128, intercept = row->intercept * 128;
    return fabs(slope) * (1 << raw_bits) + fabs(intercept) <= 0x1p24 && slope == rint(slope) &&
           intercept == rint(intercept);
}

void CC_FN(hu_rescale)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    void *const *buffers = call->buffers;
    const cc_view *in = &step->in, *out = &step->out;
    const int64_t out_size = out->type == CC_F32 ? (int64_t)sizeof(float) : (int64_t)sizeof(int16_t);
    for (int64_t item = begin; item < end; item++) {
        const elementwise_part part = elementwise_item(step, item);
        for (int64_t z = part.row; z < part.row_end; z++) {
            const hu_row row = hu_row_of(step, z);
            const int single = takes_single(in, out, &row);
            const int64_t x = in->offset + z * in->ld[0] + part.column * in->ld[1];
            const int64_t y = out->offset + z * out->ld[0] + part.column * out->ld[1];
            const void *from = buffers[in->buffer];
            void *to = (char *)buffers[out->buffer] + y * out_size;
            const int64_t x_ld = in->ld[1], y_ld = out->ld[1], n = part.length;
            switch (in->type) {
            case CC_I8:
                hu_row_i8(to, out->type, y_ld, (const int8_t *)from + x, x_ld, n, single, &row);
                break;
            case CC_U8:
                hu_row_u8(to, out->type, y_ld, (const uint8_t *)from + x, x_ld, n, single, &row);
                break;
            case CC_I16:
                hu_row_i16(to, out->type, y_ld, (const int16_t *)from + x, x_ld, n, single, &row);
                break;
            case CC_U16:
                hu_row_u16(to, out->type, y_ld, (const uint16_t *)from + x, x_ld, n, single, &row);
                break;
            default: /* CC_I32: cc_choose lets nothing else through */
                hu_row_i32(to, out->type, y_ld, (const int32_t *)from + x, x_ld, n, single, &row);
            }
        }
    }
    vf_fence();
}

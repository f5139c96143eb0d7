/* Correlation of images with a large kernel by Fourier transforms of tiles (overlap-save).
 *
 * A tile of height x width samples, with what lies beyond the edge, is transformed, multiplied by the conjugate of the
 * kernel's transform and transformed back; the outputs whose windows lie inside the tile are right, and the rest is
 * dropped. Two tiles of an image, neighbours by number, are the real and the imaginary part of one transform: the
 * kernel is real, so they stay apart.
 *
 * Transforms are decimated in frequency on the way there (radix 4, and 2 where that is left over) and in time on the
 * way back, the same steps reversed, so that nothing has to be put in order between: the spectrum is multiplied in the
 * order in which it comes. They run along columns, one vector of neighbouring columns at a time, in place. Rows
 * are transformed as columns of a transposed strip of VF_LANES rows, there and back at once.
 *
 * Phase 0 makes the twiddle factors, in double and rounded once, and the kernel's spectrum, in the workspace; an item
 * of phase 1 is a pair of tiles. */
#include "../filter_geometry.h"
#include "filter_source.h"
#include "kernel.h"

#define FV_REAL float
#define FV_NAME(name) name##_f32
#define FV_FLOAT 1
#include "filter_samples.h"

/* Complex numbers, the real and the imaginary parts of each kept apart. */
typedef struct fourier_planes {
    float *re, *im;
} fourier_planes;

/* a * (wr + i wi), or times the conjugate. */
CC_INLINE void fourier_turn(vf *re, vf *im, float wr, float wi)
{
    const vf r = vf_set1(wr), i = vf_set1(wi), a = *re, b = *im;
    *re = vf_fnma(b, i, vf_mul(a, r));
    *im = vf_fma(b, r, vf_mul(a, i));
}

/* Twiddle factors of a transform of n: for each stage of radix 4, size n, n/4, ..., and each j < size/4, the powers
 * j, 2j and 3j of exp(-2 pi i / size), real and imaginary. */
static void fourier_twiddles(float *to, int64_t n)
{
    const double pi = 3.14159265358979323846;
    for (; n >= 4; n /= 4)
        for (int64_t j = 0; j < n / 4; j++)
            for (int64_t power = 1; power <= 3; power++) {
                const double angle = -2 * pi * (double)(power * j) / (double)n;
                *to++ = (float)cos(angle);
                *to++ = (float)sin(angle);
            }
}

/* One butterfly of radix 4 and back, `q` floats apart. Where first, the twiddle factors are 1. */
CC_INLINE void fourier_forward4(float *re, float *im, int64_t q, const float *w, int first)
{
    const vf ar = vf_load(re), ai = vf_load(im), br = vf_load(re + q), bi = vf_load(im + q);
    const vf cr = vf_load(re + 2 * q), ci = vf_load(im + 2 * q), dr = vf_load(re + 3 * q), di = vf_load(im + 3 * q);
    const vf t0r = vf_add(ar, cr), t0i = vf_add(ai, ci), t1r = vf_sub(ar, cr), t1i = vf_sub(ai, ci);
    const vf t2r = vf_add(br, dr), t2i = vf_add(bi, di), ur = vf_sub(br, dr), ui = vf_sub(bi, di);
    /* -i (b - d) = ui - i ur */
    vf y1r = vf_add(t1r, ui), y1i = vf_sub(t1i, ur), y2r = vf_sub(t0r, t2r), y2i = vf_sub(t0i, t2i);
    vf y3r = vf_sub(t1r, ui), y3i = vf_add(t1i, ur);
    if (!first) {
        fourier_turn(&y1r, &y1i, w[0], w[1]);
        fourier_turn(&y2r, &y2i, w[2], w[3]);
        fourier_turn(&y3r, &y3i, w[4], w[5]);
    }
    vf_store(re, vf_add(t0r, t2r));
    vf_store(im, vf_add(t0i, t2i));
    vf_store(re + q, y1r);
    vf_store(im + q, y1i);
    vf_store(re + 2 * q, y2r);
    vf_store(im + 2 * q, y2i);
    vf_store(re + 3 * q, y3r);
    vf_store(im + 3 * q, y3i);
}

CC_INLINE void fourier_back4(float *re, float *im, int64_t q, const float *w, int first)
{
    vf y0r = vf_load(re), y0i = vf_load(im), y1r = vf_load(re + q), y1i = vf_load(im + q);
    vf y2r = vf_load(re + 2 * q), y2i = vf_load(im + 2 * q), y3r = vf_load(re + 3 * q), y3i = vf_load(im + 3 * q);
    if (!first) {
        fourier_turn(&y1r, &y1i, w[0], -w[1]);
        fourier_turn(&y2r, &y2i, w[2], -w[3]);
        fourier_turn(&y3r, &y3i, w[4], -w[5]);
    }
    const vf t0r = vf_add(y0r, y2r), t0i = vf_add(y0i, y2i), t2r = vf_sub(y0r, y2r), t2i = vf_sub(y0i, y2i);
    const vf t1r = vf_add(y1r, y3r), t1i = vf_add(y1i, y3i), ur = vf_sub(y1r, y3r), ui = vf_sub(y1i, y3i);
    vf_store(re, vf_add(t0r, t1r));
    vf_store(im, vf_add(t0i, t1i));
    /* t2 + i u */
    vf_store(re + q, vf_sub(t2r, ui));
    vf_store(im + q, vf_add(t2i, ur));
    vf_store(re + 2 * q, vf_sub(t0r, t1r));
    vf_store(im + 2 * q, vf_sub(t0i, t1i));
    vf_store(re + 3 * q, vf_add(t2r, ui));
    vf_store(im + 3 * q, vf_sub(t2i, ur));
}

/* Sums and differences of neighbours: the stage that is left of an odd power of 2. */
static void fourier_halves(float *re, float *im, int64_t n, int64_t ld)
{
    for (int64_t i = 0; i < n; i += 2, re += 2 * ld, im += 2 * ld) {
        const vf ar = vf_load(re), ai = vf_load(im), br = vf_load(re + ld), bi = vf_load(im + ld);
        vf_store(re, vf_add(ar, br));
        vf_store(im, vf_add(ai, bi));
        vf_store(re + ld, vf_sub(ar, br));
        vf_store(im + ld, vf_sub(ai, bi));
    }
}

/* The transform of n rows of one vector, ld floats apart, in place. */
static void fourier_forward(float *re, float *im, int64_t n, int64_t ld, const float *w)
{
    int64_t size = n;
    for (; size >= 4; w += size / 4 * 6, size /= 4) {
        const int64_t q = size / 4 * ld;
        for (int64_t block = 0; block < n; block += size) {
            float *r = re + block * ld, *i = im + block * ld;
            fourier_forward4(r, i, q, w, 1);
            for (int64_t j = 1; j < size / 4; j++)
                fourier_forward4(r + j * ld, i + j * ld, q, w + j * 6, 0);
        }
    }
    if (size == 2)
        fourier_halves(re, im, n, ld);
}

/* Back, n times too large: the same stages, last one first. */
static void fourier_back(float *re, float *im, int64_t n, int64_t ld, const float *w)
{
    int64_t size = n;
    for (; size >= 4; size /= 4)
        w += size / 4 * 6;
    if (size == 2)
        fourier_halves(re, im, n, ld);
    for (size *= 4; size <= n; size *= 4) {
        const int64_t q = size / 4 * ld;
        w -= size / 4 * 6;
        for (int64_t block = 0; block < n; block += size) {
            float *r = re + block * ld, *i = im + block * ld;
            fourier_back4(r, i, q, w, 1);
            for (int64_t j = 1; j < size / 4; j++)
                fourier_back4(r + j * ld, i + j * ld, q, w + j * 6, 0);
        }
    }
}

/* Four floats, which every compiler can transpose: a vector of its own on any instruction set. */
typedef float fourier_four __attribute__((vector_size(16)));
#if defined(__clang__)
#define FOURIER_SHUFFLE(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
typedef int32_t fourier_index __attribute__((vector_size(16)));
#define FOURIER_SHUFFLE(a, b, i, j, k, l) __builtin_shuffle(a, b, (fourier_index){i, j, k, l})
#endif

/* to[c][r] = from[r][c] for rows x columns, both multiples of 4. */
static void fourier_transpose(float *restrict to, int64_t to_ld, const float *restrict from, int64_t from_ld, int64_t rows,
                              int64_t columns)
{
    for (int64_t c = 0; c < columns; c += 4)
        for (int64_t r = 0; r < rows; r += 4) {
            fourier_four x[4];
            for (int k = 0; k < 4; k++)
                memcpy(&x[k], from + (r + k) * from_ld + c, sizeof x[k]);
            const fourier_four low01 = FOURIER_SHUFFLE(x[0], x[1], 0, 4, 1, 5), low23 = FOURIER_SHUFFLE(x[2], x[3], 0, 4, 1, 5);
            const fourier_four high01 = FOURIER_SHUFFLE(x[0], x[1], 2, 6, 3, 7), high23 = FOURIER_SHUFFLE(x[2], x[3], 2, 6, 3, 7);
            const fourier_four y[4] = {FOURIER_SHUFFLE(low01, low23, 0, 1, 4, 5), FOURIER_SHUFFLE(low01, low23, 2, 3, 6, 7),
                                       FOURIER_SHUFFLE(high01, high23, 0, 1, 4, 5),
                                       FOURIER_SHUFFLE(high01, high23, 2, 3, 6, 7)};
            for (int k = 0; k < 4; k++)
                memcpy(to + (c + k) * to_ld + r, &y[k], sizeof y[k]);
        }
}

/* Rows of a strip: a vector of them, and whole blocks of four. */
enum { FOURIER_ROWS = VF_LANES < 4 ? 4 : VF_LANES };

/* The transforms along h of all columns. */
static void fourier_columns(const cc_filter_geometry *g, fourier_planes tile, const float *w)
{
    for (int64_t c = 0; c < g->tile_width; c += VF_LANES)
        fourier_forward(tile.re + c, tile.im + c, g->tile_height, g->pitch, w);
}

static const float *fourier_height_twiddles(const cc_filter_geometry *g, const float *workspace)
{
    return workspace + 2 * g->tile_height * g->tile_width;
}

static const float *fourier_width_twiddles(const cc_filter_geometry *g, const float *workspace)
{
    return fourier_height_twiddles(g, workspace) + 2 * g->tile_height;
}

/* Along w, FOURIER_ROWS rows at a time as strip[w][row]; where `spectrum` is there, times it and back, else left there
 * for the caller. */
static void fourier_strip(const cc_filter_geometry *g, fourier_planes tile, int64_t row, fourier_planes strip, const float *w,
                          const float *spectrum)
{
    const int64_t width = g->tile_width, part = width * FOURIER_ROWS;
    float *re = tile.re + row * g->pitch, *im = tile.im + row * g->pitch;
    fourier_transpose(strip.re, FOURIER_ROWS, re, g->pitch, FOURIER_ROWS, width);
    fourier_transpose(strip.im, FOURIER_ROWS, im, g->pitch, FOURIER_ROWS, width);
    for (int c = 0; c < FOURIER_ROWS; c += VF_LANES)
        fourier_forward(strip.re + c, strip.im + c, width, FOURIER_ROWS, w);
    if (!spectrum)
        return;
    const float *sr = spectrum + row * width * 2, *si = sr + part;
    for (int64_t i = 0; i < part; i += VF_LANES) {
        const vf ar = vf_load(strip.re + i), ai = vf_load(strip.im + i), br = vf_load(sr + i), bi = vf_load(si + i);
        vf_store(strip.re + i, vf_fnma(ai, bi, vf_mul(ar, br)));
        vf_store(strip.im + i, vf_fma(ai, br, vf_mul(ar, bi)));
    }
    for (int c = 0; c < FOURIER_ROWS; c += VF_LANES)
        fourier_back(strip.re + c, strip.im + c, width, FOURIER_ROWS, w);
    fourier_transpose(re, g->pitch, strip.re, FOURIER_ROWS, width, FOURIER_ROWS);
    fourier_transpose(im, g->pitch, strip.im, FOURIER_ROWS, width, FOURIER_ROWS);
}

/* The kernel's spectrum, conjugated and divided by the number of points, strip by strip: all real parts of a strip,
 * then its imaginary parts. */
static void fourier_prepare(const cc_step *step, const cc_call *call, float *workspace, fourier_planes tile, fourier_planes strip)
{
    const cc_filter_geometry *g = (const cc_filter_geometry *)step->detail;
    const cc_view *kernel = &step->in2;
    const int64_t *k = step->window.kernel;
    const float *from = (const float *)call->buffers[kernel->buffer] + kernel->offset;
    float *of_height = workspace + 2 * g->tile_height * g->tile_width, *of_width = of_height + 2 * g->tile_height;
    fourier_twiddles(of_height, g->tile_height);
    fourier_twiddles(of_width, g->tile_width);
    memset(tile.re, 0, (size_t)(g->tile_height * g->pitch) * sizeof *tile.re);
    memset(tile.im, 0, (size_t)(g->tile_height * g->pitch) * sizeof *tile.im);
    for (int64_t y = 0; y < k[1]; y++)
        for (int64_t x = 0; x < k[2]; x++)
            tile.re[y * g->pitch + x] = from[(step->flip ? k[1] - 1 - y : y) * kernel->ld[1] +
                                             (step->flip ? k[2] - 1 - x : x) * kernel->ld[2]];
    fourier_columns(g, tile, of_height);
    const float scale = 1.0f / (float)(g->tile_height * g->tile_width); /* a power of two */
    for (int64_t row = 0; row < g->tile_height; row += FOURIER_ROWS) {
        fourier_strip(g, tile, row, strip, of_width, NULL);
        const int64_t part = g->tile_width * FOURIER_ROWS;
        float *re = workspace + row * g->tile_width * 2, *im = re + part;
        for (int64_t i = 0; i < part; i++) {
            re[i] = strip.re[i] * scale;
            im[i] = -strip.im[i] * scale;
        }
    }
}

/* Tile `number` of a slice into one plane. */
static void fourier_load(const cc_step *step, const char *x, int64_t number, float *plane)
{
    const cc_filter_geometry *g = (const cc_filter_geometry *)step->detail;
    const cc_view *in = &step->in;
    const int64_t size = cc_type_size(in->type);
    const int64_t top = number / g->pieces * g->strip - step->window.pad_low[1];
    const int64_t left = number % g->pieces * g->piece - step->window.pad_low[2];
    for (int64_t i = 0; i < g->tile_height; i++, plane += g->pitch) {
        const int64_t line = filter_source(top + i, in->shape[2], step->edge);
        if (line < 0) {
            for (int64_t j = 0; j < g->tile_width; j++)
                plane[j] = (float)step->edge_value;
            continue;
        }
        filter_copy_row_f32(step, x + line * in->ld[2] * size, plane, left, g->tile_width, (float)step->edge_value);
    }
}

static void fourier_save(const cc_step *step, char *y, int64_t number, const float *plane)
{
    const cc_filter_geometry *g = (const cc_filter_geometry *)step->detail;
    const cc_view *out = &step->out;
    const int64_t size = cc_type_size(out->type), top = number / g->pieces * g->strip, left = number % g->pieces * g->piece;
    const int64_t rows = min_i64(g->strip, out->shape[2] - top), columns = min_i64(g->piece, g->columns - left);
    for (int64_t r = 0; r < rows; r++)
        filter_write_f32(y + ((top + r) * out->ld[2] + left * out->ld[3]) * size, out->type, out->ld[3], plane + r * g->pitch,
                         columns);
}

void CC_FN(filter_fourier_f32)(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    const cc_filter_geometry *g = (const cc_filter_geometry *)step->detail;
    const cc_view *in = &step->in, *out = &step->out;
    float *const scratch = call->scratch, *const workspace =
        (float *)((char *)call->buffers[step->workspace_buffer] + step->workspace_offset);
    const int64_t plane = g->tile_height * g->pitch;
    const fourier_planes tile = {scratch, scratch + plane};
    const fourier_planes strip = {scratch + 2 * plane, scratch + 2 * plane + FOURIER_ROWS * g->tile_width};
    if (call->phase == 0) {
        fourier_prepare(step, call, workspace, tile, strip);
        return;
    }
    const float *of_height = fourier_height_twiddles(g, workspace), *of_width = fourier_width_twiddles(g, workspace);
    const int64_t tiles = g->strips * g->pieces, pairs = (tiles + 1) / 2;
    const int64_t in_size = cc_type_size(in->type), out_size = cc_type_size(out->type);
    for (int64_t item = begin; item < end; item++) {
        const int64_t number = item % pairs * 2, slice = item / pairs;
        const int64_t image = slice / out->shape[1], depth = slice % out->shape[1];
        const int two = number + 1 < tiles;
        const int64_t line = filter_source(depth - step->window.pad_low[0], in->shape[1], step->edge);
        const char *x = (const char *)call->buffers[in->buffer] +
                        (in->offset + image * in->ld[0] + (line < 0 ? 0 : line) * in->ld[1]) * in_size;
        char *y = (char *)call->buffers[out->buffer] + (out->offset + image * out->ld[0] + depth * out->ld[1]) * out_size;
        fourier_load(step, x, number, tile.re);
        if (two)
            fourier_load(step, x, number + 1, tile.im);
        else
            memset(tile.im, 0, (size_t)plane * sizeof *tile.im);
        fourier_columns(g, tile, of_height);
        for (int64_t row = 0; row < g->tile_height; row += FOURIER_ROWS)
            fourier_strip(g, tile, row, strip, of_width, workspace);
        for (int64_t c = 0; c < g->piece; c += VF_LANES)
            fourier_back(tile.re + c, tile.im + c, g->tile_height, g->pitch, of_height);
        fourier_save(step, y, number, tile.re);
        if (two)
            fourier_save(step, y, number + 1, tile.im);
    }
}

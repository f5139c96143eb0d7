/* The filter for one type of sums, FV_REAL: included by filter.c for float and for double, whose vectors FV have
 * FV_LANES of them. */

/* One tap along h: a row of inputs, from x on, into output rows first to last of the tile, with weight i - r for
 * output row r. `first`, `last` and `vectors` are constants after inlining. */
CC_INLINE void FV_NAME(filter_row)(FV acc[FILTER_ROWS][FILTER_VECTORS], const FV_REAL *x, const FV_REAL *w, int64_t i,
                                   int64_t kh, int64_t kw, int64_t step, const int first, const int last,
                                   const int vectors)
{
    const FV_REAL *weight = w + i;
    for (int64_t dx = 0; dx < kw; dx++, x += step, weight += kh) {
        FV v[FILTER_VECTORS];
#pragma GCC unroll 8
        for (int j = 0; j < vectors; j++)
            v[j] = FV_LOAD(x + j * FV_LANES);
#pragma GCC unroll 8
        for (int r = 0; r < FILTER_ROWS; r++)
            if (r >= first && r <= last) {
                const FV b = FV_SET1(weight[-r]);
#pragma GCC unroll 8
                for (int j = 0; j < vectors; j++)
                    acc[r][j] = FV_FMA(v[j], b, acc[r][j]);
            }
    }
}

/* What a tile is computed from. */
typedef struct FV_NAME(filter_source) {
    const FV_REAL *const *rows; /* of slice 0, from the tile's first input row on */
    int64_t slice;              /* table entries from one slice's rows to the next's */
    int64_t column;             /* in these rows */
    const FV_REAL *w;           /* weights, transposed: [kd][kw][kh] */
    int64_t kd, kh, kw, step;
} FV_NAME(filter_source);

/* vectors x FILTER_ROWS outputs, of which `rows` rows, and `lanes` of the last vector, exist. kh_known is kh if that
 * is less than FILTER_ROWS, else 0; kw_known is kw or 0. */
CC_INLINE void FV_NAME(filter_tile)(const int kh_known, const int kw_known, const int vectors,
                                    const FV_NAME(filter_source) *s, FV_REAL *y, int64_t ldy, int rows, int lanes)
{
    FV acc[FILTER_ROWS][FILTER_VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < FILTER_ROWS; r++)
#pragma GCC unroll 8
        for (int j = 0; j < vectors; j++)
            acc[r][j] = FV_ZERO();
    const int64_t kh = kh_known ? kh_known : s->kh, kw = kw_known ? kw_known : s->kw;
    const int64_t step = s->step, column = s->column;
    const FV_REAL *w = s->w;
    const FV_REAL *const *row = s->rows;
    for (int64_t z = 0; z < s->kd; z++, row += s->slice, w += kh * kw) {
#define FILTER_ROW(i, first, last) FV_NAME(filter_row)(acc, row[i] + column, w, i, kh, kw, step, first, last, vectors)
        if (kh_known) {
            /* Input row i is in the windows of output rows i - kh + 1 to i. */
#define FILTER_KNOWN(i)                                                                                       \
    if ((i) < FILTER_ROWS + kh_known - 1)                                                                     \
    FILTER_ROW(i, (i) - kh_known + 1 > 0 ? (i) - kh_known + 1 : 0, (i) < FILTER_ROWS - 1 ? (i) : FILTER_ROWS - 1)
            FILTER_KNOWN(0);
            FILTER_KNOWN(1);
            FILTER_KNOWN(2);
            FILTER_KNOWN(3);
            FILTER_KNOWN(4);
            FILTER_KNOWN(5);
            FILTER_KNOWN(6);
            FILTER_KNOWN(7);
            FILTER_KNOWN(8);
            FILTER_KNOWN(9);
#undef FILTER_KNOWN
        } else {
#define FILTER_FIRST(i)      \
    if ((i) < FILTER_ROWS - 1) \
    FILTER_ROW(i, 0, i)
            FILTER_FIRST(0);
            FILTER_FIRST(1);
            FILTER_FIRST(2);
            FILTER_FIRST(3);
            FILTER_FIRST(4);
#undef FILTER_FIRST
            for (int64_t i = FILTER_ROWS - 1; i < kh; i++)
                FILTER_ROW(i, 0, FILTER_ROWS - 1);
#define FILTER_LAST(q)       \
    if ((q) < FILTER_ROWS - 1) \
    FILTER_ROW(kh + (q), (q) + 1, FILTER_ROWS - 1)
            FILTER_LAST(0);
            FILTER_LAST(1);
            FILTER_LAST(2);
            FILTER_LAST(3);
            FILTER_LAST(4);
#undef FILTER_LAST
        }
#undef FILTER_ROW
    }
#pragma GCC unroll 8
    for (int r = 0; r < FILTER_ROWS; r++)
        if (r < rows) {
#pragma GCC unroll 8
            for (int j = 0; j < vectors - 1; j++)
                FV_STORE(y + r * ldy + j * FV_LANES, acc[r][j]);
            if (lanes == FV_LANES)
                FV_STORE(y + r * ldy + (vectors - 1) * FV_LANES, acc[r][vectors - 1]);
            else
                FV_STORE_N(y + r * ldy + (vectors - 1) * FV_LANES, acc[r][vectors - 1], lanes);
        }
}

/* The same for a kernel of one row. */
CC_INLINE void FV_NAME(filter_line)(const int vectors, const FV_NAME(filter_source) *s, FV_REAL *y, int lanes)
{
    FV acc[FILTER_LINE_VECTORS];
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++)
        acc[j] = FV_ZERO();
    const FV_REAL *w = s->w;
    for (int64_t z = 0; z < s->kd; z++) {
        const FV_REAL *x = s->rows[z * s->slice] + s->column;
        for (int64_t dx = 0; dx < s->kw; dx++, x += s->step, w++) {
            const FV b = FV_SET1(*w);
#pragma GCC unroll 8
            for (int j = 0; j < vectors; j++)
                acc[j] = FV_FMA(FV_LOAD(x + j * FV_LANES), b, acc[j]);
        }
    }
#pragma GCC unroll 8
    for (int j = 0; j < vectors - 1; j++)
        FV_STORE(y + j * FV_LANES, acc[j]);
    if (lanes == FV_LANES)
        FV_STORE(y + (vectors - 1) * FV_LANES, acc[vectors - 1]);
    else
        FV_STORE_N(y + (vectors - 1) * FV_LANES, acc[vectors - 1], lanes);
}

/* A segment of a row of tiles: `columns` outputs of `rows` rows, at y. */
CC_INLINE void FV_NAME(filter_tiles)(const int kh_known, const int kw_known, FV_NAME(filter_source) *s, FV_REAL *y,
                                     int64_t ldy, int rows, int64_t columns)
{
    enum { WIDTH = FILTER_VECTORS * FV_LANES, LINE = 64 / sizeof(FV_REAL) };
    for (; columns >= WIDTH; columns -= WIDTH, s->column += WIDTH, y += WIDTH) {
        /* The rows that the tile below will be the first to read, and where the next tile's outputs go. */
        const FV_REAL *const *below = s->rows + FILTER_ROWS - 1 + s->kh;
        for (int r = 0; r < FILTER_ROWS; r++)
#pragma GCC unroll 8
            for (int c = 0; c < WIDTH; c += LINE) {
                vf_prefetch_l2((const char *)(below[r] + s->column + c));
                vf_prefetch_write((const float *)(y + r * ldy + WIDTH + c));
            }
        FV_NAME(filter_tile)(kh_known, kw_known, FILTER_VECTORS, s, y, ldy, rows, FV_LANES);
    }
    if (columns <= 0)
        return;
    const int vectors = (int)((columns + FV_LANES - 1) / FV_LANES);
    const int lanes = (int)(columns - (vectors - 1) * FV_LANES);
#if FILTER_VECTORS > 3
    if (vectors == 4)
        FV_NAME(filter_tile)(kh_known, kw_known, 4, s, y, ldy, rows, lanes);
#endif
#if FILTER_VECTORS > 2
    if (vectors == 3)
        FV_NAME(filter_tile)(kh_known, kw_known, 3, s, y, ldy, rows, lanes);
#endif
    if (vectors == 2)
        FV_NAME(filter_tile)(kh_known, kw_known, 2, s, y, ldy, rows, lanes);
    if (vectors == 1)
        FV_NAME(filter_tile)(kh_known, kw_known, 1, s, y, ldy, rows, lanes);
}

static void FV_NAME(filter_segment)(FV_NAME(filter_source) *s, FV_REAL *y, int64_t ldy, int rows, int64_t columns)
{
    switch (s->kh) {
    case 1:
        for (; columns >= FILTER_LINE_VECTORS * FV_LANES; columns -= FILTER_LINE_VECTORS * FV_LANES) {
            FV_NAME(filter_line)(FILTER_LINE_VECTORS, s, y, FV_LANES);
            s->column += FILTER_LINE_VECTORS * FV_LANES;
            y += FILTER_LINE_VECTORS * FV_LANES;
        }
        for (; columns > 0; columns -= FV_LANES, s->column += FV_LANES, y += FV_LANES)
            FV_NAME(filter_line)(1, s, y, (int)min_i64(columns, FV_LANES));
        return;
    case 2:
        FV_NAME(filter_tiles)(2, 0, s, y, ldy, rows, columns);
        return;
    case 3:
        if (s->kw == 3)
            FV_NAME(filter_tiles)(3, 3, s, y, ldy, rows, columns);
        else
            FV_NAME(filter_tiles)(3, 0, s, y, ldy, rows, columns);
        return;
#if FILTER_ROWS > 4
    case 4:
        FV_NAME(filter_tiles)(4, 0, s, y, ldy, rows, columns);
        return;
    case 5:
        FV_NAME(filter_tiles)(5, 0, s, y, ldy, rows, columns);
        return;
#endif
    default:
        FV_NAME(filter_tiles)(0, 0, s, y, ldy, rows, columns);
    }
}

/* The rows of the item's windows: `read` rows of each slice, then others for tiles that go beyond them or look ahead.
 * Rows in place begin where column 0 of the output would; copied ones with column `begin`. */
static void FV_NAME(filter_rows)(const cc_step *step, const filter_item *item, char *scratch, int in_place, int64_t begin,
                                 int64_t columns, int64_t read, int64_t entries)
{
    const cc_filter_geometry *g = (const cc_filter_geometry *)step->detail;
    const cc_view *in = &step->in;
    const int64_t *pad = step->window.pad_low;
    const int64_t kd = step->window.kernel[0], size = cc_type_size(in->type);
    const FV_REAL **table = (const FV_REAL **)(scratch + g->rows_at);
    FV_REAL *copy = (FV_REAL *)(scratch + g->copy_at);
    const FV_REAL *border = (const FV_REAL *)(scratch + g->border_at);
    const int64_t first = -pad[2] * g->step; /* the input sample of column 0 */
    for (int64_t z = 0; z < kd; z++) {
        const int64_t depth = filter_source(item->depth + z - pad[0], in->shape[1], step->edge);
        for (int64_t i = 0; i < entries; i++, table++) {
            if (i >= read && !in_place) {
                *table = table[-1];
                continue;
            }
            const int64_t line = filter_source(item->row + i - pad[1], in->shape[2], step->edge);
            if (depth < 0 || line < 0) {
                *table = border - (in_place ? begin : 0);
                continue;
            }
            const char *row = item->x + (depth * in->ld[1] + line * in->ld[2]) * size;
            if (in_place) {
                *table = (const FV_REAL *)row + first;
                continue;
            }
            FV_NAME(filter_copy_row)(step, row, copy, first + begin, columns, (FV_REAL)step->edge_value);
            *table = copy;
            copy += g->pitch;
        }
    }
}

static void FV_NAME(filter_piece)(const cc_step *step, const filter_item *item, char *scratch)
{
    const cc_filter_geometry *g = (const cc_filter_geometry *)step->detail;
    const cc_view *out = &step->out;
    const int64_t *k = step->window.kernel, size = cc_type_size(out->type), reach = (k[2] - 1) * g->step;
    const int64_t height = k[1] == 1 ? 1 : FILTER_ROWS;
    const int64_t read = item->rows + k[1] - 1, entries = filter_up(item->rows, height) + height + k[1] - 1;
    const cc_filter_segments cut = filter_segments(g, item->begin, item->end);
    const int64_t ends[4] = {cut.begin, cut.left, cut.right, cut.end};
    FV_NAME(filter_source) s = {.slice = entries, .w = (const FV_REAL *)scratch, .kd = k[0], .kh = k[1], .kw = k[2],
                                .step = g->step};
    FV_REAL *const result = (FV_REAL *)(scratch + g->result_at);
    for (int part = 0; part < 3; part++) {
        const int64_t begin = ends[part], columns = ends[part + 1] - begin;
        if (columns <= 0)
            continue;
        const int in_place = part == 1;
        FV_NAME(filter_rows)(step, item, scratch, in_place, begin, columns + reach, read, entries);
        for (int64_t r = 0; r < item->rows; r += height) {
            const int rows = (int)min_i64(height, item->rows - r);
            s.rows = (const FV_REAL *const *)(scratch + g->rows_at) + r;
            s.column = in_place ? begin : 0;
            char *y = item->y + (item->row + r) * out->ld[2] * size;
            if (g->out_in_place) {
                FV_NAME(filter_segment)(&s, (FV_REAL *)y + begin, out->ld[2], rows, columns);
                continue;
            }
            FV_NAME(filter_segment)(&s, result, g->piece, rows, columns);
            for (int j = 0; j < rows; j++, y += out->ld[2] * size) {
                const FV_REAL *from = result + j * g->piece;
                const int64_t c = g->step;
                if (c == 1 || (out->ld[4] == 1 && out->ld[3] == c)) {
                    const int64_t ld = c == 1 ? out->ld[3] : 1;
                    FV_NAME(filter_write)(y + begin * ld * size, out->type, ld, from, columns);
                    continue;
                }
                for (int64_t e = begin, count; e < begin + columns; e += count) {
                    count = min_i64(c - e % c, begin + columns - e);
                    FV_NAME(filter_write)(y + (e / c * out->ld[3] + e % c * out->ld[4]) * size, out->type, out->ld[4],
                                          from + (e - begin), count);
                }
            }
        }
    }
}

void CC_FN(FV_NAME(filter))(const cc_step *step, const cc_call *call, int64_t begin, int64_t end)
{
    const cc_filter_geometry *g = (const cc_filter_geometry *)step->detail;
    const cc_view *kernel = &step->in2;
    const int64_t *k = step->window.kernel;
    char *scratch = call->scratch;
    const FV_REAL *from = (const FV_REAL *)call->buffers[kernel->buffer] + kernel->offset;
    FV_REAL *w = (FV_REAL *)scratch;
    for (int64_t z = 0; z < k[0]; z++)
        for (int64_t dx = 0; dx < k[2]; dx++)
            for (int64_t dy = 0; dy < k[1]; dy++) {
                const int64_t at[3] = {z, dy, dx};
                int64_t place = 0;
                for (int a = 0; a < CC_SPATIAL; a++)
                    place += (step->flip ? k[a] - 1 - at[a] : at[a]) * kernel->ld[a];
                *w++ = from[place];
            }
    if (step->edge == CC_EDGE_CONSTANT) {
        FV_REAL *border = (FV_REAL *)(scratch + g->border_at), *end_of = (FV_REAL *)(scratch + g->result_at);
        while (border < end_of)
            *border++ = (FV_REAL)step->edge_value;
    }
    for (int64_t i = begin; i < end; i++) {
        const filter_item item = filter_item_of(step, call, i);
        FV_NAME(filter_piece)(step, &item, scratch);
    }
}

#undef FV_REAL
#undef FV_NAME
#undef FV_LANES
#undef FV
#undef FV_ZERO
#undef FV_SET1
#undef FV_LOAD
#undef FV_STORE
#undef FV_STORE_N
#undef FV_FMA
#undef FV_FLOAT

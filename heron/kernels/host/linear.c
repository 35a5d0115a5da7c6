/* y = x @ W.T (+ bias), for few rows of x: W [O, K] as nn.Linear has it, float or bfloat16, sums in float.

The one hard idea: a tile of some rows of x by four rows of W keeps one vector of partial sums per pair in registers while it walks along K,
so that every number loaded is used many times and W is read once. All tiles add in the same order: lane l of a pair sums the products
k = l, l + LANES, ... and the lanes are folded at the end. So a row's result is the same, bit for bit, whatever else is in the batch.
A tile also asks for rows of W that are due soon: it is too short for the processor to guess them, and with few rows that is half the time.

A tile knows only bytes: a vector is LANES floats or 2 * LANES bfloat16s, and only the multiplication and the ends tell them apart.
What it leaves out: many rows, where x should stay in cache by blocks; there torch's product is as good. */

#include "vectors.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#define VECTOR ((long)sizeof(vec))
#define COLUMNS 4 /* of a tile: as many as are folded together */
#define AHEAD 12 /* rows of W from what is read to what is asked for; measured: 8 to 16 are alike, 4 is slower */
#define PARALLEL_FROM (1L << 19) /* products in a call that are worth waking the threads for */

#if MANY_REGISTERS
#define TILE_ROWS 6
#else
#define TILE_ROWS 3
#endif

typedef uint32_t uvec4 __attribute__((vector_size(16)));
typedef bf16 narrow4 __attribute__((vector_size(8)));

typedef struct {
    const char *x, *w, *bias; /* no bias: null */
    char *y;
    long rows, width, columns; /* the width in bytes */
} Task;

/* The last bytes of a row, and zeros. */
INLINE uvec load_end(const char *p, long bytes) {
    uvec v = {0};
    memcpy(&v, p, bytes);
    return v;
}

/* Partial sums plus the products of two vectors; of bfloat16s, of both halves of each lane. */
INLINE vec multiplied(const int is_bf16, vec partial, uvec a, uvec b) {
    if (!is_bf16) return partial + (vec)a * (vec)b;
#if defined(__AVX512BF16__)
    return (vec)_mm512_dpbf16_ps((__m512)partial, (__m512bh)a, (__m512bh)b);
#else
    partial = partial + (vec)(a << 16) * (vec)(b << 16);
    return partial + (vec)(a & 0xffff0000u) * (vec)(b & 0xffff0000u);
#endif
}

/* Four neighbours of the bias, or as many of them as there are; zeros without a bias. */
INLINE vec4 bias_at(const int is_bf16, const Task *of, long column, long count) {
    vec4 wide = {0};
    narrow4 narrow = {0};
    if (!of->bias) return wide;
    memcpy(is_bf16 ? (void *)&narrow : (void *)&wide, of->bias + column * (is_bf16 ? 2 : 4), count * (is_bf16 ? 2 : 4));
    return is_bf16 ? (vec4)(__builtin_convertvector(narrow, uvec4) << 16) : wide;
}

/* Store four neighbouring results, or as many of them as there are; bfloat16s to the nearest, ties to even.
   A NaN that bfloat16s lead to has no low bits, so rounding does not carry into its sign. */
INLINE void put(const int is_bf16, char *p, long count, vec4 y) {
    uvec4 bits = (uvec4)y;
    narrow4 narrow = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, narrow4);
    const void *from = is_bf16 ? (const void *)&narrow : (const void *)&y;
    if (count == COLUMNS) memcpy(p, from, COLUMNS * (is_bf16 ? 2 : 4));
    else memcpy(p, from, count * (is_bf16 ? 2 : 4));
}

/* The pairs of a tile by name, since gcc keeps an array of accumulators in memory. Rows that a tile lacks vanish. */
#define EACH_COLUMN(DO, m) DO(m, 0) DO(m, 1) DO(m, 2) DO(m, 3)
#define EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)

#define BEGIN(m, n) vec s##m##n = {0};
#define BEGIN_ROW(m) EACH_COLUMN(BEGIN, m)
#define W_ROW(_, n) const char *w##n = of->w + (column + (n < count ? n : count - 1)) * of->width;
#define W_ASK(_, n) __builtin_prefetch(w##n + AHEAD * of->width + k, 0, 2);
#define W_LOAD(LOAD, n) uvec b##n = LOAD(w##n + k);
#define ADD(m, n) s##m##n = multiplied(is_bf16, s##m##n, a, b##n);
#define ADD_ROW(m) if (m < rows) { uvec a = LOAD(x + m * of->width + k); EACH_COLUMN(ADD, m) }
#define PUT_ROW(m) if (m < rows) put(is_bf16, y + m * stride, count, sums(s##m##0, s##m##1, s##m##2, s##m##3) + bias);

/* A tile of so many rows, a number known when this is compiled. Of its columns the first `count` exist, the others repeat the last. */
INLINE void tile(const int is_bf16, const int rows, const Task *of, long row, long column, long count) {
    const long size = is_bf16 ? 2 : 4, stride = of->columns * size;
    const vec4 bias = bias_at(is_bf16, of, column, count);
    const char *x = of->x + row * of->width;
    char *y = of->y + row * stride + column * size;
    long k = 0;
    EACH_ROW(BEGIN_ROW)
    EACH_COLUMN(W_ROW, )
#define LOAD(p) bits_once(p)
    for (; k + VECTOR <= of->width; k += VECTOR) {
        EACH_COLUMN(W_ASK, )
        EACH_COLUMN(W_LOAD, LOAD)
        EACH_ROW(ADD_ROW)
    }
#undef LOAD
#define LOAD(p) load_end(p, of->width - k)
    if (k < of->width) {
        EACH_COLUMN(W_LOAD, LOAD)
        EACH_ROW(ADD_ROW)
    }
#undef LOAD
    EACH_ROW(PUT_ROW)
}

/* At most four columns of all rows, for one type. */
INLINE void columns_of(const int is_bf16, const Task *of, long column, long count) {
    long row = 0;
    for (; row + TILE_ROWS <= of->rows; row += TILE_ROWS) tile(is_bf16, TILE_ROWS, of, row, column, count);
    switch (of->rows - row) {
#if TILE_ROWS > 3
    case 5: tile(is_bf16, 5, of, row, column, count); break;
    case 4: tile(is_bf16, 4, of, row, column, count); break;
    case 3: tile(is_bf16, 3, of, row, column, count); break;
#endif
    case 2: tile(is_bf16, 2, of, row, column, count); break;
    case 1: tile(is_bf16, 1, of, row, column, count); break;
    }
}

static void columns_float(const Task *of, long column, long count) { columns_of(0, of, column, count); }
static void columns_bf16(const Task *of, long column, long count) { columns_of(1, of, column, count); }

/* x [rows, width], w [columns, width], bias [columns] or null, y [rows, columns]: contiguous, all of one type. */
void heron_linear(const char *x, const char *w, const char *bias, char *y, long rows, long width, long columns, int is_bf16) {
    const Task task = {x, w, bias, y, rows, width * (is_bf16 ? 2 : 4), columns};
#pragma omp parallel for schedule(static) if (rows * width * columns >= PARALLEL_FROM)
    for (long column = 0; column < columns; column += COLUMNS) {
        const long count = columns - column < COLUMNS ? columns - column : COLUMNS;
        if (is_bf16) columns_bf16(&task, column, count);
        else columns_float(&task, column, count);
    }
}

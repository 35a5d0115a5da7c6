/* Small matrix products, and rows of numbers turned into vectors: what attention is made of.
 *
 * The one hard idea: a product keeps its sums in registers, two vectors of columns for up to TILE rows, while it goes through the numbers
 * that it adds up one after the other. So each sum comes out the same bit for bit, however many rows and columns there are beside it.
 *
 * What it leaves out: columns that are not whole vectors.
 */

#ifndef HERON_TILES_H
#define HERON_TILES_H

#include "vectors.h"

#define TILE 6 /* rows: twelve sums, two vectors of columns and a number fit into sixteen registers */

INLINE long padded(long n) { return (n + LANES - 1) / LANES * LANES; }

#define UP_TO_1(X) X(0)
#define UP_TO_2(X) UP_TO_1(X) X(1)
#define UP_TO_3(X) UP_TO_2(X) X(2)
#define UP_TO_4(X) UP_TO_3(X) X(3)
#define UP_TO_5(X) UP_TO_4(X) X(4)
#define UP_TO_6(X) UP_TO_5(X) X(5)

/* What becomes of row r, in one vector of columns and in two. Sums have names because compilers keep arrays of them in memory. */
#define BEGIN_1(r) vec left##r = factors ? load(c + r * c_stride) * all(factors[r]) : (vec){0};
#define ADD_1(r) left##r += all(a[r * a_stride + i]) * left;
#define END_1(r) store(c + r * c_stride, left##r);
#define BEGIN_2(r) BEGIN_1(r) vec right##r = factors ? load(c + r * c_stride + LANES) * all(factors[r]) : (vec){0};
#define ADD_2(r) { vec x = all(a[r * a_stride + i]); left##r += x * left; right##r += x * right; }
#define END_2(r) END_1(r) store(c + r * c_stride + LANES, right##r);

#define OPERANDS \
    const float *restrict a, long a_stride, const float *restrict b, long b_stride, float *restrict c, long c_stride, \
        const float *factors, long inner

typedef void Product(OPERANDS);

#define PRODUCT(rows) \
    static void product_##rows##_1(OPERANDS) { \
        UP_TO_##rows(BEGIN_1) \
        for (long i = 0; i < inner; i++) { vec left = (vec)bits_once(b + i * b_stride); UP_TO_##rows(ADD_1) } \
        UP_TO_##rows(END_1) \
    } \
    static void product_##rows##_2(OPERANDS) { \
        UP_TO_##rows(BEGIN_2) \
        for (long i = 0; i < inner; i++) { \
            vec left = (vec)bits_once(b + i * b_stride), right = (vec)bits_once(b + i * b_stride + LANES); \
            UP_TO_##rows(ADD_2) \
        } \
        UP_TO_##rows(END_2) \
    }

PRODUCT(1) PRODUCT(2) PRODUCT(3) PRODUCT(4) PRODUCT(5) PRODUCT(6)

static Product *const products[TILE][2] = {
    {product_1_1, product_1_2}, {product_2_1, product_2_2}, {product_3_1, product_3_2},
    {product_4_1, product_4_2}, {product_5_1, product_5_2}, {product_6_1, product_6_2},
};

/* `c [rows, columns] = a [rows, inner] b [inner, columns]`, and c as it was times the factor of its row, if factors are given. For the
 * first TILE rows, or fewer if there are no more. Columns are whole vectors; b and c have rows of `stride` numbers. */
static void product(long rows, const float *a, long a_stride, const float *b, float *c, long columns, long stride, const float *factors,
                    long inner) {
    Product *const *kinds = products[(rows < TILE ? rows : TILE) - 1];
    long column = 0;
    for (; column + 2 * LANES <= columns; column += 2 * LANES)
        kinds[1](a, a_stride, b + column, stride, c + column, stride, factors, inner);
    if (column < columns) kinds[0](a, a_stride, b + column, stride, c + column, stride, factors, inner);
}

/* Numbers of lanes, four by four: those of every group of four lanes alike. */
#if LANES == 16
#define BY_FOUR(a, b, c, d) a, b, c, d, a + 4, b + 4, c + 4, d + 4, a + 8, b + 8, c + 8, d + 8, a + 12, b + 12, c + 12, d + 12
#elif LANES == 8
#define BY_FOUR(a, b, c, d) a, b, c, d, a + 4, b + 4, c + 4, d + 4
#else
#define BY_FOUR(a, b, c, d) a, b, c, d
#endif

INLINE vec4 four(const float *p) { vec4 v; memcpy(&v, p, sizeof v); return v; }

/* Four numbers from here, from `next`, from twice and thrice as far, as many as a vector has. */
INLINE vec joined(const float *here, long next) {
#if LANES == 4
    (void)next;
    return four(here);
#else
    typedef float vec8 __attribute__((vector_size(32)));
    vec8 low = __builtin_shufflevector(four(here), four(here + next), 0, 1, 2, 3, 4, 5, 6, 7);
#if LANES == 8
    return low;
#else
    vec8 high = __builtin_shufflevector(four(here + 2 * next), four(here + 3 * next), 0, 1, 2, 3, 4, 5, 6, 7);
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#endif
#endif
}

/* A piece of memory that is due soon. Asked for a little at a time, it comes while other things are computed. */
typedef struct {
    const char *next;
    long step; /* bytes to ask for at a time */
} Due;

INLINE void ask(Due *due) {
    for (const char *end = due->next + due->step; due->next < end; due->next += 64) __builtin_prefetch(due->next, 0, 2);
}

/* LANES rows of `width` numbers (a multiple of four) as `width` vectors; `values` may be NULL. */
static void turn(const float *a_rows, long width, float *turned, long stride, Due *keys, Due *values) {
    const float *b_rows = a_rows + width, *c_rows = b_rows + width, *d_rows = c_rows + width;
    for (long i = 0; i < width; i += 4, turned += 4 * stride) {
        ask(keys);
        if (values) ask(values);
        vec a = joined(a_rows + i, 4 * width), b = joined(b_rows + i, 4 * width);
        vec c = joined(c_rows + i, 4 * width), d = joined(d_rows + i, 4 * width);
        vec ab = __builtin_shufflevector(a, b, BY_FOUR(0, LANES, 1, LANES + 1));
        vec cd = __builtin_shufflevector(c, d, BY_FOUR(0, LANES, 1, LANES + 1));
        store(turned, __builtin_shufflevector(ab, cd, BY_FOUR(0, 1, LANES, LANES + 1)));
        store(turned + stride, __builtin_shufflevector(ab, cd, BY_FOUR(2, 3, LANES + 2, LANES + 3)));
        ab = __builtin_shufflevector(a, b, BY_FOUR(2, LANES + 2, 3, LANES + 3));
        cd = __builtin_shufflevector(c, d, BY_FOUR(2, LANES + 2, 3, LANES + 3));
        store(turned + 2 * stride, __builtin_shufflevector(ab, cd, BY_FOUR(0, 1, LANES, LANES + 1)));
        store(turned + 3 * stride, __builtin_shufflevector(ab, cd, BY_FOUR(2, 3, LANES + 2, LANES + 3)));
    }
}

#endif

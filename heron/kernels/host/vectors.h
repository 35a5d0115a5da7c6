/* Vectors as wide as the processor's registers, in GNU C (gcc 12 or clang): no intrinsics but one, for products of bfloat16. */

#ifndef HERON_VECTORS_H
#define HERON_VECTORS_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif

#if defined(__AVX512F__) || defined(__aarch64__)
#define MANY_REGISTERS 1 /* 32 of them, else 16 */
#else
#define MANY_REGISTERS 0
#endif

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES)));
typedef float vec4 __attribute__((vector_size(16)));
typedef uint16_t bf16; /* the upper half of a float */

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *p) { vec v; memcpy(&v, p, sizeof v); return v; }
typedef uint32_t loose_bits __attribute__((vector_size(4 * LANES), aligned(1), may_alias));

/* `volatile` keeps gcc from loading a vector anew for each sum that it goes into. */
INLINE uvec bits_once(const void *p) { return *(const volatile loose_bits *)p; }
INLINE uvec load_bits(const void *p) { uvec v; memcpy(&v, p, sizeof v); return v; }
INLINE void store(float *p, vec v) { memcpy(p, &v, sizeof v); }
INLINE vec all(float x) { return x - (vec){0}; }
INLINE vec pick(ivec where, vec yes, vec no) { return (vec)((where & (ivec)yes) | (~where & (ivec)no)); }
INLINE vec larger(vec a, vec b) { return pick(a > b, a, b); }

/* Sums of lanes l, l + 4, l + 8, ... */
INLINE vec4 quarter(vec v) {
#if LANES == 16
    typedef float vec8 __attribute__((vector_size(32)));
    vec8 half = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) + __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
    return __builtin_shufflevector(half, half, 0, 1, 2, 3) + __builtin_shufflevector(half, half, 4, 5, 6, 7);
#elif LANES == 8
    return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
#else
    return v;
#endif
}

/* The sums of four vectors, side by side: neighbouring lanes first, of all four at once, then quarters. */
INLINE vec4 sums(vec a, vec b, vec c, vec d) {
#if LANES == 16
    vec ab = __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
           + __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
    vec cd = __builtin_shufflevector(c, d, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
           + __builtin_shufflevector(c, d, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
    return quarter(__builtin_shufflevector(ab, cd, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
                 + __builtin_shufflevector(ab, cd, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31));
#else
    vec4 p = quarter(a), q = quarter(b), r = quarter(c), s = quarter(d);
    vec4 pq = __builtin_shufflevector(p, q, 0, 4, 1, 5) + __builtin_shufflevector(p, q, 2, 6, 3, 7);
    vec4 rs = __builtin_shufflevector(r, s, 0, 4, 1, 5) + __builtin_shufflevector(r, s, 2, 6, 3, 7);
    return __builtin_shufflevector(pq, rs, 0, 1, 4, 5) + __builtin_shufflevector(pq, rs, 2, 3, 6, 7);
#endif
}

/* The same sum of one vector, bit for bit. */
INLINE float sum(vec v) {
#if LANES == 16
    v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    v += __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
    return quarter(v)[0];
#else
    vec4 q = quarter(v);
    return (q[0] + q[2]) + (q[1] + q[3]);
#endif
}

INLINE float highest(vec v) {
    float best = v[0];
    for (int lane = 1; lane < LANES; lane++) best = v[lane] > best ? v[lane] : best;
    return best;
}

/* 2 to the power of x, for x <= 127; 0 below -126, NaN for NaN; relative error about 1e-7. */
INLINE vec power_of_two(vec x) {
    const vec magic = all(12582912.0f); /* 1.5 * 2^23: adding it rounds to whole numbers */
    ivec tiny = x < all(-126.0f);
    vec bounded = pick(tiny, all(-126.0f), x);
    vec shifted = bounded + magic, f = bounded - (shifted - magic); /* f in [-0.5, 0.5] */
    vec p = all(1.5403530e-4f);
    p = p * f + all(1.3333558e-3f);
    p = p * f + all(9.6181291e-3f);
    p = p * f + all(5.5504109e-2f);
    p = p * f + all(2.4022651e-1f);
    p = p * f + all(6.9314718e-1f);
    p = p * f + all(1.0f);
    uvec scaled = (uvec)p + ((uvec)shifted << 23);
    return pick(x != x, x, pick(tiny, (vec){0}, (vec)scaled)); /* else the shift would turn some NaNs into numbers */
}

INLINE bf16 rounded(float x) { /* to the nearest, ties to even */
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (x != x) return 0x7fc0;
    return (bf16)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

INLINE float widened(bf16 x) {
    uint32_t bits = (uint32_t)x << 16;
    float wide;
    memcpy(&wide, &bits, 4);
    return wide;
}

/* The same of LANES numbers. */
typedef bf16 narrow __attribute__((vector_size(2 * LANES)));

INLINE narrow rounded_all(vec x) {
    uvec bits = (uvec)x, up = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return __builtin_convertvector((uvec)pick(x == x, (vec)up, (vec)((uvec){0} + 0x7fc0)), narrow);
}

/* A zero below each: gcc 12 makes one instruction of this, and five of a conversion. */
INLINE vec widened_all(narrow x) {
    const narrow zero = {0};
#if LANES == 16
    return (vec)__builtin_shufflevector(
        zero, x, 0, 16, 0, 17, 0, 18, 0, 19, 0, 20, 0, 21, 0, 22, 0, 23, 0, 24, 0, 25, 0, 26, 0, 27, 0, 28, 0, 29, 0, 30, 0, 31
    );
#elif LANES == 8
    return (vec)__builtin_shufflevector(zero, x, 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
#else
    return (vec)__builtin_shufflevector(zero, x, 0, 4, 1, 5, 2, 6, 3, 7);
#endif
}

#endif

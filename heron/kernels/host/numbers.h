/* Rows of floats or of bfloat16s, a vector at a time.
 *
 * The one hard idea: types are told apart only here. `is_bf16` is a constant wherever a function is called, so that each type gets code of
 * its own; and so is `count`, but for the last vector of a row, which may be shorter.
 *
 * What it leaves out: strides.
 */

#ifndef HERON_NUMBERS_H
#define HERON_NUMBERS_H

#include "vectors.h"

/* Up to LANES numbers from the i-th, as floats; zeros behind them. */
INLINE vec get(const int is_bf16, const void *p, long i, long count) {
    if (is_bf16) {
        narrow v = {0};
        if (count >= LANES) memcpy(&v, (const bf16 *)p + i, sizeof v);
        else memcpy(&v, (const bf16 *)p + i, count * 2);
        return widened_all(v);
    }
    if (count >= LANES) return load((const float *)p + i);
    vec v = {0};
    memcpy(&v, (const float *)p + i, count * 4);
    return v;
}

/* The bits of what a bfloat16 keeps of x, in the upper half; the lower is of no meaning. A NaN that bfloat16s lead to has no low bits, so
 * rounding does not carry into its sign. */
INLINE uvec upper(vec x) {
    uvec bits = (uvec)x;
    return bits + 0x7fff + ((bits >> 16) & 1);
}

/* As if stored and loaded again. */
INLINE vec as(const int is_bf16, vec x) { return is_bf16 ? (vec)(upper(x) & 0xffff0000u) : x; }

/* Store up to LANES numbers from the i-th on. */
INLINE void set(const int is_bf16, void *p, long i, long count, vec x) {
    if (is_bf16) {
        narrow v = __builtin_convertvector(upper(x) >> 16, narrow);
        if (count >= LANES) memcpy((bf16 *)p + i, &v, sizeof v);
        else memcpy((bf16 *)p + i, &v, count * 2);
    }
    else if (count >= LANES) store((float *)p + i, x);
    else memcpy((float *)p + i, &x, count * 4);
}

/* PART(i, count) from `from` to `to`: compiled for whole vectors, and for the last, shorter one. */
#define ALONG(from, to, PART) do { \
        long i = (from); \
        for (; i + LANES <= (to); i += LANES) PART(i, LANES); \
        if (i < (to)) PART(i, (to) - i); \
    } while (0)

#endif

/* What a layer does to each row besides its matrix products: norms, rotations of heads, gated activations.

The one hard idea: bfloat16 is widened on loading and rounded exactly where the modules of transformers round it, so the same numbers come out.
What it leaves out: strides; all is contiguous. */

#include <math.h>

#include "numbers.h"

#define PARALLEL_FROM (1L << 17) /* numbers in a call that are worth waking the threads for */
#define BLOCK 4096 /* numbers of a gate that a thread takes at a time */

/* The sum of the squares of a row; two partial sums per lane, since an addition waits for the one before. */
INLINE float squares(const int is_bf16, const void *x, long first, long width) {
    vec even = {0}, odd = {0};
    long i = 0;
    for (; i + 2 * LANES <= width; i += 2 * LANES) {
        vec a = get(is_bf16, x, first + i, LANES), b = get(is_bf16, x, first + i + LANES, LANES);
        even += a * a;
        odd += b * b;
    }
    for (; i < width; i += LANES) {
        vec a = get(is_bf16, x, first + i, width - i);
        even += a * a;
    }
    return sum(even + odd);
}

INLINE void normalise(const int is_bf16, const int plus_one, const void *x, const void *weight, void *y, long first, long width, float eps) {
    const vec scale = all(1.0f / sqrtf(squares(is_bf16, x, first, width) / width + eps));
#define PART(i, count) do { \
        vec normal = get(is_bf16, x, first + (i), count) * scale, by = get(is_bf16, weight, i, count); \
        set(is_bf16, y, first + (i), count, plus_one ? normal * (by + all(1.0f)) : as(is_bf16, normal) * by); \
    } while (0)
    ALONG(0, width, PART);
#undef PART
}

/* y = x / sqrt(mean(x^2) + eps), rounded, times weight; or, in float until the end, times 1 + weight. x, y [rows, width]. */
void heron_rms_norm(const void *x, const void *weight, void *y, long rows, long width, float eps, int plus_one, int is_bf16) {
#pragma omp parallel for schedule(static) if (rows * width >= PARALLEL_FROM)
    for (long row = 0; row < rows; row++) {
        if (is_bf16 && plus_one) normalise(1, 1, x, weight, y, row * width, width, eps);
        else if (is_bf16) normalise(1, 0, x, weight, y, row * width, width, eps);
        else normalise(0, plus_one, x, weight, y, row * width, width, eps);
    }
}

/* One head from number `first` on; cos and sin of its row from `angles` on. */
INLINE void turn(const int is_bf16, const void *x, const void *cos, const void *sin, void *y, long first, long angles, long width, long turned) {
    const long half = turned / 2;
#define PART(i, count) do { \
        vec a = get(is_bf16, x, first + (i), count), b = get(is_bf16, x, first + half + (i), count); \
        vec cos_a = get(is_bf16, cos, angles + (i), count), cos_b = get(is_bf16, cos, angles + half + (i), count); \
        vec sin_a = get(is_bf16, sin, angles + (i), count), sin_b = get(is_bf16, sin, angles + half + (i), count); \
        set(is_bf16, y, first + (i), count, as(is_bf16, a * cos_a) - as(is_bf16, b * sin_a)); \
        set(is_bf16, y, first + half + (i), count, as(is_bf16, b * cos_b) + as(is_bf16, a * sin_b)); \
    } while (0)
    ALONG(0, half, PART);
#undef PART
    const long size = is_bf16 ? 2 : 4;
    memcpy((char *)y + (first + turned) * size, (const char *)x + (first + turned) * size, (width - turned) * size);
}

/* x * cos + (-x2, x1) * sin of the first `turned` numbers of each head, where x1, x2 are their halves; the rest as it is.
   x, y [rows, heads, width], cos and sin [rows, turned]. */
void heron_rotate(
    const void *x, const void *cos, const void *sin, void *y, long rows, long heads, long width, long turned, int is_bf16
) {
#pragma omp parallel for schedule(static) if (rows * heads * width >= PARALLEL_FROM)
    for (long row = 0; row < rows; row++)
        for (long head = 0; head < heads; head++) {
            const long first = (row * heads + head) * width;
            if (is_bf16) turn(1, x, cos, sin, y, first, row * turned, width, turned);
            else turn(0, x, cos, sin, y, first, row * turned, width, turned);
        }
}

/* x * sigmoid(z), where z = x for SiLU; GELU by tanh is the same with z = 2 sqrt(2 / pi) (x + 0.044715 x^3). */
INLINE vec activated(const int is_gelu, vec x) {
    const float log2_e = 1.44269504f;
    vec z = is_gelu ? x * all(1.59576912f) * (all(1.0f) + all(0.044715f) * x * x) : x;
    vec exponent = z * all(-log2_e);
    return x / (all(1.0f) + power_of_two(pick(exponent > all(127.0f), all(127.0f), exponent)));
}

INLINE void gate_block(const int is_bf16, const int is_gelu, const void *gate, const void *up, void *y, long from, long size) {
#define PART(i, count) do { \
        vec open = as(is_bf16, activated(is_gelu, get(is_bf16, gate, from + (i), count))); \
        set(is_bf16, y, from + (i), count, open * get(is_bf16, up, from + (i), count)); \
    } while (0)
    ALONG(0, size, PART);
#undef PART
}

/* y = act(gate) * up, of n numbers; the activation is rounded before the product. */
void heron_gated(const void *gate, const void *up, void *y, long n, int is_gelu, int is_bf16) {
#pragma omp parallel for schedule(static) if (n >= PARALLEL_FROM)
    for (long from = 0; from < n; from += BLOCK) {
        const long size = n - from < BLOCK ? n - from : BLOCK;
        if (is_bf16 && is_gelu) gate_block(1, 1, gate, up, y, from, size);
        else if (is_bf16) gate_block(1, 0, gate, up, y, from, size);
        else if (is_gelu) gate_block(0, 1, gate, up, y, from, size);
        else gate_block(0, 0, gate, up, y, from, size);
    }
}

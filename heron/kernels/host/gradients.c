/* The gradients of what `rows.c` does: norms, rotations of heads, gated activations of many rows, in one pass over memory each.

The one hard idea: both sums that the gradient of a norm needs, of squares and along the row, come from one reading of the row, which is
still in the cache when its gradient is written. The gradient of the weight is summed over blocks of rows that are always the same, then
over blocks in their order, so that it does not depend on the number of threads. All is computed in float, and rounded once.

What it leaves out: gradients by cosines and sines; strides, but those of the gradient of a rotation, which comes as attention made it. */

#include <math.h>

#include "numbers.h"

#define PARALLEL_FROM (1L << 16) /* numbers in a call that are worth waking the threads for */
#define ROWS 64 /* of a block, which has its own sum of a weight's gradient: `ROWS` of trained.py */
#define BLOCK 4096 /* numbers of a gate that a thread takes at a time */

typedef struct {
    const void *x, *weight, *dy;
    void *dx;
    long rows, width;
    float eps, one; /* what is added to the weight */
} Norm;

/* With n = x / root and g = dy * weight: dx = (g - n * mean(g * n)) / root. Adds dy * n to `dweight`, if there is one. */
INLINE void norm_row(const int is_bf16, const int has_dweight, const Norm *of, long row, float *dweight) {
    const long first = row * of->width, width = of->width;
    const vec one = all(of->one);
    vec squares = {0}, along = {0};
#define ADD(i, count) do { \
        vec x = get(is_bf16, of->x, first + (i), count), by = get(is_bf16, of->weight, i, count) + one; \
        squares += x * x; \
        along += x * by * get(is_bf16, of->dy, first + (i), count); \
    } while (0)
    ALONG(0, width, ADD);
#undef ADD
    const float scale = 1.0f / sqrtf(sum(squares) / width + of->eps);
    const vec by_root = all(scale), mean = all(sum(along) / width * scale * scale * scale);
#define WRITE(i, count) do { \
        vec x = get(is_bf16, of->x, first + (i), count), dy = get(is_bf16, of->dy, first + (i), count) * by_root; \
        set(is_bf16, of->dx, first + (i), count, dy * (get(is_bf16, of->weight, i, count) + one) - x * mean); \
        if (has_dweight) set(0, dweight, i, count, get(0, dweight, i, count) + dy * x); \
    } while (0)
    ALONG(0, width, WRITE);
#undef WRITE
}

INLINE void norm_block(const int is_bf16, const int has_dweight, const Norm *of, long block, float *dweight) {
    const long from = block * ROWS, to = of->rows - from < ROWS ? of->rows : from + ROWS;
    if (has_dweight) memset(dweight, 0, of->width * sizeof *dweight);
    for (long row = from; row < to; row++) norm_row(is_bf16, has_dweight, of, row, dweight);
}

/* The first of `blocks` rows becomes their sum, added up in their order. */
static void sum_blocks(float *rows, long blocks, long width) {
    for (long i = 0; i < width; i += LANES) {
        const long count = width - i < LANES ? width - i : LANES;
        double total[LANES] = {0};
        for (long block = 0; block < blocks; block++) {
            vec row = get(0, rows, block * width + i, count);
            for (long lane = 0; lane < LANES; lane++) total[lane] += row[lane];
        }
        for (long lane = 0; lane < count; lane++) rows[i + lane] = total[lane];
    }
}

/* The gradients by x and weight of `heron_rms_norm`. x, dy, dx [rows, width]; dweights [blocks of ROWS rows, at least one, width], of which
   the first gets the sum of all; or NULL, where the weight is frozen. */
void heron_rms_norm_gradient(
    const void *x, const void *weight, const void *dy, void *dx, float *dweights,
    long rows, long width, float eps, int plus_one, int is_bf16
) {
    const Norm of = {x, weight, dy, dx, rows, width, eps, plus_one ? 1.0f : 0.0f};
    const long blocks = (rows + ROWS - 1) / ROWS;
#pragma omp parallel for schedule(static) if (rows * width >= PARALLEL_FROM)
    for (long block = 0; block < blocks; block++) {
        if (is_bf16 && dweights) norm_block(1, 1, &of, block, dweights + block * width);
        else if (is_bf16) norm_block(1, 0, &of, block, NULL);
        else if (dweights) norm_block(0, 1, &of, block, dweights + block * width);
        else norm_block(0, 0, &of, block, NULL);
    }
    if (dweights) sum_blocks(dweights, blocks, width);
}

/* One head: the rotation turned back. Its gradient from number `from` on, that of x from `to` on, cos and sin from `angles` on. */
INLINE void turn_back(
    const int is_bf16, const void *dy, const void *cos, const void *sin, void *dx, long from, long to, long angles, long width, long turned
) {
    const long half = turned / 2, size = is_bf16 ? 2 : 4;
#define PART(i, count) do { \
        vec a = get(is_bf16, dy, from + (i), count), b = get(is_bf16, dy, from + half + (i), count); \
        vec cos_a = get(is_bf16, cos, angles + (i), count), cos_b = get(is_bf16, cos, angles + half + (i), count); \
        vec sin_a = get(is_bf16, sin, angles + (i), count), sin_b = get(is_bf16, sin, angles + half + (i), count); \
        set(is_bf16, dx, to + (i), count, a * cos_a + b * sin_b); \
        set(is_bf16, dx, to + half + (i), count, b * cos_b - a * sin_a); \
    } while (0)
    ALONG(0, half, PART);
#undef PART
    memcpy((char *)dx + (to + turned) * size, (const char *)dy + (from + turned) * size, (width - turned) * size);
}

/* The gradient by x of `heron_rotate`. dx [batch, length, heads, width], cos and sin [batch, length, turned]; dy is shaped as dx, with
   strides of its own, in numbers. */
void heron_rotate_gradient(
    const void *dy, const void *cos, const void *sin, void *dx, long batch, long length, long heads, long width, long turned,
    long by_batch, long by_position, long by_head, int is_bf16
) {
#pragma omp parallel for schedule(static) if (batch * length * heads * width >= PARALLEL_FROM)
    for (long row = 0; row < batch * length; row++)
        for (long head = 0; head < heads; head++) {
            const long from = row / length * by_batch + row % length * by_position + head * by_head, to = (row * heads + head) * width;
            if (is_bf16) turn_back(1, dy, cos, sin, dx, from, to, row * turned, width, turned);
            else turn_back(0, dy, cos, sin, dx, from, to, row * turned, width, turned);
        }
}

/* With act(x) = x s, s = sigmoid(z): act'(x) = s (1 + x (1 - s) z'), and 1 - s = e s with e = exp(-z) keeps all digits near 1. The slope is
   as good as constant beyond the bound, up to which e is finite. */
INLINE void gate_numbers(
    const int is_bf16, const int is_gelu, const void *gate, const void *up, const void *dy, void *dgate, void *dup, long i, long count
) {
    const float log2_e = 1.44269504f, far = is_gelu ? 10.0f : 88.0f, c = 1.59576912f, cubic = 0.044715f;
    vec whole = get(is_bf16, gate, i, count), g = get(is_bf16, dy, i, count);
    vec x = pick(whole > all(far), all(far), pick(whole < all(-far), all(-far), whole));
    vec z = is_gelu ? x * all(c) * (all(1.0f) + all(cubic) * x * x) : x;
    vec slope = is_gelu ? all(c) * (all(1.0f) + all(3 * cubic) * x * x) : all(1.0f);
    vec e = power_of_two(z * all(-log2_e)), s = all(1.0f) / (all(1.0f) + e);
    set(is_bf16, dgate, i, count, g * get(is_bf16, up, i, count) * (s * (all(1.0f) + x * (e * s) * slope)));
    set(is_bf16, dup, i, count, g * (whole * s));
}

INLINE void gate_block(
    const int is_bf16, const int is_gelu, const void *gate, const void *up, const void *dy, void *dgate, void *dup, long from, long to
) {
#define PART(i, count) gate_numbers(is_bf16, is_gelu, gate, up, dy, dgate, dup, i, count)
    ALONG(from, to, PART);
#undef PART
}

/* The gradients by gate and up of `heron_gated`, of n numbers. */
void heron_gated_gradient(const void *gate, const void *up, const void *dy, void *dgate, void *dup, long n, int is_gelu, int is_bf16) {
#pragma omp parallel for schedule(static) if (n >= PARALLEL_FROM)
    for (long from = 0; from < n; from += BLOCK) {
        const long to = n - from < BLOCK ? n : from + BLOCK;
        if (is_bf16 && is_gelu) gate_block(1, 1, gate, up, dy, dgate, dup, from, to);
        else if (is_bf16) gate_block(1, 0, gate, up, dy, dgate, dup, from, to);
        else if (is_gelu) gate_block(0, 1, gate, up, dy, dgate, dup, from, to);
        else gate_block(0, 0, gate, up, dy, dgate, dup, from, to);
    }
}

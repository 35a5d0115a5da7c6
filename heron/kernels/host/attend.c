/* Attention of one new token per row, over keys and values that lie in pages.
 *
 * The one hard idea: a page is laid out once for all queries that see it, with its keys turned so that the lanes of a vector are tokens.
 * Then scores and sums of values are the same small matrix product (`tiles.h`), `queries [r, d] x keys [d, s]` and `weights [r, s] x
 * values [s, e]`, and each number is added up in the order of d or of tokens. So the bits of a row's result depend neither on how many
 * queries meet a page at once nor on which. Pages come in order; each query keeps its largest score so far, the sum of its weights relative
 * to that, and its sum of values (the online softmax of FlashAttention, arXiv:2205.14135), all in units of ln 2.
 *
 * Rows that follow one another and have their first pages in common are a run (`runs.c`): they meet these together, then each row its own.
 *
 * What it leaves out: several new tokens per row, and types other than float32 and bfloat16.
 */

#include <math.h>
#include <stdlib.h>

#include "tiles.h"

#define BATCH 24 /* queries whose weights are worked out at once: what one of them waits for, the others use */
#define WORTHWHILE 1000000.0 /* products that pay for waking threads */
#define BITS 1.4426950408889634f /* of e: scores are held in units of ln 2 */
#define LOWEST -1e38f /* the largest score of a query that has seen nothing: finite, so that nothing becomes NaN */

/* Who reads what: `Readers` in Python. */
typedef struct {
    const int32_t *tables, *positions, *runs; /* [B, columns], [B], [count, (first row, rows, common pages)] */
    long count, columns;
} Readers;

/* What stays the same for a layer: `_Layer` in Python. */
typedef struct {
    long heads, key_heads, page_size, width, depth; /* d is the width of keys, e the depth of values */
    long window; /* 0: none */
    float scaling, softcap; /* softcap 0: none */
    int is_bf16; /* all but `keys`, which is float32 */
} Layer;

typedef struct {
    const void *query, *key, *value; /* [B, H, d], [B, K, d], [B, K, e] */
    float *keys; /* [P, K, s, d] */
    void *values, *output; /* [P, K, s, e], [B, H, e] */
    const float *sinks; /* [H] scores of one more key for each head, whose value is 0; NULL: none */
    Readers who;
    Layer layer;
} Attention;

/* One key head of one run, while it is computed: n queries, `group` of each row. Memory in rows of whole vectors where it says so. */
typedef struct {
    Layer layer;
    long head, group;
    long size, depth; /* s and e up to whole vectors */
    float *turned; /* [d, size] keys of the page */
    float *values; /* [s, depth] values of the page; columns beyond e hold anything, and so does the output there */
    float *weights; /* [BATCH, size] */
    float *factors; /* [BATCH up to whole vectors] what the output so far is multiplied by */
    float *sums; /* [n, LANES] of weights */
    float *output; /* [n, depth] */
    float *tops; /* [n] largest scores */
    float *queries; /* [n, d] scaled */
    Due due_keys, due_values; /* of the page that comes next */
} Work;

/* ---- A page, laid out. */

/* Tokens `from .. to` of a page's keys, by whole vectors where the page has them. */
static void turn_keys(const float *keys, long from, long to, Work *work) {
    long width = work->layer.width;
    for (long token = from; token < to; token += LANES) {
        const float *rows = keys + token * width;
        float *turned = work->turned + token - from;
        if (token + LANES <= work->layer.page_size && width % 4 == 0) turn(rows, width, turned, work->size, &work->due_keys, work->layer.is_bf16 ? NULL : &work->due_values);
        else
            for (long lane = 0; lane < LANES && token + lane < to; lane++)
                for (long i = 0; i < width; i++) turned[i * work->size + lane] = rows[lane * width + i];
    }
}

/* So many values, in float32 and whole vectors: where they lie, if they are like that. */
static const float *lay_values(const void *values, long tokens, Work *work) {
    long depth = work->layer.depth;
    if (!work->layer.is_bf16 && depth == work->depth) return values;
    for (long token = 0; token < tokens; token++) {
        float *wide = work->values + token * work->depth;
        if (work->layer.is_bf16) ask(&work->due_values);
        if (work->layer.is_bf16) for (long i = 0; i < depth; i++) wide[i] = widened(((const bf16 *)values)[token * depth + i]);
        else memcpy(wide, (const float *)values + token * depth, depth * sizeof(float));
    }
    return work->values;
}

/* ---- Scores and weights. */

/* tanh, to about 1e-7: by its series where it is nearly x, and elsewhere by the power of 2 that is e to 2x. */
INLINE vec tangent(vec x) {
    vec size = pick(x < (vec){0}, -x, x), squared = x * x;
    vec near = all(62.0f / 2835.0f);
    near = near * squared - all(17.0f / 315.0f);
    near = near * squared + all(2.0f / 15.0f);
    near = near * squared - all(1.0f / 3.0f);
    near = near * squared * x + x;
    vec power = power_of_two(pick(size > all(10.0f), all(10.0f), size) * all(2.885390082f));
    vec far = all(1.0f) - all(2.0f) / (power + all(1.0f));
    return pick(size < all(0.3f), near, pick(x < (vec){0}, -far, far));
}

/* `highest`, by halves. */
INLINE float tallest(vec v) {
#if LANES == 16
    v = larger(v, __builtin_shufflevector(v, v, BY_FOUR(8, 9, 10, 11)));
#endif
#if LANES >= 8
    v = larger(v, __builtin_shufflevector(v, v, BY_FOUR(4, 5, 6, 7)));
#endif
    float left = v[0] > v[1] ? v[0] : v[1], right = v[2] > v[3] ? v[2] : v[3];
    return left > right ? left : right;
}

/* A query's scores as they count: capped, in bits, and none outside of the tokens `from .. to`. Their largest. */
INLINE float bounded(float *scores, long from, long to, float softcap) {
    const ivec lanes = {BY_FOUR(0, 1, 2, 3)};
    vec best = all(LOWEST);
    for (long token = 0; token < to; token += LANES) {
        vec some = load(scores + token);
        if (softcap > 0) some = tangent(some) * all(softcap * BITS);
        if (token < from) some = pick(lanes < (int32_t)(from - token), all(-INFINITY), some);
        if (to - token < LANES) some = pick(lanes < (int32_t)(to - token), some, all(-INFINITY));
        store(scores + token, some);
        best = larger(some, best);
    }
    return tallest(best);
}

/* Scores of queries become weights, relative to the largest so far; what came before is to be multiplied by `work->factors`. */
static void weigh(long first, long queries, long from, long to, const Work *work) {
    float *tops = work->tops + first;
    for (long n = 0; n < queries; n++) {
        float top = bounded(work->weights + n * work->size, from, to, work->layer.softcap), before = tops[n];
        tops[n] = top > before ? top : before;
        work->factors[n] = before - tops[n];
    }
    for (long n = 0; n < queries; n += LANES) store(work->factors + n, power_of_two(load(work->factors + n)));
    for (long n = 0; n < queries; n++) {
        float *weights = work->weights + n * work->size, *sums = work->sums + (first + n) * LANES;
        vec total = load(sums) * all(work->factors[n]);
        for (long token = 0; token < to; token += LANES) {
            vec some = power_of_two(load(weights + token) - all(tops[n]));
            store(weights + token, some);
            total += some;
        }
        store(sums, total);
    }
}

/* ---- Queries and pages. */

/* Where the tokens of a page begin for a key head. */
INLINE long place_of(long page, long head, const Layer *layer) { return (page * layer->key_heads + head) * layer->page_size; }

/* Lets memory bring a page while another one is laid out, a part with every four columns of that (bfloat16 values: with every token): rows
 * are then read side by side, which the processor does not foresee. */
static void expect(const Attention *of, long page, long head, Work *work) {
    const Layer *layer = &work->layer;
    long place = place_of(page, head, layer), parts = work->size / LANES * padded(layer->width) / 4;
    long key_size = layer->width * sizeof(float), value_size = layer->depth * (layer->is_bf16 ? sizeof(bf16) : sizeof(float));
    work->due_keys = (Due){(const char *)of->keys + place * key_size, layer->page_size * key_size / parts};
    work->due_values = (Due){(const char *)of->values + place * value_size, layer->is_bf16 ? value_size : layer->page_size * value_size / parts};
}

/* The page that is met after page `n` of row `number` of the run: the row's next, the next row's own first, or the next task's first. */
static void expect_next(const Attention *of, const int32_t *run, long number, long n, Work *work) {
    long row = run[0] + number, columns = of->who.columns;
    const int32_t *pages = of->who.tables + row * columns;
    if ((n + 1) * work->layer.page_size <= of->who.positions[row]) expect(of, pages[n + 1], work->head, work);
    else if (number + 1 < run[1]) expect(of, pages[columns + run[2]], work->head, work);
    else if (work->head + 1 < work->layer.key_heads) expect(of, of->who.tables[run[0] * columns], work->head + 1, work);
    else if (run + 3 < of->who.runs + 3 * of->who.count) expect(of, pages[columns], 0, work);
}

/* `count` queries from the first one on see the tokens `from .. to` of a page. */
static void meet(const Attention *of, long page, long from, long to, long first, long count, Work *work) {
    long width = work->layer.width, begin = place_of(page, work->head, &work->layer), hidden = from % LANES;
    long value_size = work->layer.depth * (work->layer.is_bf16 ? sizeof(bf16) : sizeof(float));
    const float *values = lay_values((const char *)of->values + (begin + from) * value_size, to - from, work);
    turn_keys(of->keys + begin * width, from - hidden, to, work); /* by vectors of the page, whatever is hidden in the first */
    for (long end = first + count; first < end; first += BATCH) {
        long queries = end - first < BATCH ? end - first : BATCH;
        for (long n = 0; n < queries; n += TILE)
            product(queries - n, work->queries + (first + n) * width, width, work->turned, work->weights + n * work->size,
                    padded(to - from + hidden), work->size, NULL, width);
        weigh(first, queries, hidden, to - from + hidden, work);
        for (long n = 0; n < queries; n += TILE)
            product(queries - n, work->weights + n * work->size + hidden, work->size, values, work->output + (first + n) * work->depth,
                    work->depth, work->depth, work->factors + n, to - from);
    }
}

/* The tokens of its page number `n` that a row sees: `from .. to`, none if they are the same. */
static void seen(const Attention *of, long row, long n, long *from, long *to) {
    long size = of->layer.page_size, window = of->layer.window, behind = of->who.positions[row] + 1 - n * size; /* the last one seen */
    *to = behind < size ? behind : size;
    *from = window == 0 || behind < window ? 0 : behind - window < *to ? behind - window : *to;
}

/* A page that a run has in common: at once if all rows see the same of it, else row by row. */
static void meet_together(const Attention *of, const int32_t *run, long n, Work *work) {
    long page = of->who.tables[run[0] * of->who.columns + n], from, to, together = run[1];
    expect_next(of, run, 0, n, work);
    seen(of, run[0], n, &from, &to);
    for (long row = 1; row < run[1]; row++) {
        long its_from, its_to;
        seen(of, run[0] + row, n, &its_from, &its_to);
        if (its_from != from || its_to != to) together = 1;
    }
    for (long row = 0; row < run[1]; row += together) {
        seen(of, run[0] + row, n, &from, &to);
        if (from < to) meet(of, page, from, to, row * work->group, together * work->group, work);
    }
}

/* A page of one row, the one of this number in its run. */
static void meet_alone(const Attention *of, const int32_t *run, long number, long n, Work *work) {
    long row = run[0] + number, from, to;
    expect_next(of, run, number, n, work);
    seen(of, row, n, &from, &to);
    if (from < to) meet(of, of->who.tables[row * of->who.columns + n], from, to, number * work->group, work->group, work);
}

/* The new key and value of a row go to their place. */
static void put(const Attention *of, long row, const Work *work) {
    const Layer *layer = &work->layer;
    long position = of->who.positions[row], page = of->who.tables[row * of->who.columns + position / layer->page_size];
    long source = row * layer->key_heads + work->head;
    long target = place_of(page, work->head, layer) + position % layer->page_size;
    long value_size = layer->depth * (layer->is_bf16 ? sizeof(bf16) : sizeof(float));
    float *key = of->keys + target * layer->width;
    if (layer->is_bf16) for (long i = 0; i < layer->width; i++) key[i] = widened(((const bf16 *)of->key)[source * layer->width + i]);
    else memcpy(key, (const float *)of->key + source * layer->width, layer->width * sizeof(float));
    memcpy((char *)of->values + target * value_size, (const char *)of->value + source * value_size, value_size);
}

/* The queries of a row, scaled, from number `first` of the run's on; nothing seen yet. */
static void begin(const Attention *of, long row, long first, const Work *work) {
    long count = work->group * work->layer.width, source = (row * work->layer.key_heads + work->head) * count;
    float softcap = work->layer.softcap, scale = softcap > 0 ? work->layer.scaling / softcap : work->layer.scaling * BITS;
    float *queries = work->queries + first * work->layer.width;
    if (work->layer.is_bf16) for (long i = 0; i < count; i++) queries[i] = widened(((const bf16 *)of->query)[source + i]) * scale;
    else for (long i = 0; i < count; i++) queries[i] = ((const float *)of->query)[source + i] * scale;
    for (long n = first; n < first + work->group; n++) work->tops[n] = LOWEST;
    memset(work->sums + first * LANES, 0, work->group * LANES * sizeof(float));
    memset(work->output + first * work->depth, 0, work->group * work->depth * sizeof(float));
}

/* What a row's queries have added up, divided by their weights, in the type of the output. */
static void finish(const Attention *of, long row, long first, const Work *work) {
    long is_bf16 = work->layer.is_bf16, size = work->layer.depth * (is_bf16 ? sizeof(bf16) : sizeof(float));
    for (long n = 0; n < work->group; n++) {
        float *output = work->output + (first + n) * work->depth;
        float weights = sum(load(work->sums + (first + n) * LANES));
        if (of->sinks != NULL) weights += exp2f(of->sinks[work->head * work->group + n] * BITS - work->tops[first + n]);
        vec total = all(weights);
        for (long i = 0; i < work->depth; i += LANES) {
            vec mean = load(output + i) / total;
            narrow half = rounded_all(mean);
            if (is_bf16) memcpy((bf16 *)output + i, &half, sizeof half); /* never beyond what was read */
            else store(output + i, mean);
        }
        memcpy((char *)of->output + ((row * work->layer.key_heads + work->head) * work->group + n) * size, output, size);
    }
}

/* Gives each part of the work for n queries its place in one piece of memory, if there is one; how many numbers they take. */
static long divide(float *memory, long n, Work *work) {
    long taken = 0;
#define TAKE(part, count) if (memory != NULL) work->part = memory + taken; taken += padded(count);
    TAKE(turned, work->layer.width * work->size) TAKE(values, work->layer.page_size * work->depth)
    TAKE(weights, BATCH * work->size) TAKE(factors, BATCH)
    TAKE(sums, n * LANES) TAKE(output, n * work->depth) TAKE(tops, n) TAKE(queries, n * work->layer.width)
#undef TAKE
    return taken;
}

/* One key head of one run. False if there is no memory for it. */
static int attend_run(const Attention *of, const int32_t *run, long head) {
    const Layer *layer = &of->layer;
    Work work = {
        .layer = *layer, .head = head, .group = layer->heads / layer->key_heads, .size = padded(layer->page_size),
        .depth = padded(layer->depth),
    };
    long queries = run[1] * work.group;
    float *memory = aligned_alloc(64, (divide(NULL, queries, &work) * sizeof(float) + 63) / 64 * 64);
    if (memory == NULL) return 0;
    divide(memory, queries, &work);
    for (long row = 0; row < run[1]; row++) put(of, run[0] + row, &work), begin(of, run[0] + row, row * work.group, &work);
    for (long n = 0; n < run[2]; n++) meet_together(of, run, n, &work);
    for (long row = 0; row < run[1]; row++) {
        for (long n = run[2]; n <= of->who.positions[run[0] + row] / layer->page_size; n++) meet_alone(of, run, row, n, &work);
        finish(of, run[0] + row, row * work.group, &work);
    }
    free(memory);
    return 1;
}

/* How many products of two numbers there are, about. */
static double products_in(const Readers *who, const Layer *layer) {
    const int32_t *last = who->runs + 3 * (who->count - 1);
    double tokens = 0;
    for (long row = 0; row < last[0] + last[1]; row++) {
        long before = who->positions[row] + 1;
        tokens += layer->window > 0 && layer->window < before ? layer->window : before;
    }
    return tokens * layer->heads * (layer->width + layer->depth);
}

/* Writes keys and values of the new tokens to their pages, and to `output` what each sees. Nonzero if there is no memory. */
int heron_attend(const void *query, const void *key, const void *value, float *keys, void *values, void *output, const float *sinks,
                 const Readers *who, const Layer *layer) {
    const Attention of = {query, key, value, keys, values, output, sinks, *who, *layer};
    long tasks = who->count * layer->key_heads;
    int failed = 0, is_worthwhile = tasks > 1 && products_in(who, layer) > WORTHWHILE;
    (void)is_worthwhile; /* without OpenMP */
#pragma omp parallel for schedule(dynamic) reduction(| : failed) if (is_worthwhile)
    for (long task = 0; task < tasks; task++) failed |= !attend_run(&of, who->runs + task / layer->key_heads * 3, task % layer->key_heads);
    return failed;
}

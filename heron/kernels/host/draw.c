/* Draws tokens from logits by inverting the cumulative distribution, as kernels/sampling.py does in torch.

The logits are read once, in tiles that stay in the first-level cache: a tile's highest logit first, then the exponentials relative to it,
summed over blocks in float32 and from there on in float64. A draw searches tiles, then blocks, and computes once more the exponentials of
the block that it hit. Tiles are laid out by the vocabulary alone and each is summed by one thread, so a row has the same bits in any
batch and with any number of threads. */

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "vectors.h"

#define BLOCK 128                /* logits whose exponentials are summed in float32 */
#define TILE 2048                /* logits that share a reference: 8 KiB */
#define BLOCKS (TILE / BLOCK)    /* a multiple of four */
#define WORTH_THREADS (1L << 17) /* logits in all, about 50 us */
#define LOG2_E 1.4426950408889634074
#define LN_2 0.69314718055994530942

enum { FINE, NO_MEMORY, NO_SUCH_ROW };

/* What is given: rows of logits and how they are read. */
struct given {
    const float *logits;
    long batch, vocabulary, stride, tiles; /* tiles of each row */
    double temperature;
    const float *at_least; /* lowest possible logit of each row, or NULL */
};

/* Sums of exponentials, 2^((logit - highest) * scale), where scale = log2(e) / temperature. */
struct tile {
    double highest, mass, energy; /* energy: each exponential times its exponent */
    double blocks[BLOCKS];        /* mass of each block */
};

/* `mass` is that of all tiles relative to the row's highest logit. All are NaN where there is no distribution. */
struct row {
    double mass, log_total, entropy;
};

/* The sums of all rows. */
struct work {
    struct tile *tiles; /* [batch, tiles] */
    double *masses;     /* [batch, tiles] relative to the row's highest logit */
    struct row *rows;   /* [batch] */
};

/* `count` logits where they lie, or copied if some are impossible or they would end behind the row: -inf stands for both. */
static const float *possible(const struct given *given, long row, long first, long count, float *copy) {
    const float *logits = given->logits + row * given->stride + first;
    float least = given->at_least ? given->at_least[row] : -INFINITY;
    long there = given->vocabulary - first;
    if (there >= count && !given->at_least) return logits;
    there = there < count ? there : count;
    for (long n = 0; n < there; n++) copy[n] = logits[n] < least ? -INFINITY : logits[n];
    for (long n = there; n < count; n++) copy[n] = -INFINITY;
    return copy;
}

/* The highest of a tile; finite if all are -inf, so that differences from it are not NaN. A NaN may be overlooked here. */
static float highest_of(const float *logits) {
    vec a = all(-FLT_MAX), b = a, c = a, d = a;
    for (long n = 0; n < TILE; n += 4 * LANES) {
        a = larger(a, load(logits + n));
        b = larger(b, load(logits + n + LANES));
        c = larger(c, load(logits + n + 2 * LANES));
        d = larger(d, load(logits + n + 3 * LANES));
    }
    return highest(larger(larger(a, b), larger(c, d)));
}

/* Exponentials, and exponents that are bounded: zero times minus infinity would be NaN. NaN stays NaN in both. */
INLINE vec exponentials(const float *logits, vec reference, vec scale, vec *exponents) {
    vec exact = (load(logits) - reference) * scale;
    *exponents = pick(exact < all(-126.0f), all(-126.0f), exact);
    return power_of_two(exact);
}

/* The mass of a block lane by lane; its energy is added to `energy`. */
INLINE vec block_mass(const float *logits, vec reference, vec scale, vec *energy) {
    vec mass = {0}, exponents;
    for (long n = 0; n < BLOCK; n += LANES) {
        vec part = exponentials(logits + n, reference, scale, &exponents);
        mass += part;
        *energy += part * exponents;
    }
    return mass;
}

/* The sums of the tile that begins at `first`. */
static struct tile summed(const struct given *given, long row, long first) {
    float copy[TILE];
    const float *logits = possible(given, row, first, TILE, copy);
    struct tile tile = {.highest = highest_of(logits)};
    vec reference = all((float)tile.highest), scale = all((float)(LOG2_E / given->temperature));
    for (long block = 0; block < BLOCKS; block += 4) {
        const float *from = logits + block * BLOCK;
        vec energy = {0};
        vec a = block_mass(from, reference, scale, &energy), b = block_mass(from + BLOCK, reference, scale, &energy);
        vec c = block_mass(from + 2 * BLOCK, reference, scale, &energy), d = block_mass(from + 3 * BLOCK, reference, scale, &energy);
        vec4 masses = sums(a, b, c, d);
        for (int n = 0; n < 4; n++) tile.mass += tile.blocks[block + n] = masses[n];
        tile.energy += sum(energy);
    }
    return tile;
}

/* The tiles of a row weighed against its highest logit. A NaN or +inf among its logits has made the mass NaN. */
static struct row joined(const struct given *given, const struct tile *tiles, double *masses) {
    double highest = -FLT_MAX, mass = 0, energy = 0, scale = LOG2_E / given->temperature;
    for (long t = 0; t < given->tiles; t++) highest = fmax(highest, tiles[t].highest);
    for (long t = 0; t < given->tiles; t++) {
        double exponent = (tiles[t].highest - highest) * scale, weight = exp2(exponent);
        masses[t] = weight * tiles[t].mass;
        mass += masses[t];
        energy += weight * tiles[t].energy + masses[t] * exponent;
    }
    if (!(mass > 0)) return (struct row){NAN, NAN, NAN};
    return (struct row){mass, highest / given->temperature + log(mass), log(mass) - LN_2 * energy / mass};
}

/* All tiles, then all rows. */
static void spread(const struct given *given, struct work work) {
    long tiles = given->tiles;
#pragma omp parallel for if (given->batch * given->vocabulary > WORTH_THREADS)
    for (long n = 0; n < given->batch * tiles; n++) work.tiles[n] = summed(given, n / tiles, n % tiles * TILE);
    for (long b = 0; b < given->batch; b++) work.rows[b] = joined(given, work.tiles + b * tiles, work.masses + b * tiles);
}

/* The first index at which the masses so far exceed a share of them all, never one of mass zero; `share` becomes that of the mass found. */
static long search(const double *masses, long count, double *share) {
    double total = 0, so_far = 0, before = 0;
    for (long n = 0; n < count; n++) total += masses[n];
    double goal = fmax(*share, 0) * total; /* 0 also for NaN */
    long found = 0;
    for (long n = 0; n < count && so_far <= goal; n++) {
        if (masses[n] > 0) {
            found = n;
            before = so_far;
            so_far += masses[n];
        }
    }
    *share = (goal - before) / masses[found];
    return found;
}

/* The token at which the distribution of row b exceeds `share` of it: by tile, by block, and among the block's exponentials made again. */
static long token_at(const struct given *given, const struct work *work, long b, double share) {
    long t = search(work->masses + b * given->tiles, given->tiles, &share);
    const struct tile *tile = work->tiles + b * given->tiles + t;
    long block = search(tile->blocks, BLOCKS, &share), first = t * TILE + block * BLOCK;
    float copy[BLOCK];
    const float *logits = possible(given, b, first, BLOCK, copy);
    vec reference = all((float)tile->highest), scale = all((float)(LOG2_E / given->temperature)), exponents;
    double masses[BLOCK];
    for (long n = 0; n < BLOCK; n += LANES) {
        vec part = exponentials(logits + n, reference, scale, &exponents);
        for (int lane = 0; lane < LANES; lane++) masses[n + lane] = part[lane];
    }
    return first + search(masses, BLOCK, &share);
}

/* Memory for all sums, to be given back by `put_back`; false if there is not so much. */
static int make_room(const struct given *given, struct work *work) {
    size_t rows = given->batch > 0 ? given->batch : 1, tiles = given->tiles > 0 ? given->tiles : 1;
    work->tiles = malloc(rows * tiles * sizeof(struct tile));
    work->masses = malloc(rows * tiles * sizeof(double));
    work->rows = malloc(rows * sizeof(struct row));
    return work->tiles && work->masses && work->rows;
}

static void put_back(struct work *work) {
    free(work->tiles);
    free(work->masses);
    free(work->rows);
}

static struct given given_as(
    const float *logits, long batch, long vocabulary, long stride, double temperature, const float *at_least
) {
    long tiles = (vocabulary + TILE - 1) / TILE;
    return (struct given){logits, batch, vocabulary, stride, tiles, temperature, at_least};
}

/* Log of the sum of the exponentials of the tempered logits, and the entropy, of every row. */
int heron_spread(
    const float *logits, long batch, long vocabulary, long stride, double temperature, const float *at_least, double *log_totals,
    double *entropies
) {
    struct given given = given_as(logits, batch, vocabulary, stride, temperature, at_least);
    struct work work;
    int enough = make_room(&given, &work);
    if (enough) spread(&given, work);
    for (long b = 0; enough && b < batch; b++) {
        log_totals[b] = work.rows[b].log_total;
        entropies[b] = work.rows[b].entropy;
    }
    put_back(&work);
    return enough ? FINE : NO_MEMORY;
}

/* One token for each of the uniforms, drawn from row `rows[s]`, or from row s without `rows`; with its log-prob and the row's entropy. */
int heron_sample(
    const float *logits, long batch, long vocabulary, long stride, double temperature, const float *at_least, const int64_t *rows,
    const double *uniforms, long draws, int64_t *tokens, double *logprobs, double *entropies
) {
    struct given given = given_as(logits, batch, vocabulary, stride, temperature, at_least);
    for (long s = 0; s < draws; s++) {
        long b = rows ? rows[s] : s;
        if (b < 0 || b >= batch) return NO_SUCH_ROW;
    }
    struct work work;
    int enough = make_room(&given, &work);
    if (enough) spread(&given, work);
    for (long s = 0; enough && s < draws; s++) {
        long b = rows ? rows[s] : s;
        const struct row *row = work.rows + b;
        tokens[s] = row->mass > 0 ? token_at(&given, &work, b, uniforms[s]) : 0;
        logprobs[s] = logits[b * stride + tokens[s]] / temperature - row->log_total;
        entropies[s] = row->entropy;
    }
    put_back(&work);
    return enough ? FINE : NO_MEMORY;
}

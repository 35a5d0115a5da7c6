/* Which rows follow one another with the same first pages: runs, as `attend.c` reads them.
 *
 * The one hard idea: runs are cut by looking for the best sum. A run of n rows with c pages in common saves (n - 1) c readings of a page,
 * and the best way to cut the rows before `end` is the best last run behind the best way to cut the rows before that.
 *
 * What it leaves out: runs within runs. Rows of several prompts that begin alike share what all of them share, or what each group does.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST 32 /* rows of a run: longer ones are cut, for the sake of threads */

/* How many first pages two rows have in common. Never the last page of a row, which it writes to. */
static int32_t in_common(const int32_t *one, const int32_t *other, long columns) {
    int32_t n = 0;
    while (n + 1 < columns && one[n] == other[n] && one[n + 1] >= 0 && other[n + 1] >= 0) n++;
    return n;
}

/* The last run of the best way to cut the rows before `end`; `saved` holds what the best ways before it save, and gets this one. */
static void last_run(const int32_t *common, long end, long *saved, int32_t *run) {
    int32_t least = INT32_MAX;
    run[0] = end - 1, run[1] = 1, run[2] = 0, saved[end] = saved[end - 1];
    for (long first = end - 2; first >= 0 && end - first <= LONGEST; first--) {
        least = common[first] < least ? common[first] : least;
        if (least == 0) return;
        long total = saved[first] + (end - first - 1) * least;
        if (total > saved[end]) run[0] = first, run[1] = end - first, run[2] = least, saved[end] = total;
    }
}

/* Fills `runs [rows, (first row, rows, common pages)]` for rows whose pages are listed in `tables [rows, columns]`, filled up with -1.
 * Returns how many runs there are; -1 if there is no memory. */
long heron_runs(const int32_t *tables, long rows, long columns, int32_t *runs) {
    int32_t *common = malloc(rows * sizeof *common), (*lasts)[3] = malloc((rows + 1) * sizeof *lasts);
    long *saved = calloc(rows + 1, sizeof *saved), count = -1;
    if (common != NULL && lasts != NULL && saved != NULL) {
        for (long row = 0; row + 1 < rows; row++) common[row] = in_common(tables + row * columns, tables + (row + 1) * columns, columns);
        for (long end = 1; end <= rows; end++) last_run(common, end, saved, lasts[end]);
        count = 0;
        for (long end = rows; end > 0; end = lasts[end][0]) count++;
        long n = count;
        for (long end = rows; end > 0; end = lasts[end][0]) memcpy(runs + 3 * --n, lasts[end], sizeof *lasts);
    }
    free(common), free(lasts), free(saved);
    return count;
}

// SPDX-License-Identifier: Apache-2.0
#include "bench/claims.h"

#include <stdarg.h>
#include <stdio.h>

#define RATIO_MOST 1.05
#define MISSES_MOST 0.0005 // of all look-ups
#define WRITES_LEAST 0.95  // of those that were asked for

// What a proxy's store may take, as a share of the replica's, by its working set in percent: limits
// for pairs of which the key is one eleventh, as it is of made ones.
static const struct {
    uint64_t percent;
    double most;
} store_limits[] = {{1, 0.15}, {20, 0.30}};

int claims_by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Between two figures where it falls between them: of four rounds no one is in the middle.
double claims_quantile(const double *sorted, uint64_t count, double at)
{
    if (count == 0) {
        return 0;
    }
    double place = at * (double)(count - 1);
    size_t low = (size_t)place, high = u64_min(low + 1, count - 1);
    return sorted[low] + (place - (double)low) * (sorted[high] - sorted[low]);
}

PRINTF_LIKE(3, 4)
static void add(struct site *site, bool held, const char *format, ...)
{
    CHECK(site->claim_count < CLAIMS_MAX);
    struct claim *claim = &site->claims[site->claim_count++];
    claim->held = held;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(claim->text, sizeof claim->text, format, arguments);
    va_end(arguments);
}

void claims_of_stores(const struct pairs *pairs, struct site *site)
{
    if (pairs->options.file != NULL) {
        return;
    }
    double replica = (double)site->warmed[SIDE_REPLICA].store;
    double share = replica > 0 ? (double)site->warmed[SIDE_PROXY].store / replica : 1;
    for (size_t i = 0; i < ARRAY_LEN(store_limits); i++) {
        if (store_limits[i].percent == site->percent) {
            add(site, share <= store_limits[i].most,
                "the proxy's store with what was read is %.1f %% of the replica's, %.0f %% at most",
                100 * share, 100 * store_limits[i].most);
        }
    }
}

// A median that is hardly above 1, or a spread (the middle half of all pairs) that reaches down to
// 1: then the pairs do not tell the roles apart.
static void add_ratio(struct site *site, const char *what, const double *sorted, uint64_t count)
{
    double low = claims_quantile(sorted, count, 0.25);
    double median = claims_quantile(sorted, count, 0.5);
    add(site, median <= RATIO_MOST || low <= 1,
        "p99.9 of %s, proxy / replica: median %.2f, %.2f at most, or quartiles %.2f-%.2f around 1",
        what, median, RATIO_MOST, low, claims_quantile(sorted, count, 0.75));
}

void claims_of_cell(const struct roles_options *options, struct site *site,
                    const struct cell *cell)
{
    add_ratio(site, "all look-ups", cell->ratio, options->runs);
    add_ratio(site, "absent keys", cell->absent_ratio, options->runs);
    const struct side *proxy = &cell->sides[SIDE_PROXY];
    double all = (double)u64_max(1, proxy->load.all.count), firsts = (double)proxy->load.firsts;
    add(site, proxy->misses < MISSES_MOST * all,
        "%.4f %% of the proxy's look-ups missed, less than %.2f %%", 100 * proxy->misses / all,
        100 * MISSES_MOST);
    // Some of these were held: a write had just brought them.
    double later = proxy->misses > firsts ? proxy->misses - firsts : 0;
    add(site, later < MISSES_MOST * all,
        "%.4f %% at least, without the %.0f first look-ups of keys that had joined, few of which a "
        "cache can hold",
        100 * later / all, firsts);
    double arrived = cell->sides[SIDE_REPLICA].arrived < proxy->arrived
                         ? cell->sides[SIDE_REPLICA].arrived
                         : proxy->arrived;
    double least = WRITES_LEAST * (double)cell->writes;
    add(site, cell->write_rate >= least && arrived >= least,
        "%llu writes a second asked, %.0f written, %.0f arrived at both, %.0f at least",
        (unsigned long long)cell->writes, cell->write_rate, arrived, least);
}

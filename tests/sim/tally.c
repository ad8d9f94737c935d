// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/tally.h"

#include <stdio.h>

static const struct {
    const char *name, *help;
    uint64_t step;
} rows[] = {
#define TALLY(name, step, help) {#name, help, step},
    TALLIES
#undef TALLY
};

void tally_add(struct tallies *tallies, enum tally what, uint64_t value)
{
    uint64_t step = u64_min(value / rows[what].step, TALLY_STEPS - 1);
    atomic_fetch_add(&tallies->counts[what][step], 1);
}

// The least value that so many of the `total` do not exceed, up to a step.
static uint64_t quantile(const struct tallies *tallies, unsigned what, uint64_t wanted)
{
    uint64_t seen = 0;
    unsigned step = 0;
    while (step < TALLY_STEPS - 1 && (seen += tallies->counts[what][step]) < wanted) {
        step++;
    }
    return (step + (rows[what].step > 1)) * rows[what].step;
}

void tallies_print(const struct tallies *tallies)
{
    for (unsigned i = 0; i < TALLY_TOTAL; i++) {
        uint64_t total = 0;
        for (unsigned step = 0; step < TALLY_STEPS; step++) {
            total += tallies->counts[i][step];
        }
        if (total > 0) {
            printf("  %-18s %9llu times: p50 %llu, p99 %llu, p99.9 %llu, most %llu  %s\n",
                   rows[i].name, (unsigned long long)total,
                   (unsigned long long)quantile(tallies, i, (total + 1) / 2),
                   (unsigned long long)quantile(tallies, i, total - total / 100),
                   (unsigned long long)quantile(tallies, i, total - total / 1000),
                   (unsigned long long)quantile(tallies, i, total), rows[i].help);
        }
    }
}

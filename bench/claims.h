// SPDX-License-Identifier: Apache-2.0
// What `qs-bench roles` claims of a proxy beside a replica, and whether this run has shown it.
#ifndef QS_BENCH_CLAIMS_H
#define QS_BENCH_CLAIMS_H

#include "bench/roles.h"

// Each adds to site->claims. Of stores with pairs from a file nothing is claimed.
void claims_of_stores(const struct pairs *pairs, struct site *site);
void claims_of_cell(const struct roles_options *options, struct site *site,
                    const struct cell *cell);

#define CLAIMS_OF_CELL 5

// For qsort of numbers.
int claims_by_size(const void *a, const void *b);

// The value below which that share of sorted numbers lies.
double claims_quantile(const double *sorted, uint64_t count, double at);

#endif

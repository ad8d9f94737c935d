// SPDX-License-Identifier: Apache-2.0
// What `qs-bench roles` found, as tables on standard output while it goes, and as roles.json.
#ifndef QS_BENCH_RESULTS_H
#define QS_BENCH_RESULTS_H

#include "bench/roles.h"

void results_start(const struct roles_options *options);
void results_loaded(const struct roles_options *options, uint64_t took_ns);
void results_site(const struct roles_options *options, const struct site *site);
void results_cell(const struct roles_options *options, const struct site *site,
                  const struct cell *cell);
void results_site_end(const struct site *site);

// Which claims were held, in one line.
void results_claims(const struct roles *roles);

// Writes options.out/<options.name>.json. False: it could not, said on standard error.
bool results_write(const struct roles *roles) MUST_CHECK;

#endif

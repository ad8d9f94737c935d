// SPDX-License-Identifier: Apache-2.0
// `qs-bench growth`: one root with more and more keys, one size after another: look-ups by shared
// memory and by its socket, what memory and disk it takes, how long a start takes. A row's sides
// are the sizes, so ratios say what growth costs. What a size beyond this machine's would take is
// told by arithmetic from the last two. One thread.
#ifndef QS_BENCH_GROWTH_H
#define QS_BENCH_GROWTH_H

#include "bench/pairs.h"

#define GROWTH_SIZES 6
#define GROWTH_KEYS_LEAST 1000
#define GROWTH_FAR UINT64_C(5000000000) // keys of the arithmetic

struct growth_options {
    uint64_t keys[GROWTH_SIZES]; // of each size, ascending
    size_t count;
    uint64_t value_bytes, seed;
    uint64_t rounds, run_ms; // of each row; of one load in a round
    const char *io;
    const char *out;  // directory for results, NULL: none
    const char *name; // of its files there, before the dot
};

// Everything; results on standard output and in options.out. The exit code: 0 when no answer was
// wrong, missing or an error.
int growth_run(const struct growth_options *options);

// What a figure of two sizes is at a third, if it grows as between them.
double growth_at(double keys, const uint64_t sizes[2], const double figures[2]);

#endif

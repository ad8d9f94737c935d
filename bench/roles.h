// SPDX-License-Identifier: Apache-2.0
// `qs-bench roles`: replica and proxy under the same look-ups, side by side. A *site* has a working
// set and daemons of its own; a *cell* is one site under one distribution and one rate of writes,
// measured by pairs of runs: the same sequence of look-ups to one role, then to the other, which
// of them first changing from pair to pair (A B B A). One thread, but for the writes.
#ifndef QS_BENCH_ROLES_H
#define QS_BENCH_ROLES_H

#include "bench/load.h"

#define ROLES_PAIRS_LEAST 10000 // so that a working set of 1 % is one
#define SITES_MAX 4
#define WRITES_MAX 4
#define RUNS_MAX 101
#define CELLS_MAX (2 * WRITES_MAX)
#define CLAIMS_MAX (4 * CELLS_MAX + 1)

enum { SIDE_REPLICA, SIDE_PROXY, SIDE_COUNT };

struct roles_options {
    const struct pairs *pairs;
    uint64_t working_set[SITES_MAX]; // percent of the pairs
    size_t working_set_count;
    uint64_t writes[WRITES_MAX]; // a second
    size_t writes_count;
    bool zipf, uniform;
    uint64_t runs; // pairs of runs in a cell
    uint64_t seconds, rate, connections;
    uint64_t probes;   // present keys asked for one after another
    const char *cache; // of the proxy, NULL: no limit
    const char *io;
    const char *out;  // directory for results, NULL: none
    const char *name; // of its files there, before the dot
    const char *data; // directory of the nodes, loaded once and kept; NULL: a temporary one
    bool keep;
};

// One role in one cell.
struct side {
    struct load_result load; // of all runs together
    uint64_t p999_ns[RUNS_MAX];
    uint64_t absent_p999_ns[RUNS_MAX];
    double arrived; // entries a second that its store took meanwhile
    double misses; // values that a proxy did not hold
};

struct cell {
    bool uniform;
    uint64_t writes;
    double write_rate; // reached
    struct side sides[SIDE_COUNT];
    double ratio[RUNS_MAX]; // p99.9 of a pair: proxy / replica; sorted in the end
    double absent_ratio[RUNS_MAX]; // ... of its absent keys alone
};

// One end of the proxy, and how it came back.
struct comeback {
    uint64_t first_answer_ns; // from the start of its process
    uint64_t present;         // look-ups of present keys, before it and after it
    double misses_before, misses_after;
};

enum { END_STOP, END_KILL, END_COUNT };

struct disk {
    uint64_t store, history, journal, filter, total; // bytes; total has what else there is
};

struct claim {
    bool held;
    char text[160];
};

struct site {
    uint64_t percent, working_set;
    struct disk loaded[SIDE_COUNT];  // the proxy holds keys alone
    struct disk warmed[SIDE_COUNT];  // ... and its working set
    struct disk in_end[SIDE_COUNT];  // ... after all cells, with what was written meanwhile
    uint64_t resident[SIDE_COUNT];   // bytes, in the end
    uint64_t keys;                   // that the proxy knows, in the end
    char *metrics[SIDE_COUNT];       // in the end
    struct histogram replica, local, remote; // one look-up after another, present keys
    double local_misses, remote_misses;      // ... by the proxy's own count
    struct load_result probes; // and what else was asked outside the cells
    struct comeback comebacks[END_COUNT];
    struct cell *cells;
    size_t cell_count;
    struct claim claims[CLAIMS_MAX];
    size_t claim_count;
};

struct roles {
    struct roles_options options;
    struct site sites[SITES_MAX];
    size_t site_count;
};

// Everything; results on standard output and in options.out. The exit code: 0 when no answer was
// wrong, missing or an error.
int roles_run(const struct roles_options *options);

#endif

// SPDX-License-Identifier: Apache-2.0
// One seed: a tree with its options, a safety phase with faults, a liveness phase without.
#ifndef QS_TESTS_SIM_RUN_H
#define QS_TESTS_SIM_RUN_H

#include "tests/sim/world.h"

struct run_result {
    uint64_t events;
    uint64_t sim_ns;
    uint64_t trace;
};

// Returns when all is well; a violation ends the process (world_fail). Counts are added to `to`.
void run_seed(uint64_t seed, bool verbose, bool faults, struct run_result *ret_result,
              uint64_t counts[COUNT_TOTAL]);

// What every seed ends with, whatever came before: so many operations, each of which must succeed,
// within the limit; and the counts of the seed, with its result, before the world is closed.
void run_strict(unsigned operations, uint64_t think_ns, uint64_t limit_ns);
void run_end(struct run_result *ret_result, uint64_t counts[COUNT_TOTAL]);

#endif

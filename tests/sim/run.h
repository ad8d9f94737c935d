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

#endif

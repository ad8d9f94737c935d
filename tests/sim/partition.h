// SPDX-License-Identifier: Apache-2.0
// One seed of partitions and nothing else: a tree of five sites forms, loses a node that feeds
// others, is torn apart again and again, and heals; then one uplink flaps.
#ifndef QS_TESTS_SIM_PARTITION_H
#define QS_TESTS_SIM_PARTITION_H

#include "tests/sim/run.h"
#include "tests/sim/tally.h"

// As run_seed.
void partition_seed(uint64_t seed, bool verbose, struct tallies *tallies,
                    struct run_result *ret_result, uint64_t counts[COUNT_TOTAL]);

#endif

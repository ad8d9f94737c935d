// SPDX-License-Identifier: Apache-2.0
// One seed of several roots (docs/commit.md): they find their leader, lose it, meet every fault
// that a root must live with, and come together again.
#ifndef QS_TESTS_SIM_SEVERAL_H
#define QS_TESTS_SIM_SEVERAL_H

#include "tests/sim/run.h"
#include "tests/sim/tally.h"

// As run_seed.
void several_seed(uint64_t seed, bool verbose, struct tallies *tallies,
                  struct run_result *ret_result, uint64_t counts[COUNT_TOTAL]);

#endif

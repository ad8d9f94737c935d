// SPDX-License-Identifier: Apache-2.0
// Bootstrap storms from a seed: all nodes of a site begin at once with nothing, while the root, in
// another site, is written to. What crosses the way between the two sites is counted, and it ends
// when all serve what was acknowledged a second ago.
#ifndef QS_TESTS_SIM_SIZE_STORM_H
#define QS_TESTS_SIM_SIZE_STORM_H

#include "tests/sim/size/trial.h"

// Prints a row for each kind of storm of `nodes`, one after another; a violation ends the process.
void storm_print(uint64_t seed, unsigned nodes, bool verbose);

#endif

// SPDX-License-Identifier: Apache-2.0
// What every seed ends with, whatever tree it ran and whatever came before.
#ifndef QS_TESTS_SIM_ENDING_H
#define QS_TESTS_SIM_ENDING_H

#include "tests/sim/node.h"
#include "tests/sim/run.h"

// So many operations, each of which must succeed, within the limit.
void ending_strict(unsigned operations, uint64_t think_ns, uint64_t limit_ns);
// All nodes are asked to stop, for good; and have stopped.
void ending_stop(struct node *nodes, unsigned count);
bool ending_stopped(const struct node *nodes, unsigned count);
// The counts of the seed, with its result; then the world is closed.
void ending_close(struct run_result *ret_result, uint64_t counts[COUNT_TOTAL]);

#endif

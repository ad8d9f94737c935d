// SPDX-License-Identifier: Apache-2.0
// Sessions: clients that do one operation after another, read their own writes, stay on a node or
// move with a token, and compare every answer with the model at the index that it claims.
#ifndef QS_TESTS_SIM_SESSION_H
#define QS_TESTS_SIM_SESSION_H

#include "tests/sim/model.h"

struct sessions_setup {
    unsigned count;
    uint64_t think_ns;        // between two operations of one, on the average
    uint64_t pulse_ns;        // all begin at multiples of it; 0 = at any time
    unsigned writes_permille; // of the operations
    size_t value_max;
    unsigned roots; // the first so many nodes, whichever of them leads takes writes; 0 = the first
};

void sessions_open(struct node *nodes, unsigned node_count, const struct sessions_setup *setup);
void sessions_stop(void);  // begin nothing new
void sessions_resume(uint64_t think_ns); // and from now on think so long
bool sessions_idle(void);  // nothing is under way
// From now on every operation must succeed: `operations` more in all.
void sessions_strict(uint64_t operations, uint64_t think_ns);
uint64_t sessions_done(void); // operations so far

#endif

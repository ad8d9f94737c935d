// SPDX-License-Identifier: Apache-2.0
// How a machine is lost for a while, as one that others need is: one table for all who lose any.
#ifndef QS_TESTS_SIM_HARM_H
#define QS_TESTS_SIM_HARM_H

#include "tests/sim/node.h"

// From HARM_SYNC on they are for roots alone: a disk that fails ends nothing but writes.
enum harm { HARM_KILL, HARM_POWER, HARM_FREEZE, HARM_UNPLUG, HARM_SYNC, HARM_TOTAL };

// For `lost_ns` nothing of the node is there, or nobody looks after its disk. `unplug` says what
// its links are: nothing passes by them until then.
void harm_strike(struct node *node, enum harm harm, uint64_t lost_ns,
                 void (*unplug)(unsigned number, uint64_t until_ns));

#endif

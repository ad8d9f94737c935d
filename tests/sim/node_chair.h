// SPDX-License-Identifier: Apache-2.0
// The chair of a simulated node that is one of several roots, and who turns it: an actor, as the
// thread is in the daemon.
#ifndef QS_TESTS_SIM_NODE_CHAIR_H
#define QS_TESTS_SIM_NODE_CHAIR_H

#include "common/chair/chair.h"
#include "tests/sim/node.h"

// As the node's code, but for node_chair_wake.
void node_chair_open(struct node *node);
void node_chair_wake(struct node *node); // something has come: it is to be turned
struct parting {
    struct node *node;
    bool parts; // out: it hands over, and is to be asked again
};
void node_chair_part(void *parting);
void node_chair_close(struct node *node, struct notice *closed);

// Of a node that is up.
struct council;
const struct council *node_council(const struct node *node);

#endif

// SPDX-License-Identifier: Apache-2.0
// The tree of an instance with several roots: two, three or five of them, of which one leads and
// the others stand by, and below them replicas and proxies that know all roots and some of each
// other.
#ifndef QS_TESTS_SIM_SEVERAL_TREE_H
#define QS_TESTS_SIM_SEVERAL_TREE_H

#include "tests/sim/node.h"

#define SEVERAL_NOBODY UINT32_MAX

void several_open(void); // chooses, sets the nodes up, queues their starts
unsigned several_roots(void); // the first so many nodes are roots
unsigned several_nodes(void);
struct node *several_node(unsigned number);
// What they were set up with: how many must have a block, and must promise; whether they keep what
// is committed when the store of the record loses its data; and whether the others go on when one
// is lost.
struct several_rules {
    unsigned in_sync_min, promote_min;
    bool may_lose, goes_on;
    bool usual; // intervals that users get
};
const struct several_rules *several_rules(void);

// The root that takes writes, of the highest epoch; SEVERAL_NOBODY: none.
unsigned several_leader(void);
// All roots are counted by the leader, and in the record.
bool several_counted(void);
// May this root lose its disk? None is blank, the others are enough to promise, and one of them has
// all that is committed.
bool several_spare(unsigned number);
// The highest generation of the record that any root which is up has seen.
uint64_t several_generation(void);
// A person asks for this root to lead. False: it is not up, or began with an empty disk.
bool several_promote(unsigned number);
// A person accepts the loss of all others. False: it is not up.
bool several_accept_loss(unsigned number);
// It leads, also while no writes are taken for want of others.
bool several_leads_alone(unsigned number);
// All are up and show what is committed.
bool several_equal(void);
void several_describe(void); // into the log

#endif

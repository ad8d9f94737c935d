// SPDX-License-Identifier: Apache-2.0
// The tree that partitions strike: a root, a standby, and three data centres of an intermediate, a
// replica and two proxies each, a site each, over three cities; daemons with the intervals that
// users get. The same as in the field (tests/field/tree.py).
#ifndef QS_TESTS_SIM_GRID_H
#define QS_TESTS_SIM_GRID_H

#include "tests/sim/node.h"

#define GRID_SITES 5
#define GRID_NODES 14
#define GRID_NOBODY UINT32_MAX

void grid_open(void); // the nodes are set up, their starts are queued, the network is there
bool grid_crowded(void); // a node feeds few others, unlike by default
struct node *grid_node(unsigned number);
unsigned grid_site(unsigned number);
// From whom a node gets its log now, GRID_NOBODY while from none.
unsigned grid_parent(unsigned number);
// Whether its log comes from the root over links that are there.
bool grid_rooted(unsigned number);
// How often nodes have taken another parent than the one before.
unsigned grid_changes(void);
void grid_describe(void); // into the log, who is not where the root is

#endif

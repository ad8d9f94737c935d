// SPDX-License-Identifier: Apache-2.0
// The plan of a large tree: sites in regions, each with two intermediates (replicas that feed) and
// leaves, one replica to three proxies; a root in the first site; how far any two nodes are apart;
// and the list of parents that a node is told, as discovery would.
//
// A site's first intermediate is told those of four other sites; the second one and the leaves are
// told the own site's before these. The root stands last on every list. Which four: of the sites
// nearer to the root those over which the way to it is shortest; or, LISTS_NEAREST, the nearest
// ones, whoever feeds whom, as one knows who knows nothing of the tree.
#ifndef QS_TESTS_SIM_SIZE_PLAN_H
#define QS_TESTS_SIM_SIZE_PLAN_H

#include "tests/sim/node.h"
#include "tests/sim/seams.h"

#define PLAN_CHILDREN_MAX 32

enum plan_lists { LISTS_INWARD, LISTS_NEAREST };

void plan_open(unsigned nodes, unsigned sites, enum plan_lists lists);
unsigned plan_nodes(void);
unsigned plan_sites(void);
unsigned plan_site(unsigned node);
unsigned plan_site_first(unsigned site); // number of its first node; for `sites` that of no node
const char *plan_site_name(unsigned site);
bool plan_feeds(unsigned node); // the root or an intermediate
int plan_role(unsigned node);
uint64_t plan_round_trip_ns(unsigned a, unsigned b); // between nodes
// Publishes the node's list, as its own code.
void plan_introduce(struct node *node);

#endif

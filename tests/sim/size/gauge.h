// SPDX-License-Identifier: Apache-2.0
// What is measured of a large tree while it runs: when each write was acknowledged at the root and
// when each node showed it, bytes by link, who follows whom. It also proves what a node shows: at
// one index all must have one digest and one number of keys, and none goes back (C1, C5).
#ifndef QS_TESTS_SIM_SIZE_GAUGE_H
#define QS_TESTS_SIM_SIZE_GAUGE_H

#include "tests/sim/node.h"

#define GAUGE_EVERY 10    // one write in so many is timed at every node
#define GAUGE_NOBODY UINT32_MAX

void gauge_open(struct node *nodes, unsigned count);
void gauge_acknowledged(uint64_t index); // now, at the root
uint64_t gauge_newest(void);             // index acknowledged last
// The newest index that was acknowledged at least `age_ns` ago.
uint64_t gauge_newest_before(uint64_t age_ns);

// Writes acknowledged from now on are timed, and bytes are counted, until gauge_stop.
void gauge_start(void);
void gauge_stop(void);

// Timed writes, and how long after the acknowledgement the node showed number `at` of them.
unsigned gauge_timed(void);
uint32_t gauge_delay_us(unsigned node, unsigned at); // UINT32_MAX: not yet

// From and to its parent while the gauge ran.
struct gauge_bytes {
    uint64_t down, up;
};
struct gauge_bytes gauge_bytes(unsigned node);
// What the root knew of the others at the end, and how much it was told meanwhile.
struct gauge_census {
    uint64_t nodes, bytes;
};
struct gauge_census gauge_census(void);
uint64_t gauge_ns(void);          // how long it ran
void gauge_carried(unsigned from, unsigned to, size_t size); // for struct net_map

// Whom the node follows with blocks flowing, GAUGE_NOBODY: nobody.
unsigned gauge_parent(struct node *node);
// By the parents at gauge_start.
unsigned gauge_parent_then(unsigned node);

#endif

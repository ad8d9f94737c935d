// SPDX-License-Identifier: Apache-2.0
// One run of a large tree from a seed: it forms, is written to at full pace and measured, and then
// loses a site's uplink, an intermediate, and one link again and again, while writes go on at a
// slower pace. It ends when every node shows the same index.
#ifndef QS_TESTS_SIM_SIZE_TRIAL_H
#define QS_TESTS_SIM_SIZE_TRIAL_H

#include "tests/sim/size/plan.h"

#define MOMENTS_MAX 1000
#define TRIAL_FAULT_S 8
#define TRIAL_FLAPS 5
#define TRIAL_FLAP_S 4 // cut for so long, and then whole for so long

struct trial_setup {
    uint64_t seed;
    unsigned nodes, sites;
    uint64_t steady_ms;
    enum plan_lists lists;
    bool calm; // no faults
    bool verbose;
};

// How a fault was overcome. Times in ms since it struck, UINT64_MAX = not while it was watched.
struct healing {
    const char *what;
    unsigned cut_off;  // nodes that it concerns themselves: no healing is expected of them
    unsigned orphans;  // other nodes that had one of these as parent
    uint64_t follow_ms; // until each of the orphans followed another parent
    uint64_t whole_ms;  // until all but the ones cut off showed what was acknowledged a second ago
    uint64_t return_ms; // from the end of the fault until that was so of all
    unsigned changes;   // of parents, while it lasted and after
    // Every 100 ms since it struck: orphans without a parent, nodes that lack older writes.
    unsigned moments;
    unsigned lone[MOMENTS_MAX], late[MOMENTS_MAX];
};

struct flapping {
    unsigned cycles;
    unsigned own;    // changes of parent of the node below the link
    unsigned others; // ... of all other nodes
};

struct trial {
    uint64_t formed_ms; // all follow
    uint64_t settled_ms; // when a node took another parent last, before it was written to
    uint64_t equal_ms;  // from the last write of all until all nodes showed it
    struct healing site, power, process;
    struct flapping flapping;
    uint64_t simulated_ms, events, trace;
};

// Runs it; a violation ends the process. The gauge holds what was measured; until trial_close.
void trial_run(const struct trial_setup *setup, struct trial *ret_trial);
void trial_close(void);

#endif

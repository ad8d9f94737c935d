// SPDX-License-Identifier: Apache-2.0
// Finds the other nodes through Consul, and lets them find this one: registers the instances of
// this node (agent.h), and seeks for those whose parents or replicas no configuration names
// (seeker.h). It has a thread of its own, "qs-finder": nothing else ever waits for Consul, and
// while that is away the last lists stay. docs/discovery.md says what each failure does.
#ifndef QS_COMMON_DISCOVERY_FINDER_H
#define QS_COMMON_DISCOVERY_FINDER_H

#include "common/base/metrics.h"
#include "common/base/options.h"
#include "common/discovery/agent.h"
#include "common/discovery/endpoints.h"

#define FINDER_SITES_MS 300000 // between two looks at which data centres there are
#define FINDER_SOON_MS 1000   // least `ttl` of an instance with a guest, which is else `silence`
#define FINDER_ALONE_MS 5000   // ... while there is but one: its servers may be joining the others

// Whoever else asks Consul, on the finder's thread. `turn` does what is due and returns when it is
// to be called again at the latest; consul_wake makes it sooner.
struct finder_guest {
    void (*join)(void *owner, struct consul *consul); // before the first turn
    uint64_t (*turn)(void *owner, uint64_t now_ns);
    // The node is about to end: does it want further turns before? Asked between them.
    bool (*parting)(void *owner);
    void (*leave)(void *owner); // after the last one
    void *owner;                // NULL: there is none
};

// One instance of this node. What it points to outlives the finder.
struct finder_instance {
    const char *name;
    int role;
    struct endpoint_feed *parents, *replicas; // NULL = not sought
    const char *saved_path;                   // of the file with the last lists
    struct instance_metrics *metrics;
    void (*facts)(void *owner, struct agent_facts *ret_facts); // on the finder's thread
    void *owner;
    struct finder_guest guest;
};

struct finder_setup {
    const struct node_options *node;
    const struct consul_options *consul;
    const char *advertise; // host:port that is registered; NULL: nothing is
    struct node_metrics *metrics;
    const struct finder_instance *instances; // live as long as the finder
    size_t instance_count;
};

struct finder;

// Publishes what was saved, and starts. *ret_reason: static memory.
int finder_open(struct finder **ret_finder, const struct finder_setup *setup,
                const char **ret_reason) MUST_CHECK;
// Takes the registrations back, as far as Consul answers soon, and ends the thread.
void finder_close(struct finder *finder);

#endif

// SPDX-License-Identifier: Apache-2.0
// One node of the simulated tree: a machine with a disk that outlives its processes, and a process
// put together as the daemon does it (qs/daemon.c), less clients and HTTP. Nodes belong to the
// world; everything that a process holds dies with it.
#ifndef QS_TESTS_SIM_NODE_H
#define QS_TESTS_SIM_NODE_H

#include "common/core/read.h"
#include "common/core/walker.h"
#include "common/roots/members.h"
#include "common/tree/tree.h"
#include "tests/sim/world.h"

#define UPSTREAMS_MAX 16

enum node_phase { NODE_DOWN, NODE_UP, NODE_STOPPING };

struct gate {
    struct mailbox mailbox;
    struct notice closed;
    bool passed;
};

// What a process of a node holds.
struct chair;
struct process {
    struct loop *loop;
    struct readers *readers;
    struct store_cache *cache;
    struct walker *walker;
    struct beats *beats;
    void *sequencer;
    struct instance *instance;
    struct fanout *fanout;
    struct peers *peers;
    struct chair *chair; // of one of several roots that elect
};

struct node {
    struct host host;
    unsigned number;
    enum node_phase phase;
    uint64_t wiped_ns; // when its disk was lost last
    bool power_kept;  // the next death is the process's alone
    bool left_open;   // its store could not be flushed when it stopped
    bool shown;       // this process has published a view
    bool rotten;      // a bit of its synced journal was flipped since it last started
    bool harmed;      // a file beside them went bad
    bool decayed;     // a row of one of its stores went bad
    bool stop_counted;
    bool elects;      // one of several roots, any of which may lead
    uint64_t visible; // highest index ever shown
    unsigned incarnation;
    unsigned busy;    // operations of sessions under way
    unsigned stop_step;
    struct gate gate;
    void (*introduce)(struct node *node); // as its code, before it follows: publishes other nodes
    struct actor keeper; // starts it, and takes the steps of a graceful stop
    uint64_t down_ns;    // how long it stays away once it has stopped
    struct process process;
    struct actor turner; // of its chair
    struct seen {        // of its council, in the last turn
        bool refused, takes;
    } seen;
    struct instance_metrics metrics;
    struct node_metrics node_metrics;
    struct node_options options;
    struct instance_options instance_options;
    char name[8], data_dir[16], address[32];
    char texts[2][UPSTREAMS_MAX][32];
    const char *parents[UPSTREAMS_MAX + 1];
    const char *replicas[UPSTREAMS_MAX + 1];
    char root_texts[ROOTS_MAX][40];
    const char *roots[ROOTS_MAX + 1];
};

// Sets the node up with its defaults; the caller may change options before the first start.
void node_init(struct node *node, unsigned number, int role);
void node_upstream(struct node *node, unsigned parent);
void node_source(struct node *node, unsigned replica);
// It is one of the first `count` nodes, which are its instance's roots; n0 leads.
void node_roots(struct node *node, unsigned count);

// It is up, and takes writes, as far as it knows.
bool node_leads(const struct node *node);

// It is up, and hears of other lists of parents and replicas: of all that it was set up with, or of
// some of them.
void node_relist(struct node *node, bool all);

void node_start_after(struct node *node, uint64_t delay_ns);
// Ends the process, or the machine with it, now. Not from its own code.
void node_kill(struct node *node, bool power);
// Ends it as SIGTERM does; it starts again `down_ns` after its end (UINT64_MAX: never).
void node_stop(struct node *node, uint64_t down_ns);

// The directory of its store in use, or, where there is one, of that under construction.
#define NODE_STORE_BYTES 64
void node_store(const struct node *node, bool building, char to[NODE_STORE_BYTES]);
// How the directories of all its stores begin.
void node_stores(const struct node *node, char to[NODE_STORE_BYTES]);

void node_harvest(struct node *node); // its process ends: takes what that has counted

void node_wipe(struct node *node); // it is down, and gets an empty disk

static inline bool node_is_root(const struct node *node)
{
    return node->instance_options.role == ROLE_ROOT;
}
static inline bool node_serves(const struct node *node)
{
    return node->phase == NODE_UP && instance_state(node->process.instance) == INSTANCE_SERVING;
}
static inline struct node *node_of(struct host *host)
{
    return CONTAINER_OF(host, struct node, host);
}

// For the sessions: operations on this node will never end.
void sessions_lost(struct node *node);

#endif

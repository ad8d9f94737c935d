// SPDX-License-Identifier: Apache-2.0
// This node's entry of one instance at Consul: registered with a check that this node must renew,
// kept current, registered again whenever the agent has lost it, and taken back at an orderly end.
// The index is never told: it would be old before anybody reads it. The finder's thread.
//
//   service  <service_prefix><instance>
//   id       <service>:<node>
//   tags     root; or replica, and intermediate while it has children; or proxy; of several roots
//            replica, and root the one that leads, standby the others
//   meta     node, cluster, role, history, epoch, depth
//   check    <id>:ttl; passing while it serves, critical while it loads, warning once it has
//            stopped taking updates
#ifndef QS_COMMON_DISCOVERY_AGENT_H
#define QS_COMMON_DISCOVERY_AGENT_H

#include "common/base/log.h"
#include "common/discovery/consul.h"

#define AGENT_AGAIN_NS (60 * NS_PER_S) // registered again after this, whatever the agent says
#define AGENT_LEAVE_MS 1000            // how long the end of the daemon may wait for Consul
#define AGENT_FORGET "10m"             // a node that is critical for longer is dropped by Consul

// What changes while a node runs.
struct agent_facts {
    enum { AGENT_LOADING, AGENT_SERVING, AGENT_STOPPED } state;
    bool feeds;           // others follow it now
    enum { AGENT_ALONE, AGENT_LEADER, AGENT_STANDBY } part; // of a root
    char history[33];     // in hexadecimal, "" = none yet
    uint64_t epoch;
    unsigned depth;       // UINT32_MAX = not known
};

struct agent_setup {
    const char *instance, *node, *cluster;
    const char *service;
    const char *host; // numeric
    unsigned port;
    int role;         // enum role_kind
    uint64_t ttl_ms;
    void (*facts)(void *owner, struct agent_facts *ret_facts);
    void *owner;
};

enum agent_step { AGENT_ABSENT, AGENT_REGISTERING, AGENT_PRESENT, AGENT_BEATING, AGENT_LEFT };

struct agent {
    struct agent_setup setup;
    enum agent_step step;
    struct consul_call call;
    struct agent_facts told; // when it was last registered
    uint64_t registered_ns;  // 0 = not, as far as the agent has said
    uint64_t next_ns;
    unsigned failures;       // in a row
    struct log_gate gate;
};

// What `setup` points to outlives the agent.
void agent_open(struct agent *agent, const struct agent_setup *setup);
void agent_close(struct agent *agent);

// Does what is due. Returns when to call again at the latest, UINT64_MAX: once it was answered.
uint64_t agent_turn(struct agent *agent, struct consul *consul, uint64_t now_ns);

// Takes the entry back; over once agent_left. What is under way is given up.
void agent_leave(struct agent *agent, struct consul *consul);
static inline bool agent_left(const struct agent *agent) { return agent->step == AGENT_LEFT; }

#endif

// SPDX-License-Identifier: Apache-2.0
// Who may take a snapshot from here into which other site: one node of each at a time, so that a
// site whose nodes all begin at once takes one over its uplink and passes it on inside. Replicas
// and proxies apart: a snapshot of keys alone is of no use to a replica.
//
// A permit belongs to a node, not to its link: whoever comes back goes on with it. So that nobody
// waits for ever it lapses when nothing has been asked for PERMIT_IDLE_NS, and in any case
// PERMIT_LONGEST_NS after it was given. Once the last slice is given the others wait for as long as
// it took, and PERMIT_GRACE_NS, for the holder to finish its store, walk it and give in its turn.
//
// Time comes in. Owned by a fanout, under its lock.
#ifndef QS_COMMON_TREE_PERMIT_H
#define QS_COMMON_TREE_PERMIT_H

#include "common/base/bytes.h"
#include "common/base/list.h"

#define PERMITS_MAX 1024 // with so many out, no site is given another
#define PERMIT_IDLE_NS (10 * NS_PER_S)
#define PERMIT_GRACE_NS (30 * NS_PER_S)
#define PERMIT_LONGEST_NS (3600 * NS_PER_S)

struct permits {
    struct list all;
    unsigned count;
};

// Who asks, both names not longer than NODE_NAME_MAX and ENDPOINT_SITE_MAX.
struct permit_ask {
    const char *node, *site;
    bool keys_only; // a proxy
};

void permits_open(struct permits *permits);
void permits_close(struct permits *permits);
// Does the node have to wait for another one of its site?
bool permits_wait(struct permits *permits, const struct permit_ask *ask, uint64_t now_ns);
// It need not: from now on it holds the permit, or it goes on with it. False: too many are out.
bool permits_take(struct permits *permits, const struct permit_ask *ask, uint64_t now_ns);
// The holder has asked for a slice, or was given the last one; for anybody else nothing happens.
void permits_asked(struct permits *permits, const struct permit_ask *ask, uint64_t now_ns);
void permits_given(struct permits *permits, const struct permit_ask *ask, uint64_t now_ns);

#endif

// SPDX-License-Identifier: Apache-2.0
// What fanout.c (the registry of children), child.c (one child and its feed), greeting.c (the
// answer to a child's hello) and donor.c (giving a snapshot) share. The rest of qs sees
// common/tree/tree.h.
#ifndef QS_COMMON_TREE_FANOUT_H
#define QS_COMMON_TREE_FANOUT_H

#include <pthread.h>

#include "common/tree/link.h"
#include "common/tree/permit.h"
#include "common/tree/stand.h"
#include "common/tree/tree.h"

struct fanout {
    struct instance *instance;
    pthread_mutex_t lock;     // guards all below and the children's status
    struct list children;     // struct fanout_child
    struct list subscribers;
    unsigned count;
    unsigned sent_on;         // nodes that were told to follow a child, for the turns
    unsigned snapshots;       // links that are given one (donor.c)
    uint64_t snapshot_at_ns;  // when their next slice may be read
    struct permits permits;   // of other sites' nodes to take one
    struct notice remember;   // runs on the applier: writes the children down
    _Atomic uint64_t remembered_ns;
    struct census *census; // the instance's, which is gone before this is
    struct desk *desk;
    struct forward *forward;
};

// A child as the registry knows it; embedded in child.c's own struct.
struct fanout_child {
    struct list node;
    struct child_status status;
    char reach[ADDRESS_TEXT_BYTES]; // where others may follow it, "" = nowhere
    char site[ENDPOINT_SITE_MAX + 1];
};

// May the node that says this hello follow too? It may when there is room (the place of a child
// that has fallen silent counts as free, long before its link is given up), when it has a place
// already (its link before is dead, if not buried), when no child could feed it, and when it has
// found none elsewhere: whom a child cannot give what it needs is fed from here. `take`: it has a
// place from now on, until fanout_remove.
bool fanout_admit(struct fanout *fanout, const struct message_hello *hello, bool take);
// Writes to `to` which children it may follow instead (message welcome, `elsewhere`): those that
// have room first, then those of its site, and in turn, so that all get their share. For a
// snapshot: which of its site serve.
#define ELSEWHERE_MAX 8
_Static_assert(NODE_NAME_MAX >= ENDPOINT_NODE_MAX, "a name of a list fits");
#define ELSEWHERE_BYTES                                                                            \
    (ELSEWHERE_MAX * (ADDRESS_TEXT_BYTES + NODE_NAME_MAX + ENDPOINT_SITE_MAX + 3))
size_t fanout_elsewhere(struct fanout *fanout, const struct message_hello *hello, char *to);
// The same for a child, when there are more than there may be, and it is the one that is to go:
// those that have room for it. 0 bytes: it may stay. A child of more is let in when nobody below
// would feed it, or returns after its place was given away.
size_t fanout_make_room(struct fanout *fanout, const struct fanout_child *child, char *to);
// Writes one of them: texts that fit a message's; returns their bytes.
size_t elsewhere_put(char *to, const char *address, const char *node, const char *site);
unsigned fanout_count(struct fanout *fanout); // places that are taken

void fanout_add(struct fanout *fanout, struct fanout_child *child);
void fanout_remove(struct fanout *fanout, struct fanout_child *child);
void fanout_progress(struct fanout *fanout, struct fanout_child *child,
                     const struct message_progress *progress, uint64_t rtt_ns);
void fanout_sent(struct fanout *fanout, struct fanout_child *child, uint64_t bytes);

// What a hello is answered with. The bytes point into this struct, the instance and static memory.
struct greeting {
    struct message_welcome welcome;
    uint8_t chain[HASH128_BYTES];
    struct birth birth;
    char path[BEAT_PATH_MAX + NODE_NAME_MAX + 1];
    char elsewhere[ELSEWHERE_BYTES];
    struct journal_cursor cursor; // for ANSWER_RESUME: before the child's next block
};
// What this node says of itself, whatever the answer will be. `tail`: its end is that of all that
// is journaled.
void greeting_about(struct greeting *ret_greeting, struct fanout *fanout, bool tail);
void greeting_make(struct greeting *ret_greeting, struct fanout *fanout,
                   const struct message_hello *hello);

// Where others may follow a child: what it said, at the host that it comes from if it said none;
// left as it is where that is no address.
void child_reach(const struct link *link, const struct message_hello *hello,
                 char to[ADDRESS_TEXT_BYTES]);
// Takes the link over and feeds it from the cursor (taken over) on; the welcome has been written.
void child_open(struct fanout *fanout, struct link *link, struct journal_cursor *cursor,
                const struct message_hello *hello);

#endif

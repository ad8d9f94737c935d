// SPDX-License-Identifier: Apache-2.0
// A picture of the whole tree: what every node has said of itself, as the root has it. It comes
// down on demand only: whoever wants one waits; the node asks its parent (ask.c), which, unless it
// is the root, wants one itself and answers from it. So a node has one question under way however
// many want a picture, a picture is a second old at most, and a thousand leaves that ask cost the
// root one answer for each of its children. Where the root does not answer in time the picture is
// of what this node knows itself, and says so.
//
// Any thread; the lock is taken before any other.
#ifndef QS_COMMON_TREE_PICTURE_H
#define QS_COMMON_TREE_PICTURE_H

#include "common/tree/census.h"

// How long a client's question may take. Each hop leaves the one above three quarters of what it
// has itself, so that the one nearest to the trouble answers first.
#define PICTURE_PATIENCE_NS (2 * NS_PER_S)
// A picture that comes from a parent.
#define PICTURE_BYTES_MAX (64 * MIB)
#define PICTURE_REASON_MAX 191

struct picture {
    _Atomic unsigned references;
    struct buf items; // in the order of their names
    size_t count;
    char reason[PICTURE_REASON_MAX + 1]; // why it is not the root's, in words; "" = it is
    uint64_t taken_ns; // ago_ns of the items counts from here
};

struct picture *picture_hold(struct picture *picture);
void picture_release(struct picture *picture); // NULL is allowed

// `task` is posted to `mailbox` with `picture` set, one reference for the waiter.
struct picture_waiter {
    struct list node;
    struct mailbox *mailbox;
    struct task task;
    struct picture *picture;
    bool waiting; // under the desk's lock
};

struct desk;

struct desk *desk_open(struct instance *instance) MUST_CHECK;
void desk_close(struct desk *desk); // nobody waits any more

void picture_want(struct desk *desk, struct picture_waiter *waiter, uint64_t patience_ns);
// True when it was still waiting: the task will not run. False: it has been posted.
bool picture_cancel(struct desk *desk, struct picture_waiter *waiter);

// For ask.c. Whoever can ask a parent is raised when somebody waits; NULL: nobody can, and those
// who wait get what is known here.
void desk_hook(struct desk *desk, struct notice *ask);
// Does anybody wait, and for how long may it take?
bool desk_wants(struct desk *desk, uint64_t *ret_patience_ns);
// The parent's picture: `items` is taken over. `reason` as in struct picture.
void desk_give(struct desk *desk, struct buf *items, size_t count, const char *reason,
               uint64_t taken_ns);
// It could not be had: those who wait get what is known here.
void desk_give_own(struct desk *desk, const char *reason);

#endif

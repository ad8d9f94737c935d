// SPDX-License-Identifier: Apache-2.0
// What decides for one of several roots who leads (docs/commit.md): it owns the council, its
// promise on the disk, the record's keeper and the ties to the other roots, tells the council the
// facts, and carries out what it says is to be done.
//
// It has no thread. Its owner turns it, on one thread, at the times that it names and whenever it
// asks for a turn; there it blocks for nothing but the file `promise`. Facts come from any thread,
// by its mailbox. What the council orders of the journal is done by the instance's writer, and
// nothing more is taken from the council before that has been done: so a promise tells the end of a
// journal to which its former leader adds no more.
#ifndef QS_COMMON_CHAIR_CHAIR_H
#define QS_COMMON_CHAIR_CHAIR_H

#include "common/chair/ties.h"
#include "common/roots/council.h"

struct chair;
struct consul;

struct chair_setup {
    struct instance *instance; // one of several roots, opened with instance_setup.council
    const char *service_prefix; // of the names at Consul
};

// What it says of itself. Any thread.
struct chair_status {
    enum council_role role;
    struct leadership leadership; // led, tried for, or promised
    uint64_t generation;          // of the record
    uint32_t counted;             // whom a block waits for, at the leader
    uint32_t in_sync;             // whom the record names
    bool record_known;
    const char *writes;           // why they are not taken; NULL: they are. Static memory
    uint64_t asked;               // requests of a person that were looked at
    const char *refused;          // why the last one was not; NULL: it is under way. Static memory
};

// Connects to the other roots once the home loop runs. Nothing is decided before it is turned.
struct chair *chair_open(const struct chair_setup *setup) MUST_CHECK;
// From here on it is turned. `consul` is its owner's, of that thread (with a fake keeper, whatever
// that takes); `wake`, from any thread, asks for a turn soon.
void chair_join(struct chair *chair, struct consul *consul, void (*wake)(void *owner), void *owner);
// Does what is due; returns when it is to be turned again at the latest. The owner's thread.
uint64_t chair_turn(struct chair *chair, uint64_t now_ns);
// The node is about to end: one that leads hands over to the other root that has the most. True as
// long as that takes further turns. The owner's thread.
bool chair_parting(struct chair *chair);
// It is turned no more, and wakes nobody after this. The owner's thread.
void chair_leave(struct chair *chair);
// After chair_leave: ends the links that were made here, then raises `closed`. Those that were
// accepted end with their door; chair_free after both, when no loop runs any more.
void chair_close(struct chair *chair, struct notice *closed);
void chair_free(struct chair *chair);

// As ties_accept.
const char *chair_accept(struct chair *chair, struct link *link, const struct message_hello *hello);

struct chair_status chair_status(struct chair *chair);
// A person asks: this root shall lead, by a hand-over where a leader answers. Any thread; the
// status counts it once it was looked at.
void chair_promote(struct chair *chair);
// A person asks that a new history go on from what can be reached, whatever is lost
// (docs/commit.md, R15). Likewise.
void chair_accept_loss(struct chair *chair);

#endif

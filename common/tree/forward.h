// SPDX-License-Identifier: Apache-2.0
// Writes on their way to the root that leads. A node that does not lead gives a write, of its own
// client or of a child, to its parent, and hands the answer back; whoever leads carries it out. A
// write is given to one parent, once: when the link to it ends before the answer has come nobody
// knows here what became of it, and it is answered so. What was given to nobody is answered with an
// error that says that nothing was done.
//
//   desk    counts what is on its way here, and knows who carries writes out; any thread
//   up      what was given to the parent: part of struct follow, on its loop
//   giver   what one child has given here: part of child.c's struct, on its link's loop
//
// Bounded by forward_max and forward_bytes, in time by commit_wait. A child that reads no answers
// has those dropped whose time is over.
#ifndef QS_COMMON_TREE_FORWARD_H
#define QS_COMMON_TREE_FORWARD_H

#include "common/core/instance.h"
#include "common/tree/link.h"

struct follow;

// One write. Its memory is of whoever submits it, from then on until `answered` is called.
struct forwarded {
    struct instance *instance;
    struct loop *loop;      // of whoever waits
    void (*answered)(struct forwarded *write); // there, once, not before forward_submit returns
    struct buf items;       // common/wire/write_items.h
    struct buf path;        // names it came through so far
    uint64_t patience_ns;   // how long an answer is of use
    uint8_t meant[HISTORY_ID_BYTES]; // the history that whoever wrote it has seen; zeroes: none
    int status;             // out: OK, or why not; ERR_UNKNOWN_OUTCOME, else nothing was done
    uint8_t history[HISTORY_ID_BYTES]; // out, if OK
    uint64_t index;         // out, likewise: that of the write, or a later one
    struct buf reply;       // out, likewise: RESP
    // forward.c's own.
    struct task task;
    struct list node;
    struct timer timer;
    uint64_t id;
    size_t counted, counted_reply; // bytes
};

// ---- desk --------------------------------------------------------------------------------------

struct forward;

struct forward *forward_open(struct instance *instance) MUST_CHECK;
void forward_close(struct forward *forward); // nothing is on its way any more
// Who carries writes out where this node leads. It is called on the write's loop; what it returns
// is forward_submit's answer, and after OK it calls write->answered later on that loop. Before
// anything is submitted.
void forward_serve(struct instance *instance, void *owner,
                   int (*carry_out)(void *owner, struct forwarded *write));
// Raises `quiet`, once, when nothing is on its way any more. Nothing is submitted after this.
void forward_drain(struct instance *instance, struct notice *quiet);

// Carries the write out here, or sends it on. On write->loop. Not OK, and `answered` will not be
// called: ERR_BUSY, a limit is reached; ERR_NO_LEADER; what carry_out says.
int forward_submit(struct forwarded *write) MUST_CHECK;
// Is there room for an answer of this size? Whoever carries it out, any thread, perhaps repeatedly.
// ERR_BUSY.
int forward_reply_fits(struct forwarded *write, size_t size) MUST_CHECK;
// After the answer, or after forward_submit refused it: gives back what it holds.
void forward_end(struct forwarded *write);

// ---- up ----------------------------------------------------------------------------------------

struct forward_up {
    struct list sent; // struct forwarded, the oldest first
    uint64_t last_id;
};

void forward_up_open(struct follow *follow);
int forward_on_answer(struct follow *follow, struct bytes payload) MUST_CHECK;
void forward_lost(struct follow *follow); // the parent is left

// ---- giver -------------------------------------------------------------------------------------

struct forward_giver {
    struct instance *instance;
    struct loop *loop;
    void (*turn)(struct forward_giver *giver); // the owner's: there is an answer
    struct list taken; // no answer has come yet
    struct list ready; // answered, to be sent
    unsigned refused;  // of both, without being counted
};

void forward_giver_open(struct forward_giver *giver, struct instance *instance, struct loop *loop,
                        void (*turn)(struct forward_giver *giver));
int forward_on_write(struct forward_giver *giver, struct bytes payload) MUST_CHECK;
// Sends the answers that there are, as far as the link takes them now.
void forward_tell(struct forward_giver *giver, struct link *link);
// The link is gone: what it gave goes on, its answers go nowhere. `turn` is not called any more.
void forward_giver_close(struct forward_giver *giver);

#endif

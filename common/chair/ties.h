// SPDX-License-Identifier: Apache-2.0
// Links between the roots of an instance for what their councils say to each other (docs/commit.md,
// "Messages between roots"). Each root connects to each other one and speaks on its own link only,
// so what comes by a link that was accepted is heard, and what is said goes by one that was made.
//
// Links are made on the instance's home loop; accepted ones live on the loops that they came to. Of
// each root the link that was accepted last is in use: one before is ended, as its sender may be an
// earlier life. Whatever comes is handed over as a fact. What is said while there is no link is
// lost: a council says it again.
#ifndef QS_COMMON_CHAIR_TIES_H
#define QS_COMMON_CHAIR_TIES_H

#include "common/core/lead.h"
#include "common/tree/link.h"

enum tie_kind { TIE_UP, TIE_DOWN, TIE_CLAIM, TIE_PROMISE, TIE_WORD, TIE_ASK, TIE_GO };

// One message, or that a link has begun or ended. Freed by whoever takes it.
struct tie_fact {
    struct task task; // `run` is of the setup
    void *owner;
    unsigned root;
    bool own;         // by the link that this root has made: UP and DOWN
    uint64_t number;  // of the link, counted for each root: older ones count no more
    enum tie_kind kind;
    bool has_history; // of the other's journal
    uint8_t history[HISTORY_ID_BYTES];
    bool has_ancestor; // CLAIM, WORD: that history forked from this one
    uint8_t ancestor[HISTORY_ID_BYTES];
    struct leadership leadership;
    struct promise promise; // PROMISE
    struct log_end end;     // likewise
    uint64_t block, generation;
    bool granted, member;
};

struct ties_setup {
    struct instance *instance; // with instance->lead
    struct mailbox *to;
    void (*run)(struct task *fact);
    void *owner;
};

struct ties;

// Connects once the home loop runs. Any thread, as all that follows.
struct ties *ties_open(const struct ties_setup *setup) MUST_CHECK;
// `closed` is raised when no link is left that was made here; accepted ones end with the door.
void ties_close(struct ties *ties, struct notice *closed);
void ties_free(struct ties *ties); // after both, or when the loops have never run

// Takes over a link whose hello asks to talk. NULL; or why not, and the link is left to the caller.
// On the link's loop.
const char *ties_accept(struct ties *ties, struct link *link, const struct message_hello *hello);

// Sends frames, which it takes over, to a root.
void ties_send(struct ties *ties, unsigned root, struct buf *frames);

#endif

// SPDX-License-Identifier: Apache-2.0
// One of several roots of an instance (docs/commit.md): it leads, or it stands by for another that
// does. Here is what follows from that for its data: which blocks its journal takes, what is cut
// from it, what is committed, when writes are taken. Who leads is decided elsewhere, and told by
// the orders below; until somebody does, the first of `roots` leads and all are counted.
//
// instance->lead is NULL where there is one root or none. The state belongs to the writer's thread,
// the orders may come from any and are carried out in the order in which one thread gives them.
//
// Rules kept here: R5 (commit), R7 and R8 (standby, cut), R13 (start).
#ifndef QS_COMMON_CORE_LEAD_H
#define QS_COMMON_CORE_LEAD_H

#include "common/core/instance.h"
#include "common/core/tail.h"
#include "common/roots/commit.h"
#include "common/roots/members.h"
#include "common/roots/tally.h"

#define LEAD_NOBODY (-1)

// What a standby has of the log that it takes: all blocks up to this place, synced.
struct lead_word {
    uint64_t link; // that they came by, 0 = none
    uint64_t epoch;
    struct journal_place place;
};

struct lead {
    struct instance *instance;
    struct members members;
    struct commit *commit;
    struct commit_record found; // in its file, at the start
    bool council;               // somebody else says what is committed of its own log
    struct tally tally;         // of a leader
    struct tail tail;
    _Atomic uint64_t epoch;  // led, or stood by in
    _Atomic int leader;      // the number of that root, or LEAD_NOBODY
    _Atomic bool takes_over; // it takes that one's log to lead itself: nobody may take its own yet
    _Atomic uint64_t opened; // it leads: writes are taken once this block is shown; 0 = it does not
    _Atomic uint64_t generation; // of the record, which whoever decides about it keeps here
    _Atomic uint64_t heard_generation; // the highest that a leader spoke of
    _Atomic uint64_t links;  // counts the links to a leader; the newest is in use
    uint64_t link;           // by which blocks are taken, 0 = by none
    uint64_t common;         // the last block that is known to be in that one's log
    uint64_t told;           // the last one that it, or the council, says is committed
    uint64_t due_ns;         // when the sequencer wants its next turn, 0 = it does not
    _Atomic uint64_t set_aside; // blocks, since the start
    _Atomic uint64_t acknowledged[ROOTS_MAX]; // of `tally`, for any thread
    struct lead_word word;   // instance->lock
    struct notice *changed;  // instance->lock: raised when the word is another, or whom it follows
    struct notice *observer; // instance->lock: raised when an end or the commit has moved
};

// ---- life; instance.c and writer.c -------------------------------------------------------------

// Before the journal is opened. ERR_CONFIG (`roots`), ERR_CORRUPT, ERR_IO.
int lead_open(struct instance *instance) MUST_CHECK;
void lead_close(struct instance *instance);
// Does this root begin the history where there is none?
bool lead_founds(const struct instance *instance);
// After the journal was opened, before anybody reads it: what is committed of it (R13). `flushed`
// is the store's place. ERR_AHEAD: blocks are missing that are committed.
int lead_recover(struct instance *instance, const struct journal_place *flushed) MUST_CHECK;
// Once the workers run: leads or stands by, as `roots` says.
void lead_start(struct instance *instance);

enum lead_verdict { LEAD_TAKE, LEAD_DROP, LEAD_WAIT };
// A block that came by a link: is it to be appended? What differs from it is cut first. All that
// was appended before is synced.
enum lead_verdict lead_judge(struct lead *lead, uint64_t link, const struct block *block);
// Everything appended is synced, `block` is the next of it (one reference is taken over).
void lead_synced(struct lead *lead, struct block *block);
// The journal begins anew behind a block, which is committed as all that others give for it is.
void lead_restarted(struct lead *lead, const struct block_header *before);
// Commits what can be, and says what has changed. Each turn of the writer.
void lead_settle(struct lead *lead);

// ---- orders and facts; any thread --------------------------------------------------------------

// It leads in this epoch: an epoch block, when the log ends in a lower one, and then writes. The
// roots of `counted` must have what is to be committed.
void instance_lead(struct instance *instance, uint64_t epoch, uint32_t counted);
// It leads no more: writes that are not committed are answered with ERR_UNKNOWN_OUTCOME. It takes
// the log of root `leader` in this epoch, or of nobody. Nothing happens when it does so already.
void instance_stand(struct instance *instance, uint64_t epoch, int leader);
// It is elected, and takes the log of root `donor`, the best of those that promised, up to its end
// before it leads.
void instance_take_over(struct instance *instance, uint64_t epoch, int donor);
// At the leader, where a council decides: its log is committed up to block `number`.
void instance_committed(struct instance *instance, uint64_t number);
// At the leader, where none does: the set is another one (R9, R10 say when that may be told).
void instance_count(struct instance *instance, uint32_t counted);
// At the leader: a root has all blocks of this epoch's log up to `number`, whose chain is `chain`.
void instance_acknowledged(struct instance *instance, unsigned root, uint64_t epoch,
                           uint64_t number, struct hash128 chain);
// At a standby: whoever is at the other end of link number `link` leads in `epoch`, and has
// committed its log up to block `number`.
void instance_told(struct instance *instance, uint64_t link, uint64_t epoch, uint64_t number);

// Is `view` new enough to sequence on? A leader first shows what it found.
bool lead_ready(const struct lead *lead, const struct view *view);
// What the next block says beside its content.
struct block_stamp instance_stamp(const struct instance *instance);
// The end of the synced journal, and its epoch. Writer's thread.
const struct block_header *lead_end(const struct lead *lead);
struct journal_place lead_known(const struct lead *lead); // committed
struct lead_word lead_say(struct lead *lead);
// May root `root` take this one's log beyond what is committed, now? From the leader each may, from
// another one only whom that one has promised to follow: who compares its log cuts its own.
bool lead_serves(const struct lead *lead, unsigned root);
// At the leader: the last block of this epoch's log that a root has acknowledged, 0 = none yet.
uint64_t lead_acknowledged(const struct lead *lead, unsigned root);
void lead_observe(struct instance *instance, struct notice *changed); // NULL: no more
// "root" for the only one, "leader", "standby", else the role.
const char *instance_part(const struct instance *instance);

#endif

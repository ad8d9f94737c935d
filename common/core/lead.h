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
#include "common/roots/promise.h"
#include "common/roots/roots.h"
#include "common/roots/tally.h"

#define LEAD_NOBODY (-1)

// What a standby has of the log that it takes: all blocks up to this place, synced.
struct lead_word {
    uint64_t link; // that they came by, 0 = none
    uint64_t epoch;
    struct journal_place place;
};

// Whether a leader sequences writes.
enum lead_gate {
    LEAD_GATE_OPEN,
    LEAD_GATE_WAIT, // they wait in the queue
    LEAD_GATE_SHUT, // they are refused, nothing was done
};

// How far the writer is with what a council ordered.
struct lead_report {
    uint64_t marked;    // the last instance_mark that it has come to
    struct log_end end; // of the synced journal, at that mark or later
};

struct lead {
    struct instance *instance;
    struct members members;
    struct commit *commit;
    struct commit_record found; // in its file, at the start
    struct promise promise;     // likewise, for the council
    bool council;               // somebody else says what is committed of its own log
    struct tally tally;         // of a leader
    struct tail tail;
    _Atomic uint64_t epoch;  // led, or stood by in
    _Atomic int leader;      // the number of that root, or LEAD_NOBODY
    _Atomic int serves;      // that root may take this one's log as long as nobody leads, or nobody
    _Atomic int gate;        // enum lead_gate
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
    _Atomic uint64_t opened_ns; // when it began to lead
    _Atomic uint64_t heard_ns[ROOTS_MAX]; // when each said last that it takes this epoch's log
    _Atomic uint64_t takers[ROOTS_MAX]; // counts the links by which a root takes this one's log
    _Atomic uint64_t forgotten[ROOTS_MAX]; // links up to this one are of an earlier disk of it
    uint8_t joins[HISTORY_ID_BYTES]; // instance->lock: the history that is promised, on the disk
    struct lead_word word;   // instance->lock
    struct lead_report report; // instance->lock
    struct notice *changed;  // instance->lock: raised when the word is another, or whom it follows
    struct notice *observer; // instance->lock: raised when an end or the commit has moved
};

// ---- life; instance.c and writer.c -------------------------------------------------------------

// Before the journal is opened. `council`: of instance_setup. ERR_CONFIG (`roots`), ERR_CORRUPT,
// ERR_IO.
int lead_open(struct instance *instance, bool council) MUST_CHECK;
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
// The journal is to begin anew behind a block of a later epoch: what is not known to be committed
// is set aside and cut. ERR_DISK_FULL; any other error has stopped the instance.
int lead_leave_tail(struct lead *lead) MUST_CHECK;
// ... behind a block of another history, whose birth that is (size 0: not known): what that history
// lacks of this one is set aside, also what is committed of it. ERR_DISK_FULL, ERR_IO.
int lead_leave_history(struct lead *lead, const struct birth *birth) MUST_CHECK;
// The journal begins anew behind a block, which is committed as all that others give for it is.
void lead_restarted(struct lead *lead, const struct block_header *before);
// Says where the synced journal ends: everything appended is, unless the sync has failed. True:
// that is elsewhere than before. The writer's, and at the start.
bool lead_tell_end(struct lead *lead);
// From here on it takes the log of root `leader` in this epoch, or of nobody; its own number: nor
// does it lead yet.
void lead_follow(struct lead *lead, uint64_t epoch, int leader, int serves);
// It leads, as instance_lead says.
void lead_begin(struct lead *lead, uint64_t epoch, uint32_t counted);
// All up to block `number` of the tail is committed.
void lead_commit(struct lead *lead, uint64_t number);
// A name in the directory `set-aside`, which is made; to be freed, NULL on failure. ERR_DISK_FULL,
// ERR_IO.
int lead_aside_path(const struct lead *lead, const struct block_header *first,
                    char **ret_path) MUST_CHECK;
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
// It has promised root `root`, which does not lead yet: nobody's log is taken, but that root may
// take over this one's.
void instance_promise(struct instance *instance, uint64_t epoch, int root);
// It is empty: it begins `history` by a birth block of this epoch, and leads then. Where it has
// that history already it only leads.
void instance_found(struct instance *instance, const uint8_t history[HISTORY_ID_BYTES],
                    uint64_t epoch, uint32_t counted);
// A person has accepted a loss: its history ends where it knows it to be committed, and `history`
// goes on from there with all the rest of its log, committed from the first (docs/commit.md, R15);
// then it leads. Where it has that history already it only leads. Nothing happens when that cannot
// be done now; it may be ordered again.
void instance_fork(struct instance *instance, const uint8_t history[HISTORY_ID_BYTES],
                   uint64_t epoch);
// It has promised to follow in this history, on the disk: its log may become that one's.
void instance_join(struct instance *instance, const uint8_t history[HISTORY_ID_BYTES]);
void instance_gate(struct instance *instance, enum lead_gate gate);
// Once all that was ordered before has been done the report says `number`, and the observer is
// told: from then on the journal takes no block of a leader that is followed no more.
void instance_mark(struct instance *instance, uint64_t number);
struct lead_report lead_look(struct lead *lead);
// At the leader, where a council decides: its log is committed up to block `number`.
void instance_committed(struct instance *instance, uint64_t number);
// At the leader, where none does: the set is another one (R9, R10 say when that may be told).
void instance_count(struct instance *instance, uint32_t counted);
// Root `root` takes this one's log by a new link: what it acknowledged by the one before does not
// count, for it may have lost its disk between them. Returns the number of the link.
uint64_t instance_taken(struct instance *instance, unsigned root);
// Root `root` has lost its disk: what it says by the links that it has does not count any more, and
// they end.
void instance_forget(struct instance *instance, unsigned root);
// At the leader: a root has all blocks of this epoch's log up to `number`, whose chain is `chain`,
// as it says by that link.
void instance_acknowledged(struct instance *instance, unsigned root, uint64_t taker, uint64_t epoch,
                           uint64_t number, struct hash128 chain);
// At a standby: whoever is at the other end of link number `link` leads in `epoch`, and has
// committed its log up to block `number`. Its log is the one here up to `shared` where that chain
// is here still, or else to what is committed.
void instance_told(struct instance *instance, uint64_t link, uint64_t epoch, uint64_t number,
                   const struct journal_place *shared);

// Is `view` new enough to sequence on, and the gate open? A leader first shows what it found.
bool lead_ready(const struct lead *lead, const struct view *view);
// What the next block says beside its content.
struct block_stamp instance_stamp(const struct instance *instance);
unsigned lead_least(const struct lead *lead); // in_sync_min, whether it is given or not
// May its log become that of `history`? With a council only once that is promised (R16).
bool lead_may_join(const struct instance *instance, const uint8_t history[HISTORY_ID_BYTES]);
// The end of the synced journal, and its epoch. Writer's thread.
const struct block_header *lead_end(const struct lead *lead);
struct journal_place lead_known(const struct lead *lead); // committed
struct lead_word lead_say(struct lead *lead);
// May root `root` take this one's log beyond what is committed, now? From the leader each may, from
// another one only whom that one has promised to follow: who compares its log cuts its own.
bool lead_serves(const struct lead *lead, unsigned root);
// At the leader: the last block of this epoch's log that a root has acknowledged, 0 = none yet.
uint64_t lead_acknowledged(const struct lead *lead, unsigned root);
bool lead_forgot(const struct lead *lead, unsigned root, uint64_t taker); // is it such a link?
// At the leader: a root says, by a link of this epoch, that it takes the log.
void lead_heard(struct lead *lead, unsigned root, uint64_t now_ns);
// At the leader: for how long another one may lead without its knowledge. Whoever takes over needs
// promises of so many that in_sync_min roots, this one among them, cannot be following this one
// then; as long as those have spoken within `silence` it is 0. It is too low by that at most.
uint64_t lead_doubt_ns(const struct lead *lead, uint64_t now_ns);
void lead_observe(struct instance *instance, struct notice *changed); // NULL: no more
// "root" for the only one, "leader", "standby", else the role.
const char *instance_part(const struct instance *instance);

#endif

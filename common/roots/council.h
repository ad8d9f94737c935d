// SPDX-License-Identifier: Apache-2.0
// The rules of docs/commit.md for one root of one instance, R1 to R18, as a machine without input,
// output, clock, thread or memory of its own: facts go in by the functions below, what is to be
// done comes out of council_next. Whoever owns it lets one thread in at a time, and after each fact
// does what is due.
//
// An action that is due is a bit, at most one of each kind and root, and is filled in from the
// state of the moment when it is taken: nothing can queue up, and what was overtaken is never done.
// Facts may come late, twice or never, as messages do; whoever reads from a connection may pass on
// whatever it says.
//
// Invariants: no acknowledgement, promise or claim is due before the promise it rests on is on the
// disk; `committed` never falls; a cut is never due at or below it.
#ifndef QS_COMMON_ROOTS_COUNCIL_H
#define QS_COMMON_ROOTS_COUNCIL_H

#include "common/roots/promise.h"
#include "common/roots/root_record.h"

enum council_role { COUNCIL_STANDBY, COUNCIL_TRYING, COUNCIL_ELECTED, COUNCIL_LEADING };

// Whether writes may be sequenced, and if not, why.
enum council_writes {
    COUNCIL_WRITES_TAKEN,
    COUNCIL_WRITES_ELSEWHERE, // this root does not lead
    COUNCIL_WRITES_OPENING,   // its epoch block is not committed yet
    COUNCIL_WRITES_SMALL,     // fewer than in_sync_min roots have what is committed
    COUNCIL_WRITES_HANDING,   // it is handing over
};

enum council_act {
    COUNCIL_STOP,        // the instance takes nothing more: `text`
    COUNCIL_ROLE,        // `role`, `writes`, `leadership`
    COUNCIL_FOLLOW,      // take blocks of `leadership` only (ROOT_NOBODY: none); council_common.
                         // `root` has the promise, and may take over this one's log
    COUNCIL_PROMISE,     // make `promise` durable; then council_promised
    COUNCIL_READ,        // read the record in consistent mode; council_record with `ticket`
    COUNCIL_CHANGE,      // write `record` if its ModifyIndex is `modify_index` (0: if there is
                         // none); then council_changed with `ticket`
    COUNCIL_CUT,         // set aside and cut from `block` on; then council_journal, council_cut
    COUNCIL_FETCH,       // take over the log of `root` up to `end`; council_common first
    COUNCIL_OPEN,        // append the epoch block of `leadership`, or with `birth` the birth
                         // block of promise.history in it, or with `forks` make that history go
                         // on from the log that is here; then council_opened
    COUNCIL_COUNTED,     // `set`: whom a block waits for
    COUNCIL_COMMIT,      // all up to `block` is committed
    COUNCIL_ACKNOWLEDGE, // to `root`: `leadership`, `end`
    COUNCIL_ANSWER,      // to `root`: `granted`, `promise`, `end`
    COUNCIL_CLAIM,       // to `root`: `leadership`
    COUNCIL_LEAD,        // to `root`: `leadership`, committed up to `block`,
                         // promise.generation, `member`
    COUNCIL_ASK,         // to `root`, which leads: hand over to this one
    COUNCIL_GO,          // to `root`, the heir: `leadership` ends, try
    COUNCIL_ACTS,
};

struct council_action {
    enum council_act act;
    unsigned root;
    struct leadership leadership;
    struct promise promise;
    struct root_record record;
    uint64_t modify_index, ticket;
    struct log_end end;
    uint64_t block;
    uint32_t set;
    bool granted, member, birth, forks;
    enum council_role role;
    enum council_writes writes;
    const char *text; // static memory
};

struct council_setup {
    unsigned roots, self;
    unsigned in_sync_min, promote_min;
    // The promise is of a history that the log is not of: it was about to fork into it (R15), where
    // it had promised itself, or to take it over (R16). Then `log` is that of the log.
    bool leaves;
    uint8_t log[HISTORY_ID_BYTES];
    uint64_t ticket; // the last that was given out here before: its answer may come yet
};

// All fields are private; council_private.h tells of them.
struct council {
    struct council_setup setup;
    enum council_role role;
    struct leadership mine; // of this try, while the role is not standby

    struct promise promised; // on the disk
    struct promise wanted;   // what shall be there
    struct promise writing;  // on its way
    bool is_writing;
    struct leadership claimed[ROOTS_MAX];
    uint64_t told_epoch; // the highest of a promise that refused a claim

    struct log_end end; // of the synced journal
    uint64_t appended;  // its last block, synced or not
    uint64_t committed;

    struct root_record record; // as it was read last, or written
    bool record_present, record_known; // known: modify_index is its own
    uint64_t modify_index, ticket;
    bool reading, fresh, read_again, looked;
    struct {
        struct root_record record;
        uint64_t modify_index, ticket;
        bool busy, sent, repeated;
    } request; // R11

    bool leader_gone;
    struct leadership gone; // whose leader that was
    bool go, forced, loss, founds; // tries that somebody asked for
    bool awaits;                   // who accepted a loss still waits for that to begin
    bool unable;                   // it could not lead
    uint8_t loss_history[HISTORY_ID_BYTES];
    bool leaves; // `wanted` is of a history that the log is not of yet, but of `former`
    uint8_t former[HISTORY_ID_BYTES];
    struct leadership other; // who said last that it leads in `other_history`; ROOT_NOBODY: none
    uint8_t other_history[HISTORY_ID_BYTES];
    const char *declined; // why what a person asked for has come to nothing; NULL: it has not

    uint32_t granted, blank; // of those that answered a claim
    struct log_end ends[ROOTS_MAX];
    unsigned donor; // whose log is taken over
    bool opening, birth;

    uint32_t counted, lagging, absent, members;
    uint64_t first; // the epoch block
    uint64_t acknowledged[ROOTS_MAX];
    unsigned heir;

    bool heard;  // it leads
    bool joined; // all blocks here are those of the promised leader
    bool cutting;
    struct leadership cut_for;
    uint64_t cut_from, told_block, leader_commit;

    enum council_role told_role;
    enum council_writes told_writes;
    struct leadership told_leadership;

    uint32_t due; // bits of council_act
    uint32_t due_answer, due_claim, due_lead; // sets
    const char *stopped;
};

// A root that starts is a standby (R13). `promise` is on the disk, `end` the end of the synced
// journal, blocks up to `committed` are known to be committed.
void council_open(struct council *council, const struct council_setup *setup,
                  const struct promise *promise, const struct log_end *end, uint64_t committed);

// Takes what is to be done next; false: nothing until another fact comes.
bool council_next(struct council *council, struct council_action *ret_action) MUST_CHECK;

// ---- facts -------------------------------------------------------------------------------------

// Comes at an interval, for what must be asked again. `leader_gone`: the one that the record names,
// or that was promised, sends no heartbeat, and its health check is critical. `lagging`: roots that
// lag by standby_lag, or with which there is no connection.
void council_tick(struct council *council, bool leader_gone, uint32_t lagging);

// After each append, sync and cut of the own journal.
void council_journal(struct council *council, const struct log_end *synced, uint64_t appended);
// A blank root has taken over a history, or the log is now that of the history that was promised.
void council_history(struct council *council, const uint8_t history[HISTORY_ID_BYTES]);
void council_promised(struct council *council);
void council_cut(struct council *council);
void council_opened(struct council *council, struct leadership leadership, uint64_t block);

// The answer to COUNCIL_READ; `record` is NULL when there is none, with a `modify_index` of 0.
// Answers with an older ticket are passed over, here and below.
void council_record(struct council *council, uint64_t ticket, const struct root_record *record,
                    uint64_t modify_index);
void council_record_failed(struct council *council, uint64_t ticket);
void council_record_moved(struct council *council); // a watch has seen a change
// OK, ERR_CONFLICT (it was not written), anything else: nobody knows, and it may happen yet.
void council_changed(struct council *council, uint64_t ticket, int result);

// A connection with `root` begins: what was said on the one before does not count any more, as the
// root may have lost its disk between them.
void council_connected(struct council *council, unsigned root);

// Messages of other roots, as they came.
void council_on_claim(struct council *council, unsigned root, struct leadership leadership);
void council_on_answer(struct council *council, unsigned root, bool granted,
                       const struct promise *promise, const struct log_end *end);
void council_on_lead(struct council *council, unsigned root, struct leadership leadership,
                     uint64_t committed, uint64_t generation, bool member);
// The chain of `block` was found to be the own one's.
void council_on_acknowledge(struct council *council, unsigned root, struct leadership leadership,
                            uint64_t block);
void council_on_ask(struct council *council, unsigned root);
void council_on_go(struct council *council, unsigned root, struct leadership leadership);

// The last block that the own journal has in common, by chain, with the log of the leader that is
// followed, or of the root whose log is taken over. COUNCIL_CUT may be due before anything is
// appended.
void council_common(struct council *council, unsigned root, uint64_t block);
void council_fetch_failed(struct council *council, unsigned root);
// Its epoch block cannot be written, or can again: until then it stands by, and does not try.
void council_unable(struct council *council, bool unable);

// Whose heartbeats are awaited: of the leader that the record names, or that was promised.
unsigned council_awaited(const struct council *council);

// All other roots are empty, and so is this one, or it was the only one: if there is no record
// either, it makes one and leads, in this history. Nothing happens otherwise; it may be said again.
void council_found(struct council *council, const uint8_t history[HISTORY_ID_BYTES]);

// ---- a person ----------------------------------------------------------------------------------

// NULL, or why not, in static memory. `answers`: a leader sends its heartbeats.
const char *council_promote(struct council *council, bool answers);
void council_promote_expired(struct council *council); // at the leader: promote_wait is over
const char *council_accept_loss(struct council *council, bool answers,
                                const uint8_t history[HISTORY_ID_BYTES]);
void council_loss_expired(struct council *council); // it could not be begun in time

// ---- another history ---------------------------------------------------------------------------

// Root `root` says that it leads in `history`, which forked from that of the log here. Once a read
// of the record says so too it is promised, and nothing of the history here is acknowledged again.
void council_on_fork(struct council *council, unsigned root, struct leadership leadership,
                     const uint8_t history[HISTORY_ID_BYTES]);
// That of the messages that are said, and heard: the promise's, but for a root that gathers what
// the roots of the former one have.
const uint8_t *council_speaks_of(const struct council *council);

#endif

// SPDX-License-Identifier: Apache-2.0
// What the files of the child side share: follow.c (life: when to connect, the handshake), choice.c
// (which parent is next), scout.c (how near and how new the others are, and whether to move there),
// intake.c (bytes to blocks to the writer, repairs), report.c (progress, heartbeats, judging),
// bootstrap.c (a snapshot where the log does not lead on). The rest of qs sees common/tree/tree.h.
// All on the instance's home loop, but for what `status` says.
#ifndef QS_COMMON_TREE_FOLLOW_H
#define QS_COMMON_TREE_FOLLOW_H

#include "common/base/log.h"
#include "common/io/address.h"
#include "common/tree/age_alarm.h"
#include "common/tree/ask.h"
#include "common/tree/bootstrap.h"
#include "common/tree/forward.h"
#include "common/tree/link.h"
#include "common/tree/parents.h"
#include "common/tree/scout.h"
#include "common/tree/stand.h"
#include "common/tree/tree.h"

enum follow_stage {
    FOLLOW_IDLE,     // waits for the retry timer, or for nothing
    FOLLOW_GREETING, // the link is open, the welcome has not come
    FOLLOW_STREAM,   // blocks arrive
    FOLLOW_LEAVING,  // the link is ending
};

// Bytes on their way to becoming a block.
struct intake {
    uint8_t head[BLOCK_HEADER_BYTES];
    size_t filled;
    uint8_t *memory; // header and payload, once the header has proved sound
    size_t size;
};

struct follow {
    struct instance *instance;
    struct loop *loop;
    struct parents parents;
    struct parent *at; // the parent in use, or that was; held. NULL before the first
    struct parent *next; // the oracle's choice for a move, held; NULL = none is under way
    bool same;         // the one in use is tried again before any other
    bool full;         // somebody was, in this round, and was not insisted on
    bool sent_on;      // the one in use was named by a full one
    bool insists;      // ... in the round before, and nobody that was named gave the log
    bool named;        // the one in use was full and named others, which are tried at once
    bool starving;     // the list is empty: nothing is tried before another one comes
    unsigned failures; // attempts since follow_flows
    bool too_old;      // a parent has said so since blocks last flowed
    uint64_t unmended; // a damaged block before what is to be replayed, which a parent lacks; or 0
    bool slow;         // a parent's answer will hardly change soon
    enum follow_stage stage;
    struct link link;
    struct timer retry;
    struct timer tick;
    bool tick_fast;
    struct notice room, repair, list;
    struct task start_task, close_task;
    struct notice *closed;
    bool closing;

    // Where the log of this node ends, counting what the writer has not appended yet.
    uint8_t history[HISTORY_ID_BYTES];
    bool has_history;
    struct block_header last;
    bool last_known;
    struct bootstrap bootstrap;
    struct scout scout;
    struct stand_taker stand; // of one of several roots
    struct intake stream, patch;
    uint64_t repair_ns; // when damaged blocks were asked for, or one of them came

    // What this link's parent has been told, and has told.
    struct message_progress told;
    uint64_t told_ns;
    uint64_t beat_sequence, beat_commit;
    uint64_t news;         // heartbeats that were new
    uint64_t started_ns;   // when its blocks began to flow
    uint64_t news_ns;      // when a new heartbeat last came
    uint64_t patience_ms;  // with its standing still, at first
    unsigned stale_rounds; // parents left since for bringing none
    struct lag {
        uint64_t block;    // of the newest heartbeat, whose blocks have not all come yet; 0 = none
        uint64_t begun_ns; // when it came, less what it waited at the parent
    } lag;
    struct said {      // to this parent, of this node itself
        uint64_t at_ns, report_ns; // 0 = nothing yet; when anything was reported last
        uint64_t state, flags, visible;
    } said;
    struct ask ask;
    struct forward_up forward;
    struct age_alarm age_alarm;
    struct beat judged;    // the newest heartbeat not compared yet; sequence 0 = none
    bool mismatch_logged;
    char before[NODE_NAME_MAX + 1]; // the parent that was followed last
    char lost[NODE_NAME_MAX + 1]; // ... and lost, "" = there were news since
    uint64_t lost_ns; // when that was
    char alarm[256];       // logged last; not again until something else happens

    struct upstream_status status; // under instance->lock
};

// follow.c
void follow_state(struct follow *follow, const char *format, ...) PRINTF_LIKE(2, 3);
// As follow_state, and in the log, once until the words change or blocks flow again.
void follow_alarm(struct follow *follow, enum log_level level, const char *format, ...)
    PRINTF_LIKE(3, 4);
// Ends the link with words; the next parent's turn comes, unless `same`.
void follow_leave(struct follow *follow, int error, bool same, const char *reason);
// Blocks came over this link, or it has lasted: a failure is the first one again.
void follow_flows(struct follow *follow);

// Says hello on a link that is connected, as one whose log ends at `last`: to be fed from there, or
// only to be told how things stand.
void follow_hello(struct follow *follow, struct link *link, enum hello_purpose purpose);
// Leaves the parent in use, which works, for a better one.
void follow_move(struct follow *follow, struct parent *next);
// Blocks flow from `node` from now on, or no more.
void follow_connected(struct follow *follow, bool connected, const char *node);

// follow_welcome.c
int follow_on_welcome(struct follow *follow, struct bytes payload) MUST_CHECK;

// choice.c
// The list in force is looked at. True: somebody is new.
bool choice_take_list(struct follow *follow);
// The link has ended: when, and with whom, it goes on.
void choice_wait(struct follow *follow);
// How long a connection may take to be welcomed: short at first, so that one that is silent does
// not keep this node from the next.
uint64_t choice_patience_ns(const struct follow *follow);
// Notes which of the others get their log from here, of all whose names are known.
void choice_look_below(struct follow *follow);
// Whom to connect to now: becomes the one in use. False: there is nobody.
bool choice_make(struct follow *follow);
// Whether who says so may have no news either.
bool choice_doubts(const struct follow *follow, const struct message_welcome *welcome);
// The parent in use named others. False: nobody new.
bool choice_named(struct follow *follow, struct bytes elsewhere);

// The journal begins anew at another place: the log is followed from there.
void follow_journal_restarted(struct follow *follow);
// Frees everything once it is closing, no link is left and nothing is on its way.
void follow_end_if_over(struct follow *follow);

// intake.c
int intake_raw(struct link *link, struct bytes data);
void intake_reset(struct follow *follow); // before a new link
void intake_check_room(struct follow *follow);
// Asks for the damaged blocks that the stream will not bring by itself; `again`: only if nothing of
// it has come for long.
void intake_repair(struct follow *follow, bool again);
// Blocks that were handed over were dropped by the writer: ask for them again.
bool intake_has_gap(const struct follow *follow);
// The place where the log of this node ends, from the journal.
void intake_locate(struct follow *follow);
int intake_on_bad_block(struct follow *follow, struct bytes payload);
// Whether the replay waits for damaged blocks that a parent could not give.
bool intake_is_stuck(struct follow *follow);

// report.c
void report_start(struct follow *follow); // blocks will flow
void report_stop(struct follow *follow);
void report_soon(struct follow *follow); // the indexes will change
int report_on_beat(struct follow *follow, struct bytes payload);

#endif

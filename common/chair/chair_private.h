// SPDX-License-Identifier: Apache-2.0
// What the files of the chair share: chair.c (its life, the facts, the turn), chair_time.c (what
// time tells), chair_act.c (what the council says is to be done). The owner's thread,
// but for `lock` and the mailbox.
#ifndef QS_COMMON_CHAIR_CHAIR_PRIVATE_H
#define QS_COMMON_CHAIR_CHAIR_PRIVATE_H

#include "common/chair/chair.h"
#include "common/roots/keeper.h"

#define CHAIR_UNABLE_MS 30000 // for so long a root whose epoch could not be begun does not try
#define CHAIR_LOOK_MS 200 // between two questions about the health of a leader that is silent

// What is known of another root.
struct seat {
    uint64_t number;   // of the link that it made last
    bool hears, talks; // this root's link to it is up; its own is
    bool empty;        // it has no journal, as it said when a link began
    bool foreign;      // it spoke last of another history
    bool greeted;      // it has said so or otherwise
    uint64_t up_ns;    // when its link began
    uint64_t lost_ns;  // ... and ended, or the chair began
    uint64_t heard_ns; // when it last claimed to lead, or said that it does
    uint64_t block, block_ns; // the end of the journal that it was to have by then
};

struct chair {
    struct chair_setup setup;
    struct instance *instance;
    const struct members *names;
    struct ties *ties;
    struct mailbox mailbox;
    struct notice moved; // of lead_observe
    struct notice asked; // a person wants it to lead
    struct notice loss;  // ... whatever is lost by that
    uint64_t loss_ns;    // until when that may begin; 0: nobody asked
    pthread_mutex_t lock; // the three below
    struct chair_status status;
    void (*wake)(void *owner); // NULL: it is not turned
    void *owner;
    struct council council;
    struct keeper keeper;
    char *service; // as which roots are registered
    bool stopped; // nothing is decided any more
    uint64_t now_ns, tick_ns, look_ns;
    struct seat seats[ROOTS_MAX];
    bool gone; // Consul says so of the leader that is silent
    unsigned gone_root;
    unsigned awaited; // who is to be heard, as the one that leads, ...
    uint64_t awaited_ns; // ... and since when
    uint64_t mark;                // of the newest order to the writer
    uint64_t marked; // where it was when the council was told the end of its journal
    struct leadership opening;    // it was ordered to open this one; ROOT_NOBODY: nothing
    uint64_t opening_ns;          // since when
    uint64_t unable_ns;           // until when it does not try, as it could not; 0: it may
    bool birth, forks;
    uint8_t founded[HISTORY_ID_BYTES]; // the history that this root would begin
    bool founds;                       // ... and it is there
    enum lead_gate gate;
    unsigned heir;           // who asked for a hand-over; ROOT_NOBODY
    bool heir_told;          // the council knows
    uint64_t heir_ns;        // until when it is waited for
    bool parts;              // the node is about to end
};

void chair_hear(struct task *fact);      // a tie_fact
bool chair_settled(const struct chair *chair); // the writer has done what was ordered
void chair_mark(struct chair *chair);    // after orders, which are waited for
void chair_act(struct chair *chair);     // does what is due
void chair_gate(struct chair *chair);    // opens or shuts it, as the council says
void chair_open_epoch(struct chair *chair);
// chair_time.c
void chair_tick(struct chair *chair);           // at heartbeats
void chair_note_awaited(struct chair *chair);   // who is to be heard may be another one
void chair_watch_leader(struct chair *chair);   // asks Consul of one that is silent
void chair_end_hand_over(struct chair *chair);  // once it is over, or has lasted too long
// While this process stood still for `ns` it heard nobody: that was no silence of others.
void chair_forgive(struct chair *chair, uint64_t ns);
bool chair_is_silent(const struct chair *chair, unsigned leader);
bool chair_is_gone(struct chair *chair); // whoever leads, as the record says; R1
void chair_end_loss(struct chair *chair); // it was not begun in time
const char *chair_writes_text(enum council_writes writes);

#endif

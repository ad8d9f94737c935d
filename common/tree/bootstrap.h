// SPDX-License-Identifier: Apache-2.0
// Fetching a snapshot, where the log alone does not lead on: a link to one of the parents that asks
// for slices one after another and hands them to the store under construction
// (common/core/build.h), which alone knows how far it is. So whatever ends the link, the next one
// asks where to go on, here or at another parent (common/tree/donors.h says at which). Once the
// first slice is on disk, and only if no parent has the log that would join, the journal is begun
// anew there, and the log is followed while slices still come.
//
// Part of a follower: on its loop, like everything of it.
#ifndef QS_COMMON_TREE_BOOTSTRAP_H
#define QS_COMMON_TREE_BOOTSTRAP_H

#include "common/core/build.h"
#include "common/tree/donors.h"
#include "common/tree/link.h"

struct follow;

enum bootstrap_stage {
    BOOTSTRAP_IDLE,     // no link
    BOOTSTRAP_GREETING, // the link is open, the welcome has not come
    BOOTSTRAP_STREAM,   // slices are asked for
    BOOTSTRAP_LEAVING,  // the link is ending
};

struct bootstrap {
    enum bootstrap_stage stage;
    struct link link;
    struct timer timer;
    struct donors donors;
    unsigned given_up; // builds that have come to nothing, as the order's answer told last
    bool journal_lost; // no parent's log leads on from this journal: trimmed, forked, or damaged
    struct birth birth; // of the history to change into, which forked from this node's; or size 0
    bool told;         // the state words are of this
    bool ordered;      // `order` or `restart` is out
    struct build_order order; // the last answer stays: where the build stands
    struct restart_order restart;
    struct buf payload; // of the slice that is being added
    uint8_t from[KEY_BYTES_MAX];
    size_t from_size;
    uint64_t asked; // id of the request under way, 0 = none
    uint64_t asked_least; // no slice is taken that was read at an earlier block
    uint8_t history[HISTORY_ID_BYTES]; // ... or of another history than the welcome was
    uint64_t asked_last;
};

void bootstrap_open(struct follow *follow);
// Looks whether a store is to be built, and begins or goes on. Does nothing while it is at it.
void bootstrap_look(struct follow *follow);
// No parent has the log that would lead on.
void bootstrap_journal_lost(struct follow *follow);
// A parent has it: neither that nor another history is looked for any more.
void bootstrap_resumed(struct follow *follow);
// A parent's history forked from this node's: its data is to be replaced by the parent's.
void bootstrap_fork(struct follow *follow, const struct birth *birth);
// When the follower closes: ends the link. Then bootstrap_over tells when nothing is under way.
void bootstrap_close(struct follow *follow);
bool bootstrap_over(const struct follow *follow);

#endif

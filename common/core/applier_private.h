// SPDX-License-Identifier: Apache-2.0
// What applier.c (blocks into the store, views) and replay.c (catching up from the journal,
// changing to another store) share. All of it belongs to the applier's thread.
#ifndef QS_COMMON_CORE_APPLIER_PRIVATE_H
#define QS_COMMON_CORE_APPLIER_PRIVATE_H

#include "common/base/log.h"
#include "common/core/applier.h"
#include "common/core/attempt.h"
#include "common/core/pause.h"

#define APPLIER_RETRY_NS NS_PER_S

struct applier {
    struct instance *instance;
    struct state state;          // of the newest store write
    struct list blocks;          // struct handed, in order
    struct task again;           // the next of them
    bool coming_back;            // `again` is posted
    struct store_batch *batch;
    struct front front;
    bool front_loaded;
    struct journal_cursor cursor; // replay
    uint64_t replay_until;
    bool replaying;
    uint64_t synced_block;       // the last one known to be synced
    bool frozen;                 // the journal does not lead on from `state`: blocks pass by
    uint64_t hold_block;         // of the first replay: stop before it; UINT64_MAX = none
    struct attempt attempt;      // likewise
    struct pause pause;
    bool limited;                // it was said that applying waits at apply_limit
    struct notice wake;
    bool unserved;               // frozen from the start: what it has is to be shown once
    bool told_unserved;
    bool damaged;                // the journal goes on behind a damage: replay waits for the repair
    bool republish;              // fills are to be shown
    uint64_t unflushed_bytes;    // raw bytes applied since the persisted state was seen to move
    uint64_t unchecked_bytes;    // ... since it was looked at
    uint64_t flushed_block;
    uint64_t idle_ns; // when the last idle work was done
    struct log_gate full_gate;
};

// Publishes a view of the store as it is.
void applier_publish(struct applier *applier);
// Shows what the newest view does not, as far as that does not take it back.
void applier_catch_up(struct applier *applier);
// Whether more was, or may have been, shown than there is: a store that was taken into use first
// comes to where the one before it was.
bool applier_would_go_back(const struct applier *applier);
// Posts every waiter that the view just published is what it waits for.
void applier_wake(struct instance *instance);
// May this block be applied? What may not waits in the queue, which is bounded, or in the journal.
bool applier_limited(struct applier *applier, const struct block_header *header);
// True when the block is applied; false when it must be tried again later, or passes by a store
// that is frozen now, or the instance has stopped.
bool applier_try(struct applier *applier, const struct block *block);
// The replay has come to nothing. An earlier run may have shown what lies behind it, so nothing is
// shown until another store is built; says so, once.
void applier_say_unserved(struct applier *applier);
// Lets all blocks in the queue pass by.
void applier_pass_all(struct applier *applier);

// Some of the replay; returns when it wants its next turn.
uint64_t replay_turn(struct applier *applier);
// A start that came to nothing left the mark: the journal has gone from which this store could have
// been brought to what was shown.
bool replay_is_behind(const struct instance *instance);
// Shows what there is, and ends the replay.
void replay_serve(struct applier *applier);

#endif

// SPDX-License-Identifier: Apache-2.0
// The applier of an instance: the thread that owns the store and publishes views
// (common/core/instance.h has the picture). Used by instance.c, writer.c and walk.c only.
#ifndef QS_COMMON_CORE_APPLIER_H
#define QS_COMMON_CORE_APPLIER_H

#include "common/core/instance.h"
#include "common/core/state.h"

// Starts the thread, which first replays the journal from `state` (where the store stands) to
// `until` (number of the last recovered block) and then publishes the first view.
// Not `fits`: the journal does not lead on from that state; the store is frozen.
int applier_open(struct instance *instance, const struct state *state, uint64_t until,
                 bool fits) MUST_CHECK;
void applier_close(struct instance *instance); // applies what was handed over first

// Writer thread: hands over a synced block (one reference is taken over).
void applier_hand(struct instance *instance, struct block *block);
// Writer thread: a damaged journal was mended; replay may go on to block `until`.
void applier_mended(struct instance *instance, uint64_t until);
// Writer thread: the journal was begun anew behind block `number`.
void applier_restarted(struct instance *instance, uint64_t number);

// Writer thread: a history is about to fork behind block `number`, the last one that was handed
// over, so the journal before it will go. `then` is posted to the writer with `error`: OK, the
// store stands there, on disk for certain; ERR_BUSY, not yet; ERR_DISK_FULL, ERR_IO. The order
// lives until then.
struct rest_order {
    struct task task; // replay.c's own
    struct instance *instance;
    uint64_t number;
    struct task then;
    int error;
};
void applier_rest(struct rest_order *order);

// The rest is for build.c, on the applier's thread. The store in use takes no more blocks until
// another one takes its place, and what it shows is on disk: its journal may go. ERR_BUSY: it is
// catching up from that journal, ask again; ERR_DISK_FULL, ERR_IO.
int applier_freeze(struct instance *instance) MUST_CHECK;
// Number of the last block that is known to be synced.
uint64_t applier_synced(const struct instance *instance);
// The history of the store in use; zeroes when it is empty.
const uint8_t *applier_history(const struct instance *instance);
// Is `history` another one than that of the store in use?
bool applier_is_fork(const struct instance *instance, const uint8_t history[HISTORY_ID_BYTES]);
// Takes another store into use, which stands at `state` on disk for certain and in the shelf. It is
// shown once it has reached what was shown before; the store before goes with its last view.
void applier_replace(struct instance *instance, struct volume *volume, const struct state *state);

// Applier thread: where the store stands, and the front filter.
const struct state *applier_state(const struct instance *instance);
struct front *applier_front(struct instance *instance);

#endif

// SPDX-License-Identifier: Apache-2.0
// What readers see: one state of an instance, immutable, shared by reference count and published
// through one pointer by the applier. A command pins the view when it starts and is answered from
// it alone. Any thread.
#ifndef QS_COMMON_CORE_VIEW_H
#define QS_COMMON_CORE_VIEW_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/core/front.h"
#include "common/core/volume.h"
#include "common/data/digest.h"
#include "common/data/journal.h"
#include "common/data/store.h"

struct view {
    _Atomic unsigned references;
    struct volume *volume; // held: keeps the store open; NULL where something else does
    struct store *store;
    struct store_snapshot *snapshot;
    struct journal_place place; // place.index is the visible index
    uint8_t history[HISTORY_ID_BYTES]; // 0 before the first block; the journal's may be ahead
    uint64_t epoch;
    struct digest digest;
    struct front_generation *front; // asked before the store; NULL: none knows this view
    struct board *board;    // what other processes see of it; NULL: nothing
    uint64_t history_floor; // replica: reads and fetches below it are gone
    uint64_t window_floor;  // proxy: newer values are held, but for those above keep_bytes
    uint64_t published_ns;
    unsigned forks; // views_forks when it was published
};

struct views {
    pthread_mutex_t lock;
    struct view *current; // NULL until the first is published
    _Atomic unsigned forks;
};

void views_open(struct views *views);
void views_close(struct views *views); // releases the current one

// Publishes `view` (one reference is taken over). Within one history the visible index never goes
// back.
void views_publish(struct views *views, struct view *view);
// How often what is shown became that of another history: a view's own number tells whether two
// views are of one. Any thread.
unsigned views_forks(const struct views *views);

// The current view, with a reference for the caller; NULL before the first.
struct view *views_pin(struct views *views) MUST_CHECK;
struct view *view_hold(struct view *view);
void view_release(struct view *view); // NULL is allowed; the last one frees the snapshot

#endif

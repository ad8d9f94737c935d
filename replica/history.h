// SPDX-License-Identifier: Apache-2.0
// How far back a replica's history reaches: the floor, the least index as of which it answers. A
// window (common/core/window.h) over what was applied within `history` says how far it may rise;
// history_bytes may make it rise sooner. A history row (replica/mvcc.h) may go iff its valid_until
// is below the floor. What goes when is replica/collect.h's business.
//
// The floor rises in this order, and each step waits for the one before:
//   written to its file and synced -> instance->history_floor, which every reader compares with
//   after it read a history row -> a view that shows it -> the filter of compactions.
// So nothing is missing that anybody could still take for an absence, across restarts too.
#ifndef QS_REPLICA_HISTORY_H
#define QS_REPLICA_HISTORY_H

#include "common/base/log.h"
#include "common/core/instance.h"
#include "common/core/window.h"

struct history {
    struct instance *instance;
    struct store_filter filter;
    _Atomic uint64_t filter_floor; // rows below it may go
    pthread_mutex_t lock;          // guards what follows up to `added`, and filter_floor's changes
    struct window window;          // its "bytes" are history rows
    bool begun;
    unsigned restarts; // what was read of the window before one is void
    uint64_t written;  // the floor in the file
    uint64_t added;                // history rows put since the start
    uint64_t next_ns;              // walker: when the floor may rise again
    struct notice shown;           // asks the applier for a view with the new floor
    bool shown_ready;
    struct log_gate cut_gate;
};

// What a moment's history looks like.
struct history_size {
    uint64_t floor;
    uint64_t visible;
    uint64_t rows;  // in (floor, visible], as far as this process knows
    uint64_t added; // ever, by this process
};

// Before the store is opened: finds the floor on disk, for instance->history_floor. A store without
// a sound floor file has lost its history, which is logged. ERR_IO, ERR_DISK_FULL.
int history_open(struct history *history, struct instance *instance) MUST_CHECK;
void history_close(struct history *history);

// Applier: the store was replaced by one that has no history yet. Where that is of a history with
// lower indexes, instance->history_floor is lower now, and nothing was written above it.
void history_restart(struct history *history);

// Applier: a view of `visible` was published, whose last block put `rows` history rows. Also at
// idle intervals.
void history_applied(struct history *history, uint64_t visible, uint64_t rows);

// Walker: lets compactions collect up to the floor that a view shows by now, and raises it as age
// allows, not more often than it matters. False: there is no view yet, or the file could not be
// written.
bool history_age(struct history *history) MUST_CHECK;
// Walker: false while a floor is on its way to the filter.
bool history_shown(const struct history *history);
// Walker: raises the floor by `share` / 1024 of what there is, at least by one index, because the
// history is too large. False: there is nothing to give up, or the file could not be written.
bool history_cut(struct history *history, uint64_t share) MUST_CHECK;
// How long history_age has nothing to do.
uint64_t history_pause_ns(const struct history *history);

void history_size(struct history *history, struct history_size *ret_size);
// In these files of the mvcc family, collected ones too.
uint64_t history_rows(const struct store_files *files);

#endif

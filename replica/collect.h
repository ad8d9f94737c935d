// SPDX-License-Identifier: Apache-2.0
// Collecting history: the hand that makes compactions look at rows below the floor where nothing
// is written any more, so that the disk stays bounded on an idle database too. It counts: rows in
// the files, less those known to be above the floor, are to be collected. Once that is a quarter
// of all (or history_bytes is exceeded) it sweeps: goes through the family in key order, one
// bottom file's stretch at a time, resting between. So history takes at most 4/3 of its worth on
// disk, beside what is under way and a small minimum, and collecting a row costs at most the
// writing of four. What a whole sweep did not collect was no garbage: it is not counted again.
// The walker's.
#ifndef QS_REPLICA_COLLECT_H
#define QS_REPLICA_COLLECT_H

#include "replica/history.h"

struct collector {
    struct history *history;
    bool sweeping;
    uint64_t floor;    // of the sweep under way, or of the last whole one
    uint64_t rows;     // above the floor when it began
    uint64_t added;    // history_size's, then
    uint64_t kept;     // rows in files that are not known of, and yet no garbage
    bool overfull;     // the last whole sweep has left more than history_bytes
    struct buf place;  // where the sweep goes on; empty = at the beginning
    struct log_gate error_gate;
};

void collector_open(struct collector *collector, struct history *history);
void collector_close(struct collector *collector);

// One step, at most one compaction. Returns after how many nanoseconds the next is wanted.
uint64_t collector_step(struct collector *collector);

#endif

// SPDX-License-Identifier: Apache-2.0
// What a leader counts: which roots must have a block before it is committed, and how far each has
// acknowledged the log of this epoch (docs/commit.md, R5). Pure; one thread at a time.
#ifndef QS_COMMON_ROOTS_TALLY_H
#define QS_COMMON_ROOTS_TALLY_H

#include "common/roots/members.h"

struct tally {
    uint64_t epoch;
    uint64_t opened;  // number of the epoch's first block; 0 = nothing is counted
    unsigned least;   // in_sync_min
    uint32_t counted; // set
    uint64_t acknowledged[ROOTS_MAX];
};

// What `in_sync_min` and `promote_min` are where they are not given (0).
unsigned tally_in_sync_min(unsigned roots);
unsigned tally_promote_min(unsigned roots, unsigned in_sync_min);

// A leadership begins: nobody has acknowledged anything in it.
void tally_begin(struct tally *tally, uint64_t epoch, uint64_t opened, unsigned least,
                 uint32_t counted);
void tally_end(struct tally *tally);
void tally_count(struct tally *tally, uint32_t counted);
// Root number `root` has all blocks up to this one of the epoch's log, synced.
void tally_acknowledge(struct tally *tally, unsigned root, uint64_t block);
// The highest block that is committed by that, 0 = none of this epoch. It may fall when somebody
// is added; what was committed before stays so.
uint64_t tally_committed(const struct tally *tally);

#endif

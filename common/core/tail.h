// SPDX-License-Identifier: Apache-2.0
// The blocks of a root's journal that are not known to be committed, in memory until they are: the
// applier gets them then. All of them are synced; they are the journal's last ones, without a gap.
// Bounded: a leader writes no more while they fill `apply_queue`, a standby has what it sent.
// Writer's thread.
#ifndef QS_COMMON_CORE_TAIL_H
#define QS_COMMON_CORE_TAIL_H

#include "common/data/block.h"

// Zero-initialised = empty.
struct tail {
    struct block **blocks; // [first, first + count)
    size_t first, count, capacity;
    uint64_t bytes;
};

void tail_close(struct tail *tail);
// Takes the reference over.
void tail_add(struct tail *tail, struct block *block);
// NULL: it is none of them.
const struct block *tail_find(const struct tail *tail, uint64_t number);
// The first of them, if its number is `last` at most, with its reference; else NULL.
struct block *tail_take(struct tail *tail, uint64_t last);
// Forgets those from block `number` on. Returns how many they were.
size_t tail_drop(struct tail *tail, uint64_t number);

#endif

// SPDX-License-Identifier: Apache-2.0
// What all that decides between several roots of one instance speaks of (docs/commit.md): roots by
// number, sets of them, leaderships, ends of logs. Any thread.
//
// A root's number is its place in the configured `roots`, at most ROOTS_MAX of them. A set
// is a mask of ROOT_BITs. On disks, in the record and between nodes stand names, never numbers.
#ifndef QS_COMMON_ROOTS_ROOTS_H
#define QS_COMMON_ROOTS_ROOTS_H

#include "common/base/hash.h"
#include "common/data/block.h"
#include "common/roots/members.h"

// No root, or one that `roots` does not name any more.
#define ROOT_NOBODY ROOTS_MAX
// Numbers beyond are not believed, so that there is always a higher one.
#define EPOCH_MAX ((uint64_t)1 << 62)
#define ROOT_BIT(root) ((uint32_t)1 << (root))

// ROOT_NOBODY when there is none of that name.
static inline unsigned root_find(const struct members *names, const char *name)
{
    int found = members_find(names, bytes_text(name));
    return found < 0 ? ROOT_NOBODY : (unsigned)found;
}

static inline unsigned set_size(uint32_t set) { return (unsigned)__builtin_popcount(set); }
static inline uint32_t set_all(unsigned roots) { return ROOT_BIT(roots) - 1; }
static inline bool set_has(uint32_t set, unsigned root) { return (set & ROOT_BIT(root)) != 0; }

// One try of one root to lead, in one life of its process.
struct leadership {
    uint64_t epoch;
    unsigned leader;
};

static inline bool leadership_equal(struct leadership a, struct leadership b)
{
    return a.epoch == b.epoch && a.leader == b.leader;
}

// R6: may a root that promised `promised` follow `other`? An epoch number alone does not name one:
// two roots may have been given the same by a store that lost its data.
static inline bool leadership_follows(struct leadership other, struct leadership promised)
{
    return other.epoch > promised.epoch || leadership_equal(other, promised);
}

// Where a log ends: its last block and that one's epoch, index and chain.
struct log_end {
    uint64_t epoch;
    uint64_t block;
    uint64_t index;
    struct hash128 chain;
};

// R4: of the higher last epoch, then of the higher block number. In one epoch one root writes, so
// of two logs that end in it one begins with the other.
static inline bool log_end_better(const struct log_end *a, const struct log_end *b)
{
    return a->epoch != b->epoch ? a->epoch > b->epoch : a->block > b->block;
}

#endif

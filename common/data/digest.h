// SPDX-License-Identifier: Apache-2.0
// The running digest of a database: sum modulo 2^128 of XXH3-128(version u64, key) over all keys,
// seeded with the algorithm's number, and the number of keys. Both follow from the log alone, so
// every node can be judged by them.
#ifndef QS_COMMON_DATA_DIGEST_H
#define QS_COMMON_DATA_DIGEST_H

#include "common/data/block.h"

#define DIGEST_ALGORITHM 1

struct digest {
    struct hash128 sum;
    uint64_t keys;
};

void digest_add(struct digest *digest, uint64_t version, struct bytes key);    // a key appears
void digest_remove(struct digest *digest, uint64_t version, struct bytes key); // ... disappears

// The digest of two disjoint sets of keys together.
void digest_join(struct digest *digest, const struct digest *other);

static inline bool digest_equal(const struct digest *a, const struct digest *b)
{
    return a->keys == b->keys && hash128_equal(a->sum, b->sum);
}

// What an entry of the log does to the digest.
void digest_entry(struct digest *digest, const struct entry *entry);

#endif

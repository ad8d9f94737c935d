// SPDX-License-Identifier: Apache-2.0
// A blocked Bloom filter: every key has its eight bits in one line of 512, so a probe touches one
// cache line (Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom Filters, 2007).
// At 16 bits a key one absent key in about 1,100 looks present; a key that was added is always
// found. Bits are only ever set.
//
// It is a view of memory that somebody else owns: `count` lines, zeroed, aligned to 64 bytes, the
// same in any process and on disk. Any thread may add and probe at once; an added key is certain to
// be found by whoever synchronised with the adder, by whatever means.
#ifndef QS_COMMON_BASE_BLOOM_H
#define QS_COMMON_BASE_BLOOM_H

#include <stdatomic.h>

#include "common/base/hash.h"

#define BLOOM_LINE_BYTES 64

struct bloom_line {
    _Alignas(BLOOM_LINE_BYTES) _Atomic uint64_t words[BLOOM_LINE_BYTES / 8];
};

struct bloom {
    struct bloom_line *lines;
    uint64_t count; // 1 .. 2^32
};

void bloom_add(const struct bloom *bloom, struct bytes key);
bool bloom_maybe(const struct bloom *bloom, struct bytes key); // false: it was never added

// The same of a key whose hash128(key, 0) is known, and a look that will come.
bool bloom_maybe_hash(const struct bloom *bloom, struct hash128 hash);
void bloom_prefetch(const struct bloom *bloom, struct hash128 hash);

#endif

// SPDX-License-Identifier: Apache-2.0
// xxHash (XXH3) as qs uses it: 64-bit checks, 128-bit chains and digests.
#ifndef QS_COMMON_BASE_HASH_H
#define QS_COMMON_BASE_HASH_H

#include "common/base/bytes.h"

struct hash128 {
    uint64_t low;
    uint64_t high;
};

// On disk and on the wire: low then high, little-endian.
#define HASH128_BYTES 16

uint64_t hash64(struct bytes data, uint64_t seed);
struct hash128 hash128(struct bytes data, uint64_t seed);

// Streaming form, for what does not lie in one run.
struct hasher;
struct hasher *hasher_new(void) MUST_CHECK;
void hasher_free(struct hasher *hasher);
void hasher_reset(struct hasher *hasher);
void hasher_add(struct hasher *hasher, const void *data, size_t size);
struct hash128 hasher_result(const struct hasher *hasher);

static inline bool hash128_equal(struct hash128 a, struct hash128 b)
{
    return a.low == b.low && a.high == b.high;
}

void hash128_store(void *to, struct hash128 hash);
struct hash128 hash128_load(const void *from);

// 32 lower-case hexadecimal digits and a zero.
#define HASH128_TEXT_BYTES 33
void hash128_text(struct hash128 hash, char *to);

#endif

// SPDX-License-Identifier: Apache-2.0
#include "common/base/bloom.h"

#define PROBES 8
#define LINE_BITS (BLOOM_LINE_BYTES * 8)

// The line comes from the upper half of `low`, seven places in it from `high`, nine bits each, and
// the eighth from the end of `low`: no two of them share a bit of the hash.
static struct bloom_line *line_of(const struct bloom *bloom, struct hash128 hash)
{
    return &bloom->lines[((hash.low >> 32) * bloom->count) >> 32];
}

static unsigned place(struct hash128 hash, unsigned probe)
{
    return (probe == PROBES - 1 ? hash.low : hash.high >> (9 * probe)) % LINE_BITS;
}

void bloom_add(const struct bloom *bloom, struct bytes key)
{
    struct hash128 hash = hash128(key, 0);
    struct bloom_line *line = line_of(bloom, hash);
    for (unsigned probe = 0; probe < PROBES; probe++) {
        unsigned at = place(hash, probe);
        _Atomic uint64_t *word = &line->words[at / 64];
        uint64_t bit = (uint64_t)1 << (at % 64);
        // Most are there already where a key is added again; a locked instruction costs more.
        if ((atomic_load_explicit(word, memory_order_relaxed) & bit) == 0) {
            atomic_fetch_or_explicit(word, bit, memory_order_relaxed);
        }
    }
}

bool bloom_maybe(const struct bloom *bloom, struct bytes key)
{
    return bloom_maybe_hash(bloom, hash128(key, 0));
}

void bloom_prefetch(const struct bloom *bloom, struct hash128 hash)
{
    __builtin_prefetch(line_of(bloom, hash));
}

// All of them, also behind the first that is missing: which one that is nobody can foresee, and the
// processor would have to begin again after having waited for memory.
bool bloom_maybe_hash(const struct bloom *bloom, struct hash128 hash)
{
    const struct bloom_line *line = line_of(bloom, hash);
    uint64_t all = 1;
    for (unsigned probe = 0; probe < PROBES; probe++) {
        unsigned at = place(hash, probe);
        all &= atomic_load_explicit(&line->words[at / 64], memory_order_relaxed) >> (at % 64);
    }
    return (all & 1) != 0;
}

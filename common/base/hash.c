// SPDX-License-Identifier: Apache-2.0
#include "common/base/hash.h"

#include <stdio.h>
#include <xxhash.h>


uint64_t hash64(struct bytes data, uint64_t seed)
{
    return XXH3_64bits_withSeed(data.data, data.size, seed);
}

struct hash128 hash128(struct bytes data, uint64_t seed)
{
    XXH128_hash_t hash = XXH3_128bits_withSeed(data.data, data.size, seed);
    return (struct hash128){.low = hash.low64, .high = hash.high64};
}

struct hasher *hasher_new(void)
{
    XXH3_state_t *state = XXH3_createState();
    CHECK(state != NULL);
    XXH3_128bits_reset(state);
    return (struct hasher *)state;
}

void hasher_free(struct hasher *hasher) { XXH3_freeState((XXH3_state_t *)hasher); }

void hasher_reset(struct hasher *hasher) { XXH3_128bits_reset((XXH3_state_t *)hasher); }

void hasher_add(struct hasher *hasher, const void *data, size_t size)
{
    XXH3_128bits_update((XXH3_state_t *)hasher, data, size);
}

struct hash128 hasher_result(const struct hasher *hasher)
{
    XXH128_hash_t hash = XXH3_128bits_digest((const XXH3_state_t *)hasher);
    return (struct hash128){.low = hash.low64, .high = hash.high64};
}

void hash128_store(void *to, struct hash128 hash)
{
    store_u64(to, hash.low);
    store_u64((uint8_t *)to + 8, hash.high);
}

struct hash128 hash128_load(const void *from)
{
    return (struct hash128){.low = load_u64(from), .high = load_u64((const uint8_t *)from + 8)};
}

void hash128_text(struct hash128 hash, char *to)
{
    snprintf(to, HASH128_TEXT_BYTES, "%016llx%016llx", (unsigned long long)hash.high,
             (unsigned long long)hash.low);
}

// SPDX-License-Identifier: Apache-2.0
#include "common/data/digest.h"

static struct hash128 term(uint64_t version, struct bytes key)
{
    uint8_t data[8 + KEY_BYTES_MAX];
    CHECK(key.size <= KEY_BYTES_MAX);
    store_u64(data, version);
    memcpy(data + 8, key.data, key.size);
    return hash128(bytes_of(data, 8 + key.size), DIGEST_ALGORITHM);
}

static void add_sum(struct digest *digest, struct hash128 more)
{
    uint64_t low = digest->sum.low + more.low;
    digest->sum.high += more.high + (low < more.low);
    digest->sum.low = low;
}

void digest_add(struct digest *digest, uint64_t version, struct bytes key)
{
    add_sum(digest, term(version, key));
    digest->keys++;
}

void digest_remove(struct digest *digest, uint64_t version, struct bytes key)
{
    struct hash128 less = term(version, key);
    digest->sum.high -= less.high + (digest->sum.low < less.low);
    digest->sum.low -= less.low;
    digest->keys--;
}

void digest_join(struct digest *digest, const struct digest *other)
{
    add_sum(digest, other->sum);
    digest->keys += other->keys;
}

void digest_entry(struct digest *digest, const struct entry *entry)
{
    if (entry->replaced != 0) {
        digest_remove(digest, entry->replaced, entry->key);
    }
    if (entry->op == ENTRY_PUT) {
        digest_add(digest, entry->index, entry->key);
    }
}

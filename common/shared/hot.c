// SPDX-License-Identifier: Apache-2.0
#include "common/shared/hot.h"

// Copies what a slot says. False: it is empty, or was written meanwhile.
static bool read_slot(const struct hot_table *table, uint64_t at, uint64_t index,
                      struct look_answer *answer)
{
    const struct hot_slot *slot = hot_slot_of(table, at);
    uint64_t sequence = atomic_load_explicit(&slot->sequence, memory_order_acquire);
    uint64_t since = atomic_load_explicit(&slot->since, memory_order_acquire);
    answer->version = atomic_load_explicit(&slot->version, memory_order_acquire);
    uint64_t sizes = atomic_load_explicit(&slot->sizes, memory_order_acquire);
    answer->key_bytes = (size_t)(sizes & UINT32_MAX);
    answer->value_bytes = (size_t)(sizes >> 32);
    size_t bytes = answer->key_bytes + answer->value_bytes;
    if (sequence % 2 != 0 || sizes == 0 || bytes > hot_data_bytes(table->slot_bytes) ||
        since > index) {
        return false;
    }
    for (size_t i = 0; i < (bytes + 7) / 8; i++) {
        answer->words[i] = atomic_load_explicit(&slot->words[i], memory_order_acquire);
    }
    return atomic_load_explicit(&slot->sequence, memory_order_relaxed) == sequence;
}

uint64_t hot_find(const struct hot_table *table, struct hash128 hash, struct bytes key,
                  uint64_t index, struct look_answer *answer)
{
    uint64_t at = hot_bucket_of(hash, table->bucket_count);
    for (unsigned way = 0; way < HOT_WAYS; way++) {
        uint64_t slot = at * HOT_WAYS + way;
        uint64_t tag = atomic_load_explicit(&table->buckets[at].tags[way], memory_order_relaxed);
        if (tag == hot_tag(hash) && read_slot(table, slot, index, answer) &&
            bytes_equal(bytes_of(answer->words, answer->key_bytes), key)) {
            return slot;
        }
    }
    return HOT_NONE;
}
